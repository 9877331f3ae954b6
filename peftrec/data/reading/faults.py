"""Tables that no library could read: what they may raise, and which row or column is to blame."""

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from peftrec.errors import SchemaError

PANIC = pl.exceptions.PanicException
"""What polars raises where damaged data breaks an assumption of its own; no ``Exception``, so it is caught by name."""

FAULTS = (pl.exceptions.PolarsError, PANIC, OSError, UnicodeDecodeError, MemoryError)
"""What reading a file may raise."""


def unreadable(what: str, error: BaseException) -> SchemaError:
    """The error of a table that a library could not read."""
    return SchemaError(
        f"{what} cannot be read: {reason(error)}",
        expected="a complete, readable table: UTF-8 text for .csv and .tsv, one type of value per column",
        remedy="check that it exists, is complete and has the format that its name says; then write it again",
    )


def reason(error: BaseException) -> str:
    """What a library says, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def first_bad(rows: int, read: Callable[[int], object]) -> int:
    """The row that makes a column unreadable: the last of the shortest beginning that cannot be read."""
    good, bad = 0, rows
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            read(middle)
            good = middle
        except (Exception, PANIC):  # noqa: BLE001  # whichever of them the whole column raised
            bad = middle
    return bad - 1


def mixed(name: str, values: Sequence[Any], row: int, what: str, remedy: str) -> SchemaError:
    """The error of a column with values of several types.

    Args:
        name: Of the column.
        values: Its values.
        row: The first one that does not fit to those before.
        what: What the table is, for messages.
        remedy: With ``{name}`` where the column's name belongs.
    """
    before = next((at for at, value in enumerate(values[:row]) if value is not None), None)
    other = "" if before is None else f", while row {before} is {_kind(values[before])}"
    return SchemaError(
        f"column '{name}' of the {what}: row {row} (counting from 0) is {_kind(values[row])}{other}",
        expected="one type of value per column: text, numbers of 64 bits, dates, yes/no",
        remedy=remedy.format(name=name),
    )


def _kind(value: object) -> str:
    shown = ascii(value)
    return f"the {type(value).__name__} {shown if len(shown) <= 60 else f'{shown[:57]}...'}"
