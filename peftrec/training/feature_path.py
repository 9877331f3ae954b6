"""Fitting what reads numbers: statistics of the features, the forest, the network beside it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from peftrec.model import extras as ops
from peftrec.model.forest import forest_logits
from peftrec.model.purchase import PurchaseModel
from peftrec.training.config import TrainConfig
from peftrec.training.forest import fit_forest
from peftrec.training.rows import Rows
from peftrec.training.trainer import FeatureBlocks, train_network

QUANTILE_ROWS = 100_000
"""Candidates that quantiles are measured on, drawn evenly."""

YOUNG = 300_000
"""Labelled candidates above which a platform's own numbers are taken unasked; what it would inherit is for the young."""

ASKED_ROWS = 100_000
"""Candidates that the trial between inherited and own numbers asks about, drawn evenly."""

Labelled = tuple[NDArray[np.floating], NDArray[np.bool_]]
"""Features (C, len(FEATURES)) and whether each candidate was bought (C,)."""


def fit_feature_path(
    model: PurchaseModel,
    labelled: Labelled,
    event_features: NDArray[np.floating],
    config: TrainConfig,
    rng: np.random.Generator,
    *,
    folder: Path,
    progress: bool,
) -> None:
    """Fits the feature path, in place.

    Args:
        model: Its other extras stay as they are.
        labelled: Candidates of all shoppers: nothing here is chosen by those held out.
        event_features: (words, len(EVENT_FEATURES)) of the shoppers' histories.
        config: Of the training.
        rng: Draws the candidates that quantiles are measured on.
        folder: For checkpoints.
        progress: Show bars.
    """
    features, labels = labelled
    del labelled  # half a gigabyte for a platform of two thousand shoppers
    standardise(model, "feature", features)
    standardise(model, "event", event_features)
    some = rng.choice(len(features), min(len(features), QUANTILE_ROWS), replace=False)
    model.extras["feature_knots"].data.copy_(ops.knots_of(torch.from_numpy(features[some].astype(np.float32))))
    for name, value in fit_forest(features, labels, seed=config.seed, progress=progress).items():
        model.extras[name].data.copy_(value)
    table = FeatureBlocks(model, features, labels, progress=progress)
    del features
    train_network(model, table, config, folder=folder, progress=progress)


def standardise(model: PurchaseModel, name: str, values: NDArray[np.floating]) -> None:
    """Measures mean and spread of each column."""
    mean = values.mean(axis=0, dtype=np.float64)
    # Column by column: numpy would copy the whole table to double precision.
    spread = np.array([column.std(dtype=np.float64) for column in values.T])
    scale = np.where(spread > 1e-4, 1 / np.maximum(spread, 1e-4), 0)  # a constant column says nothing
    model.extras[f"{name}_mean"].data.copy_(torch.from_numpy(mean[None]))
    model.extras[f"{name}_scale"].data.copy_(torch.from_numpy(scale[None]))


def labelled_of(parts: Sequence[Rows], *, keep: NDArray[np.bool_] | None = None) -> Labelled:
    """All candidates of some rows; of the shoppers for whom ``keep`` (users,) is true, where it is given."""
    masks = [slice(None) if keep is None else keep[part.users][part.candidates.items.rows] for part in parts]
    features = np.concatenate([part.candidates.features[mask] for part, mask in zip(parts, masks, strict=True)])
    return features, np.concatenate([part.labels[mask] for part, mask in zip(parts, masks, strict=True)])


def events_of(parts: Sequence[Rows]) -> NDArray[np.floating]:
    """(words, len(EVENT_FEATURES)) of the histories of some rows."""
    return np.concatenate([part.tokens.features[part.tokens.mask] for part in parts])


def own_numbers_say_more(
    model: PurchaseModel, parts: Sequence[Rows], held_out: NDArray[np.bool_], config: TrainConfig
) -> bool:
    """Whether a forest fitted on this platform foretells its held-out shoppers better than the one it would inherit.

    A young platform's own rows say less than those of the platforms that its backbone was adapted on. Both forests are
    asked about the latest rows of shoppers held out. The platform's own learns from all others: learning from a sample,
    it lost on platforms where the whole says more (``benchmarks/LOG.md``).
    """
    if sum(len(part.labels) for part in parts) > YOUNG:
        return True
    features, labels = labelled_of(parts, keep=~held_out)
    asked, bought = _some(labelled_of(parts[:1], keep=held_out), np.random.default_rng(config.seed))
    if not bought.any() or bought.all() or not labels.any():
        return False
    inherited = {name: model.extras[name].detach() for name in ops.forest.SHAPES}
    own = fit_forest(features, labels, seed=config.seed, progress=False)
    return _loss(own, asked, bought) < _loss(inherited, asked, bought)


def _some(labelled: Labelled, rng: np.random.Generator) -> Labelled:
    features, labels = labelled
    at = rng.choice(len(labels), min(len(labels), ASKED_ROWS), replace=False)
    return features[at].astype(np.float32), labels[at]


def _loss(forest: dict[str, torch.Tensor], features: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    chance = torch.sigmoid(forest_logits(forest, torch.from_numpy(features.astype(np.float32))[None])[0])
    return float(log_loss(labels, chance.double().numpy()))
