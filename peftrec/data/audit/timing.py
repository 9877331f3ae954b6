"""Events on the wrong side of a cut, and events and visits that are on both sides."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.audit.report import AuditCheck, Severity
from peftrec.data.dataset import Dataset

RANDOM = 0.5
"""Shares of past and future on the wrong side of the best cut, added up, from which a split is like one by chance (1.0)."""

LARGE, REPEATED = 5, 0.01
"""Different lines from which two equal baskets are more likely one that was copied than two; share of such baskets of the
future from which it is worth a look. Among 14,617 real baskets of groceries none repeats one of the past, of 3,146 invoices
of a wholesaler two do.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROW, _LINE, _LINES, _SUM, _FIRST, _LAST = "__row", "__line", "__lines", "__sum", "__first", "__last"
_KEY = [col.USER, col.ITEM, col.TIME, col.EVENT]
_VISIT = [col.USER, col.SESSION]
_SPLIT_BY_TIME = "split by time: dataset.split(at=...)"


@dataclass(frozen=True)
class Cut:
    """The moment that parts two logs best.

    Attributes:
        at: The moment.
        late: Events of the past at or after it.
        early: Events of the future before it.
        overlap: Share of the past at or after the first event of the future.
        wrong: Share of the past that is late and share of the future that is early, added up.
    """

    at: datetime
    late: int
    early: int
    overlap: float
    wrong: float

    @classmethod
    def between(cls, past: NDArray[np.int64], future: NDArray[np.int64]) -> "Cut":
        """Finds it; microseconds since 1970 UTC, which rise in both arrays."""
        moments = np.unique(np.concatenate([past, future]))
        late = len(past) - np.searchsorted(past, moments)
        early = np.searchsorted(future, moments)
        wrong = late / max(len(past), 1) + early / max(len(future), 1)
        # Of equally good cuts the latest: where all is well, that is the first event of the future.
        best = len(moments) - 1 - int(np.argmin(wrong[::-1]))
        overlap = float((past >= future[0]).mean())
        at = _EPOCH + timedelta(microseconds=int(moments[best]))
        return cls(at, int(late[best]), int(early[best]), overlap, float(wrong[best]))


@dataclass(frozen=True)
class Sides:
    """The events of both parts without those that are on both sides, which one check counts alone.

    Attributes:
        past: Frame of events, with row numbers.
        future: Likewise.
        copies: Events of the future that the past has as well.
        cut: Between the two frames.
    """

    past: pl.DataFrame
    future: pl.DataFrame
    copies: pl.DataFrame
    cut: Cut

    @classmethod
    def of(cls, past: Dataset, future: Dataset) -> "Sides":
        """Takes the copies out of two parts."""
        one, two = (part.events.frame.with_row_index(_ROW) for part in (past, future))
        copies = two.join(one, on=_KEY, how="semi", maintain_order="left")
        if len(copies):
            one, two = (frame.join(copies, on=_KEY, how="anti", maintain_order="left") for frame in (one, two))
        if one.is_empty() or two.is_empty():  # one part repeats the other: any moment of theirs will do
            return cls(one, two, copies, Cut(future.start, 0, 0, 0.0, 0.0))
        micros = [frame[col.TIME].to_physical().to_numpy() for frame in (one, two)]
        return cls(one, two, copies, Cut.between(*micros))


def late_past(sides: Sides) -> AuditCheck:
    """Events of the past that are at or after the cut."""
    rows = sides.past.filter(pl.col(col.TIME) >= sides.cut.at)
    told = "events of the past that are at or after the cut"
    return _misplaced("late_past", rows, len(sides.past), sides.cut, told)


def early_future(sides: Sides) -> AuditCheck:
    """Events of the future that are before the cut."""
    rows = sides.future.filter(pl.col(col.TIME) < sides.cut.at)
    told = "events of the future that are before the cut"
    return _misplaced("early_future", rows, len(sides.future), sides.cut, told)


def copied_events(sides: Sides, past: Dataset, future: Dataset) -> AuditCheck:
    """Events of the future that the past has as well: same shopper, product, moment and type."""
    copies = sides.copies
    if copies.is_empty():
        return AuditCheck("copied_events", "ok", "no event is in both parts")
    known, shown = past.events.frame, future.events.frame.schema
    shared = [name for name, dtype in known.schema.items() if shown.get(name) == dtype]
    equal = copies.join(known.select(shared), on=shared, how="semi", nulls_equal=True)
    baskets = copies.select(pl.struct(col.USER, col.TIME).n_unique()).item()
    return AuditCheck(
        "copied_events",
        "leak",
        f"{len(copies):,} events of the future are in the past as well ({len(equal):,} of them equal in every column),"
        f" in {baskets:,} baskets of the same shopper and moment",
        len(copies),
        len(copies) / len(future.events),
        _event(copies),
        "take the copies out of the past; Dataset.build(..., rules=CleaningRules(duplicate_event=True)) finds equal rows"
        " of one table",
    )


def shared_visits(sides: Sides) -> AuditCheck:
    """Visits, named by shopper and ``session_id``, with events on both sides."""
    if col.SESSION not in sides.past.columns or col.SESSION not in sides.future.columns:
        return AuditCheck("shared_visits", "skipped", f"the events have no column '{col.SESSION}'")
    both = _visits(sides.past).join(_visits(sides.future), on=_VISIT, suffix="_later").sort(_VISIT)
    visits = sides.future.select(pl.struct(_VISIT).n_unique()).item() if len(sides.future) else 0
    if both.is_empty():
        return AuditCheck("shared_visits", "ok", f"none of the {visits:,} visits of the future is in the past as well")
    same = (pl.col(_LINES) == pl.col(f"{_LINES}_later")) & (pl.col(_SUM) == pl.col(f"{_SUM}_later"))
    copied = same & (pl.col(_LINES) > 1)
    torn = pl.col(f"{_FIRST}_later") <= pl.col(_LAST)
    wrong = both.filter(copied | torn)
    severity: Severity = "leak" if len(wrong) else "warning"
    counts = f"{both.select(copied.sum()).item():,} of them with the same lines, {both.select(torn.sum()).item():,} torn apart"
    shown = (wrong if len(wrong) else both).row(0, named=True)
    return AuditCheck(
        "shared_visits",
        severity,
        f"{len(both):,} visits are on both sides, {counts}"
        if len(wrong)
        else f"{len(both):,} visits were under way at the cut",
        len(both),
        len(both) / max(visits, 1),
        f"user_id '{shown[col.USER]}', session_id '{shown[col.SESSION]}', {shown[_LAST]:%Y-%m-%d %H:%M} in the past and"
        f" {shown[f'{_FIRST}_later']:%Y-%m-%d %H:%M} in the future",
        "keep each visit on one side, and each basket once" if len(wrong) else "cut at an hour when nobody shops",
    )


def repeated_baskets(sides: Sides) -> AuditCheck:
    """Large baskets of the future with just the lines of one of the past, whatever their shoppers, moments and names."""
    name, (one, two) = "repeated_baskets", (_baskets(frame) for frame in (sides.past, sides.future))
    again = two.join(one, on=[_LINES, _SUM], how="semi", maintain_order="left")
    told = f"{len(again):,} of {len(two):,} baskets of {LARGE} lines or more have just the lines of one of the past"
    if not len(two):
        return AuditCheck(name, "skipped", f"no basket of the future has {LARGE} lines")
    if len(again) < REPEATED * len(two):
        return AuditCheck(name, "ok", told, len(again), len(again) / len(two))
    first = again.sort(_FIRST, col.USER).row(0, named=True)
    return AuditCheck(
        name,
        "warning",
        told,
        len(again),
        len(again) / len(two),
        f"user_id '{first[col.USER]}', {first[_FIRST]:%Y-%m-%d %H:%M}, {first[_LINES]:,} lines",
        "look whether baskets were exported twice, under other ids or by another clock; standing orders are no leak",
    )


def _baskets(frame: pl.DataFrame) -> pl.DataFrame:
    """The large ones, like :func:`_visits`; without visits, what a shopper bought at one moment is a basket."""
    bought = frame.filter(pl.col(col.EVENT) == "purchase")
    named = [pl.col(col.SESSION)] if col.SESSION in frame.columns else []
    moment = pl.col(col.TIME).cast(pl.String)
    return _visits(bought.with_columns(pl.coalesce(*named, moment).alias(col.SESSION))).filter(pl.col(_LINES) >= LARGE)


def _misplaced(name: str, rows: pl.DataFrame, total: int, cut: Cut, told: str) -> AuditCheck:
    if rows.is_empty():
        return AuditCheck(name, "ok", f"no {told}, {cut.at:%Y-%m-%d %H:%M:%S} UTC")
    found = f"{len(rows):,} {told} that parts them best, {cut.at:%Y-%m-%d %H:%M:%S} UTC"
    if cut.wrong > RANDOM:
        found += ", as in a split by chance"
    found += f"; {cut.overlap:.1%} of the past is at or after the first event of the future"
    return AuditCheck(name, "leak", found, len(rows), len(rows) / total, _event(rows), _SPLIT_BY_TIME)


def _visits(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per visit: its distinct lines, as a count and a sum of hashes, first and last moment."""
    line = pl.struct(col.ITEM, col.EVENT, col.QUANTITY).hash(seed=0)
    return (
        frame.filter(pl.col(col.SESSION).is_not_null())
        .select(*_VISIT, col.TIME, line.alias(_LINE))
        .group_by(_VISIT)
        .agg(
            pl.col(_LINE).n_unique().alias(_LINES),
            pl.col(_LINE).unique().sum().alias(_SUM),
            pl.col(col.TIME).min().alias(_FIRST),
            pl.col(col.TIME).max().alias(_LAST),
        )
    )


def _event(rows: pl.DataFrame) -> str:
    first = rows.row(0, named=True)
    return f"row {first[_ROW]}: user_id '{first[col.USER]}', item_id '{first[col.ITEM]}', {first[col.TIME]:%Y-%m-%d %H:%M:%S}"
