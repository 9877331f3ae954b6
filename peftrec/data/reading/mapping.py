"""Renaming a table's columns to ours, with errors that propose the mapping that would work."""

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import cast

import polars as pl

from peftrec.data.reading.names import likeness
from peftrec.data.reading.tables import Table, read_table
from peftrec.errors import NotEnoughDataError, SchemaError


def read_rows(
    table: Table,
    columns: Mapping[str, str] | None,
    *,
    required: Sequence[str],
    optional: Sequence[str],
    what: str,
    rows: str,
    remedy: str,
) -> pl.DataFrame:
    """Reads a table that must not be empty and gives its columns our names.

    Args:
        table: In any form that :func:`peftrec.data.reading.tables.read_table` takes.
        columns: Our name -> their name.
        required: Columns that must be there afterwards.
        optional: Further names of ours, only for messages.
        what: What the table is, for messages.
        rows: What one of its rows is, for messages.
        remedy: What to do about a table without rows.

    Raises:
        SchemaError: It cannot be read, or a column is missing or doubled.
        NotEnoughDataError: There are no rows.
    """
    frame = rename_columns(read_table(table, what=what), columns, required=required, optional=optional, what=what)
    if frame.is_empty():
        name = what if what == "catalogue" else f"{what} table"
        place = f", only a header: {os.fspath(table)}" if isinstance(table, (str, os.PathLike)) else ""
        raise NotEnoughDataError(f"the {name} has no rows{place}", expected=f"at least one {rows}", remedy=remedy)
    return frame


def rename_columns(
    frame: pl.DataFrame,
    columns: Mapping[str, str] | None,
    *,
    required: Sequence[str],
    optional: Sequence[str],
    what: str,
) -> pl.DataFrame:
    """Give columns our names.

    Args:
        frame: A table with the shop's own names.
        columns: Our name -> their name. Columns that are not mentioned keep their name.
        required: Columns that must be there afterwards.
        optional: Further names of ours, only for messages.
        what: What the table is, for messages.

    Raises:
        SchemaError: The mapping names a column that is not there, two columns would get one name, one column is asked
            for twice, or a required column is missing.
    """
    mapping = as_mapping(columns, what)
    _check_mapping(mapping, frame.columns, (*required, *optional), what)
    frame = frame.rename({theirs: ours for ours, theirs in mapping.items()})
    _refuse_reserved(frame.columns, what)
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise _missing(missing, frame.columns, mapping, (*required, *optional), what)
    _refuse_misspelt(mapping, frame.columns, (*required, *optional), what)
    return frame


_RESERVED = (
    *("__row", "__timestamp_text", "__made_up", "__shard", "__left", "__size", "__step", "__depth", "__level"),
    *("__usual", "__stays"),
    *("__text", "__rest", "__word", "__short", "__words", "__hash", "__titles"),
)
"""Columns that cleaning adds for its own use."""


def _refuse_reserved(names: Sequence[str], what: str) -> None:
    for name in names:
        if name in _RESERVED:
            raise SchemaError(
                f"the {what} table has a column '{name}', which peftrec uses for itself",
                expected="other names",
                remedy=f"rename or drop it first, for example with frame.drop('{name}')",
            )


def closest_columns(name: str, ours: str, present: Sequence[str]) -> list[str]:
    """The columns that are most like a name that is wanted, three at most, the closest first.

    Args:
        name: The name.
        ours: The column of ours that it stands for.
        present: Names of a table.
    """
    by_likeness = sorted(present, key=lambda column: -likeness(column, ours)[0])
    known = [column for column in by_likeness if likeness(column, ours)[0]]
    folded = {column.lower().replace(" ", "_"): column for column in reversed(present)}
    alike = [folded[match] for match in get_close_matches(name.lower(), list(folded), n=3, cutoff=0.5)]
    return list(dict.fromkeys([*known, *alike]))[:3]


def as_mapping(columns: Mapping[str, str] | None, what: str) -> dict[str, str]:
    """The mapping as a dict, empty where none is given.

    Raises:
        SchemaError: It maps nothing to nothing.
    """
    if columns is None:
        return {}
    given = cast(object, columns)
    pairs = list(cast("Mapping[object, object]", given).items()) if isinstance(given, Mapping) else [(given, None)]
    if all(isinstance(ours, str) and isinstance(theirs, str) for ours, theirs in pairs):
        return dict(columns)
    wrong = next(pair for pair in pairs if not (isinstance(pair[0], str) and isinstance(pair[1], str)))
    raise SchemaError(
        f"the mapping of the {what} holds {wrong[0]!r:.60}"
        + (f": {wrong[1]!r:.60}" if isinstance(given, Mapping) else f", a {type(given).__name__}"),
        expected="a mapping from our names to yours, both of them texts",
        remedy="write columns={'user_id': 'your column', ...}",
    )


def _check_mapping(mapping: Mapping[str, str], present: Sequence[str], known: Sequence[str], what: str) -> None:
    theirs = list(mapping.values())
    for ours, name in mapping.items():
        if name not in present:
            raise _absent(ours, name, mapping, present, known, what)
        if theirs.count(name) > 1:
            wanted = [key for key, value in mapping.items() if value == name]
            raise SchemaError(
                f"the mapping of the {what} uses the column '{name}' for {' and '.join(map(repr, wanted))}",
                expected="each column of the table used once",
                remedy=f"keep one of them; to have both, add a copy of the column '{name}' under another name",
            )
        if ours != name and ours in present and ours not in theirs:
            raise SchemaError(
                f"two columns of the {what} would be called '{ours}': '{name}', by the mapping, and '{ours}' itself",
                expected="one column for each name",
                remedy=f"drop or rename the column '{ours}' first, or take '{ours}: {name}' out of the mapping",
            )


def _refuse_misspelt(mapping: Mapping[str, str], present: Sequence[str], known: Sequence[str], what: str) -> None:
    """A name that is nearly one of ours would make an attribute of a column that models read."""
    free = [name for name in known if name not in present]
    for ours, name in mapping.items():
        meant = get_close_matches(ours, free, n=1, cutoff=0.8) if ours not in known else []
        if meant:
            raise SchemaError(
                f"the mapping of the {what} takes '{ours}' from '{name}'; '{ours}' is none of our names",
                expected=f"'{meant[0]}', or for an attribute a name that is not nearly one of ours",
                remedy=f"write columns={{'{meant[0]}': '{name}'}}, or leave it out: attributes keep their own names",
            )


def _absent(
    ours: str, name: str, mapping: Mapping[str, str], present: Sequence[str], known: Sequence[str], what: str
) -> SchemaError:
    if name in known and ours in present:
        turned = {value: key for key, value in mapping.items()}
        remedy = f"the mapping goes from our name to yours, so turn it round: columns={turned}"
    elif ours in present:
        remedy = f"the table has '{ours}' under our own name: leave it out of the mapping"
    else:
        close = closest_columns(name, ours, present)
        remedy = f"write columns={{'{ours}': '{close[0]}'}}" if close else f"name one of: {_listed(present)}"
    return SchemaError(
        f"the mapping takes '{ours}' from a column '{name}', which the {what} table does not have",
        expected=f"one of its columns: {_listed(present)}",
        remedy=remedy,
    )


def _missing(
    missing: Sequence[str], present: Sequence[str], mapping: Mapping[str, str], known: Sequence[str], what: str
) -> SchemaError:
    strange = {ours: get_close_matches(ours, missing, n=1) for ours in mapping if ours not in known}
    meant = {ours: found[0] for ours, found in strange.items() if found}
    proposal = {meant.get(ours, ours): theirs for ours, theirs in mapping.items()}
    free = [name for name in present if name not in mapping]
    close = dict[str, list[str]]()
    for name in (name for name in missing if name not in proposal):
        taken = {found[0] for found in close.values() if found}
        close[name] = closest_columns(name, name, [column for column in free if column not in taken])
    proposal |= {name: found[0] if found else "<your column>" for name, found in close.items()}
    near = "; ".join(f"closest to '{name}': {', '.join(found)}" for name, found in close.items() if found)
    told = f" ({near})" if near else ""
    told += "".join(f"; the mapping's '{ours}' is none of our names" for ours in meant)
    return SchemaError(
        f"the {what} table has no column {' and no '.join(map(repr, missing))}; it has {_listed(present)}{told}",
        expected=f"columns {', '.join(missing)}",
        remedy=f"pass columns={proposal}",
    )


def _listed(names: Sequence[str], limit: int = 20) -> str:
    if not names:
        return "no columns"
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + rest
