"""What a folder holds, or an error that says why it cannot be seen."""

import os
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
