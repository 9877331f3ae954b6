"""Who did what with which product, and when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import ROW, TIME_TEXT, check, event_rules
from peftrec.data.order import timestamps_from_order
from peftrec.data.reading.mapping import as_mapping, rename_columns
from peftrec.data.reading.tables import Table, read_table
from peftrec.data.reading.values import MOMENT, as_attribute, as_id, as_moment, as_number, as_text
from peftrec.errors import NotEnoughDataError, SchemaError

_TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    col.USER: pl.String,
    col.ITEM: pl.String,
    col.TIME: MOMENT,
    col.EVENT: pl.String,
    col.QUANTITY: pl.Float32,
}
USUAL = {col.EVENT: "purchase", col.QUANTITY: 1}
"""What an event is taken for where its row, or its table, does not tell."""

POSITION, MADE_UP = "position", "__made_up"
"""The column that orders a shopper's events where there are no moments, and the one that tells this until they are typed."""

_NUMBERS = (col.QUANTITY, col.PRICE, col.DISCOUNT, col.DWELL, col.PAGE)
_TEXTS = (col.EVENT, col.QUERY)
_IDS = (col.USER, col.ITEM, col.SESSION, col.CHANNEL, col.PLATFORM)


@dataclass(frozen=True, eq=False, repr=False)
class Events:
    """Events in time order. Build them with :meth:`from_table`.

    Attributes:
        frame: ``user_id``, ``item_id``, ``event`` (String), ``timestamp`` (UTC, microseconds, ascending; equal moments
            keep the order of the table), ``quantity`` (Float32); optional ``price`` (list price of one unit),
            ``discount`` (share of that price, 0..1), ``dwell_seconds``, ``page`` (position in the path of the visit, from 1
            on; all Float32), ``session_id``, ``channel`` (where the visit came from: a shop, an app, a campaign),
            ``query``, ``platform`` (String), and any further column of the table. Null means "not known".
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        schema = self.frame.schema
        wrong = [f"{name} {schema.get(name, 'missing')}" for name, dtype in _TYPES.items() if schema.get(name) != dtype]
        if wrong or not self.frame[col.TIME].is_sorted():
            raise SchemaError(
                f"this frame is not an event log: {', '.join(wrong) or 'timestamps are not ascending'}",
                expected="columns "
                + ", ".join(f"{name} {dtype}" for name, dtype in _TYPES.items())
                + ", sorted by time",
                remedy="build it with Events.from_table(table, columns=...)",
            )

    @classmethod
    def from_table(cls, table: Table, *, columns: Mapping[str, str] | None = None) -> "Events":
        """Reads, checks and sorts a table of events; a single bad row is an error.

        Args:
            table: A pandas or polars DataFrame, an Arrow table, a dict of columns, or a path to .csv, .tsv, .parquet.
            columns: Our name -> your name, for columns that are called differently.

        Raises:
            SchemaError: A column is missing, doubled or of a wrong type, or the file cannot be read.
            InvalidValueError: A missing id; a moment that is missing, unreadable or in the future; an unknown type of
                event; a negative price or dwell time, a quantity of zero or less, a discount outside 0..1.
            NotEnoughDataError: There are no rows.
        """
        frame = read_events(table, columns)
        if frame.is_empty():
            raise no_events()
        check(frame, [rule for rule in event_rules(frame.columns, moment=datetime.now(UTC), items=None) if rule.strict])
        return cls(in_time_order(frame))

    def __len__(self) -> int:
        """Number of events."""
        return len(self.frame)

    def __repr__(self) -> str:
        """Size and columns in one line."""
        return f"Events({len(self):,} events: {', '.join(self.frame.columns)})"


def read_events(table: Table, columns: Mapping[str, str] | None) -> pl.DataFrame:
    """A table with our names and types, rows as they came, plus a row number and the text of unreadable timestamps."""
    return typed_events(named_events(table, columns))


def named_events(table: Table, columns: Mapping[str, str] | None) -> pl.DataFrame:
    """A table with our names, values untouched; moments are made up where it has only a ``position``."""
    frame, mapping = read_table(table, what="events"), as_mapping(columns, "events")
    names = {*frame.columns}.difference(mapping.values()) | {*mapping}
    ordered = POSITION in names and col.TIME not in names
    frame = rename_columns(
        frame,
        columns,
        required=(col.USER, col.ITEM) if ordered else col.EVENTS_REQUIRED,
        optional=col.EVENTS_OPTIONAL,
        what="events",
    )
    if not ordered:
        return frame
    return frame.with_columns(timestamps_from_order(frame[col.USER], frame[POSITION]), pl.lit(True).alias(MADE_UP))


def typed_events(frame: pl.DataFrame) -> pl.DataFrame:
    """A table with our names in our types, see :func:`read_events`."""
    typed = typed_columns(frame)
    return typed.with_columns(pl.col(name).fill_null(value) for name, value in USUAL.items())


def typed_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The same, where rows that do not tell what happened, or how often, are left as they are."""
    text = frame[col.TIME] if frame.schema[col.TIME] == pl.String else None
    typed = pl.DataFrame([_typed(column) for column in frame])
    absent = [name for name in USUAL if name not in typed.columns]
    typed = typed.with_columns(pl.lit(USUAL[name], dtype=_TYPES[name]).alias(name) for name in absent)
    if text is not None and typed[col.TIME].null_count():
        typed = typed.with_columns(text.alias(TIME_TEXT))
    return typed.with_row_index(ROW)


def in_time_order(frame: pl.DataFrame) -> pl.DataFrame:
    """The typed table in its final form: sorted by time, known columns first, no helper columns."""
    known = [name for name in (*col.EVENTS_REQUIRED, *col.EVENTS_OPTIONAL) if name in frame.columns]
    rest = [name for name in frame.columns if name not in (*known, ROW, TIME_TEXT, MADE_UP)]
    return frame.select(*known, *rest).sort(col.TIME, maintain_order=True)


def no_events() -> NotEnoughDataError:
    """The error of a table without rows."""
    return NotEnoughDataError(
        "the events table has no rows",
        expected="at least one event",
        remedy="check the file or the query that the events come from",
    )


def _typed(column: pl.Series) -> pl.Series:
    name = column.name
    if name == col.TIME:
        return as_moment(column, "events")
    if name in _NUMBERS:
        return as_number(column, "events", single=True)
    if name in _IDS:
        return as_id(column, "events")
    return as_text(column, "events") if name in _TEXTS else as_attribute(column, "events")
