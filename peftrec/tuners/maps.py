"""The linear maps of a ``BertLayer`` that low-rank methods tune, and what peft's files say of them."""

import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from peftrec.errors import ConfigError
from peftrec.tuners.neutral import PEFT_PREFIX, A, B, Scale
from peftrec.tuners.tuner import Arrays, Layers, path

TARGETS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}
"""Linear maps of a ``BertLayer`` that can be tuned: our name, and the module's path inside the layer."""


class RowDropout(nn.Dropout):
    """Dropout whose mask is drawn once for all words of a row (variational dropout, Gal and Ghahramani, 2016).

    A mask for every word of every input took a third of the training's time on a CPU, where chance comes from one thread.
    """

    def forward(self, input: Tensor) -> Tensor:  # torch's own name for it
        """``(B, T, in) -> (B, T, in)``."""
        if not self.training:
            return input
        return input * F.dropout(input.new_ones(len(input), 1, input.shape[-1]), self.p)


def drop_by_row(decoder: nn.ModuleList, share: float) -> None:
    """Has peft's layers lose the same inputs for all words of a row."""
    for module in decoder.modules() if share else ():
        if isinstance(module, LoraLayer):  # AdaLoRA's layers are such layers too
            module.lora_dropout["default"] = RowDropout(share)


def check_targets(targets: Sequence[str]) -> None:
    """Raises ConfigError where a target is no linear map of a layer or named twice, or there is none."""
    unknown = [name for name in targets if name not in TARGETS]
    if unknown or not targets:
        raise ConfigError(
            f"targets={targets!r}",
            expected=f"some of {', '.join(TARGETS)}",
            remedy=f"leave out {', '.join(unknown)}" if unknown else "leave targets out to tune all of them",
        )
    if len({*targets}) < len(targets):
        raise ConfigError(f"targets={targets!r}", expected="each map once", remedy="name none of them twice")


def check_rank(rank: int, hidden: int, *, name: str = "rank") -> None:
    """Raises ConfigError where a rank, or another inner width of that ``name``, is above the decoder's width."""
    if rank > hidden:
        raise ConfigError(f"{name}={rank}", expected=f"at most {hidden}, the decoder's width", remedy="try 16")


def pattern(targets: Sequence[str]) -> str:
    """Regular expression of the maps within a layer."""
    return "|".join(re.escape(TARGETS[name]) for name in targets)


def low_rank_shapes(layers: Layers, targets: Sequence[str], ranks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Name and shape of the tensors of some maps; maps without a rank are not tuned."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, layer in layers.items():
        for name in targets:
            at = path(number, TARGETS[name])
            if at in ranks:
                linear = attrgetter(TARGETS[name])(layer)
                shapes[f"{PEFT_PREFIX}{at}{A}"] = (ranks[at], linear.in_features)
                shapes[f"{PEFT_PREFIX}{at}{B}"] = (linear.out_features, ranks[at])
    return shapes


def peft_file(changes: Arrays, scale: Scale, *, dropout: float, base: str) -> dict[str, Any]:
    """Peft's configuration of low-rank changes, for a whole ``BertModel``; other ranks than the first in a pattern."""
    ranks = {name: len(pair.a) for name, pair in changes.low_rank.items()}
    rank = next(iter(ranks.values()), 1)
    numbers = sorted({name.split(".")[2] for name in ranks}, key=int)
    maps = [name for name in TARGETS if any(at.endswith(TARGETS[name]) for at in ranks)]
    every = {path(int(number), TARGETS[name]) for number in numbers for name in maps} == ranks.keys()
    chosen = rf"encoder\.layer\.({'|'.join(numbers)})\.({pattern(maps)})"
    config = LoraConfig(
        r=rank,
        lora_alpha=scale(rank) * rank,  # pyright: ignore[reportArgumentType]  # peft divides it, floats work
        lora_dropout=dropout,
        target_modules=chosen if every else "|".join(re.escape(name) for name in sorted(ranks)),
        rank_pattern={name: own for name, own in ranks.items() if own != rank},
        alpha_pattern={name: scale(own) * own for name, own in ranks.items() if own != rank},
        bias="none",
        inference_mode=True,
    ).to_dict()
    config["base_model_name_or_path"] = base
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
