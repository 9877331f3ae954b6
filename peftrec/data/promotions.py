"""What a shop advertised and displayed, and what it has already decided to: the one thing known about the future."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.log import codes
from peftrec.data.reading.mapping import read_rows
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import MOMENT, as_attribute, as_id, as_moment, as_number, as_text, is_blank
from peftrec.errors import InvalidValueError, SchemaError

_TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    col.ITEM: pl.String,
    col.START: MOMENT,
    col.END: MOMENT,
    col.KIND: pl.String,
    col.REACH: pl.Float32,
    col.ANNOUNCED: MOMENT,
}
_ROW = "__row"


@dataclass(frozen=True, eq=False, repr=False)
class Promotions:
    """Promotions of products, past and planned. Build them with :meth:`from_table`.

    Features as of a moment read only promotions announced by then. Where the table does not say when that was, a
    promotion counts as announced when it starts, so that nothing is known ahead.

    Attributes:
        frame: ``item_id`` (String), ``start`` and ``end`` (UTC; the end is the first moment after it), ``kind``
            ("feature": advertised, in a flyer or a newsletter; "headline": advertised where nobody misses it, on a front
            page or a banner; "display": placed where shoppers pass, in a shop or on a page), ``reach`` (Float32, share
            of the shops or the audience, above 0 and up to 1), ``announced`` (UTC, when the shop had decided it). Any
            further column is kept.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        schema = self.frame.schema
        wrong = [f"{name} {schema.get(name, 'missing')}" for name, dtype in _TYPES.items() if schema.get(name) != dtype]
        if wrong:
            raise SchemaError(
                f"this frame is not a table of promotions: {', '.join(wrong)}",
                expected="columns " + ", ".join(f"{name} {dtype}" for name, dtype in _TYPES.items()),
                remedy="build it with Promotions.from_table(table, columns=...)",
            )
        _check(self.frame)

    @classmethod
    def from_table(cls, table: Table, *, columns: Mapping[str, str] | None = None) -> "Promotions":
        """Reads and checks a table of promotions; a single bad row is an error.

        Args:
            table: A pandas or polars DataFrame, an Arrow table, a dict of columns, or a path to .csv, .tsv, .parquet.
            columns: Our name -> your name, for columns that are called differently.

        Raises:
            SchemaError: A column is missing, doubled or of a wrong type, or the file cannot be read.
            InvalidValueError: A missing id or moment, an end that is not after its start, an unknown kind, a reach
                that is no share.
            NotEnoughDataError: There are no rows.
        """
        frame = read_rows(
            table,
            columns,
            required=col.PROMOTIONS_REQUIRED,
            optional=col.PROMOTIONS_OPTIONAL,
            what="promotions",
            rows="promotion",
            remedy="leave promotions out if there are none: promotions=None",
        )
        given = frame.get_column(col.ANNOUNCED, default=None)
        frame = pl.DataFrame([_typed(column) for column in frame])
        if given is not None:
            _refuse_unreadable(given, frame[col.ANNOUNCED])
        absent = {col.KIND: pl.lit("feature"), col.REACH: pl.lit(1, pl.Float32), col.ANNOUNCED: pl.col(col.START)}
        frame = frame.with_columns(
            (pl.col(name).fill_null(value) if name in frame.columns else value).alias(name)
            for name, value in absent.items()
        )
        return cls(frame.select(*_TYPES, pl.exclude(*_TYPES)))

    def coded(self, items: pl.Series) -> "PromotionLog":
        """The promotions as arrays, those of products outside ``items`` left out."""
        code = codes(self.frame[col.ITEM], items)
        known = np.flatnonzero(code >= 0)
        frame = self.frame[known]

        def seconds(name: str) -> NDArray[np.float64]:
            return frame[name].to_physical().to_numpy() / 1e6

        return PromotionLog(
            item=code[known],
            kind=codes(frame[col.KIND], pl.Series(col.PROMOTION_KINDS)).astype(np.int8),
            reach=frame[col.REACH].to_numpy().copy(),
            start=seconds(col.START),
            end=seconds(col.END),
            announced=seconds(col.ANNOUNCED),
        )

    def __len__(self) -> int:
        """Number of promotions."""
        return len(self.frame)

    def __repr__(self) -> str:
        """Size and kinds in one line."""
        kinds = ", ".join(self.frame[col.KIND].unique().sort())
        return f"Promotions({len(self):,} promotions of {self.frame[col.ITEM].n_unique():,} products: {kinds})"


@dataclass(frozen=True, eq=False)
class PromotionLog:
    """Promotions of one catalogue's products as arrays, P entries.

    Attributes:
        item: (P,) int32 row of the catalogue.
        kind: (P,) int8 index into ``PROMOTION_KINDS``.
        reach: (P,) float32 share of shops or audience.
        start: (P,) float64 seconds since 1970 UTC.
        end: (P,) float64 first second after it.
        announced: (P,) float64 when it was decided.
    """

    item: NDArray[np.int32]
    kind: NDArray[np.int8]
    reach: NDArray[np.float32]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    announced: NDArray[np.float64]

    def known(self, moment: float) -> "PromotionLog":
        """Those announced by ``moment``."""
        at = np.flatnonzero(self.announced <= moment)
        return PromotionLog(
            self.item[at], self.kind[at], self.reach[at], self.start[at], self.end[at], self.announced[at]
        )

    def reached(self, n_items: int, kind: int, begin: float, end: float) -> NDArray[np.float64]:
        """(n_items,) reach of each product, averaged over the time from ``begin`` to ``end``, at most 1."""
        at = np.flatnonzero((self.kind == kind) & (self.start < end) & (self.end > begin))
        share = (np.minimum(self.end[at], end) - np.maximum(self.start[at], begin)) / (end - begin)
        return np.minimum(np.bincount(self.item[at], weights=share * self.reach[at], minlength=n_items), 1)


def _typed(column: pl.Series) -> pl.Series:
    if column.name in (col.START, col.END, col.ANNOUNCED):
        return as_moment(column, "promotions")
    if column.name == col.REACH:
        return as_number(column, "promotions", single=True)
    if column.name == col.KIND:
        return as_text(column, "promotions")
    return as_id(column, "promotions") if column.name == col.ITEM else as_attribute(column, "promotions")


def _refuse_unreadable(given: pl.Series, read: pl.Series) -> None:
    """An empty ``announced`` means the start; one that cannot be read must not."""
    lost = read.is_null() & given.is_not_null()
    if given.dtype == pl.String:
        lost &= given.str.strip_chars() != ""
    row = lost.arg_max()
    if row is not None and lost[row]:
        raise InvalidValueError(
            f"row {row} of the promotions (counting from 0): {col.ANNOUNCED} {str(given[row])!r}",
            expected="a moment in ISO 8601, or nothing where the promotion is known from its start",
            remedy="correct the rows or empty them",
        )


def _check(frame: pl.DataFrame) -> None:
    start, end, reach = pl.col(col.START), pl.col(col.END), pl.col(col.REACH)
    rules = (
        (col.ITEM, is_blank(pl.col(col.ITEM)), "an item id in every row"),
        (col.START, start.is_null(), "a moment in every row, in ISO 8601 where it is text"),
        (col.END, end.is_null(), "a moment in every row, in ISO 8601 where it is text"),
        (col.END, end <= start, "a moment after the start; the end is the first moment after the promotion"),
        (col.KIND, ~pl.col(col.KIND).is_in(list(col.PROMOTION_KINDS)), f"one of {', '.join(col.PROMOTION_KINDS)}"),
        (col.REACH, ~((reach > 0) & (reach <= 1)), "a share above 0 and up to 1"),
    )
    numbered = frame.with_row_index(_ROW)
    for column, broken, expected in rules:
        rows = numbered.filter(broken)
        if len(rows):
            more = f", and {len(rows) - 1:,} more rows" if len(rows) > 1 else ""
            value = "missing or unreadable" if rows[column][0] is None else repr(str(rows[column][0]))
            raise InvalidValueError(
                f"row {rows[_ROW][0]} of the promotions (counting from 0): {column} {value}{more}",
                expected=expected,
                remedy="correct the rows or leave them out",
            )
