"""JSON lines, plain or gzip: only the fields asked for, block by block; a line that cannot be read is named."""

import ast
import gzip
import json
import math
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TypeAlias, cast

import polars as pl

from peftrec.errors import SchemaError

Fields: TypeAlias = Mapping[str, pl.DataType]

BLOCK = 1 << 24
"""Bytes that are read at a time, and how far a file's first line is read."""


def read_json_lines(path: Path, fields: Fields, *, key: str | None = None) -> pl.DataFrame:
    """Reads a file with one object on each line; lines without anything are skipped.

    Files of this kind mix types: a price is a number here and a text there, a description a text or a list of texts.
    Such values are brought to the type asked for: anything to text, one value to a list of it, text to a number.
    Python's own notation is read as well, since some shops' files are written in it.

    Args:
        path: The file; its name ends in .gz if it is compressed.
        fields: Field -> its type: String, Float64, Boolean, or lists and structs of them. A field that a line lacks is
            null there, and all other fields are passed over.
        key: A field that no line may lack.

    Raises:
        SchemaError: The file cannot be read, or a line is broken; the message names it.
    """
    frames, line = [pl.DataFrame(schema=fields)], 1
    try:
        with open_bytes(path) as file:
            while block := file.read(BLOCK):
                block += file.readline()
                frame = _block(block, fields, key)
                frames.append(_line_by_line(block, fields, key, path, line) if frame is None else frame)
                line += block.count(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error
    return pl.concat(frames)


def open_bytes(path: Path) -> IO[bytes]:
    """Opens a file that may be compressed."""
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def first_line(path: Path) -> bytes:
    """The first line that is not empty, as far as ``BLOCK`` bytes.

    Raises:
        SchemaError: The file cannot be read.
    """
    try:
        with open_bytes(path) as file:
            while line := file.readline(BLOCK):
                if line.strip():
                    return line
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error
    return b""


def read_object(line: bytes) -> dict[str, object]:
    """One line as a dict.

    Raises:
        ValueError: It is no object, neither in JSON nor in Python's notation.
    """
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        value = read_literal(line.decode())
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    return cast("dict[str, object]", value)


def read_literal(text: str) -> object:
    """A value in Python's notation.

    Raises:
        ValueError: It is none.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of lone backslashes, which texts of products hold
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ValueError("it is no JSON") from None


def unreadable(path: Path, error: BaseException) -> SchemaError:
    """The error of a file that is damaged or gone."""
    return SchemaError(
        f"{path} cannot be read: {' '.join(str(error).split())[:200] or type(error).__name__}",
        expected="a complete file, compressed only if its name ends in .gz",
        remedy="check that the file was fetched whole; then fetch it again",
    )


def _block(block: bytes, fields: Fields, key: str | None) -> pl.DataFrame | None:
    """The fast way; None where a line is broken, lacks its key or has another type than asked for."""
    if block.isspace():
        return None
    try:
        frame = pl.read_ndjson(block, schema=dict(fields))
    except pl.exceptions.PolarsError:
        return None
    return None if key is not None and frame[key].null_count() else frame


def _line_by_line(block: bytes, fields: Fields, key: str | None, path: Path, first: int) -> pl.DataFrame:
    rows = list[dict[str, object]]()
    for number, line in enumerate(block.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            found = read_object(line)
            row = {name: _fitted(found.get(name), dtype, name) for name, dtype in fields.items()}
            if key is not None and row[key] is None:
                raise ValueError(f"it has no '{key}'")
        except (ValueError, TypeError) as error:
            raise _broken(path, number, line, error) from error
        rows.append(row)
    return pl.DataFrame(rows, schema=dict(fields))


def _fitted(value: object, dtype: pl.DataType, name: str) -> object:
    if value is None:
        return None
    if isinstance(dtype, pl.List):
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        return [_fitted(one, cast("pl.DataType", dtype.inner), name) for one in values]
    if isinstance(dtype, pl.Struct) and isinstance(value, dict):
        found = cast("dict[str, object]", value)
        return {
            field.name: _fitted(found.get(field.name), cast("pl.DataType", field.dtype), name) for field in dtype.fields
        }
    if dtype == pl.String:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return text.encode("utf-8", "replace").decode()  # half a surrogate pair is no letter
    if dtype == pl.Boolean and isinstance(value, bool):
        return value
    if dtype == pl.Float64 and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        return _number(value, name)
    raise ValueError(f"its '{name}' is {value!r:.60}")


def _number(value: float | str, name: str) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"its '{name}' is {value!r:.60}") from None
    if math.isinf(number):
        raise ValueError(f"its '{name}' is infinite")
    return None if math.isnan(number) else number


def _broken(path: Path, number: int, line: bytes, reason: Exception) -> SchemaError:
    start = line[:80].decode("utf-8", "replace").strip()
    return SchemaError(
        f"line {number:,} of {path} (counting from 1) cannot be read, {reason}: {start!r}",
        expected="one whole object on each line, as the file was published",
        remedy="fetch the file again, or correct that line",
    )
