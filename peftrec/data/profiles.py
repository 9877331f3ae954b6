"""What is known about shoppers, beside what they did."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from peftrec.data import columns as col
from peftrec.data.reading.mapping import read_rows
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import as_attribute, as_id, check_ids


@dataclass(frozen=True, eq=False, repr=False)
class Profiles:
    """Attributes of shoppers, one row each. Build them with :meth:`from_table`.

    Attributes:
        frame: ``user_id`` (String, unique) and any attributes: text, numbers, dates, yes/no. Null means "not known".
    """

    frame: pl.DataFrame

    def __post_init__(self) -> None:
        check_ids(self.frame, col.USER, "profiles")

    @classmethod
    def from_table(cls, table: Table, *, columns: Mapping[str, str] | None = None) -> "Profiles":
        """Reads and checks a table of shoppers' attributes.

        Args:
            table: A pandas or polars DataFrame, an Arrow table, a dict of columns, or a path to .csv, .tsv, .parquet.
            columns: Our name -> your name, for columns that are called differently.

        Raises:
            SchemaError: A column is missing, doubled or of a wrong type, or the file cannot be read.
            InvalidValueError: A user id is missing or appears twice.
            NotEnoughDataError: There are no rows.
        """
        frame = read_rows(
            table,
            columns,
            required=col.PROFILES_REQUIRED,
            optional=(),
            what="profiles",
            rows="shopper",
            remedy="leave the profiles out if nothing is known about shoppers: profiles=None",
        )
        typed = [as_id(c, "profiles") if c.name == col.USER else as_attribute(c, "profiles") for c in frame]
        return cls(pl.DataFrame(typed).select(col.USER, pl.exclude(col.USER)))

    def __len__(self) -> int:
        """Number of shoppers with a profile."""
        return len(self.frame)

    def __repr__(self) -> str:
        """Size and attributes in one line."""
        return f"Profiles({len(self):,} shoppers: {', '.join(self.frame.columns)})"
