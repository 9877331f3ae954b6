"""Ranking metrics: one number per shopper, averaged later.

Every metric is a function of the ranks that the relevant products reach in the full catalogue, so a catalogue is
sorted once per shopper whatever the number of metrics. A rank starts at 1 and is `inf` where the score is -inf.

Ties. A product that was not bought and has the same score as one that was goes first: a system that scores everything
alike earns the worst ranking its scores allow, never a lucky one. A printed list (:func:`top_k`) breaks ties by the lower
item index and does not know the truth.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from peftrec.evaluation.ragged import Ragged

Floats = NDArray[np.float64]


def relevant_ranks(scores: NDArray[np.floating], relevant: Ragged) -> Floats:
    """The rank of every relevant product among all columns of its row.

    Args:
        scores: (B, n_items), higher is better, -inf is no candidate.
        relevant: B rows of distinct item indices.

    Returns:
        (relevant.values,) ranks from 1; `inf` where the score is -inf.

    Item 0 scores best; items 1 and 2 tie, and only 2 was bought; item 3 is no candidate:

    >>> scores = np.array([[0.9, 0.5, 0.5, -np.inf]])
    >>> relevant_ranks(scores, Ragged.from_lists([[0, 2, 3]])).tolist()
    [1.0, 3.0, inf]
    """
    ordered = np.sort(scores, axis=1)
    own = scores[relevant.rows, relevant.values]
    below, not_above = np.empty(len(own), np.int64), np.empty(len(own), np.int64)
    for row in range(len(relevant)):
        part = slice(relevant.offsets[row], relevant.offsets[row + 1])
        below[part] = np.searchsorted(ordered[row], own[part], side="left")
        not_above[part] = np.searchsorted(ordered[row], own[part], side="right")
    above, tied = scores.shape[1] - not_above, not_above - below
    place, tied_relevant = _places_among_ties(own, relevant.rows)
    ranks = (above + tied - tied_relevant + place).astype(np.float64)
    ranks[np.isneginf(own)] = np.inf
    return ranks


def _places_among_ties(own: NDArray[np.floating], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Position from 1 inside each group of relevant products of equal score, and the size of the group."""
    if not len(own):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.lexsort((-own, rows))
    starts_group = np.ones(len(own), bool)
    starts_group[1:] = (rows[order][1:] != rows[order][:-1]) | (own[order][1:] != own[order][:-1])
    starts = np.flatnonzero(starts_group)
    sizes = np.diff(np.append(starts, len(own)))
    place, size = np.empty(len(own), np.int64), np.empty(len(own), np.int64)
    place[order] = np.arange(len(own)) - np.repeat(starts, sizes) + 1
    size[order] = np.repeat(sizes, sizes)
    return place, size


def top_k(scores: NDArray[np.floating], *, k: int) -> NDArray[np.int64]:
    """(B, k) best items of each row, ties by the lower item index; -1 where no candidate is left.

    >>> top_k(np.array([[0.5, 0.9, 0.5, -np.inf]]), k=4).tolist()
    [[1, 0, 2, -1]]
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), -1, order)


def ndcg(ranks: Floats, relevant: Ragged, *, k: int = 10) -> Floats:
    """(B,) normalised discounted cumulative gain with binary gains (Järvelin and Kekäläinen 2002).

        NDCG@k = sum over relevant of [rank <= k] / log2(rank + 1)  /  sum for r = 1 … min(k, n relevant) of 1 / log2(r + 1)

    Two relevant products at ranks 1 and 3, of which two could have been first and second:

    >>> ndcg(np.array([1.0, 3.0]), Ragged.from_lists([[4, 8]])).round(4).tolist()
    [0.9197]
    """
    gains = np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))])
    return _per_row(gains, relevant) / ideal[np.minimum(relevant.lengths, k)]


def hit_rate(ranks: Floats, relevant: Ragged, *, k: int = 10) -> Floats:
    """(B,) 1 where at least one relevant product is among the first k, else 0.

    >>> hit_rate(np.array([11.0, 3.0, 11.0]), Ragged.from_lists([[4, 8], [5]])).tolist()
    [1.0, 0.0]
    """
    return (_per_row(ranks <= k, relevant) > 0).astype(np.float64)


def recall(ranks: Floats, relevant: Ragged, *, k: int = 20) -> Floats:
    """(B,) share of all relevant products that are among the first k.

    >>> recall(np.array([1.0, 21.0, 3.0, np.inf]), Ragged.from_lists([[1, 2, 3, 4]])).tolist()
    [0.5]
    """
    return _per_row(ranks <= k, relevant) / relevant.lengths


def reciprocal_rank(ranks: Floats, relevant: Ragged) -> Floats:
    """(B,) one over the best rank of a relevant product in the full ranking; 0 where none is ranked.

    >>> reciprocal_rank(np.array([4.0, 2.0, np.inf]), Ragged.from_lists([[1, 2], [3]])).tolist()
    [0.5, 0.0]
    """
    best = np.zeros(len(relevant))
    np.maximum.at(best, relevant.rows, 1.0 / ranks)
    return best


def _per_row(values: NDArray[np.generic], relevant: Ragged) -> Floats:
    return np.bincount(relevant.rows, weights=values, minlength=len(relevant))


RANKING: Mapping[str, Callable[[Floats, Ragged], Floats]] = {
    "ndcg@10": ndcg,
    "hit_rate@10": hit_rate,
    "recall@20": recall,
    "mrr": reciprocal_rank,
}
"""What every system is measured by on every slice. Every row must have at least one relevant product."""
