"""Training a cross-encoder: the same rows, candidates and labels as for the decoder, read as words."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from peftrec.backbone import Backbone
from peftrec.data.dataset import Dataset
from peftrec.errors import ConfigError
from peftrec.model import cross, losses
from peftrec.model.adapter import Adapter
from peftrec.model.cross import CrossEncoder, Pairs, PairWriter
from peftrec.model.platform import Platform, padded
from peftrec.model.shapes import first_layer
from peftrec.training import parallel
from peftrec.training.checks import check_candidates, check_log
from peftrec.training.config import TrainConfig
from peftrec.training.platform_rows import PlatformRows, candidates_bar
from peftrec.training.reporting import check_report_to
from peftrec.training.rows import Rows
from peftrec.training.train import choose_popularity, curve_of, data_facts, run_digest, versions
from peftrec.training.trainer import attach, run_tuned
from peftrec.training.workspace import claim, workspace
from peftrec.tuners import Arrays, Attached, LoRAConfig, Tuner

CROSS = "cross-encoder"
"""Name of the stage, on its bar and of its folder of checkpoints."""

UNREAD = (
    "young_share",
    "feature_epochs",
    "feature_learning_rate",
    "feature_drop",
    "adversarial",
    "retrieval_weight",
    "auxiliary",
    "auxiliary_weighting",
    "negatives",
    "scene",
    "augmentation",
)
"""Settings of training that mean nothing to a model that reads words alone."""


@dataclass(frozen=True, kw_only=True)
class CrossEncoderConfig:
    """Settings of :func:`peftrec.training.train_cross_encoder`.

    Attributes:
        words: Of a sentence at most, special ones included.
        training: Rows, candidates, steps and rates. A step reads ``batch_size * sampled_candidates`` sentences; settings
            about numbers, item vectors and retrieval must stay at their defaults.
    """

    words: int = cross.WORDS
    training: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            anchors=1, history=32, sampled_candidates=16, batch_size=4, epochs=1.0, learning_rate=2e-4
        )
    )

    def __post_init__(self) -> None:
        if type(self.words) is not int or self.words < cross.LEAST_WORDS:
            raise ConfigError(
                f"words={self.words!r}",
                expected=f"a whole number of at least {cross.LEAST_WORDS}",
                remedy=f"the default is {cross.WORDS}",
            )
        plain = {entry.name: getattr(TrainConfig(), entry.name) for entry in fields(TrainConfig)}
        for name in UNREAD:
            value = getattr(self.training, name)
            if value != plain[name]:
                raise ConfigError(
                    f"{name}={value!r} for a cross-encoder",
                    expected=f"{plain[name]!r}: it reads words, and no numbers or item vectors",
                    remedy="leave it out, or train the decoder with train_adapter",
                )


def train_cross_encoder(
    dataset: Dataset,
    backbone: Backbone,
    tuner: Tuner | None = None,
    config: CrossEncoderConfig | None = None,
    *,
    start: Arrays | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Adapter:
    """Trains an adapter of the form BERT(history, product), which reads every pair of shopper and product word by word.

    It takes far longer than :func:`peftrec.train_adapter`, in training and in serving, and is there to be compared with, and to
    rank few products. A backbone loaded with ``decoder_layers`` as many as it has is tuned in all of them.

    Args:
        dataset: The platform; evaluate on what comes after it (:meth:`Dataset.split`).
        backbone: Frozen.
        tuner: As for the decoder; LoRA of rank 16 when left out.
        config: See :class:`CrossEncoderConfig`.
        start: Values that the tuner begins with.
        folder: Keeps checkpoints here; a temporary folder when left out.
        resume: Continue from the checkpoints in ``folder``, if there are any; else they are removed.
        progress: Show bars.

    Raises:
        NotEnoughDataError: Too few shoppers with a history and a later purchase.
        TrainingError: As for :func:`peftrec.train_adapter`.
        ConfigError: A setting cannot work, or ``folder`` holds the checkpoints of another training.
    """
    parallel.join()
    check_log(dataset)
    backbone.check_float()
    progress = progress and parallel.is_first()
    tuner, config = tuner or LoRAConfig(), config or CrossEncoderConfig()
    config = replace(config, training=config.training.on(dataset))
    training, most = config.training, backbone.bert.config.max_position_embeddings
    if config.words > most:
        raise ConfigError(
            f"words={config.words}", expected=f"at most {most}, which this BERT can read", remedy=f"set words={most}"
        )
    parallel.share(training.batch_size)  # before anything takes long
    check_report_to(training.report_to, kept=folder is not None)
    with workspace(folder) as place:
        claim(place, run_digest(dataset, backbone, tuner, start, config), resume=resume)
        source = PlatformRows.of(Platform.of(dataset, backbone, progress=progress), training)
        layers, first = backbone.upper_layers(), first_layer(backbone)
        attached = attach(tuner, layers, training, rows=source.count, start=start, first_layer=first)
        model = CrossEncoder(backbone, layers, cross.initial(backbone.hidden))
        choose_popularity(model.extras, source, reads=cross.retrieval_extras(model.extras))
        with candidates_bar(source.shoppers, show=progress) as bar:
            offered = source.offered(cross.retrieval_extras(model.extras), bar)
        check_candidates(offered, platform=dataset.name)
        return tune_cross_encoder(
            source, offered, model, backbone, tuner, attached, config, folder=place, resume=resume, progress=progress
        )


def tune_cross_encoder(
    source: PlatformRows,
    offered: list[Rows],
    model: CrossEncoder,
    backbone: Backbone,
    tuner: Tuner,
    attached: Attached,
    config: CrossEncoderConfig,
    *,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
) -> Adapter:
    """Trains tuner and head on rows whose candidates are named."""
    training, writer = config.training, PairWriter(source.platform, words=config.words)
    model.extras["classifier_bias"].data[0, 1] = _prior(offered)
    train = PairRows(writer, offered, keep=~source.held_out)
    validation = PairRows(writer, offered[:1], keep=source.held_out)
    log = run_tuned(
        CrossStage(model, training, attached),
        attached,
        train,
        validation,
        training,
        name=CROSS,
        learning_rate=tuner.learning_rate,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    return Adapter.of(
        model,
        backbone,
        tuner,
        attached.export(first_layer(backbone)),
        candidates=training.candidates,
        history=training.history,
        form="cross_encoder",
        words=config.words,
        facts={"data": data_facts(source.platform.dataset), "seed": training.seed, "versions": versions()},
        learning_curve=curve_of(log),
    )


def _prior(offered: list[Rows]) -> float:
    """Log odds of a purchase among all candidates, which the head starts from."""
    bought = sum(float(part.weight[part.labels].sum()) for part in offered)
    others = sum(float(part.weight[~part.labels].sum()) for part in offered)
    return float(np.log(bought / others))


class PairRows(TorchDataset[tuple[int, int]]):
    """Rows of some anchors, read as sentences; an element is (anchor, row), and :meth:`collate` makes a batch of them.

    Args:
        writer: Of the platform.
        parts: With candidates, one for each anchor.
        keep: (users,) bool, whose rows are taken.
    """

    def __init__(self, writer: PairWriter, parts: list[Rows], *, keep: NDArray[np.bool_]) -> None:
        self.writer, self.parts = writer, parts
        self.index = [(part, row) for part, rows_ in enumerate(parts) for row in np.flatnonzero(keep[rows_.users])]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Which anchor and which of its rows."""
        return self.index[index]

    def collate(self, chosen: list[tuple[int, int]]) -> dict[str, Pairs | Tensor]:
        """Sentences of some rows' candidates, row by row; ``labels`` and ``weight`` are (B, M), weight 0 for padding."""
        told: list[tuple[list[int], int]] = []
        labels, weights = list[NDArray[np.float32]](), list[NDArray[np.float32]]()
        for part, row in chosen:
            rows_ = self.parts[part]
            span = slice(*rows_.candidates.items.offsets[row : row + 2])
            past = self.writer.past(rows_.tokens, row)
            told += [(past, int(item)) for item in rows_.candidates.items.values[span]]
            labels.append(rows_.labels[span].astype(np.float32))
            weights.append(rows_.weight[span])
        return {
            "pairs": self.writer.write(told),
            "weight": torch.from_numpy(padded(weights)[0]),
            "labels": torch.from_numpy(padded(labels)[0]),
        }


class CrossStage(nn.Module):
    """Tuner and head: purchase loss of all candidates, and the listwise loss beside it."""

    def __init__(self, model: CrossEncoder, config: TrainConfig, attached: Attached) -> None:
        super().__init__()
        self.penalty, self.tuner_state = attached.penalty, attached.state
        self.model, self.settings = model, config

    def forward(self, pairs: Pairs, weight: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """The weighted sum while training; the purchase loss alone in evaluation, where stopping is decided."""
        logits = torch.zeros_like(labels)
        logits[weight > 0] = self.model(pairs).float()
        smoothed = losses.smoothed(labels, weight, share=self.settings.label_smoothing if self.training else 0.0)
        loss = losses.purchase_loss(logits, smoothed, weight)
        if self.training:
            loss = loss + self.settings.listwise_weight * losses.listwise_loss(logits, labels, weight)
            loss = loss if self.penalty is None else loss + self.penalty()
        return {"loss": loss}
