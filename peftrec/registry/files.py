"""Writing so that a kill at any moment leaves the old state or the new one, and errors that say what the disk said."""

import contextlib
import errno
import os
from collections.abc import Generator
from pathlib import Path

from peftrec.errors import RegistryError, RegistryWriteError


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def listed(folder: Path) -> list[str]:
    """Names of a folder's entries; none where it does not exist.

    Raises:
        RegistryError: It is no folder, or it cannot be read.
    """
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RegistryError(
            f"{folder} cannot be listed: {error.strerror or error}",
            expected="a folder that this user may read",
            remedy="name the registry's folder, or change its permissions",
        ) from error


def sync_folder(path: Path) -> None:
    """Waits until a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_durably(path: Path, content: bytes) -> None:
    """Replaces a file's content in one step."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.unlink(missing_ok=True)
        write_durably(new, content)
        new.replace(path)
        sync_folder(path.parent)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def worded_write_errors(root: Path) -> Generator[None]:
    """Turns the system's errors into one that says what to do.

    Raises:
        RegistryWriteError: The folder is read-only, the disk is full, or something else kept the registry from writing.
    """
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "free some space and publish again; nothing was changed",
            errno.EDQUOT: "raise the quota or free some space and publish again; nothing was changed",
            errno.EROFS: "mount it writable, or name another folder",
            errno.EACCES: "change the folder's permissions, or name another folder",
            errno.EFBIG: "raise the limit on file sizes; nothing was changed",
        }
        raise RegistryWriteError(
            f"{root} cannot be written: {error.strerror or error}",
            expected="a folder that this user may write, with a few megabytes free",
            remedy=remedies.get(error.errno or 0, "see the cause above; nothing was changed"),
        ) from error
