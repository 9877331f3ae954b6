"""More ways to cut a data set: windows that roll through time, and everyone's last events."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, cast

import polars as pl

from peftrec.data import columns as col
from peftrec.data.events import Events
from peftrec.data.reading.values import parse_moment
from peftrec.errors import InvalidValueError, NotEnoughDataError

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset

_TICK = timedelta(microseconds=1)
_LEFT = "__left"


_LONGEST, _MOST = timedelta(days=36_500), 10_000


def rolling(
    dataset: "Dataset",
    *,
    windows: int,
    horizon: timedelta | int,
    step: timedelta | int | None = None,
    end: str | date | datetime | None = None,
) -> "tuple[tuple[Dataset, Dataset], ...]":
    """Windows that end at ``end``; see ``Dataset.rolling``."""
    length = _span(horizon, "horizon")
    stride = length if step is None else _span(step, "step")
    _refuse_below_one(windows, "windows")
    last = dataset.end + _TICK if end is None else parse_moment(end, name="end")
    starts = [last - length - stride * back for back in reversed(range(windows))]
    fit = sum(start > _first(dataset) for start in starts)
    if fit < windows:
        raise NotEnoughDataError(
            f"{windows:,} windows of {_told(length)}, {_told(stride)} apart, up to {last:%Y-%m-%d %H:%M} UTC begin at"
            f" {starts[0]:%Y-%m-%d %H:%M} UTC, where '{dataset.name}' has nothing before",
            expected=f"windows after {_first(dataset):%Y-%m-%d %H:%M} UTC; {fit:,} of them are",
            remedy="ask for fewer or shorter windows, or for a shorter step",
        )
    return tuple(_window(dataset, start, start + length) for start in starts)


def leave_last_out(dataset: "Dataset", *, count: int = 1) -> "tuple[Dataset, Dataset]":
    """Cuts off the last events of each shopper; see ``Dataset.leave_last_out``."""
    _refuse_below_one(count, "count")
    if not dataset.ordered:
        raise InvalidValueError(
            f"the events of '{dataset.name}' have real moments: leaving out each shopper's last ones would let a model"
            " learn from events that came after those it is asked for",
            expected="data that says only in which order a shopper's events came",
            remedy="use split(at=...) for one cut in time, or rolling(windows=..., horizon=...) for several",
        )
    if dataset.past is not None:
        raise InvalidValueError(
            f"'{dataset.name}' is a part that has a past",
            expected="a whole data set, or the past of a split",
            remedy="leave the last events out first, and cut the past again for a second set",
        )
    final = dataset.end
    frame = _back_to_back(dataset.events.frame, final=final, count=count)
    if frame[col.TIME].max() != final:
        raise NotEnoughDataError(
            f"no shopper of '{dataset.name}' has more than {count:,} {'event' if count == 1 else 'events'}",
            expected="shoppers with events on both sides of the cut",
            remedy="leave fewer events out",
        )
    return replace(dataset, events=Events(frame), index=None).split(at=final - timedelta(days=count - 1))


def _back_to_back(frame: pl.DataFrame, *, final: datetime, count: int) -> pl.DataFrame:
    """The events with each shopper's days made one row again: it ends on ``final``, or before the cut if it is too short."""
    days = pl.col(col.TIME).rank("dense", descending=True).over(col.USER).cast(pl.Int64) - 1
    short = pl.col(col.TIME).n_unique().over(col.USER) <= count
    frame = frame.with_columns((days + short.cast(pl.Int64) * count).alias(_LEFT))
    moved = frame.with_columns((pl.lit(final) - pl.duration(days=_LEFT)).cast(frame.schema[col.TIME]).alias(col.TIME))
    return moved.drop(_LEFT).sort(col.TIME, maintain_order=True)


def _window(dataset: "Dataset", start: datetime, end: datetime) -> "tuple[Dataset, Dataset]":
    future = dataset.window(start=start, end=end)
    if future.past is None:
        raise NotEnoughDataError(
            f"nothing in '{dataset.name}' comes before the window from {start:%Y-%m-%d %H:%M} UTC",
            expected="windows with a past",
            remedy="ask for fewer windows",
        )
    return future.past, future


def _first(dataset: "Dataset") -> datetime:
    """What windows come after: the first event, or all of the past of a part, whose events its windows do not hold."""
    past = dataset.past
    return past.end if past is not None and len(past.events) else dataset.start


def _span(value: timedelta | int, name: str) -> timedelta:
    try:
        span = value if isinstance(value, timedelta) else timedelta(days=value)
    except (TypeError, ValueError, OverflowError):  # ValueError: NaN
        span = timedelta(0)
    if not timedelta(0) < span <= _LONGEST:
        raise InvalidValueError(
            f"{name}={value!r}",
            expected="a time above 0: whole days or a timedelta",
            remedy=f"pass {name}=28 or {name}=timedelta(weeks=4)",
        )
    return span


def _refuse_below_one(value: int, name: str) -> None:
    if not isinstance(cast(object, value), int) or not 1 <= value <= _MOST:
        raise InvalidValueError(
            f"{name}={value!r}", expected=f"a whole number from 1 to {_MOST:,}", remedy=f"pass {name}=1 or more"
        )


def _told(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"{days:g} {'day' if days == 1 else 'days'}" if days >= 1 else f"{span / timedelta(hours=1):g} hours"
