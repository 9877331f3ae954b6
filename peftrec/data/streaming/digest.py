"""The digest of a sharded log, equal to that of the same log in memory."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.digest import CHUNK, EVENT_KEYS, columns_digest, in_key_order

WINDOW_ROWS = 1_000_000
"""Events that are sorted at once, unless more of them are in one hour."""


def events_digest(files: Sequence[Path]) -> str:
    """The :func:`peftrec.data.digest.event_digest` of all files together.

    Windows of time are sorted one after the other and written in parts, which are then hashed column by column.

    Args:
        files: Parquet files of events, at least one of them with rows.
    """
    with tempfile.TemporaryDirectory(prefix="peftrec-digest-") as folder:
        rows, names, parts = 0, list[str](), list[Path]()
        for frame in _in_chunks(in_key_order(window, EVENT_KEYS) for window in _windows(files)):
            parts.append(Path(folder) / f"{len(parts):06d}.arrow")
            frame.write_ipc(parts[-1], compression="lz4")
            rows, names = rows + len(frame), frame.columns

        def read(name: str) -> Iterator[pl.Series]:
            for part in parts:
                yield pl.read_ipc(part, columns=[name])[name]

        return columns_digest(rows, names, read)


def _windows(files: Sequence[Path]) -> Iterator[pl.DataFrame]:
    """All events in the order of time, cut at full hours."""
    time, table = pl.col(col.TIME), pl.scan_parquet(list(files))
    hours = table.group_by(time.dt.truncate("1h")).len().sort(col.TIME).collect(engine="streaming")
    window = (hours["len"].cum_sum() - hours["len"]) // WINDOW_ROWS
    starts = hours[col.TIME].filter(window.diff().fill_null(1) != 0).to_list()
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        part = table.filter(time >= start)
        yield (part if end is None else part.filter(time < end)).collect()


def _in_chunks(frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same rows, ``CHUNK`` at a time, the rest last."""
    rest: pl.DataFrame | None = None
    for frame in frames:
        rest = frame if rest is None else pl.concat([rest, frame])
        while len(rest) >= CHUNK:
            yield rest.head(CHUNK)
            rest = rest.slice(CHUNK)
    if rest is not None and len(rest):
        yield rest
