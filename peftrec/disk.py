"""Writing so that a kill at any moment leaves the old state or the new one, and errors that say what the disk said."""

import contextlib
import errno
import os
import uuid
from collections.abc import Generator
from pathlib import Path

from peftrec.errors import PeftrecError

_REMEDIES = {
    errno.ENOSPC: "free some space and try again",
    errno.EDQUOT: "raise the quota or free some space, and try again",
    errno.EFBIG: "raise the limit on file sizes, and try again",
    errno.EROFS: "mount it writable, or name another folder",
    errno.EACCES: "change the folder's permissions, or name another folder",
}


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Waits until a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_durably(path: Path, content: bytes, *, temporaries: Path | None = None) -> None:
    """Replaces a file's content in one step.

    Args:
        path: Of the file.
        content: What it is to hold.
        temporaries: Folder on the same disk for the unfinished file; beside the file when left out.
    """
    new = (temporaries or path.parent) / f".{path.name}.{uuid.uuid4().hex}.new"
    try:
        write_durably(new, content)
        new.replace(path)
        sync_folder(path.parent)
    finally:
        new.unlink(missing_ok=True)


@contextlib.contextmanager
def worded_write_errors(
    folder: Path, kind: type[PeftrecError], *, after: str = "nothing was changed"
) -> Generator[None]:
    """Turns the system's errors into one that says what to do.

    Args:
        folder: Where something is written.
        kind: Of the error.
        after: What the failure leaves.

    Raises:
        PeftrecError: Of ``kind``: the folder is read-only, the disk is full, or something else keeps it from being written.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, PeftrecError):  # some of ours are also an OSError
            raise
        raise kind(
            f"{folder} cannot be written: {error.strerror or error}",
            expected="a folder that this user may write, on a disk with space left",
            remedy=f"{_REMEDIES.get(error.errno or 0, 'see the cause above')}; {after}",
        ) from error
