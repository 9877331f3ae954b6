"""The products of a shop."""

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from hashlib import blake2b

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.digest import frame_digest
from peftrec.data.reading.mapping import read_rows
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import as_attribute, as_id, as_number, as_text, check_ids, is_blank
from peftrec.errors import InvalidValueError, SchemaError, UnknownItemError

_TEXTS = (col.TITLE, col.DESCRIPTION, col.BRAND, col.CATEGORY, col.TAGS)
_ROW = "__row"
SAMPLE = 64
"""Products that a catalogue is known again by."""

_COMPARED = 2_000  # ids looked at for a near miss: difflib takes seconds on a whole catalogue


@dataclass(frozen=True, eq=False, repr=False)
class Catalog:
    """Products, one row each; a product's index is its row. Build it with :meth:`from_table`.

    Attributes:
        frame: ``item_id`` (String, unique), ``title`` (String, never empty); optional ``description``, ``brand``,
            ``category``, ``tags`` (String), ``price`` (Float64), ``image``, and any further column. Null: not known.
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        check_ids(self.frame, col.ITEM, "catalogue")
        if self.frame.schema.get(col.TITLE) != pl.String:
            raise SchemaError(
                f"the catalogue's titles are {self.frame.schema.get(col.TITLE, 'missing')}",
                expected=f"a String column '{col.TITLE}'",
                remedy="build it with Catalog.from_table(table, columns=...)",
            )
        self._refuse(is_blank(pl.col(col.TITLE)), col.TITLE, "empty title", "a title for every product")
        if col.PRICE in self.frame.columns:
            self._refuse(pl.col(col.PRICE) < 0, col.PRICE, "negative price", "a price of 0 or more, or none")

    @classmethod
    def from_table(cls, table: Table, *, columns: Mapping[str, str] | None = None) -> "Catalog":
        """Reads and checks a table of products; texts are taken as they are.

        Args:
            table: A pandas or polars DataFrame, an Arrow table, a dict of columns, or a path to .csv, .tsv, .parquet.
            columns: Our name -> your name, for columns that are called differently.

        Raises:
            SchemaError: A column is missing, doubled or of a wrong type, or the file cannot be read.
            InvalidValueError: An id is missing or appears twice, a title is empty, a price is negative.
            NotEnoughDataError: There are no rows.
        """
        return cls(read_catalog(table, columns))

    @cached_property
    def _hashes(self) -> frozenset[str]:
        return frozenset(blake2b(one.encode(), digest_size=8).hexdigest() for one in self.ids)

    @property
    def sample(self) -> list[str]:
        """Hashes of a few ids that do not depend on the others there are: by them a catalogue is known again after it grew."""
        return heapq.nsmallest(SAMPLE, self._hashes)

    def share_of(self, sample: Collection[str]) -> float:
        """How many of another catalogue's :attr:`sample` this one holds, 0 to 1."""
        return len(self._hashes.intersection(sample)) / max(1, len(sample))

    def updated(self, table: Table, *, columns: Mapping[str, str] | None = None) -> "Catalog":
        """The same with other products as well: rows of known ids replace theirs, new ones stand behind the last.

        Args:
            table: As for :meth:`from_table`. What it has no column for is not known of its products.
            columns: Our name -> your name.

        Raises:
            SchemaError: A column is missing, doubled or of another type than the catalogue's, or the file cannot be read.
            InvalidValueError: An id is missing or appears twice, a title is empty, a price is negative.
            NotEnoughDataError: There are no rows.
        """
        given = Catalog.from_table(table, columns=columns).frame
        known = self.frame
        for name in {*given.columns} & {*known.columns}:  # a column that says nothing is of whatever type the other is
            if given[name].null_count() == len(given):
                given = given.with_columns(pl.lit(None, known[name].dtype).alias(name))
            elif known[name].null_count() == len(known):
                known = known.with_columns(pl.lit(None, given[name].dtype).alias(name))
        strange = [name for name in given.columns if given[name].dtype != known.schema.get(name, given[name].dtype)]
        if strange:
            raise SchemaError(
                f"the products' {strange[0]} are {given[strange[0]].dtype}",
                expected=f"{known[strange[0]].dtype}, as in the catalogue",
                remedy="write the column as the catalogue has it, or leave it out",
            )
        rows = [self._rows.get(item, len(self) + at) for at, item in enumerate(given[col.ITEM].to_list())]
        both = pl.concat(
            [self.frame.with_row_index(_ROW), given.with_columns(pl.Series(_ROW, rows, pl.UInt32))],
            how="diagonal_relaxed",
        )
        return Catalog(both.unique(_ROW, keep="last").sort(_ROW).drop(_ROW))

    @property
    def ids(self) -> pl.Series:
        """Item ids, in row order."""
        return self.frame[col.ITEM]

    def __len__(self) -> int:
        """Number of products."""
        return len(self.frame)

    def indices(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """Rows of products.

        Args:
            ids: n item ids.

        Returns:
            (n,) int32 rows.

        Raises:
            UnknownItemError: Ids that the catalogue does not hold; the message names the first and the closest known.
        """
        if isinstance(ids, str):
            ids = [ids]  # one id, not the letters of one
        rows = self._rows
        found = [rows.get(str(item), -1) for item in ids]
        if -1 in found:
            raise self._unknown([str(item) for item, row in zip(ids, found, strict=True) if row < 0], len(found))
        return np.array(found, dtype=np.int32)

    @cached_property
    def digest(self) -> str:
        """sha256 of the content, whatever the order of rows and columns."""
        return frame_digest(self.frame.sort(col.ITEM))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return dict(zip(self.ids.to_list(), range(len(self)), strict=True))

    def _unknown(self, unknown: Sequence[str], asked: int) -> UnknownItemError:
        shown = [f"'{item}'{self._closest(item)}" for item in unknown[:3]]
        return UnknownItemError(
            f"{len(unknown):,} of {asked:,} item ids are not in the catalogue: {', '.join(shown)}"
            + (", ..." if len(unknown) > len(shown) else ""),
            expected=f"ids of the catalogue's {len(self):,} products, such as '{self.ids[0]}'",
            remedy="correct the ids, or add the products to the catalogue first",
        )

    def _closest(self, item: str) -> str:
        alike = self.ids.filter(self.ids.str.len_chars().is_between(max(0, len(item) - 2), len(item) + 2))
        kin = alike.filter(alike.str.to_lowercase().str.starts_with(item[:2].lower()))
        close = get_close_matches(item, (kin if len(kin) else alike).head(_COMPARED).to_list(), n=2)
        return f" (closest: {', '.join(close)})" if close else ""

    def _refuse(self, broken: pl.Expr, column: str, problem: str, expected: str) -> None:
        rows = self.frame.with_row_index(_ROW).filter(broken)
        if len(rows):
            remedy = "Dataset.build(...) fills and counts empty titles" if column == col.TITLE else "or leave it empty"
            raise InvalidValueError(
                f"{problem} in the catalogue, row {rows[_ROW][0]} (counting from 0), item '{rows[col.ITEM][0]}':"
                f" {rows[column][0]!r}" + (f", and {len(rows) - 1:,} more rows" if len(rows) > 1 else ""),
                expected=expected,
                remedy=f"correct the value; {remedy}",
            )

    def __repr__(self) -> str:
        """Size and columns in one line."""
        return f"Catalog({len(self):,} products: {', '.join(self.frame.columns)})"


def read_catalog(table: Table, columns: Mapping[str, str] | None) -> pl.DataFrame:
    """A product table with our names and types, not yet checked for empty titles and doubled ids."""
    return typed_catalog(named_catalog(table, columns))


def named_catalog(table: Table, columns: Mapping[str, str] | None) -> pl.DataFrame:
    """A product table with our names, values untouched."""
    return read_rows(
        table,
        columns,
        required=col.CATALOG_REQUIRED,
        optional=col.CATALOG_OPTIONAL,
        what="catalogue",
        rows="product",
        remedy="check the file or the query that the products come from",
    )


def typed_catalog(frame: pl.DataFrame) -> pl.DataFrame:
    """A product table with our names in our types."""
    known = [name for name in (*col.CATALOG_REQUIRED, *col.CATALOG_OPTIONAL) if name in frame.columns]
    return pl.DataFrame([_typed(column) for column in frame]).select(*known, pl.exclude(known))


def _typed(column: pl.Series) -> pl.Series:
    if column.name == col.ITEM:
        return as_id(column, "catalogue")
    if column.name in _TEXTS:
        return as_text(column, "catalogue")
    return (
        as_number(column, "catalogue", single=False) if column.name == col.PRICE else as_attribute(column, "catalogue")
    )
