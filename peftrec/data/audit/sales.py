"""What each product sold, or each shopper bought, on both sides of a cut, and what rank correlations say of it."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data.columns import EVENT_TYPES
from peftrec.data.dataset import Dataset
from peftrec.data.log import EventLog

RECENT = (0.25, 0.5, 1.0, 2.0)
"""Spans before the cut that count as shortly before it, as multiples of the length of the future."""

STRATA, PER_STRATUM = 100, 20
"""At most so many groups of rows that did equally well, with at least so many rows each."""

_PURCHASE = EVENT_TYPES.index("purchase")


@dataclass(frozen=True)
class Measure:
    """One way to count what each of n products sold, or each of n shoppers bought.

    Attributes:
        before: (n,) before the cut.
        after: (n,) after it.
        recent: (n,) each, shortly before it.
    """

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    recent: tuple[NDArray[np.float64], ...]

    def foreseen(self, rows: NDArray[np.bool_]) -> float:
        """The largest rank correlation with what came after that something known at the cut has among ``rows``."""
        known = (self.before, *self.recent)
        return max(abs(within(count[rows], self.after[rows], like=self.before[rows])) for count in known)


@dataclass(frozen=True)
class Sales:
    """What each of n products sold, or each of n shoppers bought.

    Attributes:
        seen: (n,) with an event of any kind before the cut.
        measures: Lines; units where quantities differ from 1, and money where prices are known.
    """

    seen: NDArray[np.bool_]
    measures: tuple[Measure, ...]

    @property
    def new(self) -> NDArray[np.bool_]:
        """(n,) that first come up after the cut, with a sale."""
        return ~self.seen & (self.measures[0].after > 0)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) with a sale before the cut."""
        return self.measures[0].before > 0

    @classmethod
    def of(cls, past: Dataset, future: Dataset, *, key: str) -> "Sales":
        """Counts purchases, or all events where a part has none; ``key`` is "item" or "user"."""
        size = len(past.catalog) if key == "item" else len(past.users)
        seen = np.bincount(getattr(past.log, key), minlength=size) > 0
        logs = [past.log, future.log]
        if all((log.event == _PURCHASE).any() for log in logs):
            logs = [log.take(np.flatnonzero(log.event == _PURCHASE)) for log in logs]
        cut, last = float(future.log.time[0]), float(future.log.time[-1])
        starts = [cut - times * (last - cut) for times in RECENT]

        def summed(log: EventLog, amounts: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.bincount(getattr(log, key), weights=amounts, minlength=size).astype(np.float64)

        return cls(
            seen,
            tuple(
                Measure(
                    summed(logs[0], before),
                    summed(logs[1], after),
                    tuple(summed(logs[0], before * (logs[0].time >= start)) for start in starts),
                )
                for before, after in _amounts(logs)
            ),
        )


def within(
    values: NDArray[np.float64], others: NDArray[np.float64], *, like: NDArray[np.float64] | None = None
) -> float:
    """Spearman's rank correlation, or with ``like`` that of the ranks within groups of rows with nearly equal values of it.

    >>> within(np.array([1.0, 2.0, 3.0]), np.array([30.0, 20.0, 10.0]))
    -1.0
    """
    rank, size = pl.all().exclude("group").rank(), len(values)
    groups = min(STRATA, max(1, size // PER_STRATUM))
    place = pl.col("group").rank() * groups / (size + 1)
    frame = pl.DataFrame({"values": values, "others": others, "group": np.zeros(size) if like is None else like})
    ranks = (
        frame.with_columns(place.floor() if like is not None else "group")
        .select(((rank - (pl.len() + 1) / 2) / pl.len()).over("group"))
        .to_numpy()
    )
    spread = float(np.sqrt((ranks**2).sum(axis=0).prod()))
    return float(ranks[:, 0] @ ranks[:, 1]) / spread if spread else 0.0


def _amounts(logs: list[EventLog]) -> list[list[NDArray[np.float64]]]:
    """What the lines of both logs count: 1, their units, their money; the latter two where they say something."""
    units = [log.quantity.astype(np.float64) for log in logs]
    paid = [np.nan_to_num(log.price.astype(np.float64)) * log.quantity * (1 - log.discount) for log in logs]
    told = [[np.ones(len(log)) for log in logs]]
    told += [units] if any((amount != 1).any() for amount in units) else []
    return told + ([paid] if any(amount.any() for amount in paid) else [])
