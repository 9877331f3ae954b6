"""A log that is longer than memory: a folder of shards, each of which holds all events of some shoppers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.catalog import Catalog
from peftrec.data.cleaning.report import CleaningReport
from peftrec.data.coupons import Coupons
from peftrec.data.dataset import Dataset
from peftrec.data.digest import dataset_digest
from peftrec.data.events import Events
from peftrec.data.index import Index
from peftrec.data.log import EventLog, codes
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import PromotionLog, Promotions
from peftrec.data.snapshot import Snapshot
from peftrec.data.source import DataSource
from peftrec.data.streaming.digest import events_digest
from peftrec.data.streaming.shard_files import Manifest, Shard, read_manifest, read_sealed, read_table
from peftrec.data.streaming.snapshot import snapshot_of
from peftrec.data.streaming.spool import SHARD


@dataclass(frozen=True, eq=False, repr=False)
class ShardedDataset:
    """A shop's data on disk; :func:`peftrec.data.streaming.stream.stream_events` makes one, :meth:`open` finds it again.

    Attributes:
        folder: Where it lies; nothing in it ever changes.
        manifest: What is in it.
        catalog: Products.
        profiles: What is known about shoppers, if anything.
        promotions: What the shop advertised and displayed, if known.
        coupons: Which shoppers were given coupons for which products, if known.
        homes: The shard of each profile.
    """

    folder: Path
    manifest: Manifest
    catalog: Catalog
    profiles: Profiles | None = None
    promotions: Promotions | None = None
    coupons: Coupons | None = None
    homes: pl.Series | None = None

    @classmethod
    def open(cls, folder: str | Path) -> "ShardedDataset":
        """Opens a folder that :func:`peftrec.data.streaming.stream.stream_events` has finished.

        Raises:
            SchemaError: It is no such folder, or a file in it is missing or was changed.
        """
        place = Path(folder)
        manifest = read_manifest(place)
        tables = {name: read_table(place / f"{name}.parquet", digest) for name, digest in manifest.tables.items()}
        profiles, promotions = tables.get("profiles"), tables.get("promotions")
        campaigns = [tables[name] for name in ("coupon_products", "coupon_recipients") if name in tables]
        return cls(
            folder=place,
            manifest=manifest,
            catalog=Catalog(tables["catalog"]),
            profiles=None if profiles is None else Profiles(profiles.drop(SHARD)),
            promotions=None if promotions is None else Promotions(promotions),
            coupons=Coupons(*campaigns) if campaigns else None,
            homes=None if profiles is None else profiles[SHARD],
        )

    @property
    def name(self) -> str:
        """What it is called."""
        return self.manifest.name

    @property
    def source(self) -> DataSource | None:
        """Where the data comes from."""
        return self.manifest.source

    @property
    def report(self) -> CleaningReport:
        """What cleaning dropped, over all shards."""
        return self.manifest.report

    @property
    def start(self) -> datetime:
        """Moment of the first event, UTC."""
        return self.manifest.start

    @property
    def end(self) -> datetime:
        """Moment of the last event, UTC."""
        return self.manifest.end

    @property
    def shoppers(self) -> int:
        """Shoppers with an event."""
        return sum(shard.shoppers for shard in self.manifest.shards)

    def __len__(self) -> int:
        """Number of events."""
        return sum(shard.events for shard in self.manifest.shards)

    @cached_property
    def promotion_log(self) -> PromotionLog | None:
        """The promotions as arrays, None where none are known."""
        return None if self.promotions is None else self.promotions.coded(self.catalog.ids)

    def shards(self) -> Iterator[Dataset]:
        """One data set after the other, each of all events of some shoppers; shards without shoppers are left out.

        Users and the codes of visits are those of the shard; catalogue, promotions and the codes of channels are those of
        the whole.

        Raises:
            SchemaError: A file is missing or was changed.
        """
        for number, shard in enumerate(self.manifest.shards):
            dataset = self._dataset(number, shard)
            if len(dataset.users):
                yield dataset

    def snapshot(self, moment: float) -> Snapshot:
        """The platform's statistics of all events before ``moment`` (seconds since the epoch), of all shards together.

        Purchases lie in the folder for temporary files (``TMPDIR``) meanwhile, some 50 bytes each.

        Raises:
            SchemaError: A file is missing or was changed.
        """
        return snapshot_of(self.shards(), self.catalog, self.promotion_log, moment)

    @cached_property
    def digest(self) -> str:
        """The digest that one :class:`Dataset` of the same data has.

        All events are sorted, and lie in the folder for temporary files (``TMPDIR``) meanwhile.

        Raises:
            SchemaError: A file is missing or was changed.
        """
        paths = [self.folder / shard.file for shard in self.manifest.shards]
        for path, shard in zip(paths, self.manifest.shards, strict=True):
            read_sealed(path, shard.sha256)
        return dataset_digest(self, events_digest(paths))

    def _dataset(self, number: int, shard: Shard) -> Dataset:
        frame, profiles = read_table(self.folder / shard.file, shard.sha256), None
        users = frame[col.USER]
        if self.profiles is not None and self.homes is not None:
            profiles = Profiles(self.profiles.frame.filter(self.homes == number))
            users = pl.concat([users, profiles.frame[col.USER]])
        events, users = Events(frame), users.unique().sort()
        log = EventLog.of(frame, users=users, items=self.catalog.ids)
        if col.CHANNEL in frame.columns:
            channels = pl.Series(self.manifest.channels, dtype=pl.String)
            log = replace(log, channel=codes(frame[col.CHANNEL], channels))  # a code means one channel in all shards
        return Dataset(
            name=f"{self.name}[{number + 1} of {len(self.manifest.shards)}]",
            catalog=self.catalog,
            events=events,
            profiles=profiles,
            source=self.source,
            report=self.report,
            index=Index(self.catalog, events, users, log),
            promotions=self.promotions,
            coupons=self.coupons,
        )

    def __repr__(self) -> str:
        """Name, sizes and time range in one line."""
        return (
            f"ShardedDataset({self.name}: {self.shoppers:,} shoppers, {len(self.catalog):,} products, {len(self):,} events"
            f" in {len(self.manifest.shards):,} shards, {self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC)"
        )
