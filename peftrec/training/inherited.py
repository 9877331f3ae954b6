# pyright: basic, reportArgumentType=false
# lightgbm's types are partial; the rest of the package is checked strictly.
"""What a young platform's adapter makes of the numbers that it inherits from an adapted backbone.

A platform with few rows says less by itself than the platforms that its backbone was adapted on; with many it says all. In
between, boosting goes on where the inherited forest ends. Where the borders lie was measured (``benchmarks/LOG.md``).
"""

from collections.abc import Sequence
from typing import cast

import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from peftrec.model import extras as ops
from peftrec.model.forest import SHAPES, TREES, empty
from peftrec.model.purchase import PurchaseModel
from peftrec.training import parallel
from peftrec.training.config import TrainConfig
from peftrec.training.feature_path import labelled_of
from peftrec.training.forest import settings_of, tables_of
from peftrec.training.rows import Labelled, Rows

PLENTY = 300_000
"""Labelled candidates above which a platform's numbers are fitted anew."""

FEW_ROWS = 300
"""Rows below which nothing but the rate of purchases is learned from them, and no statistics of products are read."""

SPARE = 100
"""Trees of the inherited forest, its last and finest ones, that make room for the platform's own."""

FOLDS, EVEN = 5, 1e-6
"""Parts that shoppers are cut into, and the share of a loss by which nothing is better than something else."""

_BLOCK = 20_000


def is_young(parts: Sequence[Rows]) -> bool:
    """Whether a platform's labelled candidates are too few to fit numbers anew."""
    return sum(len(part.labels) for part in parts) <= PLENTY


def says_little(rows: int) -> bool:
    """Whether a platform has too few rows to be read by its own statistics.

    Inherited numbers have never seen statistics as thin as those of a thousand events: they mislead them by far, while the
    past that a shopper brings means what it always meant.
    """
    return rows < FEW_ROWS


def adjust(model: PurchaseModel, parts: Sequence[Rows], config: TrainConfig) -> None:
    """Fits what is inherited to a young platform, in place: the rate of purchases, and trees where there are rows for them.

    All logits of the feature path are shifted until they foretell as many purchases as there were. Then LightGBM goes on
    from them, with as many trees as foretell shoppers best that it has not seen; if none of them do, the forest stays.

    Args:
        model: Its extras come from the backbone.
        parts: Rows with candidates.
        config: Of the training.
    """
    parallel.of_first(lambda: _adjust(model, parts, config))
    parallel.agree(model.extras)


def _adjust(model: PurchaseModel, parts: Sequence[Rows], config: TrainConfig) -> None:
    labelled = labelled_of(parts)
    shift = _shift(_logits(model, labelled.features), labelled)
    if says_little(sum(len(part.users) for part in parts)) or not _grown(model, parts, labelled, shift, config):
        model.extras["features_logit_bias"].data += 2 * shift  # the network is half of the feature path


def _logits(model: PurchaseModel, features: NDArray[np.floating]) -> NDArray[np.float64]:
    extras = {name: value.detach() for name, value in model.extras.items()}
    blocks = np.array_split(features, max(1, -(-len(features) // _BLOCK)))
    found = [ops.feature_path(extras, torch.from_numpy(block.astype(np.float32))[None])[1][0] for block in blocks]
    return torch.cat(found).double().numpy()


def _shift(logits: NDArray[np.float64], labelled: Labelled) -> float:
    """What to add to all logits so that their chances sum to the purchases; by Newton's method, one unit a step at most."""
    bought, weight, shift = labelled.bought.astype(np.float64), labelled.weight.astype(np.float64), 0.0
    for _ in range(50):
        chance = 1 / (1 + np.exp(-(logits + shift)))
        missing = (weight * (bought - chance)).sum()
        shift += float(np.clip(missing / ((weight * chance * (1 - chance)).sum() + 1e-9), -1, 1))
    return shift


def _grown(model: PurchaseModel, parts: Sequence[Rows], labelled: Labelled, shift: float, config: TrainConfig) -> bool:
    """Whether trees of the platform's own foretell unseen shoppers better than the forest as it is; puts them in if so.

    Args:
        model: Changed only if they do.
        parts: Rows, whose shoppers are parted.
        labelled: Their candidates.
        shift: What brings the inherited forest to the platform's rate.
        config: Of the training.
    """
    shoppers = np.concatenate([part.users[part.candidates.items.rows] for part in parts])
    folds = list(GroupKFold(min(FOLDS, len(np.unique(shoppers)))).split(shoppers, groups=shoppers))
    inherited = _logits(model, labelled.features) + shift
    whole = float(np.mean([_loss(inherited[asked], labelled, asked) for _, asked in folds]))
    before = {name: model.extras[name].detach().clone() for name in SHAPES}
    for name, value in empty().items():
        model.extras[name].data[-SPARE:] = value[-SPARE:]
    logits = _logits(model, labelled.features)
    shift = _shift(logits, labelled)
    table = lightgbm.Dataset(
        labelled.features,
        labelled.bought.astype(np.int8),
        weight=labelled.weight,
        init_score=logits + shift,
        free_raw_data=False,
    )
    settings = settings_of(labelled, seed=config.seed)
    found = cast(dict[str, list[float]], lightgbm.cv(settings, table, SPARE, folds=folds))
    losses = found["valid binary_logloss-mean"]
    count = int(np.argmin(losses)) + 1
    if losses[count - 1] >= whole * (1 - EVEN):
        for name, value in before.items():
            model.extras[name].data.copy_(value)
        return False
    model.extras["features_logit_bias"].data += 2 * shift
    booster = lightgbm.train(settings, table, count)
    tables = tables_of([tree["tree_structure"] for tree in booster.dump_model()["tree_info"]])
    free = slice(TREES - SPARE, TREES - SPARE + count)
    for name, value in tables.items():  # the forest is half of the feature path
        model.extras[name].data[free] = value[:count] * (2 if name == "forest_value" else 1)
    return True


def _loss(logits: NDArray[np.float64], labelled: Labelled, at: NDArray[np.int64]) -> float:
    losses = np.logaddexp(0, np.where(labelled.bought[at], -logits, logits))
    return float(np.average(losses, weights=labelled.weight[at]))
