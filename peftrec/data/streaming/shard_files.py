"""The files of a sharded log: tables sealed by their digests, and the manifest that names them.

A folder holds ``shards.json``, ``catalog.parquet``, one Parquet file of events for each shard, and, where they are known,
profiles, promotions and coupons. The manifest is written last, and seals itself.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import polars as pl

from peftrec.data.cleaning.report import CleaningReport, RuleCount
from peftrec.data.reading.tables import unreadable
from peftrec.data.source import DataSource
from peftrec.disk import sync_folder, write_durably
from peftrec.errors import SchemaError

FORMAT = 1
"""Of the folder; another number means another form."""

MANIFEST = "shards.json"
TABLES = ("catalog", "profiles", "promotions", "coupon_products", "coupon_recipients")
_SEAL = "sha256"


@dataclass(frozen=True)
class Shard:
    """One file of events, sorted by time.

    Args:
        file: Its name in the folder.
        events: Rows.
        shoppers: Shoppers with an event.
        sha256: Of its bytes.
    """

    file: str
    events: int
    shoppers: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What ``shards.json`` says.

    Args:
        name: Of the data set.
        report: Of cleaning.
        start: Moment of the first event, UTC.
        end: Moment of the last event, UTC.
        channels: Distinct values of ``channel``, sorted.
        shards: Files of events.
        tables: Name and digest of every other table that there is.
        source: Where the data comes from.
    """

    name: str
    report: CleaningReport
    start: datetime
    end: datetime
    channels: tuple[str, ...]
    shards: tuple[Shard, ...]
    tables: Mapping[str, str]
    source: DataSource | None

    def to_dict(self) -> dict[str, object]:
        """Plain values, ready for JSON."""
        return {
            "format": FORMAT,
            "name": self.name,
            "report": self.report.to_dict(),
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "channels": list(self.channels),
            "shards": [asdict(shard) for shard in self.shards],
            "tables": dict(self.tables),
            "source": None if self.source is None else asdict(self.source),
        }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes ``shards.json``; until then the folder cannot be opened."""
    values = manifest.to_dict()
    text = json.dumps({**values, _SEAL: _seal(values)}, indent=1)
    write_durably(folder / MANIFEST, text.encode())


def move_whole(folder: Path, place: Path) -> None:
    """Gives a finished folder its name in one step, and waits until that is on the disk."""
    sync_folder(folder)
    folder.rename(place)
    sync_folder(place.parent)


def read_manifest(folder: Path) -> Manifest:
    """Reads ``shards.json``, which must be as it was written.

    Raises:
        SchemaError: It is missing, was changed, or has another format.
    """
    path = folder / MANIFEST
    try:
        content: object = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _damaged(path, "is not there: this is no folder of a finished stream") from error
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(path, "holds no object")
    values = cast("dict[str, Any]", content)
    if values.get("format") != FORMAT:
        raise _damaged(path, f"has format {values.get('format')!r}, and this version of peftrec reads {FORMAT}")
    seal = values.pop(_SEAL, None)
    if seal != _seal(values):
        raise _damaged(path, f"was changed: field '{_SEAL}' is not the digest of the other fields")
    try:
        manifest = _manifest(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, f"has fields that are not those of this format: {error!r}") from error
    if manifest.to_dict() != values or not {"catalog"} <= {*manifest.tables} <= {*TABLES}:
        raise _damaged(path, "has fields that are not those of this format")
    return manifest


def write_table(path: Path, frame: pl.DataFrame) -> str:
    """Writes Parquet, waits until it is on the disk, and returns the sha256 of its bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1, row_group_size=2**17)
    content = buffer.getbuffer()
    write_durably(path, content)
    return hashlib.sha256(content).hexdigest()


def read_table(path: Path, digest: str) -> pl.DataFrame:
    """Reads Parquet whose bytes have that sha256.

    Raises:
        SchemaError: The file is missing or was changed.
    """
    try:
        return pl.read_parquet(read_sealed(path, digest))
    except pl.exceptions.PolarsError as error:
        raise unreadable(str(path), error) from error


def read_sealed(path: Path, digest: str) -> bytes:
    """Reads a file whose bytes have that sha256.

    Raises:
        SchemaError: It is missing or was changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise _damaged(path, "was changed: its bytes have another sha256 than the manifest says")
    return content


def _manifest(values: dict[str, Any]) -> Manifest:
    source = values["source"]
    report: dict[str, Any] = {k: v for k, v in values["report"].items() if k not in ("rules", "rows_dropped")}
    report["counts"] = tuple(RuleCount(**count) for count in values["report"]["rules"])
    report["switched_off"] = tuple(report["switched_off"])
    return Manifest(
        name=values["name"],
        report=CleaningReport(**report),
        start=datetime.fromisoformat(values["start"]),
        end=datetime.fromisoformat(values["end"]),
        channels=tuple(values["channels"]),
        shards=tuple(Shard(**shard) for shard in values["shards"]),
        tables=dict(values["tables"]),
        source=None if source is None else DataSource(**source),
    )


def _seal(values: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _damaged(path: Path, what: str) -> SchemaError:
    return SchemaError(
        f"{path} {what}",
        expected="a folder as stream_events(...) left it",
        remedy="stream the event files again into a new folder",
    )
