"""How one adapter is trained."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from peftrec.backbone import native_precision
from peftrec.data import Dataset
from peftrec.data.augment import AttributeDrop, SequenceAugmentation, TextAugmentation
from peftrec.data.histories import DAY
from peftrec.errors import ConfigError
from peftrec.model.candidates import CandidateConfig
from peftrec.training.adversarial import Adversarial
from peftrec.training.objectives import WEIGHTINGS, Auxiliary

DAYS = 35.0


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Other ways to tell the decoder the same, in training only; candidates and their numbers stay as they are.

    Attributes:
        attributes: Leaves attributes of products out before their texts are written.
        text: Says texts of products in other words; may be a :class:`peftrec.text.translate.BackTranslation`.
        history: Tells shoppers' pasts in another way.
        variants: How many other texts each product gets; each costs the time of encoding the catalogue.
        share: Chance that a product is read in another text, and that a shopper's past is told in another way.
    """

    attributes: AttributeDrop | None = None
    text: TextAugmentation | None = None
    history: SequenceAugmentation | None = None
    variants: int = 2
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.attributes is None and self.text is None and self.history is None:
            raise ConfigError(
                "an augmentation that changes nothing",
                expected="at least one of attributes, text and history",
                remedy="write Augmentation(text=WordDrop()), or leave the augmentation out",
            )
        if not isinstance(self.variants, int) or self.variants < 1:
            raise ConfigError(
                f"variants={self.variants!r}", expected="a whole number of at least 1", remedy="correct it"
            )
        if not 0 < self.share <= 1:
            raise ConfigError(f"share={self.share!r}", expected="above 0 and up to 1", remedy="the default is 0.5")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of :func:`peftrec.train_adapter`; the defaults are meant for every platform.

    Attributes:
        horizon_days: Length in days of the window whose purchases are predicted; 35 when left out, and 1 on a data set
            that tells only the order of events, where one event is one day.
        anchors: How many moments of the past the shopper is read at; each gives one row per shopper.
        young_share: Share of the shoppers who are read once more at the latest moment, as by a shop that has sold nothing yet:
            where statistics of products are silent, texts must speak. For backbones, whose business new shops are.
        stride_days: Days between two anchors, the last one lying one horizon before the end of the log; as long as the
            horizon, so that no purchase is a label twice and seasons mix.
        history: Longest history, in distinct products.
        sampled_candidates: Candidates of a row that are kept for training: all that were bought, and an even sample of the
            others, each of which weighs as many as it stands for.
        epochs: Passes over the rows.
        batch_size: Rows per step.
        learning_rate: Peak rate of tuner and decoder-side extras; the retrieval map is fitted at twice it.
        feature_epochs: Passes of the feature network, which is fitted before the decoder and stays as it is then.
        feature_learning_rate: Peak rate of the feature network.
        weight_decay: Decoupled weight decay (AdamW).
        clip_norm: Longest gradient of a step, longer ones are shortened to it; 0 shortens none.
        warmup_share: Share of the steps during which the rate rises.
        label_smoothing: Share of a label that is replaced by the mean label of its batch, in training only (Szegedy et al.,
            2016, with the prior in place of the uniform distribution, so that chances stay natural).
        feature_drop: Chance that a number about a candidate or a word of the history is hidden in training, as if it were
            average; for all words of a row the same ones.
        adversarial: Trains the decoder against the worst small change of the item vectors that it reads; none by default.
        listwise_weight: Weight of the softmax over a row's products never bought, beside the purchase loss.
        retrieval_weight: Weight of the retrieval loss.
        auxiliary: Further things that the decoder learns to foretell, see :class:`peftrec.training.Auxiliary`; none by default.
        auxiliary_weighting: ``fixed``, or ``uncertainty``, where the spread of each task weighs it, see
            :class:`peftrec.training.objectives.AuxiliaryHeads`.
        negatives: Products drawn by popularity for the retrieval loss of one step.
        validation_share: Share of shoppers held out, on the latest window before the end of the log.
        patience: Evaluations without improvement after which training stops; four take place in each epoch, and in a
            training of less than one.
        scene: Whether the decoder reads a word about the moment, with anchors 29 hours further apart so that weekdays and
            parts of the day differ (weekday, part of the day, month; season and public
            holidays where the data source names its country) and about the channel that the shopper mostly uses.
        augmentation: Other ways to tell the decoder the same; none by default.
        precision: ``bf16`` or ``fp32`` arithmetic; the faster one on this machine when left out.
        seed: Of everything that is drawn.
        report_to: Where losses are told of while training runs, by the names that ``transformers`` has for it, such as
            ``("tensorboard",)`` or ``("wandb",)``; each stage is a run of its own.
        run_name: Of the runs, the stage's name behind it; the data set's name when left out.
        newcomers: Products that nobody has bought yet that are named to each shopper where enough such products were bought in
            the past to learn how likely that is; 0 for none.
        candidates: Products per source of the candidate generator; training sets its ``newcomers``.
    """

    horizon_days: float | None = None
    anchors: int = 5
    young_share: float = 0.0
    stride_days: float | None = None
    history: int = 128
    sampled_candidates: int = 256
    epochs: float = 0.5
    batch_size: int = 16
    learning_rate: float = 5e-4
    feature_epochs: float = 4.0
    feature_learning_rate: float = 2e-3
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    warmup_share: float = 0.1
    label_smoothing: float = 0.0
    feature_drop: float = 0.0
    adversarial: Adversarial | None = None
    listwise_weight: float = 0.1
    retrieval_weight: float = 0.05
    auxiliary: tuple[Auxiliary, ...] = ()
    auxiliary_weighting: str = "fixed"
    negatives: int = 2048
    validation_share: float = 0.1
    patience: int = 3
    scene: bool = False
    augmentation: Augmentation | None = None
    precision: str = field(default_factory=native_precision)
    seed: int = 0
    report_to: tuple[str, ...] = field(default=(), repr=False)  # what a training ends in does not depend on it
    run_name: str | None = field(default=None, repr=False)
    newcomers: int = 50
    candidates: CandidateConfig = field(default_factory=CandidateConfig)

    def __post_init__(self) -> None:
        lowest = {"anchors": 1, "history": 1, "sampled_candidates": 2, "batch_size": 1, "negatives": 1, "patience": 1}
        lowest |= {"seed": 0, "newcomers": 0}
        above_zero = (
            "horizon_days",
            "stride_days",
            "epochs",
            "learning_rate",
            "feature_epochs",
            "feature_learning_rate",
        )
        for name in (entry.name for entry in fields(self)):
            if name in ("horizon_days", "stride_days") and getattr(self, name) is None:  # the data decides
                continue
            value: Any = getattr(self, name)
            if name in lowest and (not isinstance(value, int) or value < lowest[name]):
                _refuse(name, value, f"a whole number of at least {lowest[name]}")
            if name in above_zero and not 0 < value < math.inf:
                _refuse(name, value, "a finite number above 0")
            if name.endswith(("_weight", "_decay", "_norm")) and not 0 <= value < math.inf:
                _refuse(name, value, "a finite number, 0 or more")
        for name in ("warmup_share", "label_smoothing", "feature_drop"):
            if not 0 <= getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "0 to below 1")
        names = [one.task for one in self.auxiliary]
        if len({*names}) < len(names):
            _refuse("auxiliary", names, "each task once")
        if self.auxiliary_weighting not in WEIGHTINGS:
            _refuse("auxiliary_weighting", self.auxiliary_weighting, " or ".join(WEIGHTINGS))
        if not 0 <= self.young_share <= 1:
            _refuse("young_share", self.young_share, "0 to 1")
        if not 0 < self.validation_share < 1:
            _refuse("validation_share", self.validation_share, "above 0 and below 1")
        if self.precision not in ("bf16", "fp32"):
            _refuse("precision", self.precision, "bf16 or fp32")

    @property
    def horizon(self) -> float:
        """Seconds of the window whose purchases are predicted."""
        return DAY * (DAYS if self.horizon_days is None else self.horizon_days)

    @property
    def stride(self) -> float:
        """Seconds between two anchors."""
        return self.horizon if self.stride_days is None else DAY * self.stride_days

    def on(self, dataset: Dataset) -> "TrainConfig":
        """The same with a horizon that fits the data set and a name for its runs, where none was asked for.

        Raises:
            ConfigError: ``candidates`` hold what training sets.
        """
        if self.candidates.newcomers:
            raise ConfigError(
                f"candidates.newcomers={self.candidates.newcomers!r}",
                expected="0: training sets it where it learns how likely such products are to be bought",
                remedy=f"set TrainConfig(newcomers={self.candidates.newcomers!r}) instead",
            )
        named = replace(self, run_name=self.run_name or dataset.name)
        if self.horizon_days is not None or not dataset.ordered:
            return named
        return replace(named, horizon_days=1.0)


def _refuse(name: str, value: object, expected: str) -> None:
    default = getattr(TrainConfig(), name)
    raise ConfigError(f"{name}={value!r}", expected=expected, remedy=f"the default is {name}={default!r}")
