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

SIDE_ENOUGH, SEPARATED = 20, 0.99
"""Area under the ROC curve by which yes and no, with so many rows each, part those that sold much after the cut from the
others, and that nothing known before it reaches."""

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


def catalogue_source(past: Dataset, future: Dataset) -> AuditCheck:
    """Whether the source says that texts or prices of products come from after the cut."""
    name, source = "catalogue_source", future.source
    if source is None:
        return AuditCheck(name, "skipped", "the data set names no source")
    if not source.hindsight:
        return AuditCheck(name, "ok", "the source says nothing of a catalogue made in hindsight")
    new = np.setdiff1d(future.log.item, past.log.item)
    frame, first = past.catalog.frame, int(new[0]) if len(new) else 0
    return AuditCheck(
        name,
        "warning",
        f"the source says: {source.hindsight}; {len(new):,} products first come up after the cut",
        len(new),
        len(new) / len(frame),
        f"'{frame[col.ITEM][first]}': '{frame[col.TITLE][first]}'" if len(new) else "",
        "say so beside results, or build the catalogue anew from what was known at the cut",
    )


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
        return "no column holds numbers, dates, or yes and no"
    told = f"no column of numbers, dates, or yes and no, of {looked:,}, knows what came after the cut"
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
    looks = (_beyond_foresight, _parting)
    found = [
        one for measure in sales.measures for look in looks if (one := look(numbers, given, measure, rows)) is not None
    ]
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


def _parting(numbers: NDArray[np.float64], given: NDArray[np.bool_], measure: Measure, rows: _Rows) -> _Finding | None:
    """Yes and no that part rows by what they did after the cut: flags hold too little for a rank correlation to show."""
    old = (measure.before > 0) & given
    values = np.unique(numbers[old])
    if len(values) != 2:
        return None
    high, after = numbers[old] == values[1], measure.after[old]
    if min(high.sum(), (~high).sum()) < SIDE_ENOUGH:
        return None
    parted = _area(high, after)
    known = max(_area(high, before[old]) for before in (measure.before, *measure.recent))
    if parted < SEPARATED or known >= SEPARATED:
        return None
    less = min(after[high], after[~high], key=np.mean)
    # What was taken off the shelves before the cut sells nothing after it, and that may have been known.
    severity: Severity = "leak" if less.any() else "warning"
    what = "sales" if rows.key == "item" else "purchases"
    told = f"parts {old.sum():,} {rows.what} by their {what} after the cut (area under the ROC curve {parted:.3f})"
    return _Finding(severity, told, int(old.sum()), len(numbers), _shown(numbers, measure.after, old, rows))


def _area(high: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
    """Area under the ROC curve of ``values`` for telling ``high``, or the others where that is larger."""
    ranks, many = pl.Series(values).rank().to_numpy(), int(high.sum())
    area = float((ranks[high].mean() - (many + 1) / 2) / (len(high) - many))
    return max(area, 1 - area)


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
    """A column of numbers, of yes and no, or of two texts, which are 0 and 1 in alphabetical order; None of any other."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if column.dtype != pl.String:
        return None
    texts = column.drop_nulls().unique().sort()
    if len(texts) == 2:
        return (column == texts[1]).cast(pl.Float64).fill_null(np.nan).to_numpy()
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
