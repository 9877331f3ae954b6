"""A byte for a value: 64 in a row share a step, which is a power of two.

Such formats are called microscaling (Rouhani et al., 2023, "Microscaling Data Formats for Deep Learning",
https://arxiv.org/abs/2310.10537; this one is their MXINT8 with blocks of 64). The greatest value of a block has 64 to 127 steps,
so that none is off by more than a 128th of it. Half precision holds every such value exactly: files keep halves, which peft
opens, memory keeps bytes, and nothing is lost between them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.compiled import compiled

BLOCK = 64
"""Values that share a step, one after the other."""

LEAST = 4096
"""Values of an array below which bytes are not worth what they lose."""

_MOST = 127.0
_FRACTION, _BIAS = 10, 15
"""Of half precision: bits of the fraction, and what is added to the exponent."""

_STEPS = 6
"""Binary places of a count: the greatest of a block is at least two to this power."""

_REBASED = np.float32(2.0**112)
"""What a half is worth more than single precision reads in its bits, moved there: their exponents begin that far apart."""


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


def bytes_of(halves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks as bytes.

    Args:
        halves: (n * BLOCK,) half precision, finite, in main memory.

    Returns:
        (n * BLOCK,) int8 counts of steps, (n,) int8 exponents of the steps; and (n,) bool, whether that is all that there was
        to a block.
    """
    blocks = len(halves) // BLOCK
    counts = torch.empty(len(halves), dtype=torch.int8)
    exponents, exact = torch.empty(blocks, dtype=torch.int8), torch.empty(blocks, dtype=torch.bool)
    bits = halves.numpy().view(np.uint16).reshape(-1, BLOCK)
    _count(bits, counts.numpy().reshape(-1, BLOCK), exponents.numpy(), exact.numpy())
    return counts, exponents, exact


@compiled("void(uint16[:, ::1], int8[:, ::1], int8[::1], boolean[::1])")
def _count(
    halves: NDArray[np.uint16], counts: NDArray[np.int8], exponents: NDArray[np.int8], exact: NDArray[np.bool_]
) -> None:
    """Fills the results of :func:`bytes_of` from the bits of (n, BLOCK) halves, block by block, with a third of torch's time."""
    bits = np.empty(BLOCK, np.uint32)
    values = bits.view(np.float32)
    for block in range(len(halves)):
        own, found = halves[block], counts[block]
        greatest = np.uint16(0)
        for at in range(BLOCK):  # magnitudes order as their bits do
            greatest = max(greatest, np.uint16(own[at] & np.uint16(0x7FFF)))
        exponent = max(np.int32(greatest >> np.uint16(_FRACTION)) - _BIAS, 1 - _BIAS) - _STEPS
        finer = np.float32(2.0) ** np.float32(-exponent)
        for at in range(BLOCK):
            half = np.uint32(own[at])
            magnitude = (half & np.uint32(0x7FFF)) << np.uint32(23 - _FRACTION)
            bits[at] = magnitude | ((half & np.uint32(0x8000)) << np.uint32(16))
        lost = 0
        for at in range(BLOCK):
            steps = values[at] * _REBASED * finer
            whole = np.int32(steps)
            lost += np.float32(whole) != steps
            found[at] = whole
        exponents[block], exact[block] = exponent, lost == 0


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
