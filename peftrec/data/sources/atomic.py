"""One atomic file of RecBole: a header of fields and types, then lines of values between tabs."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.reading.json_lines import BLOCK
from peftrec.data.reading.number_formats import NO_NUMBER
from peftrec.data.reading.values import EXACT_FLOAT, as_text
from peftrec.errors import InvalidValueError, SchemaError

TYPES = ("token", "token_seq", "float", "float_seq")

_SENTENCES = (col.TITLE, col.DESCRIPTION, col.TAGS, col.QUERY)
_IDS = (col.USER, col.ITEM, col.SESSION, col.CANONICAL)
_LINE, _TEXT = "\tline", "\ttext"  # no field can be called so
_ROWS = 1_000_000
_QUOTED = r'^"(?:[^"]|"")*"$'


def read_atomic(file: Traversable) -> pl.DataFrame:
    """Reads a file: Float64 for ``float``, text for all other types, null for empty fields.

    A field in quotes stands for what is inside, as for RecBole; any other quote is a letter. Empty lines are passed over.

    Raises:
        SchemaError: The file cannot be read, its header names no type, an unknown one or one field twice, or a line has
            too few or too many fields or text where a number should be.
    """
    try:
        with file.open("rb") as stream:
            fields = _fields(stream.readline().decode("utf-8-sig").rstrip("\r\n"), file)
            parts, line = [_values(_lines("", fields, file, 0), fields, file)], 2
            while block := stream.read(BLOCK):
                block += stream.readline()
                parts.append(_values(_lines(block.decode(), fields, file, line), fields, file))
                line += block.count(b"\n")
    except (OSError, EOFError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error) as error:
        raise SchemaError(
            f"{file} cannot be read: {' '.join(str(error).split())[:200]}",
            expected="a complete file of UTF-8 text, a header and one line for each row",
            remedy="check the path, and that the file is complete; text in another encoding must be written as UTF-8",
        ) from error
    return pl.concat(parts)


def _fields(header: str, file: Traversable) -> dict[str, str]:
    """Name -> type."""
    fields = dict[str, str]()
    for field in header.split("\t"):
        name, mark, kind = field.partition(":")
        if name and kind in TYPES and name not in fields:
            fields[name] = kind
            continue
        problem = "no type" if not mark else f"the type {kind!r:.60}" if kind not in TYPES else "the name of another"
        raise SchemaError(
            f"field {field!r:.60} in the header of {file} has {problem if name else 'no name'}",
            expected=f"fields <name>:<type> between tabs, each name once, types {', '.join(TYPES)}",
            remedy=f"correct the first line of the file, for example {name or 'user_id'}:token",
        )
    return fields


def _lines(block: str, fields: Mapping[str, str], file: Traversable, first: int) -> pl.DataFrame:
    """Lines cut into fields, with the number that an editor shows; ``first`` is that of the first one."""
    lines = pl.DataFrame({_TEXT: pl.Series([block]).str.split("\n").explode()}).with_row_index(_LINE, offset=first)
    lines = lines.with_columns(pl.col(_TEXT).str.strip_suffix("\r")).filter(pl.col(_TEXT) != "")
    width = pl.col(_TEXT).str.count_matches("\t", literal=True) + 1
    broken = lines.filter(width != len(fields))
    if len(broken):
        text, found = broken.select(_TEXT, width.alias("width")).row(0)
        raise SchemaError(
            f"line {broken[_LINE][0]:,} of {file} (counting from 1) has {found} of {len(fields)} fields: {text[:80]!r}",
            expected=f"one value for each field of the header, between tabs: {', '.join(fields)}",
            remedy="correct the line, or fetch the file again; a text that holds a tab or a line end must have it replaced",
        )
    cut = pl.col(_TEXT).str.split_exact("\t", len(fields) - 1).struct.rename_fields(list(fields))
    return lines.select(_LINE, cut).unnest(_TEXT)


def _values(lines: pl.DataFrame, fields: Mapping[str, str], file: Traversable) -> pl.DataFrame:
    known = {name: pl.when(pl.col(name) != "").then(_unquoted(pl.col(name))) for name in fields}
    lines = lines.with_columns(**known)
    numbers = {name: _numbers(lines, name, kind, file) for name, kind in fields.items() if kind.startswith("float")}
    # Lists of numbers are checked, but stay text: no table of ours holds lists.
    single = [number.alias(name) for name, number in numbers.items() if fields[name] == "float"]
    return lines.with_columns(single).drop(_LINE)


def _unquoted(text: pl.Expr) -> pl.Expr:
    inner = text.str.strip_prefix('"').str.strip_suffix('"').str.replace_all('""', '"', literal=True)
    return pl.when(text.str.contains(_QUOTED)).then(inner).otherwise(text)


def _numbers(lines: pl.DataFrame, name: str, kind: str, file: Traversable) -> pl.Series:
    values = lines.select(_LINE, name)
    if kind == "float_seq":
        values = values.with_columns(pl.col(name).str.split(" ")).explode(name)
    text = values[name].str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    unread = values.filter(number.is_null() & ~text.str.to_lowercase().is_in(NO_NUMBER).fill_null(True))
    if len(unread):
        raise SchemaError(
            f"line {unread[_LINE][0]:,} of {file} (counting from 1): '{name}' is {unread[name][0]!r:.60}",
            expected=f"a number, or nothing, since the header says {name}:{kind}",
            remedy=f"correct the value, or say {name}:{kind.replace('float', 'token')} in the header",
        )
    return number.fill_nan(None)


def write_atomic(frame: pl.DataFrame, path: Path, what: str) -> None:
    """Writes a table to a new file and waits until it is on the disk.

    Numbers become ``float``, unless they are whole and too large for it, as do durations, in seconds; all else becomes
    text, with spaces for tabs and line ends.

    Args:
        frame: Any table.
        path: The file.
        what: What to call it in messages.

    Raises:
        SchemaError: A column's name holds a colon, a tab or a line end, or its values cannot be written as text.
        InvalidValueError: An id holds a tab or a line end.
        OSError: The file cannot be written.
    """
    kinds = {column.name: _kind(column, what) for column in frame}
    with path.open("xb") as file:
        file.write("\t".join(f"{name}:{kind}" for name, kind in kinds.items()).encode() + b"\n")
        for part in frame.iter_slices(_ROWS):
            texts = pl.DataFrame({column.name: _text(column, kinds[column.name], what) for column in part})
            texts.write_csv(file, include_header=False, separator="\t", quote_style="never")
        file.flush()
        os.fsync(file.fileno())


def _kind(column: pl.Series, what: str) -> str:
    if not column.name or {":", "\t", "\r", "\n"} & {*column.name}:
        raise SchemaError(
            f"column {column.name!r} of {what}",
            expected="names without colons, tabs and line ends, since the header parts names by them",
            remedy="rename the column first",
        )
    if column.name in _IDS and (broken := column.str.contains(r"[\t\r\n]").arg_true()).len():
        raise InvalidValueError(
            f"{column.name} {column[broken[0]]!r} of {what} holds a tab or a line end",
            expected="ids that fit into one field of a line",
            remedy="replace these ids in all tables first",
        )
    if isinstance(column.dtype, pl.Duration):
        return "float"
    if column.dtype.is_numeric():
        exact = column.dtype.is_float() or not (column.cast(pl.Float64).abs() > EXACT_FLOAT).any()
        return "float" if exact else "token"
    return "token_seq" if column.name in _SENTENCES else "token"


def _text(column: pl.Series, kind: str, what: str) -> pl.Series:
    if isinstance(column.dtype, pl.Duration):
        column = column.dt.total_microseconds() / 1e6
    if kind == "float":
        return (column if column.dtype.is_integer() else column.cast(pl.Float64).fill_nan(None)).cast(pl.String)
    text = as_text(column, what).str.replace_all(r"\r\n|[\t\r\n]", " ")
    quoted = '"' + text.str.replace_all('"', '""', literal=True) + '"'
    # Quotes in front would open a quoted field; an empty text without them would be one that is not known.
    return quoted.zip_with((text == "") | text.str.starts_with('"'), text)
