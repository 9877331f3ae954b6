"""Metrics, each computed per shopper and then averaged, so that heavy shoppers do not outvote light ones."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Values = NDArray[np.float64]


def ndcg_at(hits: NDArray[np.bool_], relevant: NDArray[np.integer], k: int = 10) -> Values:
    """Normalised discounted cumulative gain of the first ``k`` places.

    Args:
        hits: (B, >= k) whether the product at each place is relevant.
        relevant: (B,) how many products are relevant, at least 1.
        k: Places that count.

    >>> ndcg_at(np.array([[True, False, False], [False, True, False]]), np.array([1, 1]), k=3).round(3).tolist()
    [1.0, 0.631]
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(relevant, k) - 1]
    return hits[:, :k] @ discount / ideal


def hit_rate_at(hits: NDArray[np.bool_], k: int = 10) -> Values:
    """1 where any of the first ``k`` places is relevant, else 0.

    >>> hit_rate_at(np.array([[False, True], [False, False]]), k=2).tolist()
    [1.0, 0.0]
    """
    return hits[:, :k].any(axis=1).astype(np.float64)


def recall_at(hits: NDArray[np.bool_], relevant: NDArray[np.integer], k: int = 20) -> Values:
    """Share of the relevant products that are among the first ``k`` places.

    >>> recall_at(np.array([[True, True, False]]), np.array([4]), k=3).tolist()
    [0.5]
    """
    return hits[:, :k].sum(axis=1) / relevant


def reciprocal_rank(first: NDArray[np.integer]) -> Values:
    """One over the place of the first relevant product, counted from 1; 0 where none is ranked (place 0).

    >>> reciprocal_rank(np.array([1, 4, 0])).tolist()
    [1.0, 0.25, 0.0]
    """
    return np.where(first > 0, 1 / np.maximum(first, 1), 0.0)


def user_auc(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> Values:
    """Area under the ROC curve of each row, NaN for a row with one class only; padded places have a NaN score.

    >>> user_auc(np.array([[0.9, 0.1, 0.5]], np.float32), np.array([[True, False, True]])).tolist()
    [1.0]
    """
    out = np.full(len(scores), np.nan)
    for row, (score, label) in enumerate(zip(scores, labels, strict=True)):
        real = ~np.isnan(score)
        if label[real].any() and not label[real].all():
            out[row] = roc_auc_score(label[real], score[real])
    return out


def log_loss(chance: NDArray[np.float32], labels: NDArray[np.bool_]) -> Values:
    """Mean negative log likelihood of each row; padded places are NaN.

    >>> log_loss(np.array([[0.5, 0.5]], np.float32), np.array([[True, False]])).round(4).tolist()
    [0.6931]
    """
    clipped = np.clip(chance.astype(np.float64), 1e-7, 1 - 1e-7)
    return -np.nanmean(np.where(labels, np.log(clipped), np.log1p(-clipped)), axis=1)


def reliability(chance: NDArray[np.floating], labels: NDArray[np.bool_], bins: int = 15) -> NDArray[np.float64]:
    """The reliability curve over bins that hold equally many predictions.

    Returns:
        (bins, 3): mean predicted chance, share that happened, share of all predictions.
    """
    order = np.argsort(chance, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return np.array([(chance[part].mean(), labels[part].mean(), len(part) / len(order)) for part in parts])


def calibration_error(chance: NDArray[np.floating], labels: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error: mean distance between predicted and observed share, over equally filled bins.

    >>> calibration_error(np.full(100, 0.25), np.arange(100) < 25, bins=1)
    0.0
    """
    curve = reliability(chance, labels, bins)
    return float((np.abs(curve[:, 0] - curve[:, 1]) * curve[:, 2]).sum())
