"""The door: any table or file becomes a polars frame, or a typed error that says what is wrong with it."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data.reading.faults import FAULTS, PANIC, first_bad, mixed, unreadable
from peftrec.data.reading.table_files import SEPARATORS as SEPARATORS
from peftrec.data.reading.table_files import check_file as check_file
from peftrec.data.reading.table_files import read_file, refuse_duplicates
from peftrec.errors import MissingExtraError, SchemaError

_NOT_A_COLUMN = (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError, PANIC)
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
        return _collected(table, what)
    if isinstance(table, (str, os.PathLike)):
        return read_file(Path(table), what=what)
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


def _collected(table: pl.LazyFrame, what: str) -> pl.DataFrame:
    try:
        return table.collect()
    except FAULTS as error:
        raise unreadable(f"the {what} LazyFrame", error) from error


def _read_pandas(table: Any, what: str) -> pl.DataFrame:
    if getattr(table, "ndim", 0) != 2:
        raise SchemaError(
            f"the {what} table is a pandas {type(table).__name__}, not a DataFrame",
            expected=FORMS,
            remedy="pass a DataFrame; series.to_frame() makes one",
        )
    refuse_duplicates([str(name) for name in table.columns], what)
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
    except (Exception, PANIC) as error:  # pyarrow's exception types are not known here without importing it
        raise _mixed_pandas(table.rename(columns=str), what) or unreadable(f"the {what} DataFrame", error) from error


def _read_arrow(table: Any, what: str) -> pl.DataFrame:
    names = getattr(table, "column_names", None)
    if isinstance(names, list):
        refuse_duplicates([str(name) for name in cast("list[object]", names)], what)
    try:
        frame = pl.from_arrow(table)  # pyright: ignore[reportUnknownMemberType]  # its union names pyarrow
    except (Exception, PANIC) as error:  # whatever a foreign library raises while it hands its columns over
        raise unreadable(f"the {what} Arrow table", error) from error
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
        array = cast("NDArray[Any]", values)
        values = cast("list[Any]", array.tolist()) if array.dtype == object else array.copy()
    try:
        column = pl.Series(name, values).alias(name)
    except _NOT_A_COLUMN:
        column = None
    return _read_mixed(name, list(values), what) if column is None or column.dtype == pl.Object else column


def _read_mixed(name: str, values: Sequence[Any], what: str) -> pl.Series:
    """Lists that mix what may be mixed: whole numbers with fractions, and NaN for "missing" among texts."""
    cleaned = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    try:
        return _series(name, cleaned)
    except _NOT_A_COLUMN as error:
        bad = first_bad(len(cleaned), lambda rows: _series(name, cleaned[:rows]))
        raise mixed(name, cleaned, bad, what, _DICT) from error


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    numbers = {type(value) for value in values} <= {int, float, type(None)}
    column = pl.Series(name, values, dtype=pl.Float64 if numbers else None)
    if column.dtype == pl.Object:
        raise TypeError("no column can hold these values")
    return column


def _mixed_pandas(table: Any, what: str) -> SchemaError | None:
    """The error of the first column with values of several types, if that is what is wrong."""
    for name in table.columns:
        column = table[[name]]
        try:
            pl.from_pandas(column)
        except (Exception, PANIC):  # noqa: BLE001  # it was raised for the whole table already
            bad = first_bad(len(column), lambda rows, column=column: cast(object, pl.from_pandas(column.iloc[:rows])))
            return mixed(name, table[name].tolist(), bad, what, _PANDAS)
    return None


_DICT = (
    "make all of them text, {{'{name}': [None if value is None else str(value) for value in values]}}, or all numbers"
)
_PANDAS = (
    "frame['{name}'] = frame['{name}'].astype('string') makes all of them text;"
    " pandas.to_numeric(frame['{name}'], errors='coerce') makes numbers, and nothing of what is none"
)
