"""What is asked of every system, and what a system must answer.

Split by time. Shoppers with a history before the cut and a purchase after it. The full catalogue, products never sold
included. One fixed pool of products for what needs labels on both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY, PURCHASE
from peftrec.errors import InvalidValueError, NotEnoughDataError
from peftrec.evaluation.slices import Part, Slice, everything, never_bought, parts_of

POOL_OWN = 250
"""Products of the pool that the shopper bought before, the most bought first (decayed)."""

POOL_POPULAR = 150
"""Products of the pool with most buyers lately among all others."""

POOL_HALF_LIFE = 84.0
"""Days after which a purchase counts half for the pool."""

LATELY = 28.0
"""Days that *lately* means."""


@runtime_checkable
class Recommender(Protocol):
    """Anything that can be evaluated.

    Attributes:
        name: In tables of results.
        probabilistic: True when :meth:`score_pool` returns purchase probabilities.
    """

    name: str
    probabilistic: bool

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores every product for B shoppers from nothing but ``past``.

        Returns:
            (B, n_items); minus infinity for what is no candidate, which is not ranked and earns nothing.
        """
        ...

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores given products, (B, P) indices, for B shoppers; (B, P) likewise."""
        ...


@runtime_checkable
class RecommenderFactory(Protocol):
    """What is no recommender itself but knows how to become one, such as an adapter."""

    def recommender(self) -> Recommender:
        """A system that can be evaluated."""
        ...


def moment_after(past: Dataset) -> float:
    """The moment a past is looked at from: one second after its last event, in seconds since the epoch."""
    return float(past.log.time[-1]) + 1


@dataclass(frozen=True)
class Pool:
    """The products that AUC, log loss and calibration are computed over, the same for every system.

    Attributes:
        items: (U, P) int32 product indices; what the mask hides repeats some product.
        mask: (U, P) bool, True where there is a product.
        labels: (U, P) bool, bought in the window.
    """

    items: NDArray[np.int32]
    mask: NDArray[np.bool_]
    labels: NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """A past, the shoppers asked about, and what they then bought.

    Attributes:
        past: All that a system may read.
        users: (U,) int32 rising user indices.
        slices: ``all`` and ``never_bought``; the latter may be empty.
        pool: For AUC, log loss and calibration.
        parts: Of ``all``.
    """

    past: Dataset
    users: NDArray[np.int32]
    slices: tuple[Slice, ...]
    pool: Pool
    parts: tuple[Part, ...] = ()

    @classmethod
    def from_split(
        cls, future: Dataset, *, parts: Sequence[str] = (), limit: int | None = None, seed: int = 0
    ) -> "Task":
        """Asks for everything that shoppers buy in ``future``, given ``future.past``.

        Args:
            future: The second part of a :meth:`Dataset.split`.
            parts: Of ``all`` that are measured as well, see :func:`peftrec.evaluation.slices.parts_of`.
            limit: Ask about an even sample of this many shoppers; all if not given.
            seed: Draws the sample.

        Raises:
            InvalidValueError: ``future`` has no past.
            NotEnoughDataError: No shopper has events before the cut and a purchase after it.
            ConfigError: There is no part of a name.
        """
        past = future.past
        if past is None:
            raise InvalidValueError(
                f"the data set '{future.name}' has no past to predict from",
                expected="the second part of a split",
                remedy='past, future = shop.split(at="2017-11-27"), then evaluate on future',
            )
        n_items, log = len(future.catalog), future.log
        purchase = log.event == PURCHASE
        users = np.intersect1d(np.unique(log.user[purchase]), np.unique(past.log.user)).astype(np.int32)
        if not len(users):
            raise NotEnoughDataError(
                f"no shopper of '{future.name}' has events before the cut and a purchase after it",
                expected="at least one",
                remedy="cut at another moment, or choose a larger segment",
            )
        if limit is not None and len(users) > limit:
            users = np.sort(np.random.default_rng(seed).choice(users, limit, replace=False))
        relevant = _keys(users, log.user[purchase], log.item[purchase], n_items)
        bought_before = past.log.event == PURCHASE
        bought = _keys(users, past.log.user[bought_before], past.log.item[bought_before], n_items)
        slices = (everything(relevant, n_items), never_bought(relevant, bought, n_items))
        found = parts_of(parts, slices[0], past, users, bought)
        return cls(past, users, slices, _pool(past, users, relevant), found)


def _keys(
    users: NDArray[np.int32], user: NDArray[np.int32], item: NDArray[np.int32], n_items: int
) -> NDArray[np.int64]:
    """Rising distinct ``row * n_items + item`` of the events of some users."""
    row, known = _rows(users, user)
    return np.unique(row[known] * n_items + item[known])


def _rows(users: NDArray[np.int32], user: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    row = np.minimum(np.searchsorted(users, user), len(users) - 1).astype(np.int64)
    return row, users[row] == user


def popular_lately(past: Dataset, *, days: float = LATELY) -> NDArray[np.float32]:
    """(n_items,) distinct buyers of each product within the last days of the past; all of it for infinity."""
    log, n_items = past.log, len(past.catalog)
    recent = (log.event == PURCHASE) & (log.time >= moment_after(past) - days * DAY)
    pairs = np.unique(log.user[recent].astype(np.int64) * n_items + log.item[recent])
    return np.bincount(pairs % n_items, minlength=n_items).astype(np.float32)


def _pool(past: Dataset, users: NDArray[np.int32], relevant: NDArray[np.int64]) -> Pool:
    """The 250 products a shopper bought most, and the 150 most popular of the last four weeks not among them."""
    n_items, log = len(past.catalog), past.log
    row, known = _rows(users, log.user)
    known &= log.event == PURCHASE
    age = (moment_after(past) - log.time[known]) / DAY
    keys, at = np.unique(row[known] * n_items + log.item[known], return_inverse=True)
    decayed = np.bincount(at, weights=np.exp2(-age / POOL_HALF_LIFE), minlength=len(keys))
    keys = keys[np.lexsort((keys, -decayed, keys // n_items))]
    starts = np.searchsorted(keys // n_items, np.arange(len(users) + 1))
    buyers = popular_lately(past)
    # No more than 250 of the most popular can be among a shopper's own.
    popular = np.argsort(-buyers, kind="stable")[: POOL_OWN + POOL_POPULAR]
    popular = popular[buyers[popular] > 0]
    items = np.zeros((len(users), POOL_OWN + POOL_POPULAR), np.int32)
    mask = np.zeros(items.shape, bool)
    for index in range(len(users)):
        own = (keys[starts[index] : starts[index + 1]] % n_items)[:POOL_OWN]
        rest = popular[~np.isin(popular, own)][:POOL_POPULAR]
        chosen = np.concatenate([own, rest])
        items[index, : len(chosen)] = chosen
        items[index, len(chosen) :] = chosen[0] if len(chosen) else 0
        mask[index, : len(chosen)] = True
    width = max(1, int(mask.sum(axis=1).max()))
    items, mask = items[:, :width], mask[:, :width]
    labels = np.isin(np.arange(len(users))[:, None] * n_items + items, relevant) & mask
    return Pool(items, mask, labels)
