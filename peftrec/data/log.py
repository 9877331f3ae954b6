"""Events as numpy arrays: what counts, features, training and evaluation read."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col

_DAY_MICROSECONDS = 86_400_000_000


@dataclass(frozen=True, eq=False, repr=False)
class EventLog:
    """Events in time order, one entry each; E is their number. The arrays cannot be written to.

    Attributes:
        user: (E,) int32 position in ``Dataset.users``.
        item: (E,) int32 row of the catalogue.
        time: (E,) float64 seconds since 1970 UTC, ascending.
        event: (E,) int8 index into ``EVENT_TYPES``.
        quantity: (E,) float32 units.
        price: (E,) float32 list price of one unit, NaN where not known.
        discount: (E,) float32 share of the list price, 0..1, 0 where not known.
        session: (E,) int64 code of the visit: of shopper and ``session_id``, or of shopper and calendar day (UTC) where
            there is none. Codes differ between shoppers and have no order.
        dwell: (E,) float32 seconds, NaN where not known.
        channel: (E,) int32 position in the sorted distinct values of ``channel``, -1 where not known.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.float64]
    event: NDArray[np.int8]
    quantity: NDArray[np.float32]
    price: NDArray[np.float32]
    discount: NDArray[np.float32]
    session: NDArray[np.int64]
    dwell: NDArray[np.float32]
    channel: NDArray[np.int32]

    def __post_init__(self) -> None:
        for array in self._arrays().values():
            array.flags.writeable = False

    @classmethod
    def of(cls, events: pl.DataFrame, *, users: pl.Series, items: pl.Series) -> "EventLog":
        """Codes an event frame against its users and items; ids that these do not hold become -1.

        Args:
            events: The frame of ``Events``.
            users: Distinct user ids.
            items: Distinct item ids.
        """
        user = codes(events[col.USER], users)
        micros = events[col.TIME].to_physical()
        return cls(
            user=user,
            item=codes(events[col.ITEM], items),
            time=micros.to_numpy() / 1e6,
            event=events[col.EVENT].cast(pl.Enum(col.EVENT_TYPES)).to_physical().cast(pl.Int8).to_numpy().copy(),
            quantity=_numbers(events, col.QUANTITY, 1),
            price=_numbers(events, col.PRICE, np.nan),
            discount=_numbers(events, col.DISCOUNT, 0),
            session=_sessions(events, user, (micros // _DAY_MICROSECONDS).to_numpy()),
            dwell=_numbers(events, col.DWELL, np.nan),
            channel=_channels(events),
        )

    def __len__(self) -> int:
        """Number of events."""
        return len(self.time)

    def __repr__(self) -> str:
        """Size in one line."""
        return f"EventLog({len(self):,} events)"

    def slice(self, start: int, stop: int) -> "EventLog":
        """The events from ``start`` up to ``stop``, sharing memory with these."""
        return EventLog(**{name: array[start:stop] for name, array in self._arrays().items()})

    def take(
        self,
        at: NDArray[np.int64],
        *,
        users: NDArray[np.int32] | None = None,
        items: NDArray[np.int32] | None = None,
    ) -> "EventLog":
        """The events at these rows, ascending; ``users`` and ``items`` give the new code of every old one."""
        arrays = {name: array[at] for name, array in self._arrays().items()}
        if users is not None:
            arrays["user"] = users[arrays["user"]]
        if items is not None:
            arrays["item"] = items[arrays["item"]]
        return EventLog(**arrays)

    @classmethod
    def join(cls, first: "EventLog", second: "EventLog") -> "EventLog":
        """Two parts of one log, end to end."""
        other = second._arrays()
        return cls(**{name: np.concatenate([array, other[name]]) for name, array in first._arrays().items()})

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def codes(values: pl.Series, keys: pl.Series) -> NDArray[np.int32]:
    """(n,) int32 position of each value among ``keys``, which are distinct; -1 where it is not there or null."""
    table = pl.DataFrame({"key": keys, "code": pl.int_range(len(keys), dtype=pl.Int32, eager=True)})
    joined = pl.DataFrame({"key": values}).join(table, on="key", how="left", maintain_order="left")
    return joined["code"].fill_null(-1).to_numpy().copy()


def _numbers(events: pl.DataFrame, column: str, unknown: float) -> NDArray[np.float32]:
    if column not in events.columns:
        return np.full(len(events), unknown, np.float32)
    return events[column].fill_null(unknown).to_numpy().astype(np.float32)


def _sessions(events: pl.DataFrame, user: NDArray[np.int32], day: NDArray[np.int64]) -> NDArray[np.int64]:
    first, last = (int(day.min()), int(day.max())) if len(day) else (0, 0)
    by_day = user.astype(np.int64) * (last - first + 1) + (day - first)
    if col.SESSION not in events.columns:
        return by_day
    names = events[col.SESSION]
    code = codes(names, names.drop_nulls().unique(maintain_order=True)).astype(np.int64)
    shoppers = int(user.max(initial=0)) + 1
    taken = (int(code.max(initial=-1)) + 1) * shoppers  # days come after all sessions
    # Some shops count each shopper's visits from 1, so a session id alone does not name a visit.
    return np.where(code >= 0, code * shoppers + user, taken + by_day)


def _channels(events: pl.DataFrame) -> NDArray[np.int32]:
    if col.CHANNEL not in events.columns:
        return np.full(len(events), -1, np.int32)
    return codes(events[col.CHANNEL], events[col.CHANNEL].drop_nulls().unique().sort())
