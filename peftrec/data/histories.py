# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false
# scipy has no types; the rest of the package is checked strictly.
"""Shoppers' pasts as ragged arrays: the one form that training, evaluation and serving read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data.columns import EVENT_TYPES
from peftrec.data.dataset import Dataset

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
        channel: (B,) int32 the channel each shopper mostly uses, -1 where unknown.
    """

    offsets: NDArray[np.int64]
    item: NDArray[np.int32]
    age: NDArray[np.float64]
    event: NDArray[np.int8]
    quantity: NDArray[np.float32]
    price: NDArray[np.float32]
    discount: NDArray[np.float32]
    session: NDArray[np.int64]
    channel: NDArray[np.int32]

    def __len__(self) -> int:
        """Number of shoppers."""
        return len(self.offsets) - 1

    @property
    def row(self) -> NDArray[np.int64]:
        """(E,) the shopper's row of each event."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take(self, rows: NDArray[np.integer]) -> "Histories":
        """The same for a choice of rows, in the given order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        events = (self.item, self.age, self.event, self.quantity, self.price, self.discount, self.session)
        return Histories(offsets, *(values[at] for values in events), channel=self.channel[rows])

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
        order = np.argsort(log.user[:end], kind="stable")  # the log is sorted by time, and so stays each user's part
        by_user = log.user[:end][order]
        first, last = np.searchsorted(by_user, users, side="left"), np.searchsorted(by_user, users, side="right")
        offsets = np.concatenate([[0], np.cumsum(last - first)]).astype(np.int64)
        at = order[np.repeat(first - offsets[:-1], last - first) + np.arange(offsets[-1])]
        return cls(
            offsets,
            item=log.item[at],
            age=(moment - log.time[at]) / DAY,
            event=log.event[at],
            quantity=log.quantity[at],
            price=log.price[at],
            discount=log.discount[at],
            session=log.session[at],
            channel=_main_channel(offsets, log.channel[at]),
        )


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
