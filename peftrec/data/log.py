"""Events as numpy arrays: what counts, features, training and evaluation read."""

import zlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col

GAP = 1800.0
"""Seconds without an event after which a shopper's next one begins another visit, as web analytics count."""

ENTRIES = 32
"""Kinds of entry channels that models tell apart; more channels than that share kinds."""


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
        session: (E,) int64 code of the visit: of shopper and ``session_id``; where there is none, events of a shopper are
            one visit as long as ``GAP`` seconds never pass between two of them. Codes differ between shoppers and have
            no order.
        dwell: (E,) float32 seconds, NaN where not known.
        channel: (E,) int32 position in the sorted distinct values of ``channel``, -1 where not known.
        page: (E,) float32 position in the path of the visit, from 1 on: as the log says, or among the visit's events.
        entry: (E,) int8 kind, 0 to ``ENTRIES`` - 1, of the channel that the visit began with, -1 where not known. It
            depends on the channel's name alone, so that it means the same in every part and in serving.
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
    page: NDArray[np.float32]
    entry: NDArray[np.int8]

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
        time = events[col.TIME].to_physical().to_numpy() / 1e6
        session = _sessions(events, user, time)
        channel = _channels(events)
        page, entry = _path(events, session, channel)
        return cls(
            user=user,
            item=codes(events[col.ITEM], items),
            time=time,
            event=events[col.EVENT].cast(pl.Enum(col.EVENT_TYPES)).to_physical().cast(pl.Int8).to_numpy().copy(),
            quantity=_numbers(events, col.QUANTITY, 1),
            price=_numbers(events, col.PRICE, np.nan),
            discount=_numbers(events, col.DISCOUNT, 0),
            session=session,
            dwell=_numbers(events, col.DWELL, np.nan),
            channel=channel,
            page=page,
            entry=entry,
        )

    @cached_property
    def by_user(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(E,) rows in order of user, then time, and (E,) keys ``user * E + row`` of them, which rise."""
        order = np.argsort(self.user, kind="stable")  # the log is sorted by time, and so stays each user's part
        return order, self.user[order].astype(np.int64) * len(self) + order

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


def _sessions(events: pl.DataFrame, user: NDArray[np.int32], time: NDArray[np.float64]) -> NDArray[np.int64]:
    by_gap = _visits(user, time)
    if col.SESSION not in events.columns:
        return by_gap
    names = events[col.SESSION]
    code = codes(names, names.drop_nulls().unique(maintain_order=True)).astype(np.int64)
    shoppers = int(user.max(initial=0)) + 1
    taken = (int(code.max(initial=-1)) + 1) * shoppers  # visits without an id come after all others
    # Some shops count each shopper's visits from 1, so a session id alone does not name a visit.
    return np.where(code >= 0, code * shoppers + user, taken + by_gap)


def _visits(user: NDArray[np.int32], time: NDArray[np.float64]) -> NDArray[np.int64]:
    """(E,) code of the visit, cut where a shopper rests."""
    visit = np.empty(len(user), np.int64)
    order = np.argsort(user, kind="stable")
    rested = (np.diff(user[order]) != 0) | (np.diff(time[order]) > GAP)
    visit[order] = np.cumsum(np.r_[False, rested]) if len(order) else order
    return visit


def _path(
    events: pl.DataFrame, session: NDArray[np.int64], channel: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Each event's position in its visit, and the kind of channel that the visit began with."""
    order = np.argsort(session, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(session[order]) != 0]) if len(order) else order
    lengths = np.diff(np.r_[start, len(order)])
    page, first = np.empty(len(order), np.float32), np.empty(len(order), np.int32)
    page[order] = np.arange(len(order)) - np.repeat(start, lengths) + 1
    first[order] = np.repeat(channel[order][start], lengths)
    told = _numbers(events, col.PAGE, np.nan)
    kinds = [kind_of(name) for name in _without_platform(channel_names(events), events)]
    kinds = np.array([*kinds, -1], np.int8)  # -1 also reads the last one
    return np.where(np.isnan(told), page, told), kinds[first]


def _without_platform(names: list[str], events: pl.DataFrame) -> list[str]:
    """The channels of a pool as their platforms call them, so that "shop/email" is of the kind of "email"."""
    if col.PLATFORM not in events.columns:
        return names
    platforms = [f"{name}/" for name in events[col.PLATFORM].drop_nulls().unique()]
    return [name.removeprefix(next(filter(name.startswith, platforms), "")) for name in names]


def kind_of(channel: str) -> int:
    """The kind of an entry channel, from its name."""
    return zlib.crc32(channel.encode()) % ENTRIES


def channels_by_code(events: pl.DataFrame, log: "EventLog") -> list[str]:
    """Names of a log's channels, each at the place of its code; empty where a part does not hold it.

    Args:
        events: The frame of ``Events``.
        log: Of these events; a part keeps the codes of the whole.
    """
    if col.CHANNEL not in events.columns:
        return []
    table = pl.DataFrame({"code": log.channel, "name": events[col.CHANNEL]}).filter(pl.col("code") >= 0).unique("code")
    names = [""] * (int(log.channel.max(initial=-1)) + 1)
    for code, name in table.iter_rows():
        names[code] = name
    return names


def channel_names(events: pl.DataFrame) -> list[str]:
    """Distinct channels of an event frame, sorted; a channel's code is its place here."""
    return events[col.CHANNEL].drop_nulls().unique().sort().to_list() if col.CHANNEL in events.columns else []


def _channels(events: pl.DataFrame) -> NDArray[np.int32]:
    if col.CHANNEL not in events.columns:
        return np.full(len(events), -1, np.int32)
    return codes(events[col.CHANNEL], pl.Series(channel_names(events), dtype=pl.String))
