# pyright: basic
# pyarrow has no types; the rest of the package is checked strictly.
"""Events on their way from files to shards: laid down by shopper, read back one shard at a time."""

from pathlib import Path

import polars as pl
import pyarrow as pa
from pyarrow import ipc

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import ROW
from peftrec.data.reading.values import is_blank
from peftrec.data.streaming.batches import BATCH_ROWS
from peftrec.errors import SchemaError

SHARD = "__shard"
"""Column that says which shard a shopper belongs to."""


def shard_of(shards: int) -> pl.Expr:
    """The shard of each shopper, by a hash of the id."""
    return (pl.col(col.USER).hash(seed=0) % shards).cast(pl.UInt32).alias(SHARD)


class Spool:
    """Typed events in files of about ``BATCH_ROWS`` rows, each with a record batch for every shard.

    So nothing stays open, a shard is read without looking at the others, and its rows keep their order.

    Args:
        folder: Empty.
        shards: How many.
    """

    def __init__(self, folder: Path, shards: int) -> None:
        self.folder, self.shards, self.files = folder, shards, list[Path]()
        self._waiting, self._rows = list[pl.DataFrame](), 0
        self._schema: pl.Schema | None = None

    def add(self, frame: pl.DataFrame, *, source: Path) -> None:
        """Takes rows behind those before; ``source`` is where they come from, for messages.

        Raises:
            SchemaError: They have other columns or types than those before.
        """
        self._schema = self._schema or frame.schema
        if dict(frame.schema) != dict(self._schema):
            raise _other_columns(source, frame.schema, self._schema)
        self._waiting.append(frame.select(self._schema.names()))
        self._rows += len(frame)
        if self._rows >= BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes what waits; to be called once more behind the last row."""
        if not self._rows:
            return
        # Rows without a shopper break the first rule and nothing ties them together: they are spread evenly.
        shard = pl.when(is_blank(pl.col(col.USER))).then(pl.col(ROW) % self.shards).otherwise(shard_of(self.shards))
        frame = pl.concat(self._waiting).with_columns(shard.cast(pl.UInt32).alias(SHARD))
        self._waiting, self._rows = [], 0
        frame = frame.sort(SHARD, maintain_order=True)
        ends = (
            frame[SHARD].search_sorted(pl.int_range(self.shards, dtype=pl.UInt32, eager=True), side="right").to_list()
        )
        # Views of texts would drag those of all shards into each record batch.
        table = frame.drop(SHARD).to_arrow(compat_level=pl.CompatLevel.oldest())
        rows = table.combine_chunks().to_batches()[0]
        path = self.folder / f"{len(self.files):06d}.arrow"
        with ipc.new_file(path, rows.schema, options=ipc.IpcWriteOptions(compression="lz4")) as file:
            for start, end in zip([0, *ends[:-1]], ends, strict=True):
                file.write_batch(rows.slice(start, end - start))
        self.files.append(path)

    def shard(self, number: int) -> pl.DataFrame:
        """The rows of one shard, in the order in which they came."""
        parts = list[pa.RecordBatch]()
        for path in self.files:
            with ipc.open_file(path) as file:
                parts.append(file.get_batch(number))
        return pl.DataFrame(pa.Table.from_batches(parts))

    def scan(self) -> pl.LazyFrame:
        """All rows, in no particular order, for what streams."""
        return pl.scan_ipc(self.files)


def _other_columns(source: Path, found: pl.Schema, expected: pl.Schema) -> SchemaError:
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    told = [f"'{name}' is {found.get(name, 'missing')} instead of {expected.get(name, 'missing')}" for name in names]
    return SchemaError(
        f"{source} has other columns than the events before it: {', '.join(told)}",
        expected="files of one form",
        remedy="write them anew with the same columns and types, or stream them apart",
    )
