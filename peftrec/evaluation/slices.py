"""Slices of a task: which shoppers, which of their purchases count, and which products leave the ranking."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data.histories import Ragged

ALL = "all"
NEVER_BOUGHT = "never_bought"


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
