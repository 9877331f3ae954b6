"""Low-rank adaptation of the decoder (LoRA; Hu et al., 2021), trained through peft.

``y = W x + s B A x`` with ``A`` (r, in) and ``B`` (out, r), ``s = alpha / r``, or ``alpha / sqrt(r)`` where the rank is
stabilised; ``W`` stays frozen and ``B`` starts at zero, so that an untrained tuner changes nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from peftrec.errors import ConfigError
from peftrec.tuners.low_rank import with_our_layer
from peftrec.tuners.maps import (
    TARGETS,
    check_rank,
    check_targets,
    drop_by_row,
    low_rank_shapes,
    pattern,
    peft_file,
)
from peftrec.tuners.neutral import Changes, LowRankPair
from peftrec.tuners.tuner import (
    Arrays,
    Attached,
    Layers,
    check_number,
    check_rate,
    check_same,
    copy_into,
    path,
    register,
    width,
)


@register
@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adaptation (Hu et al., 2021, https://arxiv.org/abs/2106.09685).

    Attributes:
        rank: Inner width r, from 1 to the decoder's width; or one for each layer of the decoder, lowest first.
        alpha: Numerator of the scale. When left out it makes the scale 2: at every rank, or at rank 16 where the rank is
            stabilised.
        dropout: Share of the tuner's inputs set to zero while training, 0 to below 1; for all words of a row the same ones,
            see :class:`peftrec.tuners.low_rank.TunedLinear`.
        targets: Linear maps to tune, out of ``query, key, value, attention_output, intermediate, output``.
        rank_stabilised: Divide by the root of the rank, so that updates of higher ranks are not smaller (rsLoRA, Kalajdzievski,
            2023, https://arxiv.org/abs/2312.03732).
        learning_rate: Peak rate of the tuner; that of the training when left out.
    """

    rank: int | tuple[int, ...] = 16
    alpha: float | None = None
    dropout: float = 0.05
    targets: tuple[str, ...] = tuple(TARGETS)
    rank_stabilised: bool = False
    learning_rate: float | None = None

    activation: ClassVar[str] = ""
    method: ClassVar[str] = "lora"
    servable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_targets(self.targets)
        ranks = self.rank if isinstance(self.rank, tuple) else (self.rank,)
        good = bool(ranks) and all(type(rank) is int and rank >= 1 for rank in ranks)
        check_number("rank", self.rank, good, "a whole number of at least 1, or one for each layer", "try rank=16")
        check_number("dropout", self.dropout, 0 <= self.dropout < 1, "0 to below 1", "try dropout=0.05")
        good = self.alpha is None or 0 < self.alpha < math.inf
        check_number("alpha", self.alpha, good, "a number above 0", "leave it out")
        check_rate(self.learning_rate)

    def scale(self, rank: int) -> float:
        """What ``B A x`` is multiplied by."""
        if self.rank_stabilised:
            return (8.0 if self.alpha is None else self.alpha) / math.sqrt(rank)
        return 2.0 if self.alpha is None else self.alpha / rank

    def ranks(self, layers: int) -> tuple[int, ...]:
        """Rank of each layer of a decoder.

        Raises:
            ConfigError: There are more or fewer ranks than layers.
        """
        ranks = self.rank if isinstance(self.rank, tuple) else (self.rank,) * layers
        if len(ranks) != layers:
            raise ConfigError(
                f"rank={self.rank!r}, {len(ranks)} ranks",
                expected=f"one for each of the decoder's {layers} layers, lowest first",
                remedy="give as many, or one number for all",
            )
        return ranks

    def attach(self, decoder: nn.ModuleList, *, seed: int, steps: int) -> Attached:
        """See :meth:`peftrec.tuners.Tuner.attach`."""
        ranks = self.ranks(len(decoder))
        check_rank(max(ranks), width(decoder))
        first = ranks[0]
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # peft draws A from the global generator
            inject_adapter_in_model(
                with_our_layer(
                    LoraConfig(
                        r=first,
                        lora_alpha=self.scale(first) * first,  # pyright: ignore[reportArgumentType]  # floats work
                        lora_dropout=self.dropout,
                        target_modules=rf"\d+\.({pattern(self.targets)})",
                        rank_pattern={rf"{at}\..*": rank for at, rank in enumerate(ranks)},
                        alpha_pattern={rf"{at}\..*": self.scale(rank) * rank for at, rank in enumerate(ranks)},
                        bias="none",
                    )
                ),
                decoder,
            )
        drop_by_row(decoder, self.dropout)
        return Attached(
            lambda first_layer: self._export(decoder, first_layer),
            load=lambda changes, first_layer: self._load(decoder, changes, first_layer),
        )

    def _tuned(self, decoder: nn.ModuleList, first_layer: int) -> dict[str, nn.Module]:
        return {
            path(first_layer + index, TARGETS[name]): layer.get_submodule(TARGETS[name])
            for index, layer in enumerate(decoder)
            for name in self.targets
        }

    def _export(self, decoder: nn.ModuleList, first_layer: int) -> Arrays:
        pairs: dict[str, LowRankPair[Any]] = {}
        for name, tuned in self._tuned(decoder, first_layer).items():
            a = tuned.lora_A["default"].weight.detach().float().cpu().numpy()  # pyright: ignore  # a peft layer
            b = tuned.lora_B["default"].weight.detach().float().cpu().numpy()  # pyright: ignore
            pairs[name] = LowRankPair(a, b * self.scale(len(a)))
        return Changes(low_rank=pairs)

    def _load(self, decoder: nn.ModuleList, changes: Arrays, first_layer: int) -> None:
        tuned = self._tuned(decoder, first_layer)
        check_same(changes.low_rank, tuned)
        for name, module in tuned.items():
            a, b = changes.low_rank[name]
            copy_into(module.lora_A["default"].weight, a, f"{name}, A")  # pyright: ignore  # a peft layer
            copy_into(module.lora_B["default"].weight, b / np.float32(self.scale(len(a))), f"{name}, B")  # pyright: ignore

    def shapes(self, layers: Layers, ranks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """See :meth:`peftrec.tuners.Tuner.shapes`."""
        own = zip(sorted(layers), self.ranks(len(layers)), strict=True)
        return low_rank_shapes(
            layers, self.targets, {path(at, TARGETS[name]): rank for at, rank in own for name in self.targets}
        )

    def config_file(self, changes: Arrays, base: str) -> dict[str, Any]:
        """Opens in ``peft.PeftModel``."""
        return peft_file(changes, self.scale, dropout=self.dropout, base=base)

    def describe(self) -> dict[str, object]:
        """The fields as plain values."""
        rank = list(self.rank) if isinstance(self.rank, tuple) else self.rank
        return {**asdict(self), "rank": rank, "targets": list(self.targets)}
