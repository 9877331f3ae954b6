"""Int8 weights with activations quantised on the fly: a quarter of the memory and, on a CPU, several times the speed.

For a linear layer ``y = x Wᵀ + b`` both factors are rounded to 8 bits, each row with its own step::

    s_x = max|x_row| / 127          x̂ = round(x / s_x)        one step per token
    s_w = max|W_row| / 127          Ŵ = round(W / s_w)        one step per output channel
    y   ≈ (x̂ Ŵᵀ) · s_x · s_w + b    the product is exact in int32

This is the "vector-wise quantisation" of LLM.int8() (https://arxiv.org/abs/2208.07339, section 3.1), without its outlier
columns. What that costs, measured on MiniLM: over a grocer's 20,707 products the cosine to fp32 is 0.9975 on average,
and 0.994 for the one product below 0.995; a text of one word has 0.994 and the empty text 0.986, because ``[CLS]`` and
``[SEP]`` carry single values of 20 to 40 times the root mean square, which widen their rows' steps, and few other words
outweigh them there.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from peftrec.backbone.arithmetic import PackedWeight, by_integers, integer_product, whole_product
from peftrec.compiled import compiled

_LEVELS = 127.0
_FEW_THREADS, _FEW_VALUES = 3, 2**16
"""A pass of machine code takes a third to a half of torch's time on a core, and what torch's threads wait for each other."""

_CUDA_ROWS = 32  # torch._int_mm on CUDA wants more than 16 rows, in multiples of 8


def quantise_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds each row to int8 with its own step. Nothing of it has gradients.

    Args:
        values: (rows, columns), floating point.

    Returns:
        The int8 rows (rows, columns) and their float32 steps (rows, 1); ``rows * steps`` gives the values back within
        half a step. A row of zeros stays zero. On a processor, steps of bfloat16 values are numbers that bfloat16 holds.
    """
    if values.is_cpu and (
        values.dtype == torch.bfloat16 or (values.dtype == torch.float32 and _on_one_core(values.numel()))
    ):
        half = values.dtype == torch.bfloat16
        rows = values.new_empty(values.shape, dtype=torch.int8)
        steps = values.new_empty(len(values), 1, dtype=torch.float32)
        bits = values.detach().contiguous().view(torch.uint16 if half else torch.uint32).numpy()
        (_round if half else _round_single)(bits, rows.numpy(), steps.squeeze(1).numpy())
        return rows, steps
    values = values.detach().float()
    high, low = values.amax(dim=1, keepdim=True), values.amin(dim=1, keepdim=True)  # no copy of magnitudes is written
    steps = torch.maximum(high, low.neg_()).clamp_min_(1e-12).div_(_LEVELS)
    return (values / steps).round_().to(torch.int8), steps


def _on_one_core(values: int) -> bool:
    """Whether one pass of machine code on one core takes less time than torch's passes on all of its threads."""
    return torch.get_num_threads() <= _FEW_THREADS or values < _FEW_VALUES


class Int8Linear(nn.Module):
    """A frozen drop-in for :class:`torch.nn.Linear` that computes in int8 and answers in the input's dtype."""

    weight: Tensor  # (out_features, in_features) int8, none of them once it is packed
    steps: Tensor  # (out_features,) float32
    bias: Tensor | None  # (out_features,) float32
    packed: PackedWeight | None = None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        rows, steps = quantise_rows(linear.weight.detach())
        self.register_buffer("weight", rows)
        self.register_buffer("steps", steps.squeeze(1))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float().clone())

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_features) -> (..., out_features)``."""
        return each_product([self], x)[0]

    def product(self, rows: Tensor, steps: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Multiplies rows that are already quantised: several layers that read the same input share one rounding.

        Args:
            rows: (n, in_features) int8.
            steps: (n, 1) float32, as :func:`quantise_rows` gives them.
            dtype: Of the answer, and of what is between it and the product.

        Returns:
            (n, out_features).
        """
        if not len(rows):
            return rows.new_zeros(0, self.out_features, dtype=dtype)
        if self.packed:
            answer = self.packed.product(rows, self.steps, dtype)
        elif (
            rows.is_cpu and dtype == torch.float32 and by_integers(rows) and _on_one_core(len(rows) * self.out_features)
        ):
            return _scaled(integer_product(rows, self.weight), self.steps, steps, self.bias)
        else:
            answer = _product(rows, self.weight).mul_(self.steps).to(dtype)
        steps = steps.to(dtype)
        if self.bias is None:
            return answer.mul_(steps)
        return torch.addcmul(self.bias.to(dtype), answer, steps, out=answer)

    def pack(self) -> None:
        """Keeps weights as this processor's fastest kernel reads them, where it has one, and no other way.

        It answers the same bits, in half the time for many rows. What is packed can be neither saved nor moved.
        """
        if PackedWeight.fits(self.weight):
            self.packed, self.weight = PackedWeight(self.weight), self.weight.new_empty(0, self.in_features)

    def extra_repr(self) -> str:
        """The shape, for ``print(model)``."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def each_product(linears: Sequence[Int8Linear], x: Tensor) -> list[Tensor]:
    """What several maps make of the same words ``(..., in_features)``, which are rounded once."""
    rows, steps = quantise_rows(x.reshape(-1, x.shape[-1]))
    return [one.product(rows, steps, x.dtype).view(*x.shape[:-1], one.out_features) for one in linears]


class Int8Embedding(nn.Module):
    """A frozen drop-in for :class:`torch.nn.Embedding`: one int8 row and one step per word, float32 answers."""

    weight: Tensor  # (words, hidden) int8
    steps: Tensor  # (words, 1) float32

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        rows, steps = quantise_rows(embedding.weight.detach())
        self.register_buffer("weight", rows)
        self.register_buffer("steps", steps)

    def forward(self, ids: Tensor) -> Tensor:
        """``(...) int64 -> (..., hidden) float32``."""
        return self.weight[ids].float() * self.steps[ids]


def int8_linears(module: nn.Module) -> nn.Module:
    """Replaces every :class:`torch.nn.Linear` below ``module``, in place, and returns it."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            int8_linears(child)
    return module


def packed(module: nn.Module) -> nn.Module:
    """Packs every :class:`Int8Linear` below ``module``, in place, and returns it."""
    for child in module.modules():
        if isinstance(child, Int8Linear):
            child.pack()
    return module


@compiled("void(uint16[:, ::1], int8[:, ::1], float32[::1])")
def _round(values: NDArray[np.uint16], rows: NDArray[np.int8], steps: NDArray[np.float32]) -> None:
    """Fills the results of :func:`quantise_rows` from the bits of bfloat16, with one pass over what torch reads six times.

    Steps are rounded up to bfloat16, so that no value has more than 127 of them, and multiplying by one is as exact as it can be.
    """
    bits, step = np.empty(values.shape[1], np.uint32), np.empty(1, np.float32)
    numbers, step_bits = bits.view(np.float32), step.view(np.uint32)
    for row in range(len(values)):
        own, found = values[row], rows[row]
        greatest = np.uint16(0)
        for at in range(len(own)):  # magnitudes order as their bits do
            greatest = max(greatest, np.uint16(own[at] & np.uint16(0x7FFF)))
            bits[at] = np.uint32(own[at]) << np.uint32(16)
        step_bits[0] = np.uint32(greatest) << np.uint32(16)
        step[0] = max(step[0], np.float32(1e-12)) / np.float32(_LEVELS)
        step_bits[0] = (step_bits[0] + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)
        steps[row] = step[0]
        finer = np.float32(1) / step[0]
        for at in range(len(own)):
            found[at] = np.int32(np.rint(numbers[at] * finer))


@compiled("void(uint32[:, ::1], int8[:, ::1], float32[::1])")
def _round_single(values: NDArray[np.uint32], rows: NDArray[np.int8], steps: NDArray[np.float32]) -> None:
    """The same from the bits of single precision, with steps that are not rounded."""
    numbers, greatest = values.view(np.float32), np.empty(1, np.uint32)
    for row in range(len(values)):
        own, found = values[row], rows[row]
        most = np.uint32(0)
        for at in range(len(own)):
            most = max(most, own[at] & np.uint32(0x7FFFFFFF))
        greatest[0] = most
        steps[row] = max(greatest.view(np.float32)[0], np.float32(1e-12)) / np.float32(_LEVELS)
        for at in range(len(own)):
            found[at] = np.int32(np.rint(numbers[row, at] / steps[row]))


def _scaled(whole: Tensor, columns: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """``whole * columns * rows + bias`` of (n, m) int32, in its memory, in float32: as torch's two passes give it.

    Args:
        whole: (n, m) int32, of nobody else.
        columns: (m,) float32.
        rows: (n, 1) float32.
        bias: (m,) float32.
    """
    bias = torch.zeros_like(columns) if bias is None else bias
    found = whole.view(torch.float32)
    factors = (one.float().contiguous().numpy() for one in (columns, rows.squeeze(1), bias))
    _scale(whole.numpy(), found.numpy(), *factors)
    return found


@compiled("void(int32[:, ::1], float32[:, ::1], float32[::1], float32[::1], float32[::1])", fused=True)
def _scale(
    whole: NDArray[np.int32],
    found: NDArray[np.float32],
    columns: NDArray[np.float32],
    rows: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> None:
    """Fills ``found``, which lies where ``whole`` does."""
    own = np.empty(whole.shape[1], np.float32)  # apart, or no two values would be computed at once
    for row in range(len(whole)):
        step = rows[row]
        for at in range(len(own)):
            own[at] = np.float32(whole[row, at]) * columns[at] * step + bias[at]
        for at in range(len(own)):
            found[row, at] = own[at]


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    """``rows @ weightᵀ`` as float32; pads the rows where the kernel has a minimum."""
    count = rows.shape[0]
    if rows.is_cuda and (count < _CUDA_ROWS or count % 8):
        padding = max(_CUDA_ROWS - count, -count % 8)
        rows = torch.cat([rows, rows.new_zeros(padding, rows.shape[1])])
    return whole_product(rows, weight)[:count]
