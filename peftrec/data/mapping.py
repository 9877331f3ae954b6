"""Renaming a table's columns to ours, with errors that propose the mapping that would work."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import polars as pl

from peftrec.data.columns import ALIASES
from peftrec.data.tables import Table, read_table
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
        table: In any form that :func:`peftrec.data.tables.read_table` takes.
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
        raise NotEnoughDataError(f"the {name} has no rows", expected=f"at least one {rows}", remedy=remedy)
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
    mapping = dict(columns or {})
    _check_mapping(mapping, frame.columns, (*required, *optional), what)
    frame = frame.rename({theirs: ours for ours, theirs in mapping.items()})
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise _missing(missing, frame.columns, mapping, what)
    return frame


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


def _absent(
    ours: str, name: str, mapping: Mapping[str, str], present: Sequence[str], known: Sequence[str], what: str
) -> SchemaError:
    if name in known and ours in present:
        turned = {value: key for key, value in mapping.items()}
        remedy = f"the mapping goes from our name to yours, so turn it round: columns={turned}"
    elif ours in present:
        remedy = f"the table has '{ours}' under our own name: leave it out of the mapping"
    else:
        close = _closest(name, ours, present)
        remedy = f"write columns={{'{ours}': '{close[0]}'}}" if close else f"name one of: {_listed(present)}"
    return SchemaError(
        f"the mapping takes '{ours}' from a column '{name}', which the {what} table does not have",
        expected=f"one of its columns: {_listed(present)}",
        remedy=remedy,
    )


def _missing(missing: Sequence[str], present: Sequence[str], mapping: Mapping[str, str], what: str) -> SchemaError:
    free = [name for name in present if name not in mapping]
    close = {name: _closest(name, name, free) for name in missing}
    proposal = {**mapping, **{name: found[0] if found else "<your column>" for name, found in close.items()}}
    near = "; ".join(f"closest to '{name}': {', '.join(found)}" for name, found in close.items() if found)
    return SchemaError(
        f"the {what} table has no column {' and no '.join(map(repr, missing))}; it has {_listed(present)}"
        + (f" ({near})" if near else ""),
        expected=f"columns {', '.join(missing)}",
        remedy=f"pass columns={proposal}",
    )


def _closest(name: str, ours: str, present: Sequence[str]) -> list[str]:
    folded = {column.lower().replace(" ", "_"): column for column in reversed(present)}
    by_alias = [folded[alias] for alias in ALIASES.get(ours, ()) if alias in folded]
    by_name = [folded[match] for match in get_close_matches(name.lower(), list(folded), n=3, cutoff=0.5)]
    return list(dict.fromkeys([*by_alias, *by_name]))[:3]


def _listed(names: Sequence[str], limit: int = 20) -> str:
    if not names:
        return "no columns"
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + rest
