"""Shoppers' pasts as ragged arrays: the one form that training, evaluation and serving read."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from peftrec.data.columns import EVENT_TYPES
from peftrec.data.coupons import HeldCoupons
from peftrec.data.dataset import Dataset
from peftrec.data.ragged import laid_out

DAY = 86_400.0
PURCHASE = EVENT_TYPES.index("purchase")


@dataclass(frozen=True)
class Ragged:
    """Rows of different length, laid end to end.

    Attributes:
        offsets: (B + 1,) int64; row b is ``values[offsets[b]:offsets[b + 1]]``.
        values: (total,) int32 product indices.
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.int32]

    @property
    def rows(self) -> NDArray[np.int64]:
        """(total,) the row that each value belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        """The values of one row."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @classmethod
    def join(cls, parts: Sequence[NDArray[np.int32]]) -> "Ragged":
        """Lays arrays end to end."""
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return cls(offsets, np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32))

    @classmethod
    def grid(cls, items: NDArray[np.int32]) -> "Ragged":
        """Rows of equal length, from a (B, P) array."""
        rows, width = items.shape
        return cls(np.arange(rows + 1, dtype=np.int64) * width, items.reshape(-1).astype(np.int32))


@dataclass(frozen=True)
class Histories:
    """The events of B shoppers before one moment, row by row and in time order within a row.

    Attributes:
        offsets: (B + 1,) int64, where each shopper's events begin.
        item: (E,) int32 product index.
        age: (E,) float64 days before the moment, never negative.
        event: (E,) int8 index into ``EVENT_TYPES``.
        quantity: (E,) float32.
        price: (E,) float32 per unit, NaN where unknown.
        discount: (E,) float32 share of the list price, 0 where unknown.
        session: (E,) int64 code of the visit.
        dwell: (E,) float32 seconds, NaN where unknown.
        page: (E,) float32 position in the path of the visit, from 1 on.
        entry: (E,) int8 kind of the channel that the visit began with, -1 where unknown.
        channel: (B,) int32 the channel each shopper mostly uses, -1 where unknown.
        coupons: What the shoppers hold; None where nothing is known of coupons.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    age: NDArray[np.float64]
    event: NDArray[np.int8]
    quantity: NDArray[np.float32]
    price: NDArray[np.float32]
    discount: NDArray[np.float32]
    session: NDArray[np.int64]
    dwell: NDArray[np.float32]
    page: NDArray[np.float32]
    entry: NDArray[np.int8]
    channel: NDArray[np.int32]
    coupons: HeldCoupons | None = None

    def __len__(self) -> int:
        """Number of shoppers."""
        return len(self.offsets) - 1

    @property
    def row(self) -> NDArray[np.int64]:
        """(E,) the shopper's row of each event."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take(self, rows: NDArray[np.integer]) -> "Histories":
        """The same for a choice of rows, in the given order."""
        offsets, at = laid_out(self.offsets[:-1][rows], np.diff(self.offsets)[rows])
        return Histories(
            offsets,
            **{name: getattr(self, name)[at] for name in EVENT_ARRAYS},
            channel=self.channel[rows],
            coupons=None if self.coupons is None else self.coupons.take(rows),
        )

    @classmethod
    def join(cls, parts: Sequence["Histories"]) -> "Histories":
        """Shoppers of several at one moment, laid end to end; all of one dataset where they hold coupons, as all or none do."""
        if len(parts) == 1:
            return parts[0]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(part.offsets) for part in parts]))])
        held = [part.coupons for part in parts if part.coupons is not None]
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*EVENT_ARRAYS, "channel")}
        return cls(offsets.astype(np.int64), **joined, coupons=HeldCoupons.join(held) if held else None)

    def with_pasts(self, rows: NDArray[np.integer], others: "Histories") -> "Histories":
        """The same shoppers, those of ``rows`` with the events of ``others``, which are as many, in that order."""
        starts, lengths = self.offsets[:-1].copy(), np.diff(self.offsets)
        starts[rows] = len(self.item) + others.offsets[:-1]  # behind all events, once both lie end to end
        lengths[rows] = np.diff(others.offsets)
        offsets, at = laid_out(starts, lengths)
        joined = {name: np.concatenate([getattr(self, name), getattr(others, name)])[at] for name in EVENT_ARRAYS}
        return replace(self, offsets=offsets, **joined)

    @classmethod
    def of(cls, dataset: Dataset, users: NDArray[np.integer], *, moment: float) -> "Histories":
        """Reads the pasts of ``users`` from a dataset's log; nothing at or after the moment is looked at.

        Args:
            dataset: Holds the log.
            users: (B,) user indices.
            moment: Seconds since the epoch.
        """
        log = dataset.log
        end = int(np.searchsorted(log.time, moment, side="left"))
        order, keys = log.by_user
        users = np.asarray(users, np.int64)
        first, last = np.searchsorted(keys, users * len(log)), np.searchsorted(keys, users * len(log) + end)
        offsets, at = laid_out(first, last - first)
        at = order[at]
        held = dataset.coupon_log
        return cls(
            offsets,
            age=(moment - log.time[at]) / DAY,
            **{name: getattr(log, name)[at] for name in EVENT_ARRAYS if name != "age"},
            channel=_main_channel(offsets, log.channel[at]),
            coupons=None if held is None else held.held(users, moment),
        )


EVENT_ARRAYS = tuple(field.name for field in fields(Histories) if field.name not in ("offsets", "channel", "coupons"))
"""Attributes with one entry per event."""


def first_of(*keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """Positions of the first event of each combination of keys, combinations rising; keys are (E,) each."""
    order = np.lexsort(keys[::-1])
    new = np.zeros(len(order), bool)
    new[:1] = True
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    return order[new]


def _main_channel(offsets: NDArray[np.int64], channel: NDArray[np.int32]) -> NDArray[np.int32]:
    """The most frequent known channel of each row (the lowest code of equals), -1 for a row without one."""
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    known = channel >= 0
    main = np.full(len(offsets) - 1, -1, np.int32)
    if not known.any():
        return main
    width = int(channel.max()) + 1
    keys, counts = np.unique(rows[known] * width + channel[known], return_counts=True)
    order = np.lexsort((-keys, counts))  # the last one written for a row wins
    main[keys[order] // width] = (keys[order] % width).astype(np.int32)
    return main
