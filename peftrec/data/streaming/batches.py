"""Event files that are longer than memory, read and typed a batch at a time."""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.clean import read_and_repair
from peftrec.data.cleaning.currency import refuse_several
from peftrec.data.cleaning.report import RuleCount, counted
from peftrec.data.cleaning.rules import ROW, TIME_TEXT, CleaningRules
from peftrec.data.events import MADE_UP
from peftrec.data.reading.faults import FAULTS, unreadable
from peftrec.data.reading.table_files import SEPARATORS, check_file
from peftrec.data.reading.text_files import count_records
from peftrec.errors import DataError, InvalidValueError, SchemaError

BATCH_ROWS = 1_000_000
"""Rows in memory at once while files are read."""

SUFFIXES = (*SEPARATORS, ".parquet")


def event_files(events: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files meant, checked as far as that is possible without reading them.

    Args:
        events: One file; a folder, whose tables are taken in the order of their names; a pattern such as
            "logs/2017-*.parquet", likewise; or several files, in the order given.

    Raises:
        SchemaError: There is no such file, or one cannot be a table of events.
    """
    named: list[object] = [events] if isinstance(events, str | Path) else list(events)
    if not all(isinstance(path, str | Path) for path in named):
        raise SchemaError(
            f"events of type {type(events).__name__} are no files",
            expected="the path of a file, a folder or a pattern, or several paths",
            remedy="what is in memory already needs no streaming: pass it to Dataset.build(...)",
        )
    paths = _matching(events) if isinstance(events, str | Path) else [Path(path) for path in events]
    if not paths:
        raise SchemaError(
            f"there are no event files in {events}",
            expected="a file, a folder or a pattern of files that end in .csv, .tsv or .parquet",
            remedy="check the path",
        )
    for path in paths:
        check_file(path, what="events")
    return paths


def _matching(events: str | Path) -> list[Path]:
    path = Path(events)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if has_magic(str(events)) and not path.exists():
        return sorted(Path(file) for file in glob(str(events)))
    return [path]


@dataclass(frozen=True)
class _File:
    """A file as it was before it is read: its rows, and by which one sees that it was changed."""

    path: Path
    rows: int
    state: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "_File":
        with _worded(path):
            state = _state(path)
            if path.suffix.lower() in SEPARATORS:
                return cls(path, count_records(path, SEPARATORS[path.suffix.lower()]), state)
            return cls(path, int(pl.scan_parquet(path).select(pl.len()).collect().item()), state)

    def batches(self) -> Iterator[pl.DataFrame]:
        """Its rows, values untouched."""
        rows = 0
        with _worded(self.path):
            if self.path.suffix.lower() in SEPARATORS:
                table = pl.scan_csv(self.path, separator=SEPARATORS[self.path.suffix.lower()], infer_schema=False)
            else:
                table = pl.scan_parquet(self.path)
            for batch in table.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
                rows += len(batch)
                yield batch
            state = _state(self.path)
        if state != self.state:
            raise InvalidValueError(
                f"{self.path} was changed while it was read",
                expected="files that stay as they are",
                remedy="wait until the export is complete, or read a copy",
            )
        if rows != self.rows:
            raise SchemaError(
                f"{self.path} holds {self.rows:,} rows, and {rows:,} could be read",
                expected="lines that end in a line feed, and carriage returns only before it or inside quotation marks",
                remedy="write the file again with polars, as .parquet or .csv",
            )


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


@contextmanager
def _worded(path: Path) -> Generator[None]:
    try:
        yield
    except FAULTS as error:
        raise unreadable(f"the events file {path}", error) from error


class Batches:
    """The rows of some files in our types, numbered through, about ``BATCH_ROWS`` at a time.

    Args:
        files: In order; each must have the same columns.
        columns: Our name -> their name.
        rules: Say how prices and times are repaired.
        currencies: What prices of the catalogue name.

    Raises:
        SchemaError: A file cannot be read, or a row of a text file has more or fewer fields than its header.
    """

    def __init__(
        self,
        files: Sequence[Path],
        columns: Mapping[str, str] | None,
        rules: CleaningRules,
        *,
        currencies: Sequence[str] = (),
    ) -> None:
        self.columns, self.rules, self.others = columns, rules, currencies
        self._files, self.rows = [_File.of(path) for path in files], 0
        self._counts = list[list[RuleCount]]()
        self._currencies = set[str]()

    def __iter__(self) -> Iterator[tuple[Path, pl.DataFrame]]:
        """Yields each batch with the file that it comes from.

        Raises:
            SchemaError: A file cannot be read to its end, a column is missing, doubled or of a wrong type, or there are no
                timestamps.
            InvalidValueError: A file was changed meanwhile, a value is infinite, or prices are in several currencies.
        """
        for file in self._files:
            for raw in file.batches():
                yield file.path, self._typed(raw, file.path)

    @property
    def total(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self._files)

    @property
    def repairs(self) -> list[RuleCount]:
        """What was repaired in the rows so far."""
        return summed(self._counts, self.rows)

    def _typed(self, raw: pl.DataFrame, path: Path) -> pl.DataFrame:
        try:
            frame, counts, currencies = read_and_repair(raw, self.columns, self.rules)
            self._currencies |= {*currencies}
            refuse_several({"catalogue": self.others, "events": sorted(self._currencies)})
        except DataError as error:
            start = f" (rows counted from row {self.rows:,} of all events)" if self.rows else ""
            raise type(error)(f"{path}: {error.found}{start}", expected=error.expected, remedy=error.remedy) from error
        if MADE_UP in frame.columns:
            raise SchemaError(
                f"{path} says only in which order a shopper's events came, not when",
                expected=f"a column '{col.TIME}', as no shopper's events are all in memory while files are read",
                remedy="read such a log with Dataset.build(...), or give its events timestamps",
            )
        if TIME_TEXT not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.String).alias(TIME_TEXT))  # all batches need the same columns
        frame = frame.with_columns(pl.col(ROW).cast(pl.UInt64) + self.rows)
        self._counts.append([_moved(count, self.rows) for count in counts])
        self.rows += len(raw)
        return frame


def summed(parts: Sequence[Sequence[RuleCount]], total: int) -> list[RuleCount]:
    """Joins counts.

    Args:
        parts: The counts of each part of a table, of the same rules in the same order.
        total: Rows of the whole table.

    Returns:
        What one would have counted on the whole table at once.
    """
    whole = list[RuleCount]()
    for counts in zip(*parts, strict=True):
        first = min((count for count in counts if count.rows), key=_row, default=counts[0])
        rows = sum(count.rows for count in counts)
        whole.append(counted(first.rule, rows, total, first.example, action=first.action))
    return whole


def _row(count: RuleCount) -> int:
    """The row that the example is about: it begins with it."""
    found = re.match(r"row (\d+)", count.example)
    return int(found[1]) if found else 0


def _moved(count: RuleCount, rows: int) -> RuleCount:
    return replace(count, example=re.sub(r"^row \d+", f"row {_row(count) + rows}", count.example))
