"""A first look at a file: which table it is, which column is which, what to convert, and what cleaning would drop."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from peftrec.data.cleaning.report import CleaningReport, RuleCount
from peftrec.data.inspection.facts import Facts
from peftrec.data.inspection.guess import CATALOGUE, EVENTS, OPTIONAL, REQUIRED
from peftrec.data.inspection.known import known_form
from peftrec.data.inspection.prepared import TABLE_ARGUMENTS, Prepared, prepare
from peftrec.data.inspection.preview import COMPARED, preview, unmatched
from peftrec.data.inspection.printing import shown
from peftrec.errors import SchemaError

LOOKED_AT = 1_000_000
"""Rows that are read if nothing else is asked for."""


@dataclass(frozen=True)
class ColumnLook:
    """One column of the file.

    Args:
        name: In the file.
        dtype: Its type there.
        missing: Share of the rows without a value, 0..1.
        distinct: Different values; None for lists and structs.
        examples: The first of them.
        becomes: Our name; None for a further attribute, and for what has to be dropped.
        why: What speaks for that.
    """

    name: str
    dtype: str
    missing: float
    distinct: int | None
    examples: tuple[str, ...]
    becomes: str | None
    why: str


@dataclass(frozen=True)
class Change:
    """What has to be done to a column first.

    Args:
        column: Its name in the file.
        becomes: Our name, empty if it has none.
        found: What is the matter with it.
        code: The polars expression that mends it; empty where the column is to be dropped.
        doubt: What the values do not tell, empty if nothing.
    """

    column: str
    becomes: str
    found: str
    code: str
    doubt: str


@dataclass(frozen=True)
class Inspection:
    """What a look at a file found; ``print`` shows it. Every guess in it is for a reader to check.

    Args:
        path: The file.
        form: How it is written, in words.
        size: Bytes.
        rows: Rows that were looked at; row numbers below count from 0, the first row under the header.
        total: Rows of the file, None where they were not counted.
        table: Which table it seems to be: "events", "catalogue", "profiles" or "promotions".
        why: What speaks for that.
        columns: All columns, in order.
        mapping: Our name -> their name, where they differ.
        missing: Required names that no column was found for.
        changes: What has to be converted or dropped first.
        notes: What should be known.
        problems: Errors that peftrec would raise when it reads the file as it is.
        refused: The error that would come after all changes, empty if none would.
        cleaning: What cleaning would do to events, None for other tables or where it cannot be told.
        products: What each rule would do to a catalogue.
        call: Python that builds a data set from the file.
    """

    path: str
    form: str
    size: int
    rows: int
    total: int | None
    table: str
    why: str
    columns: tuple[ColumnLook, ...]
    mapping: dict[str, str]
    missing: tuple[str, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    refused: str
    cleaning: CleaningReport | None
    products: tuple[RuleCount, ...]
    call: str

    def to_dict(self) -> dict[str, object]:
        """All of it as plain values, ready for JSON."""
        values: dict[str, object] = asdict(self)
        return values | {"cleaning": None if self.cleaning is None else self.cleaning.to_dict()}

    def __str__(self) -> str:
        return shown(self)


def inspect(path: str | Path, *, catalog: str | Path | None = None, rows: int | None = LOOKED_AT) -> Inspection:
    """Looks at a file without changing anything, and proposes how to read it.

    Args:
        path: Text with any usual separator and encoding (.csv, .tsv, .txt), Parquet, JSON or JSON lines; text and JSON
            also compressed by gzip.
        catalog: The file of the products, to check the ids of events against.
        rows: How many rows to read; None for all.

    Returns:
        What was found; ``print`` it.

    Raises:
        SchemaError: The file is no table, has no rows, or is too damaged or too large to be looked at; or the catalogue
            has no column of ids.
    """
    products = None if catalog is None else _catalog(Path(catalog))
    found = prepare(Path(path), rows=rows, items=None if products is None else products.ids())
    seen, source = preview(found, products), found.source
    advice = "" if products is None else unmatched(found, products)
    return Inspection(
        path=str(path),
        form=source.form,
        size=source.path.stat().st_size,
        rows=len(source.frame),
        total=source.total,
        table=found.guess.table,
        why=found.guess.why,
        columns=tuple(_column(one, found) for one in found.facts),
        mapping=found.guess.mapping,
        missing=found.guess.missing,
        changes=tuple(
            Change(one.column, one.ours, one.found, "" if one.code is None else one.code.text, one.doubt)
            for one in found.conversions
        ),
        notes=(*found.notes, *_notes(found, products), *([advice] if advice else [])),
        problems=tuple(map(str, source.problems)),
        refused=seen.refused,
        cleaning=seen.events,
        products=seen.products,
        call=call(found, products),
    )


def call(found: Prepared, products: Prepared | None = None) -> str:
    """The Python code that builds a data set from a file."""
    before = [*([] if products is None else products.lines()), *found.lines()]
    arguments = {"name": repr(found.source.path.name.partition(".")[0])}
    for table in (CATALOGUE, EVENTS):
        arguments[TABLE_ARGUMENTS[table][0]] = f"'<your {table}>'"
    for one in (products, found):
        if one is not None:
            value, columns = TABLE_ARGUMENTS[one.guess.table]
            arguments[value] = one.argument()
            mapping = one.guess.mapping | dict.fromkeys(one.guess.missing, "<your column>")
            arguments |= {columns: _shown(mapping)} if mapping else {}
    lines = ["from peftrec.data import Dataset"]
    code = "\n".join(before)
    lines = ["import polars as pl", *lines] if "pl." in code else lines
    lines += ["from peftrec.data.reading.encodings import in_utf8"] if "in_utf8(" in code else []
    build = [f"    {name}={value}," for name, value in arguments.items()]
    return "\n".join([*lines, "", *before, "shop = Dataset.build(", *build, ")"])


def _shown(mapping: Mapping[str, str]) -> str:
    """A mapping as Python, one line for each name where it is long."""
    whole = repr(dict(mapping))
    if len(whole) <= 60:
        return whole
    entries = [f"        {ours!r}: {theirs!r}," for ours, theirs in mapping.items()]
    return "\n".join(["{", *entries, "    }"])


def _catalog(path: Path) -> Prepared:
    products = prepare(path, rows=None, table=CATALOGUE)
    if products.guess.missing:
        raise SchemaError(
            f"{path} has no column that looks like {' or '.join(products.guess.missing)}",
            expected=f"a catalogue with {', '.join(REQUIRED[CATALOGUE])}",
            remedy=f"see what it holds: peftrec data inspect {path}",
        )
    return products


def _column(facts: Facts, found: Prepared) -> ColumnLook:
    match = next((match for match in found.guess.matches.values() if match.theirs == facts.name), None)
    dropped = next((one for one in found.conversions if one.column == facts.name and one.code is None), None)
    why = "has to be dropped" if dropped is not None else "kept as it is" if match is None else match.why
    becomes = None if match is None else match.ours
    return ColumnLook(facts.name, facts.dtype, facts.missing, facts.distinct, facts.examples, becomes, why)


def _notes(found: Prepared, products: Prepared | None) -> list[str]:
    """What a reader should know about the guess as a whole."""
    table, source = found.guess.table, known_form(found.source.path, found.source.frame.columns)
    notes = [source] if source else []
    if table == EVENTS and products is None:
        notes.append(
            "without a catalogue the rule unknown_item could not be tried: pass --catalog FILE, or catalog=..."
        )
    if table == CATALOGUE and len(found.frame) > COMPARED:
        notes.append(f"near duplicates were not looked for: there are more than {COMPARED:,} products")
    if table == EVENTS and not found.guess.missing:
        text = next(
            (one for one in found.facts if one.words >= 0.5 and one.length >= 6 and _describes(one, found)), None
        )
        if text is not None:
            item = found.guess.matches["item_id"].theirs
            notes.append(
                f"'{text.name}' holds texts of products: where there is no catalogue, a first one is"
                f" frame.select({item!r}, {text.name!r}).unique({item!r}, keep='last'), with catalog_columns="
                f"{{'item_id': {item!r}, 'title': {text.name!r}}}"
            )
    unused = [ours for ours in OPTIONAL[table] if ours not in found.guess.matches]
    if unused:
        notes.append(f"nothing was found for the optional columns {', '.join(unused)}")
    return notes


def _describes(facts: Facts, found: Prepared) -> bool:
    """Whether a further column of events could be the title of their products."""
    used = {match.theirs for match in found.guess.matches.values()}
    items = len(found.ids())
    return facts.name not in used and 0.3 * items < (facts.distinct or 0) < 3 * items
