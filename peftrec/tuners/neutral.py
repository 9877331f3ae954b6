"""The neutral form of a trained tuner: plain arrays that serving reads without peft."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

PEFT_PREFIX = "base_model.model."
A, B = ".lora_A.weight", ".lora_B.weight"
DOWN, UP = ".bottleneck_down", ".bottleneck_up"
DIFFERENCE = ".difference"

Array = TypeVar("Array", bound=Any)
Other = TypeVar("Other", bound=Any)


class LowRankPair(NamedTuple, Generic[Array]):
    """A change of one linear map: ``y = W x + b (a x)``.

    Attributes:
        a: (rank, in).
        b: (out, rank), the method's scale folded in.
    """

    a: Array
    b: Array


class BottleneckPair(NamedTuple, Generic[Array]):
    """A small network at one place of a layer: ``up f(down x + down_bias) + up_bias``, added to what passes there.

    Attributes:
        down: (width, H).
        down_bias: (1, width).
        up: (H, width), the method's scale folded in as in ``up_bias``.
        up_bias: (1, H).
        activation: Name of f, see :data:`peftrec.tuners.bottleneck.ACTIVATIONS`.
    """

    down: Array
    down_bias: Array
    up: Array
    up_bias: Array
    activation: str


@dataclass(frozen=True)
class Changes(Generic[Array]):
    """All that a tuner changes in a decoder.

    Attributes:
        low_rank: By the linear map's path in the whole BERT, such as ``encoder.layer.3.attention.self.query``.
        bottlenecks: By the place in the whole BERT, such as ``encoder.layer.3.output``, see
            :data:`peftrec.tuners.bottleneck.PLACES`.
        differences: What is added to the backbone's own parameters, by their names; of references that are not meant to be
            served, since such a decoder cannot be shared.
    """

    low_rank: Mapping[str, LowRankPair[Array]] = field(default_factory=dict)
    bottlenecks: Mapping[str, BottleneckPair[Array]] = field(default_factory=dict)
    differences: Mapping[str, Array] = field(default_factory=dict)

    @property
    def ranks(self) -> dict[str, int]:
        """Inner width of each changed map and place."""
        low = {name: len(pair.a) for name, pair in self.low_rank.items()}
        return low | {name: len(pair.down) for name, pair in self.bottlenecks.items()}

    def map(self, convert: Callable[[Array], Other]) -> "Changes[Other]":
        """The same of another kind of arrays."""
        return Changes(
            {name: LowRankPair(*map(convert, pair)) for name, pair in self.low_rank.items()},
            {name: BottleneckPair(*map(convert, pair[:4]), pair.activation) for name, pair in self.bottlenecks.items()},
            {name: convert(value) for name, value in self.differences.items()},
        )

    def arrays(self) -> list[Array]:
        """All arrays."""
        pairs = [array for pair in self.low_rank.values() for array in pair]
        return [
            *pairs,
            *(array for pair in self.bottlenecks.values() for array in pair[:4]),
            *self.differences.values(),
        ]


Scale = Callable[[int], float]
"""What a low-rank product of some rank is multiplied by."""


def to_tensors(changes: Changes[NDArray[np.float32]], scale: Scale) -> dict[str, NDArray[np.float16]]:
    """Names and values for a file, half precision: low-rank pairs under peft's names, their scale taken out of ``b``."""
    tensors: dict[str, NDArray[np.floating]] = {}
    for name, pair in changes.low_rank.items():
        tensors[f"{PEFT_PREFIX}{name}{A}"] = pair.a
        tensors[f"{PEFT_PREFIX}{name}{B}"] = pair.b / np.float32(scale(len(pair.a)))
    for name, pair in changes.bottlenecks.items():
        tensors[f"{name}{DOWN}.weight"], tensors[f"{name}{DOWN}.bias"] = pair.down, pair.down_bias
        tensors[f"{name}{UP}.weight"], tensors[f"{name}{UP}.bias"] = pair.up, pair.up_bias
    for name, value in changes.differences.items():
        tensors[f"{name}{DIFFERENCE}"] = value
    return {name: value.astype(np.float16) for name, value in tensors.items()}


def from_tensors(
    tensors: Mapping[str, NDArray[np.floating]], scale: Scale, *, activation: str = "", stored: bool = False
) -> Changes[NDArray[Any]]:
    """Reads what :func:`to_tensors` wrote.

    Args:
        tensors: Of a file, names and shapes checked.
        scale: The method's.
        activation: Of all bottlenecks.
        stored: Leave arrays in half precision, but for those that lose something when they are scaled.
    """

    def value(name: str) -> NDArray[Any]:
        return tensors[name] if stored else np.asarray(tensors[name], np.float32)

    paths = [key.removeprefix(PEFT_PREFIX).removesuffix(A) for key in tensors if key.endswith(A)]
    a = [value(f"{PEFT_PREFIX}{name}{A}") for name in paths]
    b = _scaled([value(f"{PEFT_PREFIX}{name}{B}") for name in paths], [scale(len(one)) for one in a])
    low_rank = {name: LowRankPair(*pair) for name, *pair in zip(paths, a, b, strict=True)}
    places = [key.removesuffix(f"{DOWN}.weight") for key in tensors if key.endswith(f"{DOWN}.weight")]
    return Changes(
        low_rank,
        {
            name: BottleneckPair(
                *(value(f"{name}{part}.{leaf}") for part in (DOWN, UP) for leaf in ("weight", "bias")), activation
            )
            for name in places
        },
        {key.removesuffix(DIFFERENCE): value(key) for key in tensors if key.endswith(DIFFERENCE)},
    )


def _scaled(arrays: Sequence[NDArray[Any]], factors: Sequence[float]) -> list[NDArray[Any]]:
    """Each array times its factor, in half precision where they are given in it and that loses nothing."""
    powers = all(factor >= 1 and math.frexp(factor)[0] == 0.5 for factor in factors)
    if arrays and powers and all(one.dtype == np.float16 for one in arrays):
        # In one row: there are dozens of arrays, and most of them small.
        sizes = [one.size for one in arrays]
        row, shifts = np.concatenate([one.ravel() for one in arrays]), [math.frexp(factor)[1] - 1 for factor in factors]
        shift = shifts[0] if len({*shifts}) == 1 else np.repeat(np.array(shifts, np.uint16), sizes)
        if _shifted(row, shift):
            parts = np.split(row, np.cumsum(sizes[:-1]))
            return [part.reshape(one.shape) for part, one in zip(parts, arrays, strict=True)]
    return [np.asarray(one, np.float32) * np.float32(factor) for one, factor in zip(arrays, factors, strict=True)]


def _shifted(row: NDArray[np.float16], shift: "int | NDArray[np.uint16]") -> bool:
    """Multiplies by powers of two, in place: a power moves the exponent alone, where numpy multiplies halves one by one.

    Args:
        row: (n,) finite.
        shift: Exponents, 0 or more.

    Returns:
        Whether all fit; nothing is changed where they do not.
    """
    bits = row.view(np.uint16)
    exponent = bits >> 10 & 31
    if int((exponent + shift).max(initial=0)) >= 31:
        return False
    tiny = np.flatnonzero((exponent == 0) & (bits << 1 != 0))  # without an exponent of their own
    exact = row[tiny] * np.exp2(shift if isinstance(shift, int) else shift[tiny]).astype(np.float32)
    bits += (exponent != 0) * np.uint16(1 << 10) * np.uint16(shift)
    row[tiny] = exact
    return True
