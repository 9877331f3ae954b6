"""Low-rank adaptation of the decoder (LoRA; Hu et al., 2021), trained through peft.

``y = W x + (alpha / r) B A x`` with ``A`` (r, in) and ``B`` (out, r); ``W`` stays frozen and ``B`` starts at zero, so that an
untrained tuner changes nothing.
"""

import re
from dataclasses import asdict, dataclass

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from peftrec.errors import ConfigError
from peftrec.tuners.neutral import LowRank, LowRankPair

TARGETS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
"""Linear maps of a ``BertLayer`` that can be tuned: our name, and the module's path inside the layer."""


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adaptation (Hu et al., 2021, https://arxiv.org/abs/2106.09685).

    Attributes:
        rank: Inner width r, from 1 to the decoder's width.
        alpha: Numerator of the scale ``alpha / rank``; twice the rank when left out.
        dropout: Share of the tuner's inputs set to zero while training, 0 to below 1; for all words of a row the same ones,
            see :class:`RowDropout`.
        targets: Linear maps to tune, out of ``query, key, value, attention_output, intermediate, output``.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.05
    targets: tuple[str, ...] = tuple(TARGETS)

    method = "lora"

    def __post_init__(self) -> None:
        unknown = [name for name in self.targets if name not in TARGETS]
        if unknown or not self.targets:
            raise ConfigError(
                f"targets={self.targets!r}",
                expected=f"some of {', '.join(TARGETS)}",
                remedy=f"leave out {', '.join(unknown)}" if unknown else "leave targets out to tune all of them",
            )
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ConfigError(f"rank={self.rank!r}", expected="a whole number of at least 1", remedy="try rank=16")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout!r}", expected="0 to below 1", remedy="try dropout=0.05")
        if self.alpha is not None and not self.alpha > 0:
            raise ConfigError(f"alpha={self.alpha!r}", expected="a number above 0", remedy=f"try alpha={2 * self.rank}")

    @property
    def scale(self) -> float:
        """What ``B A x`` is multiplied by."""
        return (2.0 * self.rank if self.alpha is None else self.alpha) / self.rank

    def describe(self) -> dict[str, object]:
        """The fields as plain values."""
        return {**asdict(self), "targets": list(self.targets)}


class RowDropout(nn.Dropout):
    """Dropout whose mask is drawn once for all words of a row (variational dropout, Gal and Ghahramani, 2016).

    A mask for every word of every input took a third of the training's time on a CPU, where chance comes from one thread.
    """

    def forward(self, input: Tensor) -> Tensor:  # torch's own name for it
        """``(B, T, in) -> (B, T, in)``."""
        if not self.training:
            return input
        return input * F.dropout(torch.ones_like(input[:, :1]), self.p)


def peft_config(config: LoRAConfig, *, first_layer: int, layers: int) -> LoraConfig:
    """The same in peft's terms, for a whole ``BertModel`` whose decoder begins at ``first_layer``."""
    numbers = "|".join(str(first_layer + index) for index in range(layers))
    maps = "|".join(re.escape(TARGETS[name]) for name in config.targets)
    return LoraConfig(
        r=config.rank,
        lora_alpha=config.scale * config.rank,  # pyright: ignore[reportArgumentType]  # peft divides it, floats work
        lora_dropout=config.dropout,
        target_modules=rf"encoder\.layer\.({numbers})\.({maps})",
        bias="none",
        inference_mode=True,
    )


def attach(decoder: nn.ModuleList, config: LoRAConfig, *, seed: int) -> None:
    """Puts a fresh tuner on a decoder, in place; only its matrices require gradients.

    Raises:
        ConfigError: The rank is above the decoder's width.
    """
    hidden = decoder[0].attention.self.query.in_features  # pyright: ignore  # a BertLayer
    if config.rank > hidden:
        raise ConfigError(
            f"rank={config.rank}", expected=f"at most {hidden}, the decoder's width", remedy="16 is usually enough"
        )
    maps = "|".join(re.escape(TARGETS[name]) for name in config.targets)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # peft draws A from the global generator
        inject_adapter_in_model(
            LoraConfig(
                r=config.rank,
                lora_alpha=config.scale * config.rank,  # pyright: ignore[reportArgumentType]
                lora_dropout=config.dropout,
                target_modules=rf"\d+\.({maps})",
                bias="none",
            ),
            decoder,
        )
    for module in decoder.modules() if config.dropout else ():
        if isinstance(module, LoraLayer):
            module.lora_dropout["default"] = RowDropout(config.dropout)


def export(decoder: nn.ModuleList, config: LoRAConfig, *, first_layer: int) -> LowRank:
    """Reads the trained matrices off a decoder into the neutral form.

    Args:
        decoder: Tuned with :func:`attach`.
        config: The same as there.
        first_layer: Number of the decoder's lowest layer within the whole BERT.
    """
    pairs: dict[str, LowRankPair] = {}
    for index, layer in enumerate(decoder):
        for name in config.targets:
            tuned = layer.get_submodule(TARGETS[name])
            a = tuned.lora_A["default"].weight.detach().float().cpu().numpy()  # pyright: ignore  # a peft layer
            b = tuned.lora_B["default"].weight.detach().float().cpu().numpy()  # pyright: ignore
            pairs[f"encoder.layer.{first_layer + index}.{TARGETS[name]}"] = LowRankPair(a, b * config.scale)
    return LowRank(pairs)


def load(decoder: nn.ModuleList, low_rank: LowRank, config: LoRAConfig, *, first_layer: int) -> None:
    """Copies the neutral form into a decoder tuned with :func:`attach`, to continue training."""
    with torch.no_grad():
        for index, layer in enumerate(decoder):
            for name in config.targets:
                pair = low_rank.pairs[f"encoder.layer.{first_layer + index}.{TARGETS[name]}"]
                tuned = layer.get_submodule(TARGETS[name])
                tuned.lora_A["default"].weight.copy_(torch.from_numpy(pair.a))  # pyright: ignore
                tuned.lora_B["default"].weight.copy_(torch.from_numpy(pair.b / config.scale))  # pyright: ignore
