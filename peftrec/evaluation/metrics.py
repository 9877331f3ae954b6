"""Metrics, each computed per shopper and then averaged, so that every shopper weighs the same.

Ranking metrics read the ranks of the products a shopper bought within a ranking of the whole catalogue; nothing is sampled.
Pool metrics read scores and labels of the same few hundred products for every system.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import rankdata

from peftrec.errors import InvalidValueError

CALIBRATION_BINS = 20
"""Bins of the calibration error. They hold equally many predictions: most products are unlikely to be bought, so bins of
equal width would put nearly all predictions into the first one."""

ROWS = 4
"""Rankings that are sorted at once: what that takes stays in the processor's cache."""

_EPS = 1e-7  # a certain prediction that fails must not cost infinity


def descending_ranks(scores: NDArray[np.floating]) -> NDArray[np.int32]:
    """Ranks of all products for each shopper, 1 being the best.

    Of equal scores the lower index comes first, whatever was bought. A score of minus infinity is *not ranked*.

    Args:
        scores: (B, n_items) without NaN.

    Returns:
        (B, n_items) ranks, 0 where not ranked.

    Examples:
        >>> descending_ranks(np.array([[0.5, 2.0, 0.5, -np.inf]])).tolist()
        [[2, 1, 3, 0]]
    """
    ranks, last = np.empty(scores.shape, np.int32), np.arange(1, scores.shape[1] + 1, dtype=np.int32)
    for start in range(0, len(scores), ROWS):
        single = np.asarray(scores[start : start + ROWS], np.float32) + np.float32(0)  # -0.0 becomes 0.0, its equal
        bits = single.view(np.int32)
        # The bits of a float rise with its value once those of negative ones are mirrored. Score and index then fit into
        # one integer, and one plain sort ranks and breaks ties.
        rising = np.where(bits < 0, bits ^ np.int32(0x7FFF_FFFF), bits)
        keys = (~rising).astype(np.int64)
        keys <<= 32
        keys |= np.arange(scores.shape[1], dtype=np.int64)
        keys.sort(axis=1)
        keys &= 0xFFFF_FFFF
        some = ranks[start : start + ROWS]
        np.put_along_axis(some, keys, last[None], axis=1)
        some[np.isneginf(single)] = 0
    return ranks


@dataclass(frozen=True)
class Places:
    """Where the products that B shoppers bought stand in their rankings.

    Attributes:
        row: (T,) shopper of each bought product; every shopper occurs.
        rank: (T,) float64, 1 for the best, infinity for not ranked.
        counts: (B,) products bought by each shopper, at least 1.
    """

    row: NDArray[np.int64]
    rank: NDArray[np.float64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, row: NDArray[np.integer], rank: NDArray[np.integer]) -> "Places":
        """From ranks as :func:`descending_ranks` gives them, 0 meaning not ranked."""
        known = np.where(rank > 0, rank.astype(np.float64), np.inf)
        return cls(row.astype(np.int64), known, np.bincount(row))

    def total(self, gains: NDArray[np.floating]) -> NDArray[np.float64]:
        """(B,) sums of one number per bought product."""
        return np.bincount(self.row, weights=gains, minlength=len(self.counts))


def ndcg(places: Places, k: int) -> NDArray[np.float64]:
    """(B,) normalised discounted cumulative gain: Σ 1 / log2(rank + 1) over bought products within k, by its best value.

    Gains are binary. The best value puts min(k, products bought) on top (Järvelin and Kekäläinen, 2002).

    Examples:
        >>> places = Places.of(np.array([0, 0]), np.array([1, 3]))  # bought two, ranked first and third
        >>> ndcg(places, 10).round(3).tolist()
        [0.92]
    """
    gains = places.total(np.where(places.rank <= k, 1 / np.log2(places.rank + 1), 0))
    best = np.cumsum(1 / np.log2(np.arange(2, k + 2)))
    return gains / best[np.minimum(places.counts, k) - 1]


def hit_rate(places: Places, k: int) -> NDArray[np.float64]:
    """(B,) 1 where at least one bought product is within the first k."""
    return (places.total(places.rank <= k) > 0).astype(np.float64)


def recall(places: Places, k: int) -> NDArray[np.float64]:
    """(B,) share of the bought products that are within the first k."""
    return places.total(places.rank <= k) / places.counts


def reciprocal_rank(places: Places) -> NDArray[np.float64]:
    """(B,) one by the rank of the best placed bought product, over the full ranking; 0 if none is ranked."""
    best = np.full(len(places.counts), np.inf)
    np.minimum.at(best, places.row, places.rank)
    return 1 / best


RANKING: dict[str, Callable[[Places], NDArray[np.float64]]] = {
    "ndcg@10": lambda places: ndcg(places, 10),
    "hit_rate@10": lambda places: hit_rate(places, 10),
    "recall@20": lambda places: recall(places, 20),
    "mrr": reciprocal_rank,
}
"""The ranking metrics of the protocol."""

POOL = ("auc", "log_loss", "ece")
"""Those of a pool of given products; the last two for systems that predict probabilities."""

COVERAGE, NOVELTY, DIVERSITY = "coverage@10", "novelty@10", "diversity@10"
BEYOND = (COVERAGE, NOVELTY, DIVERSITY)
"""What lists are like, however good they are; asked for by name."""

METRICS = (*RANKING, *POOL, *BEYOND)
LOWER_IS_BETTER = frozenset({"log_loss", "ece"})
UNITS = {metric: {"log_loss": "nats", NOVELTY: "bits"}.get(metric, "0..1") for metric in METRICS}


def novelty(tops: Sequence[NDArray[np.integer]], buyers: NDArray[np.integer], users: int) -> NDArray[np.float64]:
    """(B,) mean of -log2 of the share of shoppers who bought a product of the list before (Zhou et al., 2010), in bits.

    A product without a buyer counts as one with one.

    Args:
        tops: B lists of products.
        buyers: (n_items,) shoppers who bought each product.
        users: Shoppers there are.
    """
    bits = -np.log2(np.maximum(buyers, 1) / users)
    return np.array([bits[top].mean() if len(top) else np.nan for top in tops])


def diversity(tops: Sequence[NDArray[np.integer]], words: sparse.csr_matrix) -> NDArray[np.float64]:
    """(B,) one less the mean cosine between texts of a list's products (intra-list diversity, Ziegler et al., 2005).

    NaN where a list has fewer than two products.

    Args:
        tops: B lists of products.
        words: (n_items, terms) TF-IDF of the products' texts, rows of unit length or zero.
    """

    def one(top: NDArray[np.integer]) -> float:
        if len(top) < 2:
            return float("nan")
        own = words[top]
        alike = (own @ own.T).toarray()
        return 1 - float((alike.sum() - np.trace(alike)) / (len(top) * (len(top) - 1)))

    return np.array([one(top) for top in tops])


def user_auc(
    scores: NDArray[np.floating], labels: NDArray[np.bool_], mask: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """(B,) area under the ROC curve within each row: the chance that a bought product scores above another, ties half.

    Equals ``sklearn.metrics.roc_auc_score`` of each row, all rows at once.

    Args:
        scores: (B, P).
        labels: (B, P) bought or not.
        mask: (B, P) False where a row has no product; all have if not given.

    Returns:
        NaN for rows with one class only.
    """
    mask = np.ones(labels.shape, bool) if mask is None else mask
    values = np.where(mask, np.maximum(np.asarray(scores, np.float64), -1e300), -np.inf)
    positive = (labels & mask).sum(axis=1)
    padded = (~mask).sum(axis=1)
    negative = labels.shape[1] - padded - positive
    ranks = rankdata(values, axis=1) - padded[:, None]  # what is masked ranks lowest
    above = np.where(labels & mask, ranks, 0).sum(axis=1) - positive * (positive + 1) / 2
    both = (positive > 0) & (negative > 0)
    return np.where(both, above / np.maximum(positive * negative, 1), np.nan)


def user_log_loss(
    probabilities: NDArray[np.floating], labels: NDArray[np.bool_], mask: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """(B,) mean of −log p of what happened, in nats; NaN for rows without products.

    Args:
        probabilities: (B, P) in 0..1; values within 1e-7 of 0 or 1 count as that far away.
        labels: (B, P) bought or not.
        mask: (B, P) False where a row has no product; all have if not given.
    """
    mask = np.ones(labels.shape, bool) if mask is None else mask
    p = np.clip(np.asarray(probabilities, np.float64), _EPS, 1 - _EPS)
    losses = np.where(mask, -np.log(np.where(labels, p, 1 - p)), 0).sum(axis=1)
    counts = mask.sum(axis=1)
    return np.where(counts > 0, losses / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True)
class Calibration:
    """Predictions and outcomes summed by shopper and bin: what calibration error and its interval are made of.

    Attributes:
        count: (B, bins) predictions.
        predicted: (B, bins) sum of predicted probabilities.
        observed: (B, bins) purchases.
    """

    count: NDArray[np.float64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.bool_],
        mask: NDArray[np.bool_] | None = None,
        *,
        bins: int = CALIBRATION_BINS,
    ) -> "Calibration":
        """Sorts the predictions of B shoppers, (B, P) each, into bins of equally many; equal predictions share a bin."""
        mask = np.ones(labels.shape, bool) if mask is None else mask
        row = np.repeat(np.arange(len(labels)), mask.sum(axis=1))
        p, y = np.asarray(probabilities, np.float64)[mask], labels[mask]
        edges = np.quantile(p, np.arange(1, bins) / bins, method="lower") if len(p) else np.zeros(bins - 1)
        cell = row * bins + np.searchsorted(edges, p, side="left")

        def summed(weights: NDArray[np.floating] | None) -> NDArray[np.float64]:
            counts = np.bincount(cell, weights=weights, minlength=len(labels) * bins)
            return counts.astype(np.float64).reshape(len(labels), bins)

        return cls(summed(None), summed(p), summed(y.astype(np.float64)))

    def error(self) -> float:
        """Expected calibration error: mean over predictions of |mean prediction − share bought| of their bin."""
        total = self.count.sum()
        return float(np.abs((self.predicted - self.observed).sum(axis=0)).sum() / total) if total else float("nan")

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """For a reliability plot: mean prediction, share bought and number of predictions of each bin that is not empty."""
        count = self.count.sum(axis=0)
        used = count > 0
        predicted, observed = self.predicted.sum(axis=0)[used], self.observed.sum(axis=0)[used]
        return predicted / count[used], observed / count[used], count[used].astype(np.int64)


def check_scores(
    scores: NDArray[np.floating], shape: tuple[int, int], system: str, *, probabilities: bool = False
) -> NDArray[np.float32]:
    """Returns what a system answered, after a look at it.

    Raises:
        InvalidValueError: The shape is wrong, a score is NaN or plus infinity, or a probability is outside 0..1.
    """
    scores = np.asarray(scores)
    if scores.shape != shape:
        raise InvalidValueError(
            f"'{system}' returned scores of shape {scores.shape}",
            expected=f"one row per shopper and one column per product, {shape}",
            remedy="see peftrec.evaluation.Recommender for what each method returns",
        )
    bad = np.isnan(scores) | np.isposinf(scores)
    if probabilities:
        bad |= ~((scores >= 0) & (scores <= 1))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InvalidValueError(
            f"'{system}' scored {bad.sum():,} products with NaN, infinity or no probability, the first with"
            f" {scores[row, column]}",
            expected="probabilities in 0..1" if probabilities else "finite scores, or minus infinity for no candidate",
            remedy="mend the system, or set its `probabilistic` to False if it gives no probabilities",
        )
    return scores.astype(np.float32, copy=False)
