"""Memory that was freed and that the C library keeps."""

import ctypes
import sys

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def give_back() -> None:
    """Returns freed memory to the system; only glibc can be told to, elsewhere nothing happens."""
    if _TRIM is not None:
        _TRIM(0)
