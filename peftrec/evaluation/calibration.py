"""Metrics over a fixed pool of products per shopper: AUC, log loss, calibration.

The arrays are rectangular, (B, P), with a `valid` mask for shoppers whose pool is smaller. A number is computed per
shopper, then averaged, so a shopper with many purchases counts once. AUC and log loss are the vectorised equals of
scikit-learn's `roc_auc_score` and `log_loss` (a call per shopper takes a thousand times as long); the tests hold them to it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

BINS = 15
"""Bins of the reliability curve; each holds about the same number of predictions."""

Floats = NDArray[np.float64]


def user_auc(scores: NDArray[np.floating], labels: NDArray[np.bool_], valid: NDArray[np.bool_]) -> Floats:
    """(B,) chance that a bought product scores above one that was not; NaN where the pool has one class only.

        AUC = (sum of the ranks of the positives - p (p + 1) / 2) / (p n),  ties at their mean rank (Mann-Whitney)

    The shopper bought the first and the last product; one of the four pairs is the wrong way round:

    >>> scores, labels = np.array([[0.9, 0.1, 0.5, 0.4]]), np.array([[True, False, False, True]])
    >>> user_auc(scores, labels, np.ones_like(labels)).tolist()
    [0.75]
    """
    positive = labels & valid
    n_positive = positive.sum(axis=1).astype(np.float64)
    n_negative = valid.sum(axis=1) - n_positive
    ranks = rankdata(np.where(valid, scores, np.inf), axis=1)  # what is not valid ranks last and moves nobody
    pairs = n_positive * n_negative
    above = (ranks * positive).sum(axis=1) - n_positive * (n_positive + 1) / 2
    return np.divide(above, pairs, out=np.full(len(scores), np.nan), where=pairs > 0)


def user_log_loss(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_], valid: NDArray[np.bool_]
) -> Floats:
    """(B,) mean negative log likelihood, in nats, of the shopper's pool; probabilities are kept an epsilon from 0 and 1.

    >>> user_log_loss(np.array([[0.5, 0.25]]), np.array([[True, False]]), np.array([[True, True]])).round(4).tolist()
    [0.4904]
    """
    epsilon = np.finfo(probabilities.dtype).eps  # as scikit-learn does
    chance = np.clip(probabilities, epsilon, 1 - epsilon).astype(np.float64)
    loss = -np.log(np.where(labels, chance, 1.0 - chance))
    return np.where(valid, loss, 0.0).sum(axis=1) / np.maximum(valid.sum(axis=1), 1)


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often what was called p % likely was bought, in bins of equal mass; feeds the reliability plot."""

    predicted: Floats
    """(bins,) mean predicted probability"""
    observed: Floats
    """(bins,) share that was bought"""
    count: NDArray[np.int64]
    """(bins,) predictions"""
    gaps: Floats
    """(B, bins) sum of predicted minus bought, per shopper: what a resample of shoppers needs"""
    sizes: Floats
    """(B,) predictions per shopper"""

    @property
    def error(self) -> float:
        """Expected calibration error (Naeini et al. 2015): mean over predictions of |predicted - observed| of the bin."""
        return float((np.abs(self.predicted - self.observed) * self.count).sum() / self.count.sum())


def reliability(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_], valid: NDArray[np.bool_], *, bins: int = BINS
) -> Reliability:
    """The reliability curve of a pool. Equal predictions always share a bin, so there may be fewer than `bins`.

    >>> half = np.full((1, 4), 0.5)
    >>> reliability(half, np.array([[True, False, False, False]]), np.ones((1, 4), bool)).error
    0.25
    """
    shopper = np.nonzero(valid)[0]
    chance, bought = probabilities[valid].astype(np.float64), labels[valid].astype(np.float64)
    edges = np.unique(np.quantile(chance, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    which = np.searchsorted(edges, chance, side="left")
    n_bins = len(edges) + 1
    count = np.bincount(which, minlength=n_bins)
    used = count > 0  # the bin above the highest edge is empty when many predictions equal the maximum
    gaps = np.bincount(shopper * n_bins + which, weights=chance - bought, minlength=len(valid) * n_bins)
    return Reliability(
        predicted=np.bincount(which, weights=chance, minlength=n_bins)[used] / count[used],
        observed=np.bincount(which, weights=bought, minlength=n_bins)[used] / count[used],
        count=count[used],
        gaps=gaps.reshape(len(valid), n_bins)[:, used],
        sizes=valid.sum(axis=1).astype(np.float64),
    )
