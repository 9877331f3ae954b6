"""Who is evaluated on what: a time split, the full catalogue, one fixed pool. No system can choose its own question."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY, PURCHASE, Ragged
from peftrec.errors import NotEnoughDataError

POOL_OWN, POOL_POPULAR = 250, 150
POOL_HALF_LIFE, POOL_DAYS = 84.0, 28.0
K_NDCG, K_RECALL = 10, 20


class Recommender(Protocol):
    """What is evaluated.

    Attributes:
        name: In tables.
        probabilistic: Whether :meth:`score_pool` gives purchase probabilities.
    """

    name: str
    probabilistic: bool

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """(B, n_items) scores from the past alone; minus infinity for products the system would never show."""
        ...

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """(B, P) scores of given products."""
        ...


@runtime_checkable
class HasRecommender(Protocol):
    """Something that can be turned into a recommender, such as an adapter."""

    def recommender(self) -> Recommender:
        """The recommender."""
        ...


@dataclass(frozen=True)
class Task:
    """The question every system answers.

    Attributes:
        past: What systems may look at.
        users: (U,) shoppers with a purchase before the cut and one after, rising.
        relevant: The distinct products each bought after the cut.
        new: Those among them never bought before.
        bought: The distinct products each had bought before the cut.
        pool: (U, 400) products of the fixed pool, -1 where a shopper has fewer.
        pool_labels: (U, 400) bool.
    """

    past: Dataset
    users: NDArray[np.int32]
    relevant: Ragged
    new: Ragged
    bought: Ragged
    pool: NDArray[np.int32]
    pool_labels: NDArray[np.bool_]

    @classmethod
    def from_split(cls, future: Dataset) -> "Task":
        """Poses the question of a split: what do shoppers with a history buy in ``future``?

        Args:
            future: The later part of :meth:`Dataset.split`.

        Raises:
            NotEnoughDataError: ``future`` is no later part, or no shopper is in both parts.
        """
        if future.past is None:
            raise NotEnoughDataError(
                f"{future!r} has no past", expected="the later part of Dataset.split", remedy="past, future = dataset.split(at=...)"
            )
        n_items = len(future.catalog)
        after, before = _pairs(future, n_items), _pairs(future.past, n_items)
        users = np.intersect1d(after // n_items, before // n_items)
        if not len(users):
            raise NotEnoughDataError(
                "no shopper with purchases both before and after the cut",
                expected="at least one",
                remedy="cut at another moment, or use a longer log",
            )
        after, before = after[np.isin(after // n_items, users)], before[np.isin(before // n_items, users)]
        users = users.astype(np.int32)
        relevant, bought = _by_user(after, users, n_items), _by_user(before, users, n_items)
        new = _by_user(np.setdiff1d(after, before, assume_unique=True), users, n_items)
        pool = _pool(future.past, users, n_items)
        keys = users[:, None].astype(np.int64) * n_items + pool
        return cls(future.past, users, relevant, new, bought, pool, (pool >= 0) & np.isin(keys, after))


def _pairs(dataset: Dataset, n_items: int) -> NDArray[np.int64]:
    log = dataset.log
    bought = log.event == PURCHASE
    return np.unique(log.user[bought].astype(np.int64) * n_items + log.item[bought])


def _by_user(keys: NDArray[np.int64], users: NDArray[np.int32], n_items: int) -> Ragged:
    starts = np.searchsorted(keys, users.astype(np.int64) * n_items)
    return Ragged(np.append(starts, len(keys)).astype(np.int64), (keys % n_items).astype(np.int32))


def _pool(past: Dataset, users: NDArray[np.int32], n_items: int) -> NDArray[np.int32]:
    """The 250 most bought products of each shopper (decayed) and the 150 most popular lately that are not among them."""
    log = past.log
    bought = log.event == PURCHASE
    user, item, age = log.user[bought], log.item[bought], (log.time[-1] - log.time[bought]) / DAY
    keys, inverse = np.unique(user.astype(np.int64) * n_items + item, return_inverse=True)
    weight = np.bincount(inverse, weights=np.exp(age * (-np.log(2) / POOL_HALF_LIFE)))
    order = np.lexsort((keys, -weight, keys // n_items))
    owner = keys[order] // n_items
    starts, ends = np.searchsorted(owner, users, side="left"), np.searchsorted(owner, users, side="right")
    popular = popular_lately(past, days=POOL_DAYS)
    ranked = np.argsort(-popular, kind="stable")[: np.count_nonzero(popular)]
    pool = np.full((len(users), POOL_OWN + POOL_POPULAR), -1, np.int32)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        own = keys[order[start : min(end, start + POOL_OWN)]] % n_items
        rest = ranked[: POOL_OWN + POOL_POPULAR]
        rest = rest[~np.isin(rest, own)][:POOL_POPULAR]
        pool[row, : len(own)] = own
        pool[row, len(own) : len(own) + len(rest)] = rest
    return pool


def popular_lately(dataset: Dataset, *, days: float) -> NDArray[np.int64]:
    """(n_items,) distinct buyers in the last ``days`` of the log."""
    log = dataset.log
    recent = (log.event == PURCHASE) & (log.time > log.time[-1] - days * DAY)
    n_items = len(dataset.catalog)
    pairs = np.unique(log.user[recent].astype(np.int64) * n_items + log.item[recent])
    return np.bincount(pairs % n_items, minlength=n_items)
