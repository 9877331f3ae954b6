"""Fitting what reads numbers: statistics of the features, the forest, the network beside it."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.model.purchase import PurchaseModel
from peftrec.model.quantiles import knots_of
from peftrec.training import parallel
from peftrec.training.config import TrainConfig
from peftrec.training.forest import fit_forest
from peftrec.training.rows import Labelled, Rows
from peftrec.training.trainer import FeatureBlocks, train_network

QUANTILE_ROWS = 100_000
"""Candidates that quantiles are measured on, drawn evenly."""


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
    features = labelled.features
    standardise(model, "feature", features)
    standardise(model, "event", event_features)
    some = rng.choice(len(features), min(len(features), QUANTILE_ROWS), replace=False)
    model.extras["feature_knots"].data.copy_(knots_of(torch.from_numpy(features[some].astype(np.float32))))
    forest = parallel.of_first(partial(fit_forest, labelled, seed=config.seed, progress=progress))
    for name, value in forest.items():
        model.extras[name].data.copy_(value)
    table = FeatureBlocks(model, labelled, progress=progress)
    del features, labelled  # half a gigabyte for a platform of two thousand shoppers
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
    chosen = list(zip(parts, masks, strict=True))
    return Labelled(
        np.concatenate([part.candidates.features[mask] for part, mask in chosen]),
        np.concatenate([part.labels[mask] for part, mask in chosen]),
        np.concatenate([part.weight[mask] for part, mask in chosen]),
    )


def events_of(parts: Sequence[Rows]) -> NDArray[np.floating]:
    """(words, len(EVENT_FEATURES)) of the histories of some rows."""
    return np.concatenate([part.tokens.features[part.tokens.mask] for part in parts])
