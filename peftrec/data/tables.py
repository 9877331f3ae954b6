"""The door: any table or file becomes a polars frame, or a typed error that says what is wrong with it."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.errors import MissingExtraError, SchemaError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
_NOT_A_COLUMN = (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError)
FORMS = "a pandas or polars DataFrame, a pyarrow Table, a dict of columns, or a path to .csv, .tsv or .parquet"


@runtime_checkable
class ArrowStream(Protocol):
    """Anything that speaks the Arrow C stream interface: pandas, pyarrow, DuckDB and others."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Table: TypeAlias = (
    pl.DataFrame | pl.LazyFrame | ArrowStream | Mapping[str, Sequence[Any] | Any] | str | os.PathLike[str]
)


def read_table(table: Table, *, what: str) -> pl.DataFrame:
    """Read any accepted form of table, values untouched.

    Args:
        table: One of the forms in ``Table``. The index of a pandas frame is a column if it has a name. The columns of
            a CSV or TSV file arrive as text, so that an id such as "00123" keeps its zeros.
        what: What the table is, for messages: "catalogue", "events", "profiles".

    Returns:
        A frame with the columns and rows of the table, in its order.

    Raises:
        SchemaError: The form is not one of those, the file cannot be read, or two columns have one name.
    """
    if isinstance(table, pl.DataFrame):
        return table.clone()
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if isinstance(table, (str, os.PathLike)):
        return _read_file(Path(table), what)
    if isinstance(table, Mapping):
        return _read_mapping(table, what)
    if type(table).__module__.partition(".")[0] == "pandas":
        return _read_pandas(table, what)
    if hasattr(table, "__arrow_c_stream__") or hasattr(table, "__arrow_c_array__"):
        return _read_arrow(table, what)
    raise SchemaError(
        f"the {what} table is a {type(table).__module__}.{type(table).__qualname__}",
        expected=FORMS,
        remedy="turn it into one of these, for example with polars.DataFrame(...)",
    )


def _read_pandas(table: Any, what: str) -> pl.DataFrame:
    if getattr(table, "ndim", 0) != 2:
        raise SchemaError(
            f"the {what} table is a pandas {type(table).__name__}, not a DataFrame",
            expected=FORMS,
            remedy="pass a DataFrame; series.to_frame() makes one",
        )
    _refuse_duplicates([str(name) for name in table.columns], what)
    named = [name for name in table.index.names if name is not None and name not in table.columns]
    table = table.reset_index(level=named) if named else table
    try:
        # Arrow would borrow the frame's buffers: the copy keeps our table as it is when the caller writes to theirs.
        return cast(pl.DataFrame, pl.from_pandas(table.rename(columns=str).copy()))
    except ImportError as error:
        raise MissingExtraError(
            f"pandas frames are read through pyarrow, which is not installed ({error})",
            expected="pyarrow",
            remedy="pip install pyarrow",
        ) from error
    except Exception as error:  # pyarrow's exception types are not known here without importing it
        raise _unreadable(f"the {what} DataFrame", error) from error


def _read_arrow(table: Any, what: str) -> pl.DataFrame:
    names = getattr(table, "column_names", None)
    if isinstance(names, list):
        _refuse_duplicates([str(name) for name in cast("list[object]", names)], what)
    try:
        frame = pl.from_arrow(table)  # pyright: ignore[reportUnknownMemberType]  # its union names pyarrow
    except pl.exceptions.PolarsError as error:
        raise _unreadable(f"the {what} Arrow table", error) from error
    return frame if isinstance(frame, pl.DataFrame) else frame.to_frame()


def _read_mapping(table: Mapping[str, Any], what: str) -> pl.DataFrame:
    columns = [_read_column(str(name), values, what) for name, values in table.items()]
    sizes = {column.name: len(column) for column in columns}
    if len(set(sizes.values())) > 1:
        raise SchemaError(
            f"the columns of the {what} dict differ in length: {sizes}",
            expected="columns of one length",
            remedy="check how the lists were filled",
        )
    return pl.DataFrame(columns)


def _read_column(name: str, values: Any, what: str) -> pl.Series:
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        raise SchemaError(
            f"column '{name}' of the {what} dict is a single {type(values).__name__}",
            expected="a list, array or Series, one value per row",
            remedy=f"write {{'{name}': [...]}}",
        )
    if isinstance(values, np.ndarray):
        # polars would borrow the buffer, and see what the caller writes to it later.
        values = cast("NDArray[Any]", values).copy()
    try:
        return pl.Series(name, values).alias(name)
    except _NOT_A_COLUMN:
        return _read_mixed(name, values, what)


def _read_mixed(name: str, values: Any, what: str) -> pl.Series:
    """Lists that mix what may be mixed: whole numbers with fractions, and NaN for "missing" among texts."""
    cleaned = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    numbers = {type(value) for value in cleaned} <= {int, float, type(None)}
    try:
        return pl.Series(name, cleaned, dtype=pl.Float64 if numbers else None)
    except _NOT_A_COLUMN as error:
        raise _unreadable(f"column '{name}' of the {what} dict", error) from error


def _read_file(path: Path, what: str) -> pl.DataFrame:
    suffix = path.suffix.lower()
    if suffix not in (*SEPARATORS, ".parquet"):
        raise SchemaError(
            f"the {what} file {path} ends in '{suffix}'",
            expected="a file that ends in .csv, .tsv or .parquet",
            remedy="read it with pandas or polars and pass the DataFrame",
        )
    try:
        size = path.stat().st_size
        if path.is_dir() or size == 0:
            raise SchemaError(
                f"{path} is {'a folder' if path.is_dir() else 'empty (0 bytes)'}",
                expected=f"a {suffix} file with the {what}",
                remedy="check how the file was written or copied",
            )
        return pl.read_parquet(path) if suffix == ".parquet" else _read_csv(path, SEPARATORS[suffix], what)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise _unreadable(f"the {what} file {path}", error) from error


def _read_csv(path: Path, separator: str, what: str) -> pl.DataFrame:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, delimiter=separator), list[str]())
    if len(header) == 1:
        _refuse_separator(path, header[0], separator)
    _refuse_duplicates(header, what, path)
    _refuse_cut_row(path, separator, len(header))
    return pl.read_csv(path, separator=separator, infer_schema=False)


def _refuse_separator(path: Path, header: str, separator: str) -> None:
    other = max((mark for mark in ",;\t|" if mark != separator), key=header.count)
    if header.count(other):
        raise SchemaError(
            f"{path} has a single column named {header[:80]!r}: it is separated by {other!r}, not by {separator!r}",
            expected="commas in a .csv file, tabs in a .tsv file",
            remedy=f"pass polars.read_csv({str(path)!r}, separator={other!r}, infer_schema=False)",
        )


def _refuse_cut_row(path: Path, separator: str, width: int) -> None:
    """A copy that stopped half-way ends in a short row without a line end; polars would fill it with nulls."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        tail = file.read()
    line = tail.rpartition(b"\n")[2].decode("utf-8", "replace")
    if line and '"' not in line and line.count(separator) + 1 < width:
        raise SchemaError(
            f"{path} ends in the middle of a row: {line[-80:]!r} has {line.count(separator) + 1} of {width} fields",
            expected="whole rows up to the end",
            remedy="copy or export the file again; it looks truncated",
        )


def _refuse_duplicates(names: Sequence[str], what: str, path: Path | None = None) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(
            f"{path or f'the {what} table'} has more than one column named {', '.join(map(repr, twice))}",
            expected="column names that differ",
            remedy="rename or drop one of them before passing the table",
        )


def _unreadable(what: str, error: Exception) -> SchemaError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return SchemaError(
        f"{what} cannot be read: {reason}",
        expected="a complete, readable table: UTF-8 text for .csv and .tsv, one type of value per column",
        remedy="check that it exists, is complete and has the format that its name says; then write it again",
    )
