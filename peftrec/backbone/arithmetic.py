"""Which arithmetic a processor is good at: reduced precision that it must emulate costs many times what it should save.

Measured on two cores that know neither bfloat16 nor int8 products (AVX2): float32 136 GFLOP/s, bfloat16 16, int8 4. On two
that know both (AVX-512): 160, 390 and 500.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Precision = Literal["fp32", "bf16", "int8"]
"""Arithmetic of the encoder: fp32 is the reference; bf16 is the fastest where the processor knows it (cosine to fp32
above 0.9998); int8 takes the least memory, with int8 weights and activations and float32 in between (0.9975 on
average over a grocer's 20,707 products and 0.994 at worst; 0.986 for the empty text, where outliers weigh most)."""

_KNOWS_BF16 = "avx512_bf16", "amx_bf16", "bf16"
"""What x86 and ARM call instructions that multiply bfloat16."""

_EXACT_COLUMNS = 2**24 // 127**2
"""Sums of so many products of int8 values are whole numbers that float32 holds exactly."""

_TRIAL = 64, 384, 384
_BY_VALUE_S = 0.08
"""Half of what the trial takes value by value, and far more than by a kernel, also beside another busy process."""


@cache
def native_precision() -> Literal["fp32", "bf16"]:
    """bf16 where this machine's processor multiplies it by instructions of its own, else fp32."""
    knows = torch.cpu.get_capabilities()
    return "bf16" if any(knows.get(name) for name in _KNOWS_BF16) else "fp32"


def whole_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Product of int8 matrices, exact, by whichever way is faster on the device; both give the same bits.

    Args:
        rows: (n, columns) int8, values from -127 to 127.
        weight: (m, columns) int8, likewise.

    Returns:
        (n, m) float32, the nearest to the whole numbers.
    """
    return integer_product(rows, weight).float() if by_integers(rows) else _by_floats(rows, weight)


def by_integers(rows: Tensor) -> bool:
    """Whether :func:`integer_product` is right and the faster way for (n, columns) int8 rows.

    Of one column, oneDNN's kernel for processors with int8 instructions gives wrong sums.
    """
    return rows.is_cuda or (rows.shape[1] > 1 and not _floats_are_faster())


def integer_product(rows: Tensor, weight: Tensor) -> Tensor:
    """Product of int8 matrices as :func:`whole_product` takes them, (n, m) int32."""
    return torch._int_mm(rows, weight.t())  # pyright: ignore[reportPrivateImportUsage]  # no public name yet


class PackedWeight:
    """An int8 matrix as oneDNN's kernel for quantised linear maps reads it, which writes float32 without an int32 in between.

    Args:
        weight: (m, columns) int8, values from -127 to 127, for which :meth:`fits` is true.
    """

    def __init__(self, weight: Tensor) -> None:
        self._packed = torch.ops.onednn.qlinear_prepack(weight, None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)

    @staticmethod
    def fits(weight: Tensor) -> bool:
        """Whether there is such a kernel for a matrix, and it is the fastest way; of one column, it gives wrong sums."""
        return not weight.is_cuda and weight.shape[1] > 1 and _packs()

    def product(self, rows: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """``rows @ weightᵀ * scale``, the same bits as :func:`whole_product` times the scale.

        Args:
            rows: (n, columns) int8, n at least 1.
            scale: (m,) float32.
            dtype: Of the result.

        Returns:
            (n, m).
        """
        return torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 0, self._packed, scale, self._zeros, None, 1.0, 0, dtype, "none", [], ""
        )


def product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """``left @ right`` for whoever runs torch before and after it.

    By torch as well: numpy's product has threads of its own, and two pools that wait for work on the same cores take them away
    from each other. A request took twice as long by numpy, and four times as long in one of a hundred.
    """
    return (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()


def _by_floats(rows: Tensor, weight: Tensor) -> Tensor:
    if rows.shape[1] <= _EXACT_COLUMNS:
        return rows.float() @ weight.float().t()
    parts = zip(rows.split(_EXACT_COLUMNS, dim=1), weight.split(_EXACT_COLUMNS, dim=1), strict=True)
    return sum((_by_floats(*part).to(torch.int32) for part in parts), start=torch.zeros((), dtype=torch.int32)).float()


@cache
def _floats_are_faster() -> bool:
    """Tried once in a process; int8 products are emulated, value by value, where the processor has no instruction."""
    n, columns, m = _TRIAL
    rows, weight = torch.ones(n, columns, dtype=torch.int8), torch.ones(m, columns, dtype=torch.int8)
    return _seconds(lambda: _by_floats(rows, weight)) < _seconds(lambda: integer_product(rows, weight))


@cache
def _packs() -> bool:
    """Tried once in a process: builds of torch without oneDNN have no such kernel, and one with other sums is of no use.

    Nor is one that is slow: for processors with int8 instructions but no int8 tiles oneDNN has no fast kernel that reads signed
    rows, and multiplies value by value, in five thousand times the time. A system may also keep tiles from a process.
    """
    if not torch.cpu.get_capabilities().get("amx_int8") or _floats_are_faster():
        return False
    n, columns, m = _TRIAL
    drawn = torch.Generator().manual_seed(0)
    rows, weight = (torch.randint(-127, 128, (size, columns), generator=drawn, dtype=torch.int8) for size in (n, m))
    exact = integer_product(rows, weight)
    dtypes = [torch.float32, *([torch.bfloat16] if native_precision() == "bf16" else [])]
    try:
        packed, ones = PackedWeight(weight), torch.ones(m)
        same = all(torch.equal(packed.product(rows, ones, dtype), exact.to(dtype)) for dtype in dtypes)
        return same and _seconds(lambda: packed.product(rows, ones)) < _BY_VALUE_S
    except (AttributeError, RuntimeError):
        return False


def _seconds(product: Callable[[], object]) -> float:
    def once() -> float:
        begun = time.perf_counter()
        product()
        return time.perf_counter() - begun

    return min(once() for _ in range(4))  # the first prepares what later ones reuse
