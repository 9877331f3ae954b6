"""What a folder holds, or an error that says why it cannot be seen."""

import os
import stat
from pathlib import Path

from peftrec.errors import RegistryError


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


def read_plain(path: Path, *, limit: int) -> bytes:
    """The content of a plain file: a pipe would be waited for, a device never ends, a link leads elsewhere.

    Raises:
        OSError: It is none, is larger than ``limit`` bytes, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        told = os.fstat(file.fileno())
        if not stat.S_ISREG(told.st_mode):
            raise OSError("it is no plain file")
        if told.st_size > limit:
            raise OSError(f"it has {told.st_size:,} bytes, more than {limit:,}")
        return file.read(told.st_size)
