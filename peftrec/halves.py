"""Half precision by its bits: numpy works on it value by value, and machine code knows no such type."""

import numpy as np
from numpy.typing import NDArray

from peftrec.compiled import compiled

READ_ONLY = "Array(uint16, 1, 'C', readonly=True)"
"""In a signature of machine code: the bits of halves as they lie in a file. They may be writable as well."""

_FRACTION, _MAGNITUDE, _FULL_EXPONENT = 10, 0x7FFF, 0x7C00
_WIDER, _REBASED = 23 - _FRACTION, 127 - 15
"""From half to single precision: digits that a fraction gains, and what is added to the exponent."""

_LEAST_NORMAL, _STEP = np.float32(2.0**-14), np.float32(2.0**-24)
"""The least value with an exponent of its own, and what smaller ones are multiples of."""


def is_finite(value: NDArray[np.generic]) -> bool:
    """Whether all values of an array, of any type, are numbers."""
    return _is_finite(_bits(value)) if value.dtype == np.float16 else bool(np.isfinite(value).all())


def to_single(value: NDArray[np.generic]) -> NDArray[np.float32]:
    """An array in single precision."""
    if value.dtype != np.float16:
        return value.astype(np.float32)
    found = np.empty(value.shape, np.float32)
    _widen(_bits(value), found.reshape(-1))
    return found


def times_power_of_two(value: NDArray[np.float16], power: int) -> NDArray[np.float16] | None:
    """Finite halves times two to a power of 0 or more; None where half precision does not hold all of them."""
    wide = to_single(value)
    wide *= np.float32(2.0**power)
    found = np.empty(value.shape, np.float16)
    return found if _narrow(wide.reshape(-1), _bits(found)) else None


def _bits(value: NDArray[np.generic]) -> NDArray[np.uint16]:
    return value.ravel().view(np.uint16)


@compiled(f"boolean({READ_ONLY})")
def _is_finite(bits: NDArray[np.uint16]) -> bool:
    found = np.uint32(0)
    for at in range(len(bits)):
        found += np.uint32((bits[at] & np.uint16(_FULL_EXPONENT)) == np.uint16(_FULL_EXPONENT))
    return found == 0


@compiled(f"void({READ_ONLY}, float32[::1])")
def _widen(bits: NDArray[np.uint16], found: NDArray[np.float32]) -> None:
    """Moves exponent and fraction to their places; values without an exponent of their own are whole numbers of steps."""
    moved = found.view(np.uint32)
    for at in range(len(bits)):
        half = np.uint32(bits[at])
        magnitude = half & np.uint32(_MAGNITUDE)
        moved[at] = (magnitude << np.uint32(_WIDER)) + np.uint32(_REBASED << 23)
        if magnitude >= np.uint32(_FULL_EXPONENT):  # infinite, or no number: there as well
            moved[at] += np.uint32(_REBASED << 23)
        if magnitude < np.uint32(1 << _FRACTION):
            found[at] = np.float32(np.int32(magnitude)) * _STEP
        moved[at] |= (half ^ magnitude) << np.uint32(16)


@compiled("boolean(float32[::1], uint16[::1])")
def _narrow(values: NDArray[np.float32], found: NDArray[np.uint16]) -> bool:
    """The way back for values that half precision holds exactly, but for those beyond its range: then False."""
    moved = values.view(np.uint32)
    greatest = np.uint32(0)
    for at in range(len(values)):
        magnitude = moved[at] & np.uint32(0x7FFFFFFF)
        half = (magnitude >> np.uint32(_WIDER)) - np.uint32(_REBASED << _FRACTION)
        if abs(values[at]) < _LEAST_NORMAL:
            half = np.uint32(abs(values[at]) / _STEP)
        greatest = max(greatest, half)
        found[at] = half | ((moved[at] ^ magnitude) >> np.uint32(16))
    return greatest < np.uint32(_FULL_EXPONENT)
