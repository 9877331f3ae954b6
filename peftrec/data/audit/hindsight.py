"""Columns of products and shoppers that know what was sold after the cut."""

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.audit.report import AuditCheck, Severity
from peftrec.data.audit.sales import Measure, Sales, within
from peftrec.data.dataset import Dataset
from peftrec.data.reading.values import as_moment, is_blank

NEW_ENOUGH, NEW_LEAK = 40, 0.7
"""Rank correlation with sales after the cut, among at least so many products that first come up then, that is a leak.

Before the cut nothing was known of their sales. Chance gives a standard deviation of 1 / sqrt(n - 1) (Pitman, 1937), less
than a quarter of 0.7 for 40. What is true of a product from the first day on, such as its price, tells less.
"""

KNOWN_ENOUGH, KNOWN_LEAK, KNOWN_WARNING, MARGIN = 100, 0.5, 0.35, 0.2
"""Rank correlation with sales after the cut, among at least so many products that sold equally well before it, that is a
leak, or worth a warning; it must lie by ``MARGIN`` above what sales before the cut tell.

A count that was made before the log began, and is as precise as the log, has a partial correlation of at most r / (1 + r),
which is below 0.5, where r is the correlation of any two of them.
"""

MOSTLY = 0.95
"""Share of a text column's values that must read as numbers, or as dates, for it to count as such."""

NAMED_ENOUGH = 10
_NAMES = re.compile(
    r"(^|_)(ratings?|reviews?|stars|sales|sold|rank|popularity|purchases|purchased|orders|ordered|visits|views|clicks"
    r"|spend|spent|ltv|clv|recency)(_|$)",
    re.IGNORECASE,
)
"""Names of columns that count what shoppers do."""

_REMEDY = "leave the column out, or take its values as they were at the cut"


@dataclass(frozen=True)
class _Finding:
    severity: Severity
    found: str
    rows: int
    total: int
    example: str


@dataclass(frozen=True)
class _Rows:
    """The rows of a table as the checks see them.

    Attributes:
        key: What a row is: "item" or "user".
        ids: (n,) their ids.
        sales: What each of them sold or bought.
        future: Begins at the cut.
    """

    key: str
    ids: pl.Series
    sales: Sales
    future: Dataset

    @property
    def what(self) -> str:
        """Many rows in words."""
        return "products" if self.key == "item" else "shoppers"


def catalogue_columns(past: Dataset, future: Dataset) -> AuditCheck:
    """Columns of the catalogue that know what sold after the cut."""
    rows = _Rows("item", past.catalog.ids, Sales.of(past, future, key="item"), future)
    return _check("catalogue_columns", past.catalog.frame, rows)


def profile_columns(past: Dataset, future: Dataset) -> AuditCheck:
    """Columns of the profiles that know what shoppers did after the cut."""
    if past.profiles is None:
        return AuditCheck("profile_columns", "skipped", "there are no profiles")
    frame = past.users.to_frame(col.USER).join(past.profiles.frame, on=col.USER, how="left", maintain_order="left")
    rows = _Rows("user", past.users, Sales.of(past, future, key="user"), future)
    return _check("profile_columns", frame, rows)


def _check(name: str, frame: pl.DataFrame, rows: _Rows) -> AuditCheck:
    found, looked = dict[str, _Finding](), 0
    for column in frame:
        if column.name in (col.TITLE, col.DESCRIPTION) or column.name.endswith("_id"):
            continue
        dates, numbers = _dates(column), _numbers(column)
        looked += dates is not None or numbers is not None
        finding = _later(dates, rows) if dates is not None else None
        if dates is None and numbers is not None:
            finding = _telling(numbers, rows) or _named(column.name, numbers, rows)
        if finding is not None:
            found[column.name] = finding
    if not found:
        return AuditCheck(name, "ok", _nothing(looked, rows))
    worst = sorted(found.items(), key=lambda pair: pair[1].severity)  # "leak" comes before "warning"
    first = worst[0][1]
    told = "; ".join(f"'{column}' {finding.found}" for column, finding in worst)
    return AuditCheck(name, first.severity, told, first.rows, first.rows / first.total, first.example, _REMEDY)


def _nothing(looked: int, rows: _Rows) -> str:
    if not looked:
        return "no column holds numbers or dates"
    told = f"no column of numbers or dates, of {looked:,}, knows what came after the cut"
    few = rows.sales.new.sum() < NEW_ENOUGH and rows.sales.known.sum() < KNOWN_ENOUGH
    return told + (f"; there are too few {rows.what} to compare with sales" if few else "")


def _telling(numbers: NDArray[np.float64], rows: _Rows) -> _Finding | None:
    """Numbers that say more of later sales than anybody could before."""
    sales, given = rows.sales, ~np.isnan(numbers)
    new, after = sales.new & given, sales.measures[0].after
    told = within(numbers[new], after[new]) if new.sum() >= NEW_ENOUGH else 0.0
    if abs(told) >= NEW_LEAK:
        where = f"among {new.sum():,} {rows.what} that first come up after it"
        return _Finding(
            "leak", _ranked(told, where, rows), int(new.sum()), len(numbers), _shown(numbers, after, new, rows)
        )
    found = [finding for measure in sales.measures if (finding := _beyond_foresight(numbers, given, measure, rows))]
    return min(found, key=lambda finding: finding.severity) if found else None


def _beyond_foresight(
    numbers: NDArray[np.float64], given: NDArray[np.bool_], measure: Measure, rows: _Rows
) -> _Finding | None:
    old = (measure.before > 0) & given
    if old.sum() < KNOWN_ENOUGH:
        return None
    told = within(numbers[old], measure.after[old], like=measure.before[old])
    if abs(told) < KNOWN_WARNING or abs(told) < measure.foreseen(old) + MARGIN:
        return None
    where = f"among {old.sum():,} {rows.what} that did equally well before it"
    severity: Severity = "leak" if abs(told) >= KNOWN_LEAK else "warning"
    shown = _shown(numbers, measure.after, old, rows)
    return _Finding(severity, _ranked(told, where, rows), int(old.sum()), len(numbers), shown)


def _ranked(told: float, where: str, rows: _Rows) -> str:
    what = "sales" if rows.key == "item" else "purchases"
    return f"has a rank correlation of {told:+.2f} with {what} after the cut {where}"


def _shown(numbers: NDArray[np.float64], after: NDArray[np.float64], among: NDArray[np.bool_], rows: _Rows) -> str:
    """The one of them that did best after the cut."""
    at = int(np.argmax(np.where(among, after, -1)))
    return f"'{rows.ids[at]}': {numbers[at]:g}, with {after[at]:g} after the cut"


def _named(name: str, numbers: NDArray[np.float64], rows: _Rows) -> _Finding | None:
    """Columns called like counts of what shoppers do that have one where nobody had done anything yet."""
    new = rows.sales.new
    filled = new & (np.nan_to_num(numbers) != 0)
    if not _NAMES.search(name) or new.sum() < NAMED_ENOUGH or 2 * filled.sum() < new.sum():
        return None
    at = int(np.flatnonzero(filled)[0])
    return _Finding(
        "warning",
        f"has a value for {filled.sum():,} of {new.sum():,} {rows.what} that first come up after the cut",
        int(filled.sum()),
        int(new.sum()),
        f"'{rows.ids[at]}': {numbers[at]:g}",
    )


def _later(dates: pl.Series, rows: _Rows) -> _Finding | None:
    """Dates at or after the cut of what was there before it; of what comes up later they may be true beforehand."""
    later = (pl.Series(rows.sales.seen) & (dates >= rows.future.start)).fill_null(False)
    if not later.any():
        return None
    inside = later & (dates <= rows.future.end)
    beyond = int((later & ~inside).sum())
    # What is planned, such as the end of a membership, mostly lies beyond the log and on days when nothing happened.
    planned = beyond > inside.sum() and 2 * _happened(dates, inside, rows) < max(1, int(inside.sum()))
    told = f"has {inside.sum():,} dates between the cut and the last event" + (f", {beyond:,} beyond" if beyond else "")
    at = int(later.arg_true()[0])
    return _Finding(
        "warning" if planned else "leak",
        f"{told}, of {rows.what} that came up before it",
        int(later.sum()),
        int(rows.sales.seen.sum()),
        f"'{rows.ids[at]}': {dates[at]:%Y-%m-%d %H:%M}",
    )


def _happened(dates: pl.Series, inside: pl.Series, rows: _Rows) -> int:
    """How many of these dates are days with an event of the same row."""
    days = pl.DataFrame({"row": inside.arg_true(), "day": dates.filter(inside).dt.date()})
    codes = pl.Series(getattr(rows.future.log, rows.key)).cast(days.schema["row"])
    events = pl.DataFrame({"row": codes, "day": rows.future.events.frame[col.TIME].dt.date()})
    return len(days.join(events, on=["row", "day"], how="semi"))


def _numbers(column: pl.Series) -> NDArray[np.float64] | None:
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if column.dtype != pl.String:
        return None
    numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    return numbers.fill_null(np.nan).to_numpy() if _mostly_read(column, numbers) else None


def _dates(column: pl.Series) -> pl.Series | None:
    if isinstance(column.dtype, (pl.Date, pl.Datetime)):
        return as_moment(column, "audit")
    if column.dtype != pl.String:
        return None
    dates = as_moment(column, "audit")
    return dates if _mostly_read(column, dates) else None


def _mostly_read(text: pl.Series, values: pl.Series) -> bool:
    told = text.to_frame("text").select(is_blank(pl.col("text")).not_().sum()).item()
    return bool(told) and values.count() >= MOSTLY * told
