"""Slices of a task: which shoppers, which of their purchases count, and which products leave the ranking."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from peftrec.data.dataset import Dataset
from peftrec.data.histories import PURCHASE, Ragged
from peftrec.data.segments import user_labels
from peftrec.errors import ConfigError

ALL = "all"
NEVER_BOUGHT = "never_bought"

COLD = 5
"""A shopper who bought at most so many products before is *cold*."""

HEAD = 0.5
"""The *head* are the products with most buyers that together make up this share of all pairs of shopper and product."""


@dataclass(frozen=True)
class Slice:
    """A question asked of every system.

    Attributes:
        name: ``all``, ``never_bought``.
        rows: (S,) int64, rising: rows of the task's shoppers that take part.
        relevant: S rows, distinct products that the shopper buys in the window, at least one each.
        excluded: S rows, products taken out of the shopper's ranking.
    """

    name: str
    rows: NDArray[np.int64]
    relevant: Ragged
    excluded: Ragged

    def __len__(self) -> int:
        """Number of shoppers."""
        return len(self.rows)


def ragged(keys: NDArray[np.int64], rows: NDArray[np.int64], n_items: int) -> Ragged:
    """Products of the given rows, from rising keys ``row * n_items + item``; other rows' keys are passed over."""
    keys = keys[np.isin(keys // n_items, rows)]
    starts = np.searchsorted(keys, rows * n_items)
    return Ragged(np.append(starts, len(keys)).astype(np.int64), (keys % n_items).astype(np.int32))


def everything(relevant: NDArray[np.int64], n_items: int) -> Slice:
    """All purchases over the full catalogue.

    Args:
        relevant: Rising keys ``row * n_items + item`` of what shoppers buy in the window.
        n_items: Products in the catalogue.
    """
    rows = np.unique(relevant // n_items)
    return Slice(ALL, rows, ragged(relevant, rows, n_items), ragged(relevant[:0], rows, n_items))


def never_bought(relevant: NDArray[np.int64], bought: NDArray[np.int64], n_items: int) -> Slice:
    """Only products that the shopper never bought before: what was bought leaves the ranking and the purchases alike.

    Shoppers who buy nothing new are left out.

    Args:
        relevant: Rising keys of what shoppers buy in the window.
        bought: Rising keys of what they bought before it.
        n_items: Products in the catalogue.
    """
    new = relevant[~np.isin(relevant, bought, assume_unique=True)]
    rows = np.unique(new // n_items)
    return Slice(NEVER_BOUGHT, rows, ragged(new, rows, n_items), ragged(bought, rows, n_items))


@dataclass(frozen=True)
class Part:
    """Some of a slice's purchases, within the slice's own rankings.

    Attributes:
        name: In tables.
        of: The slice.
        at: (P,) int64, rising: which of the slice's bought products count, at least one.
    """

    name: str
    of: Slice
    at: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """(S,) int64, rising: rows of the task's shoppers that take part."""
        return self.of.rows[np.unique(self.of.relevant.rows[self.at])]


@dataclass(frozen=True)
class _Asked:
    """A slice and the past it is asked from, as the rules below look at them.

    Attributes:
        whole: The slice.
        past: The past.
        users: (U,) user indices of the task's rows.
        bought: Rising keys ``row * n_items + item`` of what they bought before.
    """

    whole: Slice
    past: Dataset
    users: NDArray[np.int32]
    bought: NDArray[np.int64]

    @property
    def user_row(self) -> NDArray[np.int64]:
        """(T,) row within the task of each bought product."""
        return self.whole.rows[self.whole.relevant.rows]

    @property
    def item(self) -> NDArray[np.int32]:
        """(T,) the bought products."""
        return self.whole.relevant.values

    @cached_property
    def buyers(self) -> NDArray[np.int64]:
        """(n_items,) shoppers who bought each product before."""
        log, n_items = self.past.log, len(self.past.catalog)
        kept = log.event == PURCHASE
        return np.bincount(
            np.unique(log.user[kept].astype(np.int64) * n_items + log.item[kept]) % n_items, minlength=n_items
        )

    @cached_property
    def purchases(self) -> NDArray[np.int64]:
        """(U,) purchases before of each of the task's shoppers."""
        log = self.past.log
        return np.bincount(log.user[log.event == PURCHASE], minlength=len(self.past.users))[self.users]

    def repeat(self) -> NDArray[np.bool_]:
        """Purchases of what the shopper bought before."""
        return np.isin(self.user_row * len(self.past.catalog) + self.item, self.bought)

    def cold_products(self) -> NDArray[np.bool_]:
        """Purchases of what nobody bought before."""
        return self.buyers[self.item] == 0

    def head(self) -> NDArray[np.bool_]:
        """Purchases of the products with most buyers, see :data:`HEAD`."""
        order = np.argsort(-self.buyers, kind="stable")
        before = np.cumsum(self.buyers[order]) - self.buyers[order]
        chosen = np.zeros(len(order), bool)
        chosen[order[before < HEAD * self.buyers.sum()]] = True
        return chosen[self.item]

    def tail(self) -> NDArray[np.bool_]:
        """Purchases of all other products that somebody bought before."""
        return ~self.head() & ~self.cold_products()

    def cold_shoppers(self) -> NDArray[np.bool_]:
        """Shoppers who bought at most :data:`COLD` products before."""
        known = np.bincount(self.bought // len(self.past.catalog), minlength=len(self.users))
        return (known <= COLD)[self.user_row]

    def light_shoppers(self) -> NDArray[np.bool_]:
        """The third of the shoppers with fewest purchases before."""
        return (self.purchases <= np.quantile(self.purchases, 1 / 3))[self.user_row]

    def heavy_shoppers(self) -> NDArray[np.bool_]:
        """The third with most."""
        return (self.purchases > np.quantile(self.purchases, 2 / 3))[self.user_row]


RULES: dict[str, Callable[[_Asked], NDArray[np.bool_]]] = {
    "repeat": _Asked.repeat,
    "head": _Asked.head,
    "tail": _Asked.tail,
    "cold_products": _Asked.cold_products,
    "light_shoppers": _Asked.light_shoppers,
    "heavy_shoppers": _Asked.heavy_shoppers,
    "cold_shoppers": _Asked.cold_shoppers,
}
"""Parts that can be asked for by name, beside columns of the profiles. *Explore* is the slice ``never_bought``."""


def parts_of(
    names: Sequence[str], whole: Slice, past: Dataset, users: NDArray[np.int32], bought: NDArray[np.int64]
) -> tuple[Part, ...]:
    """Parts of a slice by name: one of :data:`RULES`, or a column of the profiles, whose values give one part each.

    Parts in which nobody buys anything are left out.

    Args:
        names: Of the parts.
        whole: The slice.
        past: What systems may read.
        users: (U,) user indices of the task's rows.
        bought: Rising keys ``row * n_items + item`` of what they bought before.

    Raises:
        ConfigError: A name is neither.
    """
    asked = _Asked(whole, past, users, bought)
    columns = [] if past.profiles is None else [name for name in past.profiles.frame.columns if name != "user_id"]
    found: list[Part] = []
    for name in names:
        if name in RULES:
            found.append(Part(name, whole, np.flatnonzero(RULES[name](asked))))
        elif name in columns:
            labels = user_labels(past, name).gather(users).to_numpy()
            found += [
                Part(f"{name}={value}", whole, np.flatnonzero((labels == value)[asked.user_row]))
                for value in sorted(set(labels))
            ]
        else:
            raise ConfigError(
                f"there is no part called '{name}'",
                expected=f"one of {', '.join(RULES)}"
                + (f", or a column of the profiles: {', '.join(columns)}" if columns else ""),
                remedy="correct the name, or leave it out",
            )
    return tuple(part for part in found if len(part.at))
