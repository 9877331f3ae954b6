"""A file that was read, guessed and converted: what ``Dataset.build`` would get, and the code that makes it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.inspection.conversions import Conversion, conversions
from peftrec.data.inspection.facts import Facts, facts_of
from peftrec.data.inspection.guess import Guess, guess_columns, guess_table
from peftrec.data.inspection.reading import Source, read_any
from peftrec.data.reading.faults import FAULTS, reason
from peftrec.data.reading.values import as_id
from peftrec.errors import DataError, SchemaError

TABLE_ARGUMENTS = {
    "events": ("events", "event_columns"),
    "catalogue": ("catalog", "catalog_columns"),
    "profiles": ("profiles", "profile_columns"),
    "promotions": ("promotions", "promotion_columns"),
}
"""Table -> the arguments of ``Dataset.build`` for it and for its mapping."""


@dataclass(frozen=True)
class Prepared:
    """A file as ``Dataset.build`` would get it.

    Attributes:
        source: The file as it was read.
        facts: About its columns.
        guess: What it seems to be.
        conversions: What has to be changed first.
        notes: What can stay, but should be known.
        frame: After the conversions.
    """

    source: Source
    facts: tuple[Facts, ...]
    guess: Guess
    conversions: tuple[Conversion, ...]
    notes: tuple[str, ...]
    frame: pl.DataFrame

    @property
    def variable(self) -> str:
        """What the code calls the table."""
        return TABLE_ARGUMENTS[self.guess.table][0]

    def ids(self) -> pl.Series:
        """Item ids as peftrec would read them, each once; none where no column has them."""
        match = self.guess.matches.get(col.ITEM)
        if match is None:
            return pl.Series(col.ITEM, [], dtype=pl.String)
        found = as_id(self.frame[match.theirs], self.guess.table).drop_nulls().unique(maintain_order=True)
        return found.filter(found.str.strip_chars() != "").alias(col.ITEM)

    def argument(self) -> str:
        """What ``Dataset.build`` is given: the path, or the variable that :meth:`lines` makes."""
        return repr(str(self.source.path)) if self.source.is_plain and not self.conversions else self.variable

    def lines(self) -> list[str]:
        """The code before the call, empty where peftrec reads the file as it is."""
        if self.argument() != self.variable:
            return []
        source, read = self.source, self.source.call
        if source.is_plain:
            parquet = source.path.suffix.lower() == ".parquet"
            options = (
                "" if parquet else ", separator='\\t'" * (source.path.suffix.lower() == ".tsv") + ", infer_schema=False"
            )
            read = f"pl.read_{'parquet' if parquet else 'csv'}({read}{options})"
        dropped = [one.column for one in self.conversions if one.code is None]
        read += f".drop({', '.join(map(repr, dropped))})" if dropped else ""
        changed = [f"    {one.code.text}," for one in self.conversions if one.code is not None]
        return [f"{self.variable} = {read}.with_columns(", *changed, ")"] if changed else [f"{self.variable} = {read}"]


def prepare(path: Path, *, rows: int | None, table: str | None = None, items: pl.Series | None = None) -> Prepared:
    """Reads a file, guesses what it is, and converts what has to be converted.

    Args:
        path: The file.
        rows: How many rows to read; None for all.
        table: Which table it is; guessed if not given.
        items: Ids of a known catalogue.

    Raises:
        SchemaError: It cannot be read, or has no columns or rows.
    """
    source = read_any(path, rows=rows)
    if source.frame.is_empty():
        raise SchemaError(
            f"{path} has {len(source.frame.columns)} columns and no rows",
            expected="at least one row under the header",
            remedy="check how the file was written; a header alone tells nothing about its columns",
        )
    facts = tuple(facts_of(column) for column in source.frame)
    stem = path.name.partition(".")[0]
    known = None if items is None else _share_of(items, source.frame)
    guess = guess_table(facts, stem=stem, items=known) if table is None else guess_columns(facts, table, items=known)
    matches = {ours: match.theirs for ours, match in guess.matches.items()}
    found, notes = conversions(source.frame, facts, matches, guess.table)
    return Prepared(source, facts, guess, tuple(found), tuple(notes), _converted(source, found))


def _share_of(items: pl.Series, frame: pl.DataFrame) -> Callable[[Facts], float]:
    def share(facts: Facts) -> float:
        try:
            values = as_id(frame[facts.name], "events").drop_nulls()
        except DataError:
            return 0.0
        return float(values.is_in(items.implode()).sum()) / len(values) if len(values) else 0.0

    return share


def _converted(source: Source, found: list[Conversion]) -> pl.DataFrame:
    try:
        frame = source.frame.with_columns(one.code.expr for one in found if one.code is not None)
    except FAULTS as error:
        raise SchemaError(
            f"{source.path}: the conversions that were guessed fail: {reason(error)}",
            expected="values of one form in each column",
            remedy="look at the columns " + ", ".join(one.column for one in found),
        ) from error
    return frame.drop(one.column for one in found if one.code is None)
