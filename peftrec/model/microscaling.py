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

BLOCK = 64
"""Values that share a step, one after the other."""

LEAST = 4096
"""Values of an array below which bytes are not worth what they lose."""

_MOST = 127.0
_FRACTION, _BIAS = 10, 15
"""Of half precision: bits of the fraction, and what is added to the exponent."""

_PART = 1024
"""Blocks that are single precision at once: larger pieces leave holes in the process's memory, load after load."""

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


def bytes_of(halves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Blocks as bytes.

    Args:
        halves: (n * BLOCK,) half precision, finite.

    Returns:
        (n * BLOCK,) int8 counts of steps, (n,) int8 exponents of the steps; and (n * BLOCK,) bool, whether that is all that there
        was to a value.
    """
    # By their bits, which order as the values do, in a fifth of the time.
    greatest = (halves.view(torch.int16) & 0x7FFF).view(-1, BLOCK).amax(dim=1)
    exponents = ((greatest >> _FRACTION) - _BIAS).clamp_(min=1 - _BIAS).sub_(_STEPS).int()
    counts, exact = torch.empty_like(halves, dtype=torch.int8), torch.empty_like(halves, dtype=torch.bool)
    blocks = [torch.split(one.view(-1, BLOCK), _PART) for one in (halves, counts, exact)]
    for some, steps, whole, same in zip(blocks[0], torch.split(exponents, _PART), *blocks[1:], strict=True):
        values = some.float().mul_(_power_of_two(-steps)[:, None])
        torch.eq(whole.copy_(values), values, out=same)
    return counts, exponents.to(torch.int8), exact


def halves_of(counts: Tensor, exponents: Tensor) -> Tensor:
    """What :func:`bytes_of` made bytes of, (n * BLOCK,) in half precision."""
    found = counts.half()
    found.view(-1, BLOCK).mul_(_power_of_two(exponents.int()).half()[:, None])
    return found


def _power_of_two(exponents: Tensor) -> Tensor:
    """Exact, by the exponent's bits; ``exp2`` promises no more than to be near. From (n,) int32 to single precision."""
    return (exponents + 127).bitwise_left_shift(23).view(torch.float32)
