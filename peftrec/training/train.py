"""Training one adapter, from a platform's log to neutral arrays."""

import hashlib
import platform as machine
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from peftrec.backbone import Backbone
from peftrec.data.dataset import Dataset
from peftrec.errors import ConfigError, NotEnoughDataError
from peftrec.model import extras as ops
from peftrec.model.adapter import Adapter, first_layer, numbers_digest
from peftrec.model.candidates import Nearest
from peftrec.model.platform import Platform
from peftrec.model.purchase import PurchaseModel
from peftrec.training.augmenting import text_variants
from peftrec.training.config import TrainConfig
from peftrec.training.forest import fit_forest
from peftrec.training.rows import Anchor, RowDataset, Rows, anchor, check_enough, check_rows, history_means, moments
from peftrec.training.trainer import (
    DECODER,
    FEATURE_PATH,
    RETRIEVAL,
    FeatureBlocks,
    train_decoder,
    train_network,
    train_retrieval,
)
from peftrec.tuners import LoRAConfig
from peftrec.tuners import lora as lora_tuner

BETAS = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0)
"""Weights of log popularity in retrieval that validation chooses from."""

RUN_FILE = "run.sha256"
"""What says in a folder of checkpoints whose they are."""

BETA_TOP = 100
"""Products of the retrieval list that the choice looks at."""


def train_adapter(
    dataset: Dataset,
    backbone: Backbone,
    tuner: LoRAConfig | None = None,
    config: TrainConfig | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Adapter:
    """Trains a platform's adapter on everything its log holds; the backbone stays as it is.

    Shoppers are read at several moments of the past; the label of a candidate is whether it was bought within the horizon
    after that moment. The retrieval map is fitted first, then forest and feature network, then tuner and decoder extras
    on top of them. That last stage leaves some shoppers out, stops early on their last horizon of the log, and keeps its
    best state.

    Args:
        dataset: The platform; evaluate on what comes after it (:meth:`Dataset.split`).
        backbone: Frozen.
        tuner: LoRA of rank 16 when left out.
        config: See :class:`TrainConfig`.
        folder: Keeps checkpoints here; a temporary folder when left out.
        resume: Continue from the checkpoints in ``folder``, if there are any; else they are removed.
        progress: Show bars.

    Returns:
        The adapter; the same for the same data, settings and seed on the same machine.

    Raises:
        NotEnoughDataError: Too few shoppers with a history and a later purchase.
        TrainingError: A loss became no number.
        ConfigError: A setting cannot work, or ``folder`` holds the checkpoints of another training.
    """
    tuner, config = tuner or LoRAConfig(), config or TrainConfig()
    with _workspace(folder) as place:
        _claim(place, _run_digest(dataset, backbone, tuner, config), resume=resume)
        platform = Platform.of(dataset, backbone, progress=progress)
        anchors = _anchors(platform, config)
        rng = np.random.default_rng(config.seed)
        held_out = rng.random(len(dataset.users)) < config.validation_share
        model = _model(backbone, tuner, config.seed)
        parts = [Rows.begin(one, platform.snapshot(one.moment), config, rng, augmented=~held_out) for one in anchors]
        moment = anchors[0].moment
        rows = RowDataset(platform, parts, config, keep=~held_out, moment=moment)
        check_rows(rows, config)
        train_retrieval(model, rows, config, folder=place, progress=progress)
        _choose_popularity(model, platform, anchors[0], parts[0], held_out)
        shoppers = sum(len(one.users) for one in anchors)
        with tqdm(total=shoppers, desc="naming candidates", unit="row", disable=not progress, leave=False) as bar:
            offered = [
                part.offered(
                    one,
                    platform.snapshot(one.moment),
                    config,
                    nearest=nearest(model, platform, history_means(platform, part.tokens), one.moment),
                    rng=rng,
                    bar=bar,
                )
                for one, part in zip(anchors, parts, strict=True)
            ]
        variants = text_variants(platform, backbone, config.augmentation, rng, progress=progress)
        train = RowDataset(platform, offered, config, keep=~held_out, moment=moment, variants=variants)
        validation = RowDataset(platform, offered[:1], config, keep=held_out, moment=moment)
        _train_feature_path(model, offered, config, rng, folder=place, progress=progress)
        curve = train_decoder(model, train, validation, config, folder=place, resume=resume, progress=progress)
    facts = {"data": _data_facts(dataset), "seed": config.seed, "versions": _versions()}
    read = {"candidates": config.candidates, "history": config.history, "scene": config.scene}
    adapter = Adapter.of(model, backbone, tuner, **read, facts=facts)
    kept = ("step", "loss", "eval_loss")
    return replace(adapter, learning_curve=tuple({k: v for k, v in point.items() if k in kept} for point in curve))


def nearest(model: PurchaseModel, platform: Platform, means: NDArray[np.float32], moment: float) -> Nearest:
    """Retrieval scores from the decayed mean of the history alone, as far as the decoder is not trained yet."""
    vectors, text_of = torch.from_numpy(platform.vectors), torch.from_numpy(platform.text_of.astype(np.int64))
    popularity = torch.from_numpy(np.log1p(platform.snapshot(moment).buyers))
    extras = {name: value.detach() for name, value in model.extras.items()}
    shoppers = ops.mapped(extras, torch.from_numpy(means))

    def scores(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return ops.catalog_scores(extras, shoppers[rows], vectors, text_of, popularity).numpy()

    return scores


@contextmanager
def _workspace(folder: str | Path | None) -> Iterator[Path]:
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="peftrec-") as temporary:
        yield Path(temporary)


def _run_digest(dataset: Dataset, backbone: Backbone, tuner: LoRAConfig, config: TrainConfig) -> str:
    """sha256 of all that decides what a training ends in."""
    parts = [
        dataset.digest,
        backbone.fingerprint,
        backbone.template_fingerprint,
        numbers_digest(),
        repr(tuner),
        repr(config),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _claim(place: Path, digest: str, *, resume: bool) -> None:
    """Makes sure that checkpoints are those of this very training: others fit in shape and would be taken for its own."""
    mark = place / RUN_FILE
    if resume and mark.is_file():
        if mark.read_text(encoding="utf-8") != digest:
            raise ConfigError(
                f"{place} holds the checkpoints of another training",
                expected="the same data, backbone, tuner, settings and seed as before",
                remedy="train into another folder, or leave resume out to start anew here",
            )
        return
    for stage in (RETRIEVAL, FEATURE_PATH, DECODER):
        shutil.rmtree(place / stage, ignore_errors=True)
    mark.write_text(digest, encoding="utf-8")


def _anchors(platform: Platform, config: TrainConfig) -> list[Anchor]:
    log = platform.dataset.log
    times = moments(float(log.time[-1]) + 1, float(log.time[0]), config) if len(log) else []
    if not times:
        raise NotEnoughDataError(
            f"{platform.dataset!r} covers less than one horizon of {config.horizon_days:g} days and a history before it",
            expected=f"events over more than {config.horizon_days:g} days",
            remedy="use a longer log or a shorter TrainConfig.horizon_days",
        )
    anchors = [anchor(platform, moment, config) for moment in times]
    check_enough(anchors)
    return [one for one in anchors if len(one.users)]


def _model(backbone: Backbone, tuner: LoRAConfig, seed: int) -> PurchaseModel:
    decoder = backbone.decoder()
    lora_tuner.attach(decoder, tuner, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return PurchaseModel(decoder, ops.initial(backbone.hidden, gain=_input_length(backbone), generator=generator))


def _input_length(backbone: Backbone) -> float:
    """Usual length of a word where the decoder begins: what layer normalisation makes of any vector."""
    lowest = first_layer(backbone)
    norm = backbone.bert.encoder.layer[lowest - 1].output.LayerNorm if lowest else backbone.bert.embeddings.LayerNorm
    return float((norm.weight.pow(2).sum() + norm.bias.pow(2).sum()).sqrt())


def _choose_popularity(
    model: PurchaseModel, platform: Platform, latest: Anchor, part: Rows, held_out: NDArray[np.bool_]
) -> None:
    """Sets the weight of log popularity that finds most first purchases of held-out shoppers."""
    rows = np.flatnonzero(held_out[latest.users])[:500]
    if not len(rows):
        return
    scorer = nearest(model, platform, history_means(platform, part.tokens), latest.moment)
    popularity = np.log1p(platform.snapshot(latest.moment).buyers)
    now = float(model.extras["popularity"].detach())
    found = dict.fromkeys(BETAS, 0)
    for row in rows:
        similar = scorer(np.array([row]))[0] - now * popularity
        for beta in BETAS:
            best = np.argpartition(-(similar + beta * popularity), min(BETA_TOP, len(similar) - 1))[:BETA_TOP]
            found[beta] += int(np.isin(latest.first[int(row)], best).sum())
    model.extras["popularity"].data.fill_(max(found, key=lambda beta: found[beta]))


QUANTILE_ROWS = 100_000
"""Candidates that quantiles are measured on, drawn evenly."""


def _train_feature_path(
    model: PurchaseModel,
    parts: list[Rows],
    config: TrainConfig,
    rng: np.random.Generator,
    *,
    folder: Path,
    progress: bool,
) -> None:
    """Fits what reads numbers on the rows of all shoppers: nothing of it is chosen by those held out."""
    features = np.concatenate([part.candidates.features for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    _standardise(model, "feature", features)
    _standardise(model, "event", np.concatenate([part.tokens.features[part.tokens.mask] for part in parts]))
    some = rng.choice(len(features), min(len(features), QUANTILE_ROWS), replace=False)
    model.extras["feature_knots"].data.copy_(ops.knots_of(torch.from_numpy(features[some].astype(np.float32))))
    for name, value in fit_forest(features, labels, seed=config.seed, progress=progress).items():
        model.extras[name].data.copy_(value)
    table = FeatureBlocks(model, features, labels, progress=progress)
    del features  # half a gigabyte for a platform of two thousand shoppers
    train_network(model, table, config, folder=folder, progress=progress)


def _standardise(model: PurchaseModel, name: str, values: NDArray[np.floating]) -> None:
    """Measures mean and spread of each column."""
    mean = values.mean(axis=0, dtype=np.float64)
    # Column by column: numpy would copy the whole table to double precision.
    spread = np.array([column.std(dtype=np.float64) for column in values.T])
    scale = np.where(spread > 1e-4, 1 / np.maximum(spread, 1e-4), 0)  # a constant column says nothing
    model.extras[f"{name}_mean"].data.copy_(torch.from_numpy(mean[None]))
    model.extras[f"{name}_scale"].data.copy_(torch.from_numpy(scale[None]))


def _data_facts(dataset: Dataset) -> dict[str, object]:
    source, log = dataset.source, dataset.promotion_log
    return {
        "dataset": dataset.name,
        "source": source.name if source else "not stated",
        "licence": source.licence if source else "not stated",
        "note": source.note if source else "",
        "digest": dataset.digest,
        "start": dataset.start.isoformat(),
        "end": dataset.end.isoformat(),
        "shoppers": len(np.unique(dataset.log.user)),
        "products": len(dataset.catalog),
        "events": len(dataset.events),
        "promotions": 0 if log is None else len(log.known(float(dataset.log.time[-1])).item),
        "cleaning": None if dataset.report is None else dataset.report.to_dict(),
    }


def _versions() -> dict[str, str]:
    names = ("peftrec", "torch", "transformers", "peft", "safetensors", "numpy")
    return {"python": machine.python_version(), **{name: version(name) for name in names}}
