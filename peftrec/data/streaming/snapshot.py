# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false
# scipy has no types; the rest of the package is checked strictly.
"""The statistics of a sharded log as of a moment, equal to those of the same log in memory.

Shoppers lie in one shard each, so what is counted by shopper adds up over shards. Medians and the like are over all of a
product's purchases: these go to disk, sorted by product, and come back some products at a time, in a second pass.
"""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from peftrec.data.catalog import Catalog
from peftrec.data.dataset import Dataset
from peftrec.data.panel import PANEL_LIMIT, Panel, panel_of
from peftrec.data.promotions import PromotionLog
from peftrec.data.snapshot import (
    ItemNumbers,
    Snapshot,
    channel_counts,
    channel_share,
    item_features,
    lookers,
    pairs_in,
    purchase_lines,
    purchases_before,
    tells_more,
)

BLOCK_ROWS = 4_000_000
"""Purchases that are in memory at once in the second pass, unless one product has more."""


def snapshot_of(
    shards: Iterable[Dataset], catalog: Catalog, promotions: PromotionLog | None, moment: float
) -> Snapshot:
    """Reads the shards one after the other.

    Args:
        shards: At least one; with one catalogue and one coding of channels.
        catalog: Theirs.
        promotions: Theirs, if any are known.
        moment: Seconds since the epoch.
    """
    channels, baskets, n_items = _Channels(), _Baskets(), len(catalog)
    looked, more = np.zeros((3, n_items), np.int64), False
    with tempfile.TemporaryDirectory(prefix="peftrec-snapshot-") as folder:
        purchases, first = _Purchases(Path(folder), n_items), 0
        for shard in shards:
            # Users count from 0 in every shard.
            frame = purchases_before(shard.log, moment).with_columns(pl.col("user") + first)
            lines = purchase_lines(frame)
            purchases.add(frame, pairs_in(lines))
            more |= tells_more(shard.log, moment)
            looked += lookers(shard.log, moment, n_items)
            channels.add(frame)
            baskets.add(lines, shard.users, first)
            first += len(shard.users)
        numbers = purchases.features()
    return Snapshot.of(
        catalog,
        promotions,
        moment,
        numbers,
        looked * more,
        channel_share=channel_share(channels.shoppers, channels.sold, n_items),
        panel=baskets.panel(n_items),
    )


class _Purchases:
    """Purchases on disk, sorted by product in one file per shard."""

    def __init__(self, folder: Path, n_items: int) -> None:
        self.folder, self.counts, self.files = folder, np.zeros(n_items, np.int64), 0

    def add(self, frame: pl.DataFrame, pairs: pl.DataFrame) -> None:
        for kind, table in (("lines", frame), ("pairs", pairs)):
            path = self.folder / f"{kind}-{self.files:06d}.parquet"
            # The order within a product stays: sums come out the same to the last digit.
            table.sort("item", maintain_order=True).write_parquet(path, compression="lz4", row_group_size=2**15)
        self.counts += np.bincount(frame["item"].to_numpy(), minlength=len(self.counts))
        self.files += 1

    def features(self) -> ItemNumbers:
        """See :func:`item_features`."""
        parts = [
            item_features(self._between("lines", first, last), self._between("pairs", first, last), last - first)
            for first, last in self._blocks()
        ]
        return ItemNumbers(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """First product and the one after the last of each block."""
        block = (np.cumsum(self.counts) - self.counts) // BLOCK_ROWS
        return pairwise([*np.flatnonzero(np.diff(block, prepend=-1)).tolist(), len(self.counts)])

    def _between(self, kind: str, first: int, last: int) -> pl.DataFrame:
        table = pl.scan_parquet(self.folder / f"{kind}-*.parquet").filter(pl.col("item").is_between(first, last - 1))
        return table.with_columns(pl.col("item") - first).collect()


class _Channels:
    """Counts of shoppers by channel, added up."""

    def __init__(self) -> None:
        self.shoppers, self.sold = pl.DataFrame(), pl.DataFrame()

    def add(self, frame: pl.DataFrame) -> None:
        shoppers, sold = channel_counts(frame)
        self.shoppers = pl.concat([self.shoppers, shoppers], how="diagonal").group_by("channel").sum()
        self.sold = pl.concat([self.sold, sold], how="diagonal").group_by("channel", "item").sum()


class _Baskets:
    """The purchases of the latest shoppers so far."""

    def __init__(self) -> None:
        self.lines, self.latest = list[pl.DataFrame](), list[pl.DataFrame]()

    def add(self, lines: pl.DataFrame, users: pl.Series, first: int) -> None:
        ids = pl.DataFrame({"id": users}).with_row_index("user", offset=first).cast({"user": pl.Int32})
        seen = lines.group_by("user").agg(seen=pl.col("age").min()).join(ids, on="user")
        latest = pl.concat([*self.latest, seen]).sort("seen", "id").head(PANEL_LIMIT)
        self.lines = [pl.concat([*self.lines, lines]).join(latest, on="user", how="semi", maintain_order="left")]
        self.latest = [latest]

    def panel(self, n_items: int) -> Panel:
        """Of all that were added, with shoppers in the order of their ids, as in a data set."""
        codes = self.latest[0].sort("id").with_row_index("code").select("user", pl.col("code").cast(pl.Int32))
        lines = self.lines[0].join(codes, on="user", maintain_order="left")
        lines = lines.with_columns(pl.col("code").alias("user")).drop("code")
        return panel_of(lines, pairs_in(lines), n_items)
