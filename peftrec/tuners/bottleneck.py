"""Bottleneck adapters: small networks between, or beside, the frozen parts of the decoder's layers.

``y = x + s (up f(down x + b) + c)`` behind a frozen sub-layer whose output is x (Houlsby et al., 2019, behind both of a
layer; Pfeiffer et al., 2021, behind the feed-forward one alone), or ``y = FFN(x) + s (up f(down x + b) + c)`` beside it
(parallel, He et al., 2022). ``up`` and ``c`` start at zero, so that an untrained tuner changes nothing.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from peftrec.tuners.maps import RowDropout, check_rank
from peftrec.tuners.neutral import DOWN, UP, BottleneckPair, Changes
from peftrec.tuners.tuner import (
    Arrays,
    Attached,
    Layers,
    check_number,
    check_rate,
    check_same,
    copy_into,
    own_file,
    path,
    register,
    width,
)

ATTENTION, OUTPUT, BESIDE = "attention.output", "output", "parallel"
PLACES = {"houlsby": (ATTENTION, OUTPUT), "pfeiffer": (OUTPUT,), "parallel": (BESIDE,)}
"""Where the networks of each kind are, within a layer: behind attention, behind the feed-forward part, or beside it."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@register
@dataclass(frozen=True, kw_only=True)
class BottleneckConfig:
    """Bottleneck adapters.

    Attributes:
        width: Inner width, from 1 to the decoder's.
        placement: ``houlsby`` (https://arxiv.org/abs/1902.00751), ``pfeiffer`` (https://arxiv.org/abs/2005.00247) or
            ``parallel`` (https://arxiv.org/abs/2110.04366).
        activation: ``gelu``, ``relu``, ``silu`` or ``tanh``.
        scale_by: s in the formulas above.
        dropout: Share of the inputs set to zero while training, 0 to below 1; for all words of a row the same ones.
        learning_rate: Peak rate of the tuner; that of the training when left out.
    """

    width: int = 64
    placement: str = "pfeiffer"
    activation: str = "gelu"
    scale_by: float = 1.0
    dropout: float = 0.05
    learning_rate: float | None = None

    method: ClassVar[str] = "bottleneck"
    servable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("width", self.width, type(self.width) is int and self.width >= 1, "1 or more", "try width=64")
        for name, known in (("placement", PLACES), ("activation", ACTIVATIONS)):
            value = getattr(self, name)
            check_number(name, value, value in known, f"one of {', '.join(known)}", f"leave {name} out")
        check_number("scale_by", self.scale_by, 0 < self.scale_by < math.inf, "a number above 0", "try scale_by=1")
        check_number("dropout", self.dropout, 0 <= self.dropout < 1, "0 to below 1", "try dropout=0.05")
        check_rate(self.learning_rate)

    def scale(self, rank: int) -> float:
        """Of low-rank products, of which there are none."""
        return 1.0

    def attach(self, decoder: nn.ModuleList, *, seed: int, steps: int) -> Attached:
        """See :meth:`peftrec.tuners.Tuner.attach`."""
        check_rank(self.width, width(decoder), name="width")
        random = torch.Generator().manual_seed(seed)
        found: dict[tuple[int, str], Bottleneck] = {}
        for index, layer in enumerate(decoder):
            for place in PLACES[self.placement]:
                new = found[index, place] = Bottleneck(width(decoder), self, random)
                if place == BESIDE:
                    layer.parallel = new
                else:
                    part = layer.get_submodule(place)
                    part.dense = Behind(part.dense, new)

        def export(first_layer: int) -> Arrays:
            return Changes(
                bottlenecks={path(first_layer + at, place): new.export() for (at, place), new in found.items()}
            )

        def load(changes: Arrays, first_layer: int) -> None:
            of_paths = {path(first_layer + at, place): new for (at, place), new in found.items()}
            check_same(changes.bottlenecks, of_paths)
            for name, new in of_paths.items():
                new.load(changes.bottlenecks[name], name)

        return Attached(export, load=load)

    def shapes(self, layers: Layers, ranks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """See :meth:`peftrec.tuners.Tuner.shapes`."""
        shapes: dict[str, tuple[int, ...]] = {}
        for number, layer in layers.items():
            hidden: int = layer.attention.self.query.in_features  # pyright: ignore  # a BertLayer
            for name in (path(number, place) for place in PLACES[self.placement]):
                shapes |= {f"{name}{DOWN}.weight": (self.width, hidden), f"{name}{DOWN}.bias": (1, self.width)}
                shapes |= {f"{name}{UP}.weight": (hidden, self.width), f"{name}{UP}.bias": (1, hidden)}
        return shapes

    def config_file(self, changes: Arrays, base: str) -> dict[str, Any]:
        """See :func:`peftrec.tuners.tuner.own_file`."""
        return own_file(self, base)

    def describe(self) -> dict[str, object]:
        """The fields as plain values."""
        return asdict(self)


class Bottleneck(nn.Module):
    """``x -> s (up f(down x + b) + c)``, without the residual.

    Args:
        hidden: Width H of the decoder.
        config: See :class:`BottleneckConfig`.
        random: Draws ``down``.
    """

    def __init__(self, hidden: int, config: BottleneckConfig, random: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.down, self.up = nn.Linear(hidden, config.width), nn.Linear(config.width, hidden)
        self.dropout = RowDropout(config.dropout)
        self.down.weight.data.normal_(std=1 / math.sqrt(hidden), generator=random)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, H) -> (B, T, H)``."""
        inner = ACTIVATIONS[self.config.activation](self.down(self.dropout(x)))
        return self.config.scale_by * self.up(inner)

    def export(self) -> BottleneckPair[np.ndarray]:
        """As plain arrays, s folded in."""
        down, down_bias, up, up_bias = (
            value.detach().float().cpu().numpy()
            for value in (self.down.weight, self.down.bias, self.up.weight, self.up.bias)
        )
        scale = np.float32(self.config.scale_by)
        return BottleneckPair(down, down_bias[None], up * scale, up_bias[None] * scale, self.config.activation)

    def load(self, pair: BottleneckPair[np.ndarray], name: str) -> None:
        """The way back; ``name`` is for errors."""
        scale = np.float32(self.config.scale_by)
        copy_into(self.down.weight, pair.down, f"{name}, down")
        copy_into(self.down.bias, pair.down_bias[0], f"{name}, bias of down")
        copy_into(self.up.weight, pair.up / scale, f"{name}, up")
        copy_into(self.up.bias, pair.up_bias[0] / scale, f"{name}, bias of up")


class Behind(nn.Module):
    """A frozen map with a bottleneck behind it, and the way past that."""

    def __init__(self, dense: nn.Module, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.dense, self.bottleneck = dense, bottleneck

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, in) -> (B, T, H)``."""
        x = self.dense(x)
        return x + self.bottleneck(x)
