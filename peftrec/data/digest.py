"""Fingerprints of tables: sha256 over values, not over how they happen to be stored."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from peftrec.data import columns as col
from peftrec.data.reading.values import EXACT_FLOAT

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset
    from peftrec.data.streaming.sharded import ShardedDataset

EVENT_KEYS = [col.TIME, col.USER, col.ITEM]
"""What puts most events in order."""

CHUNK = 500_000
"""Rows joined into one buffer, so that long texts need little memory."""


def frame_digest(frame: pl.DataFrame) -> str:
    """sha256 of a frame's values, row by row in its order; the order of columns does not matter.

    Numbers hash as 64-bit integers if all of a column are whole, as 64-bit floats otherwise, whatever their type in
    memory: a column of counts with a gap is a float column in pandas and an integer column elsewhere.
    """
    return columns_digest(len(frame), frame.columns, lambda name: (frame[name],))


def columns_digest(rows: int, names: Iterable[str], read: Callable[[str], Iterable[pl.Series]]) -> str:
    """The :func:`frame_digest` of a table that may be longer than memory.

    Args:
        rows: How many.
        names: Its columns.
        read: Gives a column in parts; each but the last has a multiple of ``CHUNK`` rows. Called twice for each column.
    """
    digest = hashlib.sha256(f"rows={rows}".encode())
    for name in sorted(names):
        kind = _kind(read(name))
        digest.update(f"\0{name}\0{kind}\0".encode())
        for part in read(name):
            for buffer in _buffers(_canonical(part, kind)):
                digest.update(buffer)
    return digest.hexdigest()


def event_digest(frame: pl.DataFrame, keys: list[str]) -> str:
    """sha256 of a frame's values, whatever the order of its rows.

    Args:
        frame: Any table.
        keys: Columns that put most rows in order; the others decide only where these are equal, as sorting by every
            column of a long table takes seconds.
    """
    return frame_digest(in_key_order(frame, keys))


def in_key_order(frame: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """The rows in the order in which :func:`event_digest` reads them."""
    ordered = frame.sort(keys)
    same = pl.all_horizontal(pl.col(key) == pl.col(key).shift() for key in keys)
    if ordered.select(same.any()).item():
        ordered = frame.sort(*keys, *sorted(set(frame.columns) - set(keys)))
    return ordered


def dataset_digest(dataset: "Dataset | ShardedDataset", events: str) -> str:
    """sha256 over the content of all tables; ``events`` is the :func:`event_digest` of the events."""
    parts = [dataset.catalog.digest, events]
    if dataset.profiles is not None:
        parts.append(event_digest(dataset.profiles.frame, [col.USER]))
    if dataset.promotions is not None:
        parts.append(event_digest(dataset.promotions.frame, [col.ITEM, col.START, col.KIND]))
    if dataset.coupons is not None:
        parts.append(event_digest(dataset.coupons.products, [col.CAMPAIGN, col.ITEM]))
        parts.append(event_digest(dataset.coupons.recipients, [col.CAMPAIGN, col.USER, col.START]))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _kind(parts: Iterable[pl.Series]) -> str:
    """What the values of a column are, whatever their type in memory."""
    kinds = {_kind_of(part) for part in parts if part.null_count() < len(part)}
    return "nothing" if not kinds else "float" if kinds == {"int", "float"} else kinds.pop()


def _kind_of(column: pl.Series) -> str:
    dtype = column.dtype
    if dtype.is_float():
        return "int" if ((column == column.round()) & (column.abs() <= EXACT_FLOAT)).all() else "float"
    if dtype.is_integer() and dtype != pl.UInt64:
        return "int"
    if dtype == pl.Boolean:
        return "bool"
    if dtype == pl.Binary:
        return "bytes"
    return f"moment {dtype.time_zone}" if isinstance(dtype, pl.Datetime) else "text"


def _canonical(column: pl.Series, kind: str) -> pl.Series:
    if kind == "nothing":
        return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(column))
    if kind == "float":
        return column.cast(pl.Float64) + 0.0  # + 0.0 makes one of the two zeros
    if kind in ("int", "bool"):
        return column.cast(pl.Int64)
    if kind == "bytes":
        return column.bin.encode("hex")
    return column.cast(pl.String) if kind == "text" else column.dt.cast_time_unit("us").to_physical()


def _buffers(column: pl.Series) -> Iterator[bytes | memoryview]:
    for start in range(0, len(column), CHUNK):
        part = column.slice(start, CHUNK)
        yield np.packbits(part.is_null().to_numpy()).tobytes()
        if part.dtype == pl.String:
            text = part.fill_null("")
            yield text.str.len_bytes().to_numpy().astype("<u4").tobytes()
            yield text.str.join("").item().encode()
        else:
            numbers = part.fill_null(0).to_numpy()
            yield np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<")).tobytes()
