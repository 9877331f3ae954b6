"""Low-rank adaptation whose ranks move to where they matter (AdaLoRA; Zhang et al., 2023), trained through peft.

``y = W x + s / (r + 1e-5) B diag(E) A x``. All maps begin with a rank above the budget; the least important of their triplets
(rows of A, values of E, columns of B) lose their value in E step by step until the budget is met. ``E`` starts at zero, so
that an untrained tuner changes nothing. What is left folds exactly into a plain low-rank pair: ``A' = s / (r + 1e-5) E A``,
``B' = B``.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, cast

import torch
from peft import AdaLoraConfig, AdaLoraModel
from peft.tuners.adalora import RankAllocator, SVDLinear
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from peftrec.errors import ConfigError, TrainingError
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
from peftrec.tuners.tuner import Arrays, Attached, Layers, check_number, check_rate, path, register, width

NAME = "default"


@register
@dataclass(frozen=True, kw_only=True)
class AdaLoRAConfig:
    """Adaptive low-rank adaptation (Zhang et al., 2023, https://arxiv.org/abs/2303.10512).

    Attributes:
        rank: Rank per map on average at the end, at least 1.
        initial_rank: Rank of every map at the beginning, at most the decoder's width; half as much again as ``rank`` when left
            out.
        alpha: Numerator of the scale; twice the initial rank when left out.
        dropout: As in :class:`LoRAConfig`.
        targets: As in :class:`LoRAConfig`.
        warmup_share: Share of the steps before the first rank is taken.
        final_share: Share of the steps after the last one is taken; only states from then on can be kept as the best.
        orthogonality: Weight of the penalty that keeps the rows of A and the columns of B orthogonal.
        learning_rate: Peak rate of the tuner; that of the training when left out.
    """

    rank: int = 16
    initial_rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.05
    targets: tuple[str, ...] = tuple(TARGETS)
    warmup_share: float = 0.15
    final_share: float = 0.4
    orthogonality: float = 0.1
    learning_rate: float | None = None

    activation: ClassVar[str] = ""
    method: ClassVar[str] = "adalora"
    servable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_targets(self.targets)
        check_number("rank", self.rank, type(self.rank) is int and self.rank >= 1, "1 or more", "try rank=16")
        good = self.initial_rank is None or (type(self.initial_rank) is int and self.initial_rank > self.rank)
        expected = f"a whole number above the final rank, {self.rank}"
        check_number("initial_rank", self.initial_rank, good, expected, "leave it out: ranks can only be taken")
        good = self.alpha is None or 0 < self.alpha < math.inf
        check_number("alpha", self.alpha, good, "a number above 0", "leave it out")
        check_number("dropout", self.dropout, 0 <= self.dropout < 1, "0 to below 1", "try dropout=0.05")
        check_number("warmup_share", self.warmup_share, 0 <= self.warmup_share < 1, "0 to below 1", "try 0.15")
        check_number("final_share", self.final_share, 0 < self.final_share < 1, "above 0 and below 1", "try 0.4")
        both = self.warmup_share + self.final_share
        check_number("warmup_share + final_share", both, both < 1, "below 1: ranks are taken in between", "lower one")
        check_number("orthogonality", self.orthogonality, 0 <= self.orthogonality < math.inf, "0 or more", "try 0.1")
        check_rate(self.learning_rate)

    @property
    def first_rank(self) -> int:
        """Rank of every map at the beginning."""
        return math.ceil(1.5 * self.rank) if self.initial_rank is None else self.initial_rank

    def scale(self, rank: int) -> float:
        """1: what the method multiplies by is folded into A."""
        return 1.0

    def schedule(self, steps: int) -> tuple[int, int, int]:
        """Steps before the first rank is taken, after the last one, and between two times.

        Raises:
            ConfigError: The training is so short that there is no time to take ranks.
        """
        before, after = round(self.warmup_share * steps), max(1, round(self.final_share * steps))
        if steps - after - before < 2:
            raise ConfigError(
                f"a training of {steps} steps, of which {before} come before the first rank is taken and {after} after the last",
                expected="at least two steps in between",
                remedy="raise TrainConfig.epochs or lower its batch_size, or tune with LoRAConfig",
            )
        return before, after, max(1, (steps - after - before) // 50)

    def attach(self, decoder: nn.ModuleList, *, seed: int, steps: int) -> Attached:
        """See :meth:`peftrec.tuners.Tuner.attach`."""
        check_rank(self.first_rank, width(decoder), name="initial_rank")
        before, after, between = self.schedule(steps)
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # peft draws A and B from the global generator
            model = AdaLoraModel(
                decoder,
                AdaLoraConfig(
                    init_r=self.first_rank,
                    target_r=self.rank,
                    lora_alpha=2.0 * self.first_rank if self.alpha is None else self.alpha,  # pyright: ignore
                    lora_dropout=self.dropout,
                    target_modules=rf"\d+\.({pattern(self.targets)})",
                    tinit=before,
                    tfinal=after,
                    deltaT=between,
                    total_step=steps,
                    orth_reg_weight=self.orthogonality,
                ),
                NAME,
            )
        drop_by_row(decoder, self.dropout)
        ranks = Ranks(model)
        return Attached(
            lambda first_layer: self._export(decoder, first_layer),
            penalty=(lambda: self.orthogonality * orthogonality(decoder)) if self.orthogonality else None,
            callbacks=(Allocation(model, ranks),),
            state=ranks,
            settled=steps - after,
        )

    def _export(self, decoder: nn.ModuleList, first_layer: int) -> Arrays:
        pairs: dict[str, LowRankPair[Any]] = {}
        for index, layer in enumerate(decoder):
            for name in self.targets:
                a, b = folded(cast(SVDLinear, layer.get_submodule(TARGETS[name])))
                if len(a):  # a map that lost all of its ranks is as it was
                    pairs[path(first_layer + index, TARGETS[name])] = LowRankPair(a.numpy(), b.numpy())
        left, begun = sum(len(pair.a) for pair in pairs.values()), self.first_rank * len(decoder) * len(self.targets)
        if left == begun or not pairs:
            raise TrainingError(
                f"AdaLoRA ended with {left} of the {begun} ranks it began with",
                expected="fewer, and more than none: else it is plain LoRA with a larger budget, or nothing",
                remedy="train longer, lower orthogonality, or tune with LoRAConfig",
            )
        return Changes(low_rank=pairs)

    def shapes(self, layers: Layers, ranks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """See :meth:`peftrec.tuners.Tuner.shapes`; ranks above the initial one do not count."""
        return low_rank_shapes(
            layers, self.targets, {at: min(rank, self.first_rank) for at, rank in ranks.items() if rank >= 1}
        )

    def config_file(self, changes: Arrays, base: str) -> dict[str, Any]:
        """Opens in ``peft.PeftModel`` as LoRA with a rank for each map."""
        return peft_file(changes, self.scale, dropout=self.dropout, base=base)

    def describe(self) -> dict[str, object]:
        """The fields as plain values."""
        return {**asdict(self), "targets": list(self.targets)}


def folded(tuned: SVDLinear) -> tuple[Tensor, Tensor]:
    """``(A', B')`` of what is left, exact: triplets whose value in E is zero are gone."""
    a, e, b = (values[NAME].detach().float().cpu() for values in (tuned.lora_A, tuned.lora_E, tuned.lora_B))
    kept = e[:, 0] != 0
    scale = tuned.scaling[NAME] / (float(tuned.ranknum[NAME]) + 1e-5)
    return a[kept] * e[kept] * scale, b[:, kept].contiguous()


def orthogonality(decoder: nn.ModuleList) -> Tensor:
    """Mean over all A and B of the Frobenius norm of ``A A^T - I`` and ``B^T B - I`` (equation 4 of the paper)."""
    tuned = [module for module in decoder.modules() if isinstance(module, SVDLinear)]
    found = [
        torch.linalg.matrix_norm(rows @ rows.T - torch.eye(len(rows), device=rows.device))
        for module in tuned
        for rows in (module.lora_A[NAME], module.lora_B[NAME].T)
    ]
    return torch.stack(found).mean()


class Ranks(nn.Module):
    """What peft's allocator remembers, as buffers: smoothed importance and its uncertainty, and which triplets are left.

    peft keeps it in dicts that no checkpoint holds.
    """

    def __init__(self, model: AdaLoraModel) -> None:
        super().__init__()
        self.names = [name for name, _ in _weights(model)]
        for at, (name, value) in enumerate(_weights(model)):
            self.register_buffer(f"importance_{at}", torch.zeros_like(value))
            self.register_buffer(f"uncertainty_{at}", torch.zeros_like(value))
            if "lora_E" in name:
                self.register_buffer(f"left_{at}", torch.ones(len(value), dtype=torch.bool))

    def store(self, model: AdaLoraModel) -> None:
        """Takes over what the allocator holds."""
        allocator, left = _allocator(model), model.peft_config[NAME].rank_pattern or {}  # pyright: ignore
        for at, name in enumerate(self.names):
            for kind, values in (("importance", allocator.exp_avg_ipt), ("uncertainty", allocator.exp_avg_unc)):
                buffer = self.get_buffer(f"{kind}_{at}")
                buffer.copy_(values[name]) if name in values else buffer.zero_()
            if name in left:
                self.get_buffer(f"left_{at}").copy_(torch.tensor(left[name]))

    def restore(self, model: AdaLoraModel) -> None:
        """Hands it back to the allocator."""
        allocator, left = _allocator(model), dict[str, list[bool]]()
        for at, name in enumerate(self.names):
            allocator.exp_avg_ipt[name] = self.get_buffer(f"importance_{at}").clone()
            allocator.exp_avg_unc[name] = self.get_buffer(f"uncertainty_{at}").clone()
            allocator.ipt[name] = torch.zeros_like(allocator.exp_avg_ipt[name])
            if "lora_E" in name:
                left[name] = self.get_buffer(f"left_{at}").tolist()
        model.peft_config[NAME].rank_pattern = left  # pyright: ignore


class Allocation(TrainerCallback):
    """Calls what peft leaves to the training loop; without it AdaLoRA is LoRA, and says nothing."""

    def __init__(self, model: AdaLoraModel, ranks: Ranks) -> None:
        self.model, self.ranks = model, ranks

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Goes on where a checkpoint left off; the buffers came with its weights."""
        if state.global_step:
            self.ranks.restore(self.model)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """After the weights were updated, before gradients are cleared."""
        self.model.update_and_allocate(state.global_step + 1)
        self.ranks.store(self.model)


def _weights(model: AdaLoraModel) -> list[tuple[str, nn.Parameter]]:
    return [(name, value) for name, value in model.model.named_parameters() if "lora_" in name]


def _allocator(model: AdaLoraModel) -> RankAllocator:
    return cast(RankAllocator, model.rankallocator)
