"""Fingerprints of tables: sha256 over values, not over how they happen to be stored."""

import hashlib
from collections.abc import Iterator

import numpy as np
import polars as pl

from peftrec.data.values import EXACT_FLOAT

_CHUNK = 500_000  # rows joined into one buffer, so that long texts need little memory


def frame_digest(frame: pl.DataFrame) -> str:
    """sha256 of a frame's values, row by row in its order; the order of columns does not matter.

    Numbers hash as 64-bit integers if all of a column are whole, as 64-bit floats otherwise, whatever their type in
    memory: a column of counts with a gap is a float column in pandas and an integer column elsewhere.
    """
    digest = hashlib.sha256(f"rows={len(frame)}".encode())
    for name in sorted(frame.columns):
        column, kind = _canonical(frame[name])
        digest.update(f"\0{name}\0{kind}\0".encode())
        for part in _buffers(column):
            digest.update(part)
    return digest.hexdigest()


def event_digest(frame: pl.DataFrame, keys: list[str]) -> str:
    """sha256 of a frame's values, whatever the order of its rows.

    Args:
        frame: Any table.
        keys: Columns that put most rows in order; the others decide only where these are equal, as sorting by every
            column of a long table takes seconds.
    """
    ordered = frame.sort(keys)
    same = pl.all_horizontal(pl.col(key) == pl.col(key).shift() for key in keys)
    if ordered.select(same.any()).item():
        ordered = frame.sort(*keys, *sorted(set(frame.columns) - set(keys)))
    return frame_digest(ordered)


def _canonical(column: pl.Series) -> tuple[pl.Series, str]:
    dtype = column.dtype
    if column.null_count() == len(column):
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(column)), "nothing"
    if dtype.is_float():
        if ((column == column.round()) & (column.abs() <= EXACT_FLOAT)).all():
            return column.cast(pl.Int64), "int"
        return column.cast(pl.Float64) + 0.0, "float"  # + 0.0 makes one of the two zeros
    if dtype.is_integer() and dtype != pl.UInt64:
        return column.cast(pl.Int64), "int"
    if dtype == pl.Boolean:
        return column.cast(pl.Int64), "bool"
    if dtype == pl.Binary:
        return column.bin.encode("hex"), "bytes"
    if isinstance(dtype, pl.Datetime):
        return column.dt.cast_time_unit("us").to_physical(), f"moment {dtype.time_zone}"
    return column.cast(pl.String), "text"


def _buffers(column: pl.Series) -> Iterator[bytes | memoryview]:
    for start in range(0, len(column), _CHUNK):
        part = column.slice(start, _CHUNK)
        yield np.packbits(part.is_null().to_numpy()).tobytes()
        if part.dtype == pl.String:
            text = part.fill_null("")
            yield text.str.len_bytes().to_numpy().astype("<u4").tobytes()
            yield text.str.join("").item().encode()
        else:
            numbers = part.fill_null(0).to_numpy()
            yield np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<")).tobytes()
