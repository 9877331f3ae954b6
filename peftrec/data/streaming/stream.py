"""Logs that are longer than memory: files of events become a folder of clean shards, a batch at a time.

Events are read in batches and laid down by a hash of the shopper's id, then cleaned shard by shard. All events of a shopper
are in one shard, so the same rows are kept, repaired and counted as by ``Dataset.build``.
"""

import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from filelock import FileLock, Timeout
from tqdm import tqdm

from peftrec.data import columns as col
from peftrec.data.building import Given, Parts, read_parts
from peftrec.data.catalog import Catalog
from peftrec.data.cleaning.clean import apply_rules, canonical, nothing_left, usual_for
from peftrec.data.cleaning.report import CleaningReport, RuleCount
from peftrec.data.cleaning.rules import PRODUCT_RULES, TIME_TEXT, CleaningRules
from peftrec.data.coupons import Coupons
from peftrec.data.events import in_time_order, no_events
from peftrec.data.log import channel_names
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import Promotions
from peftrec.data.reading.places import naming_files
from peftrec.data.reading.tables import Table
from peftrec.data.source import DataSource
from peftrec.data.streaming.batches import Batches, event_files, summed
from peftrec.data.streaming.shard_files import (
    Manifest,
    Shard,
    move_whole,
    write_manifest,
    write_table,
)
from peftrec.data.streaming.sharded import ShardedDataset
from peftrec.data.streaming.spool import Spool, shard_of
from peftrec.disk import worded_write_errors
from peftrec.errors import ConfigError, DataWriteError

SHARD_ROWS = 1_000_000
"""Events of one shard, about, unless the caller says how many shards there are; reading one takes some 500 MB."""


def stream_events(
    events: str | Path | Sequence[str | Path],
    catalog: Table | Catalog,
    *,
    folder: str | Path,
    columns: Mapping[str, str] | None = None,
    catalog_columns: Mapping[str, str] | None = None,
    profile_columns: Mapping[str, str] | None = None,
    promotion_columns: Mapping[str, str] | None = None,
    rules: CleaningRules | None = None,
    shards: int | None = None,
    name: str | None = None,
    profiles: Table | Profiles | None = None,
    promotions: Table | Promotions | None = None,
    coupons: Coupons | None = None,
    source: DataSource | None = None,
    progress: bool = True,
) -> ShardedDataset:
    """Reads, cleans and joins the tables of a shop whose events do not fit into memory.

    Memory is bounded by batches of a million rows and by the largest shard, however long the log is. ``folder`` appears
    when all is done: what a kill leaves is a hidden folder ``.<name>.partial`` beside it, which the next run removes.

    Args:
        events: A .csv, .tsv or .parquet file; several, in order; a folder or a pattern of them, in the order of their
            names. Rows count from 0 over all of them.
        catalog: Products: any table, or a ready catalogue.
        folder: Where the shards go; must not exist yet.
        columns: Our name -> your name, for columns of the events.
        catalog_columns: The same for the products.
        profile_columns: The same for the profiles.
        promotion_columns: The same for the promotions.
        rules: Which rows to drop, see ``Dataset.build``.
        shards: How many; one for every million events if not given.
        name: What to call the data set; the name of the folder if not given.
        profiles: Shoppers' attributes, if there are any.
        promotions: Past and planned promotions, if there are any; those of unknown products are left out.
        coupons: Coupons that shoppers were given, if any; unknown products are left out of them.
        source: Where the data comes from.
        progress: Show bars.

    Raises:
        SchemaError: A column is missing, doubled or of a wrong type, files differ in their columns, or one cannot be read.
        InvalidValueError: A file was changed meanwhile, a value cannot be kept, or prices are in several currencies.
        NotEnoughDataError: A table is empty, or cleaning leaves no event.
        ConfigError: The folder exists, another process is filling it, or ``shards`` is below 1.
        DataError: The disk is full or read-only.
    """
    files, place = event_files(events), Path(folder)
    _refuse_taken(place)
    rules = rules or CleaningRules()
    rules = replace(rules, exported_at=rules.exported_at or datetime.now(UTC))  # one moment for all shards
    given = Given(
        catalog=(catalog, catalog_columns),
        events=({}, None),
        profiles=(profiles, profile_columns),
        promotions=(promotions, promotion_columns),
        coupons=coupons,
    )
    with naming_files(catalogue=given.catalog, profiles=given.profiles, promotions=given.promotions):
        parts = read_parts(given, rules)
    batches = Batches(files, columns, rules, currencies=parts.currencies)
    count = max(1, -(-batches.total // SHARD_ROWS)) if shards is None else _checked(shards)
    with _partial(place) as partial:
        spool = Spool(partial / "spool", count)
        _spool(spool, batches, parts.merged, progress=progress)
        cleaned = _Cleaned(partial / "log", batches.repairs, batches.rows)
        cleaned.add_all(spool, parts, rules, progress=progress)
        write_manifest(cleaned.folder, cleaned.manifest(name or place.name, parts, rules, source))
        move_whole(cleaned.folder, place)
    return ShardedDataset.open(place)


def _written(parts: Parts, folder: Path, shards: int) -> dict[str, str]:
    """Writes what there is beside the events; returns the digest of each table."""
    frames = {"catalog": parts.catalog.frame}
    if parts.profiles is not None:
        frames["profiles"] = parts.profiles.frame.with_columns(shard_of(shards))
    if parts.promotions is not None:
        frames["promotions"] = parts.promotions.frame
    if parts.coupons is not None:
        frames |= {"coupon_products": parts.coupons.products, "coupon_recipients": parts.coupons.recipients}
    return {name: write_table(folder / f"{name}.parquet", frame) for name, frame in frames.items()}


def _spool(spool: Spool, batches: Batches, merged: pl.DataFrame | None, *, progress: bool) -> None:
    """Reads all files into the spool."""
    total, hidden = batches.total, not progress
    with tqdm(total=total, desc="reading events", unit="row", unit_scale=True, disable=hidden, leave=False) as bar:
        for path, frame in batches:
            spool.add(canonical(frame, merged), source=path)
            bar.update(len(frame))
    spool.flush()
    if not batches.rows:
        raise no_events()


class _Cleaned:
    """The shards that are written so far."""

    def __init__(self, folder: Path, repairs: Sequence[RuleCount], rows: int) -> None:
        self.folder, self.repairs, self.rows = folder, repairs, rows
        self.counts, self.off, self.kept = list[RuleCount](), list[str](), list[Shard]()
        self.moments, self.channels = list[datetime](), set[str]()

    def add_all(self, spool: Spool, parts: Parts, rules: CleaningRules, *, progress: bool) -> None:
        """Cleans every shard, each with all events of its shoppers, and writes it in time order."""
        usual, counted = usual_for(rules, spool.scan()), list[list[RuleCount]]()
        numbers = range(spool.shards)
        for number in tqdm(numbers, desc="cleaning events", unit="shard", disable=not progress, leave=False):
            frame = spool.shard(number)
            if frame[TIME_TEXT].null_count() == len(frame):
                frame = frame.drop(TIME_TEXT)
            frame, counts, self.off = apply_rules(frame, parts.catalog.ids, rules, usual)
            counted.append(counts)
            self._write(number, in_time_order(frame))
        self.counts = summed(counted, self.rows)
        if not self.moments:
            raise nothing_left(self.counts, self.rows)

    def _write(self, number: int, frame: pl.DataFrame) -> None:
        file, shoppers = f"events-{number:05d}.parquet", frame[col.USER].n_unique()
        self.kept.append(Shard(file, len(frame), shoppers, write_table(self.folder / file, frame)))
        self.channels |= {*channel_names(frame)}
        if len(frame):
            self.moments += [frame[col.TIME][0], frame[col.TIME][-1]]

    def manifest(self, name: str, parts: Parts, rules: CleaningRules, source: DataSource | None) -> Manifest:
        report = CleaningReport(
            name=name,
            rows_in=self.rows,
            rows_kept=sum(shard.events for shard in self.kept),
            products=parts.came,
            counts=(*self.repairs, *self.counts, *parts.counts),
            switched_off=(*self.off, *(rule for rule in PRODUCT_RULES if not rules.applies(rule))),
        )
        return Manifest(
            name=name,
            report=report,
            start=min(self.moments),
            end=max(self.moments),
            channels=tuple(sorted(self.channels)),
            shards=tuple(self.kept),
            tables=_written(parts, self.folder, len(self.kept)),
            source=source,
        )


@contextmanager
def _partial(place: Path) -> Generator[Path]:
    """A hidden folder beside the one that is to appear, emptied first and removed at the end."""
    partial = place.with_name(f".{place.name}.partial")
    with worded_write_errors(
        place, DataWriteError, after="nothing was left behind; twice the event files' size is needed"
    ):
        partial.mkdir(parents=True, exist_ok=True)
        lock = FileLock(partial / "lock", timeout=0)
        try:
            with lock:
                for part in ("spool", "log"):
                    shutil.rmtree(partial / part, ignore_errors=True)
                    (partial / part).mkdir()
                try:
                    yield partial
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
        except Timeout as error:
            raise ConfigError(
                f"another process is filling {place}",
                expected="one process for each folder",
                remedy="wait for it, or name another folder",
            ) from error


def _refuse_taken(place: Path) -> None:
    if place.exists():
        raise ConfigError(
            f"{place} exists already",
            expected="a folder that does not exist yet",
            remedy="open it with ShardedDataset.open(...), or name another folder",
        )


def _checked(shards: int) -> int:
    if shards < 1:
        raise ConfigError(
            f"shards={shards!r}",
            expected="a whole number of at least 1",
            remedy=f"leave it out for one shard per {SHARD_ROWS:,} events",
        )
    return shards
