"""Online Shoppers Purchasing Intention (UCI): one row for each visit to a shop, with pages, seconds and outcome."""

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.reading.values import as_id, as_number, as_text
from peftrec.data.source import DataSource
from peftrec.errors import InvalidValueError, SchemaError

YEAR = 2017
SOURCE = DataSource(
    name="Online Shoppers Purchasing Intention, UCI Machine Learning Repository",
    licence="CC BY 4.0",
    url="https://archive.ics.uci.edu/dataset/468/online+shoppers+purchasing+intention+dataset",
    note=f"moments are made up, since the file tells the month alone: the year is called {YEAR}, the visits of a month"
    " are spread evenly over it in the order of the file, and the pages of a visit come in the order administrative,"
    " informational, product related, before the purchase; days, weekdays and hours mean nothing",
)
SIGNS = ("ProductRelated", "ProductRelated_Duration", "Revenue")
"""Columns by which a file is known to be of this form."""

KINDS = {
    "administrative": ("administrative pages", "Administrative"),
    "informational": ("informational pages", "Informational"),
    "product_related": ("product related pages", "ProductRelated"),
}
"""Item id -> title, and the column that counts its pages; the seconds are in the column with ``_Duration``."""

PROFILE = {
    "special_day": "SpecialDay",
    "operating_system": "OperatingSystems",
    "browser": "Browser",
    "region": "Region",
    "visitor_type": "VisitorType",
    "weekend": "Weekend",
}
OUTCOME = ("Revenue", "PageValues", "BounceRates", "ExitRates")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WHAT, _ROW, _PAGES, _SECONDS, _DAY = "visits", "__visit", "_pages", "_seconds", 86_400_000_000
_NUMBERS = {
    f"{kind}{ours}": f"{column}{theirs}"
    for kind, (_, column) in KINDS.items()
    for ours, theirs in ((_PAGES, ""), (_SECONDS, "_Duration"))
}
_NAMES = _NUMBERS | PROFILE | {col.CHANNEL: "TrafficType", col.TIME: "Month", col.EVENT: "Revenue"}


def online_shoppers(visits: pl.DataFrame, rules: CleaningRules | None = None) -> Dataset:
    """Builds the data set of a table in this form; see :func:`peftrec.data.sources.sessions.load_sessions`.

    The catalogue is the three kinds of pages. Every row is one visit of one shopper, both called by the number of the
    row, from 1. A "view" for each kind that was visited has the number of pages as ``quantity`` and the seconds on all
    of them as ``dwell_seconds``; a "purchase" of the product pages follows where ``Revenue`` is true. A visit without
    any page is a row without an item, which the rule ``missing_item`` counts. ``TrafficType`` is the ``channel``. What
    else is known is the shopper's profile, but for ``OUTCOME``: ``Revenue`` is what is to be predicted, ``PageValues``
    is worked out from the sales that followed a page, and ``BounceRates`` and ``ExitRates`` count how visits ended,
    this one among them, so all four would give the outcome away.

    Args:
        visits: As UCI distributes them, as text or typed.
        rules: Which rows to drop; the usual ones if not given.

    Raises:
        SchemaError: A column is missing or of a wrong type.
        InvalidValueError: A value is missing, or no month, or neither true nor false.
        NotEnoughDataError: There are no rows, or cleaning leaves no event.
    """
    typed = _moments(_typed(visits))
    titles = [title for title, _ in KINDS.values()]
    profile = typed.drop(_ROW, col.CHANNEL, col.TIME, col.EVENT, *_NUMBERS)
    return Dataset.build(
        name="online_shoppers",
        catalog=pl.DataFrame({col.ITEM: list(KINDS), col.TITLE: titles}),
        events=_events(typed),
        profiles=profile if len(profile) else None,
        rules=rules,
        source=SOURCE,
    )


def _typed(visits: pl.DataFrame) -> pl.DataFrame:
    """Our names and types, one row for each visit; further columns as they are."""
    missing = [theirs for theirs in _NAMES.values() if theirs not in visits.columns]
    if missing:
        raise SchemaError(
            f"the {_WHAT} table has no column {' and no '.join(missing)}; it has {', '.join(visits.columns)}",
            expected="the columns of UCI's online_shoppers_intention.csv",
            remedy=f"download the file again from {SOURCE.url}",
        )
    typed = [_read(visits[theirs], ours) for ours, theirs in _NAMES.items()]
    for column in typed:
        _refuse_unread(column, visits[_NAMES[column.name]])
    known = {*_NAMES.values(), *_NAMES, *OUTCOME, col.USER, _ROW}
    frame = pl.DataFrame([*typed, *(column for column in visits if column.name not in known)])
    return frame.with_row_index(_ROW).with_columns((pl.col(_ROW) + 1).cast(pl.String).alias(col.USER))


def _read(column: pl.Series, ours: str) -> pl.Series:
    if ours in (*_NUMBERS, "special_day"):
        column = as_number(column, _WHAT, single=False)
    elif ours in ("weekend", col.EVENT):
        column = _flags(column)
    elif ours == col.TIME:
        column = _months(column)
    elif ours == "visitor_type":
        column = as_text(column, _WHAT).str.replace_all("_", " ").str.to_lowercase()
    else:
        column = as_id(column, _WHAT)
    return column.alias(ours)


def _flags(column: pl.Series) -> pl.Series:
    text = as_text(column, _WHAT).str.strip_chars().str.to_lowercase()
    return text.replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)


def _months(column: pl.Series) -> pl.Series:
    short = as_text(column, _WHAT).str.strip_chars().str.to_lowercase().str.slice(0, 3)
    return short.replace_strict(dict(zip(MONTHS, range(1, 13), strict=True)), default=None, return_dtype=pl.Int8)


def _refuse_unread(read: pl.Series, written: pl.Series) -> None:
    rows = read.is_null().arg_true()
    if len(rows):
        raise InvalidValueError(
            f"column '{written.name}' of the {_WHAT}, row {rows[0]} (counting from 0), is {written[rows[0]]!r}"
            + (f", as are others in {len(rows) - 1:,} more rows" if len(rows) > 1 else ""),
            expected="a value as UCI writes it: a number, a month such as Feb or June, TRUE or FALSE",
            remedy="correct the row; if it is the last one, the file may have been cut off, so download it again",
        )


def _moments(visits: pl.DataFrame) -> pl.DataFrame:
    """Spreads the visits of each month over all but its last day, so that none of them reaches into the next month."""
    first = pl.datetime(YEAR, pl.col(col.TIME), 1, time_unit="us", time_zone="UTC")
    days = first.dt.month_end().dt.day().cast(pl.Int64) - 1
    before, all_of_it = pl.int_range(pl.len(), dtype=pl.Int64).over(col.TIME), pl.len().over(col.TIME).cast(pl.Int64)
    return visits.with_columns((first + pl.duration(microseconds=before * days * _DAY // all_of_it)).alias(col.TIME))


def _events(visits: pl.DataFrame) -> pl.DataFrame:
    stages = list[pl.DataFrame]()
    spent = pl.lit(0.0)
    for kind in KINDS:
        pages, seconds = pl.col(f"{kind}{_PAGES}"), pl.col(f"{kind}{_SECONDS}")
        stages.append(
            visits.filter(pages != 0).select(
                *_event("view", kind, spent), pages.alias(col.QUANTITY), seconds.alias(col.DWELL)
            )
        )
        spent = spent + seconds.clip(0)
    empty = pl.all_horizontal(pl.col(f"{kind}{_PAGES}") == 0 for kind in KINDS)
    stages.append(visits.filter(empty).select(*_event("view", None, pl.lit(0.0))))
    stages.append(visits.filter(col.EVENT).select(*_event("purchase", "product_related", spent)))
    # Events of one visit keep the order of the stages.
    events = pl.concat(stages, how="diagonal").sort(_ROW, maintain_order=True).drop(_ROW)
    return events.with_columns(pl.col(col.QUANTITY).fill_null(1))  # other events than views count for one


def _event(event: str, kind: str | None, after: pl.Expr) -> tuple[pl.Expr, ...]:
    return (
        pl.col(_ROW),
        pl.col(col.USER),
        pl.lit(kind, dtype=pl.String).alias(col.ITEM),
        (pl.col(col.TIME) + pl.duration(microseconds=(after * 1e6).cast(pl.Int64))).alias(col.TIME),
        pl.lit(event).alias(col.EVENT),
        pl.col(col.USER).alias(col.SESSION),
        pl.col(col.CHANNEL),
    )
