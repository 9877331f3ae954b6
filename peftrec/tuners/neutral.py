"""The neutral form of a trained tuner: plain arrays that serving reads without peft."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from peftrec.halves import times_power_of_two

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
    b = [_scaled(value(f"{PEFT_PREFIX}{name}{B}"), scale(len(one))) for name, one in zip(paths, a, strict=True)]
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


def _scaled(array: NDArray[Any], factor: float) -> NDArray[Any]:
    """An array times a factor, in half precision where it is given in it and that loses nothing."""
    digits, exponent = math.frexp(factor)
    if array.dtype == np.float16 and digits == 0.5 and exponent > 0:
        found = times_power_of_two(array, exponent - 1)
        if found is not None:
            return found
    return np.asarray(array, np.float32) * np.float32(factor)
