"""Machine code for loops that torch and numpy can only write as many passes over memory."""

from collections.abc import Callable
from typing import TypeVar

import numba

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(signature: str, *, fused: bool = False) -> Callable[[Loop], Loop]:
    """Compiles a loop by numba for arguments of given types, once for a machine: a request never waits for it.

    The code is kept beside the loop's file or in the user's cache, and made anew each time where neither can be written; it is
    made anew when that file changes, and not when this one does. It runs without Python's lock. What is divided by zero is
    infinite or no number, as in numpy, and nothing is raised.

    Args:
        signature: As numba writes types, such as ``void(float32[::1])``.
        fused: Whether a product and the sum that it goes into are rounded once, as torch's ``addcmul`` does.
    """
    flags = {"contract"} if fused else False

    def compile_(loop: Loop) -> Loop:
        try:
            return numba.njit(signature, nogil=True, cache=True, fastmath=flags, error_model="numpy")(loop)
        except RuntimeError:  # neither place can be written
            return numba.njit(signature, nogil=True, fastmath=flags, error_model="numpy")(loop)

    return compile_
