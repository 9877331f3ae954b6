"""Errors about a value name the file that it stands in, the column's name there, and the line."""

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, cast

from peftrec.data.reading.table_files import SEPARATORS
from peftrec.data.reading.text_files import line_of
from peftrec.errors import DataError

Given: TypeAlias = tuple[object, Mapping[str, str] | None]
"""A table as the caller passed it, and its mapping."""

_TABLE = re.compile(r"\b(events?|catalogue|profiles|promotions)\b")
_ROW = re.compile(r"\brows? (\d[\d,]*)")


@contextmanager
def naming_files(**tables: Given) -> Generator[None]:
    """Adds to errors raised inside what only the caller knows: file, line, and the column's name in the file.

    Args:
        **tables: ``catalogue``, ``events``, ``profiles``, ``promotions``: each as it was passed, with its mapping.
            Those that are no path add nothing.
    """
    try:
        yield
    except DataError as error:
        place = _place(error.found, tables)
        if not place:
            raise
        found = f"{error.found} (in {place})"
        raise type(error)(found, expected=error.expected, remedy=error.remedy) from error


def _place(found: str, tables: Mapping[str, Given]) -> str:
    meant = _TABLE.search(found)
    name = "events" if meant is not None and meant[1] == "event" else meant[1] if meant is not None else ""
    table, columns = tables.get(name, (None, None))
    if not isinstance(table, (str, os.PathLike)):
        return ""
    path = Path(cast("str | os.PathLike[str]", table))
    parts = [] if str(path) in found else [str(path)]
    pairs = cast("Mapping[object, object]", columns).items() if isinstance(cast(object, columns), Mapping) else ()
    theirs = [theirs for ours, theirs in pairs if ours != theirs and re.search(rf"\b{re.escape(str(ours))}\b", found)]
    parts += [f"column '{theirs[0]}'"] if theirs else []
    row, separator = _ROW.search(found), SEPARATORS.get(path.suffix.lower())
    if row is not None and separator is not None and not re.search(r"\bline \d", found):
        line = line_of(path, separator, int(row[1].replace(",", "")))
        parts += [f"line {line:,}"] if line is not None else []
    return ", ".join(parts)
