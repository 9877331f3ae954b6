"""A byte for a value: 64 in a row share a step, which is a power of two.

Such formats are called microscaling (Rouhani et al., 2023, "Microscaling Data Formats for Deep Learning",
https://arxiv.org/abs/2310.10537; this one is their MXINT8 with blocks of 64). The greatest value of a block has 64 to 127 steps,
so that none is off by more than a 128th of it. Half precision holds every such value exactly: files keep halves, which peft
opens, memory keeps bytes, and nothing is lost between them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.compiled import compiled
from peftrec.halves import READ_ONLY

BLOCK = 64
"""Values that share a step, one after the other."""

LEAST = 4096
"""Values of an array below which bytes are not worth what they lose."""

_MOST = 127.0
_FRACTION, _BIAS = 10, 15
"""Of half precision: bits of the fraction, and what is added to the exponent."""

_STEPS = 6
"""Binary places of a count: the greatest of a block is at least two to this power."""


def fits(value: NDArray[np.floating]) -> bool:
    """Whether an array is a matrix, and large enough."""
    return value.ndim == 2 and min(value.shape) > 1 and value.size >= LEAST


def rounded(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest values that bytes can hold; those that are so already stay."""
    padded = np.zeros(whole_blocks(value.size), np.float32)
    padded[: value.size] = value.ravel()
    blocks = padded.reshape(-1, BLOCK)
    _, exponent = np.frexp(np.abs(blocks).max(axis=1, keepdims=True))
    step = np.ldexp(np.float32(1), np.maximum(exponent - 1, 1 - _BIAS) - _STEPS)
    found = np.clip(np.rint(blocks / step), -_MOST, _MOST) * step
    return found.ravel()[: value.size].reshape(value.shape)


def whole_blocks(size: int) -> int:
    """So many values, filled up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def bytes_of(arrays: Sequence[NDArray[np.float16]]) -> tuple[list[bool], Tensor, Tensor]:
    """Arrays as bytes, one after the other, each filled up to whole blocks.

    Args:
        arrays: Finite.

    Returns:
        Of each array, whether bytes lose nothing of it; and of those of which they do not, (n * BLOCK,) int8 counts of steps
        and (n,) int8 exponents of the steps.
    """
    most = sum(whole_blocks(one.size) for one in arrays)
    counts, exponents = np.empty(most, np.int8), np.empty(most // BLOCK, np.int8)
    held, end = list[bool](), 0
    for one in arrays:
        after = end + whole_blocks(one.size)
        held.append(_count(one.ravel().view(np.uint16), counts[end:after], exponents[end // BLOCK : after // BLOCK]))
        end = after if held[-1] else end
    return held, torch.from_numpy(counts[:end]), torch.from_numpy(exponents[: end // BLOCK])


@compiled(f"boolean({READ_ONLY}, int8[::1], int8[::1])")
def _count(halves: NDArray[np.uint16], counts: NDArray[np.int8], exponents: NDArray[np.int8]) -> bool:
    """Fills whole blocks from the bits of (n,) halves, with a third of torch's time; ends where a block is not exact."""
    for block in range(len(exponents)):
        own, found = halves[block * BLOCK : (block + 1) * BLOCK], counts[block * BLOCK : (block + 1) * BLOCK]
        greatest = np.uint32(0)
        for at in range(len(own)):  # magnitudes order as their bits do
            greatest = max(greatest, np.uint32(own[at]) & np.uint32(0x7FFF))
        exponent = max(greatest >> np.uint32(_FRACTION), np.uint32(1))
        exponents[block] = np.int32(exponent) - np.int32(_BIAS + _STEPS)
        lost = np.uint32(0)
        for at in range(len(own)):
            half = np.uint32(own[at])
            magnitude = half & np.uint32(0x7FFF)
            normal = min(magnitude >> np.uint32(_FRACTION), np.uint32(1))
            digits = (magnitude & np.uint32((1 << _FRACTION) - 1)) | (normal << np.uint32(_FRACTION))
            below = exponent - max(magnitude >> np.uint32(_FRACTION), np.uint32(1))
            places = min(below + np.uint32(_FRACTION - _STEPS), np.uint32(31))
            steps = digits >> places
            lost |= (steps << places) ^ digits
            found[at] = -np.int32(steps) if half >> np.uint32(15) else np.int32(steps)
        found[len(own) :] = 0
        if lost:
            return False
    return True


def values_of(counts: Tensor, exponents: Tensor) -> Tensor:
    """What :func:`bytes_of` made bytes of, (n * BLOCK,) in single precision."""
    found = torch.empty_like(counts, dtype=torch.float32)
    fill(found, counts, exponents)
    return found


def fill(found: Tensor, counts: Tensor, exponents: Tensor) -> None:
    """Writes what :func:`bytes_of` made bytes of into (n * BLOCK,) of any type; half precision and bfloat16 lose nothing."""
    found.copy_(counts).view(-1, BLOCK).mul_(_power_of_two(exponents.int()).to(found.dtype)[:, None])


def _power_of_two(exponents: Tensor) -> Tensor:
    """Exact, by the exponent's bits; ``exp2`` promises no more than to be near. From (n,) int32 to single precision."""
    return (exponents + 127).bitwise_left_shift(23).view(torch.float32)
