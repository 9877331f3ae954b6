"""Reading a file for a look at it: any form that can be told, with the call that reads it the same way."""

import csv
import gzip
import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import polars as pl

from peftrec.data.reading.encodings import Survey, in_utf8, survey, wrong_encoding
from peftrec.data.reading.faults import FAULTS, unreadable
from peftrec.data.reading.memory import refuse_too_large
from peftrec.data.reading.table_files import (
    SEPARATORS,
    check_file,
    damaged_parquet,
    lost_rows,
    no_header,
    refuse_duplicates,
    refuse_no_text,
)
from peftrec.data.reading.text_files import count_records, likely_separator, odd_record, read_header, separator_of
from peftrec.errors import SchemaError

PARQUET, LINES, JSON = ("parquet", "pq"), ("jsonl", "ndjson"), "json"
"""Endings of files that are no text tables."""

_NOT_TABLES = {
    "xlsx": "polars.read_excel reads it, or save it as CSV",
    "xls": "polars.read_excel reads it, or save it as CSV",
    "ods": "polars.read_ods reads it, or save it as CSV",
    "zip": "unpack it first",
    "7z": "unpack it first",
    "tar": "unpack it first",
    "feather": "polars.read_ipc(path).write_parquet(...) turns it into Parquet",
    "arrow": "polars.read_ipc(path).write_parquet(...) turns it into Parquet",
    "avro": "polars.read_avro(path).write_parquet(...) turns it into Parquet",
}
_STRICT = 1 << 28
"""Bytes of a text file up to which every record is checked."""


@dataclass(frozen=True)
class Source:
    """A file that was read.

    Attributes:
        path: The file.
        frame: Its rows, or the first of them; text files as text.
        form: In words.
        call: Python that reads it the same way; the path alone where peftrec reads it as it is.
        whole: Whether all rows were read.
        total: Rows of the file, where that is known.
        problems: What is wrong with the file, so that peftrec would refuse to read it.
    """

    path: Path
    frame: pl.DataFrame
    form: str
    call: str
    whole: bool = True
    total: int | None = None
    problems: tuple[SchemaError, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether peftrec reads the file as it is."""
        return self.call == repr(str(self.path))


def read_any(path: Path, *, rows: int | None) -> Source:
    """Reads a file in whatever form it has.

    Args:
        path: Text with any of the usual separators, Parquet, JSON or JSON lines; text and JSON also compressed by gzip.
        rows: How many to read; None for all.

    Raises:
        SchemaError: It is no table, or too damaged to be looked at.
    """
    parts = path.name.lower().split(".")
    packed, ending = parts[-1] == "gz", (parts[:-1] if parts[-1] == "gz" else parts)[-1]
    if ending in _NOT_TABLES:
        raise SchemaError(
            f"{path} ends in '.{ending}'",
            expected="text (.csv, .tsv, .txt), Parquet or JSON, perhaps compressed by gzip",
            remedy=_NOT_TABLES[ending],
        )
    try:
        if path.is_dir() or path.stat().st_size == 0:
            raise _nothing(path)
        if ending in PARQUET:
            return _parquet(path, rows)
        if ending in LINES or ending == JSON:
            return _json(path, rows, packed=packed)
        return _text(path, ending, rows, packed=packed)
    except (*FAULTS, EOFError, zlib.error) as error:
        raise unreadable(str(path), error) from error


def _nothing(path: Path) -> SchemaError:
    return SchemaError(
        f"{path} is {'a folder' if path.is_dir() else 'empty (0 bytes)'}",
        expected="one file with a table",
        remedy="name one of the files in it" if path.is_dir() else "check how the file was written or copied",
    )


def _parquet(path: Path, rows: int | None) -> Source:
    if path.suffix.lower() == ".parquet":
        check_file(path, what="inspected")
    if rows is None:
        refuse_too_large(path, None, what="inspected")
    try:
        total = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        frame = pl.read_parquet(path, n_rows=rows)
    except FAULTS as error:
        raise damaged_parquet(path, "inspected", error) from error
    call = repr(str(path)) if path.suffix.lower() == ".parquet" else f"pl.read_parquet({str(path)!r})"
    return Source(path, frame, "Parquet", call, len(frame) == total, total)


def _json(path: Path, rows: int | None, *, packed: bool) -> Source:
    with _opened(path, packed=packed) as file:
        start = file.read(1 << 12).lstrip()
    lines = not start.startswith(b"[")
    reader = "read_ndjson" if lines else "read_json"
    try:
        frame = (
            pl.read_ndjson(path, n_rows=rows, infer_schema_length=None)
            if lines
            else pl.read_json(path, infer_schema_length=None)
        )
    except FAULTS as error:
        raise (_broken_line(path, packed=packed) if lines else None) or unreadable(str(path), error) from error
    shown = frame if rows is None else frame.head(rows)
    whole = len(shown) == len(frame) and (rows is None or len(frame) < rows)
    form = f"JSON{' lines' if lines else ', one list'}{', compressed by gzip' if packed else ''}"
    return Source(
        path, shown, form, f"pl.{reader}({str(path)!r}, infer_schema_length=None)", whole, len(frame) if whole else None
    )


def _broken_line(path: Path, *, packed: bool) -> SchemaError | None:
    """The error of the first line that is no JSON object, if there is one."""
    with _opened(path, packed=packed) as file:
        for number, line in enumerate(file, start=1):
            try:
                if line.strip() and not isinstance(json.loads(line), dict):
                    raise ValueError("it is no object")
            except (ValueError, RecursionError) as error:
                start = line[:60].decode("utf-8", "replace").strip()
                return SchemaError(
                    f"line {number:,} of {path} (counting from 1) is no JSON object: {error}: {start!r}",
                    expected="one object on each line",
                    remedy="correct or remove that line; it may be the end of a copy that stopped half-way",
                )
    return None


def _text(path: Path, ending: str, rows: int | None, *, packed: bool) -> Source:
    if packed:
        return _packed_text(path, ending, rows)
    refuse_no_text(path)
    seen, usual = survey(path), SEPARATORS.get(f".{ending}", ",")
    options = _options(path, usual, seen)
    problems, total = list[SchemaError](), None
    if seen.mixed:
        problems.append(wrong_encoding(path, options.separator))
    elif options.is_strict and path.stat().st_size <= _STRICT:
        try:
            total = count_records(path, options.separator)
        except SchemaError as error:
            problems.append(error)
            options = replace(options, quotes="quotation mark" not in error.found, ragged=True)
    if options.is_strict and options.quotes:
        problems += _doubled(path, options.separator)
    if rows is None:
        refuse_too_large(path, options.separator, what="inspected")
    try:
        frame = options.read(path, rows)
    except FAULTS as error:
        problem = odd_record(path, options.separator) if options.is_strict and not problems else None
        problems.append(problem or unreadable(str(path), error))
        options = replace(options, quotes=False, ragged=True)
        frame = options.read(path, rows)
    if options.ragged:
        problems += [] if (cut := _cut(path, options)) is None else [cut]
    if rows is None and not problems and total not in (None, len(frame)):
        problems.append(lost_rows(path, total or 0, len(frame)))
    plain = f".{ending}" in SEPARATORS and options == _Options(usual) and not problems
    whole = rows is None or len(frame) < rows or len(frame) == total
    known = total if total is not None else len(frame) if whole else None
    call = repr(str(path)) if plain else options.call(path)
    return Source(path, frame, options.words(), call, whole, known, tuple(problems))


def _cut(path: Path, options: "_Options") -> SchemaError | None:
    """What is lost where records with more fields than the header are read all the same."""
    if not options.is_strict:
        return None
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        quoting = csv.QUOTE_MINIMAL if options.quotes else csv.QUOTE_NONE
        records = csv.reader(file, delimiter=options.separator, quoting=quoting)
        try:
            width = len(next(records, list[str]()))
            longer = [(records.line_num, one) for one in records if len(one) > width]
        except csv.Error:  # a field longer than the module reads; polars has told what is the matter
            return None
    if not longer:
        return None
    line, first = longer[0]
    return SchemaError(
        f"{len(longer):,} records of {path} have more fields than the header's {width}, the first in line {line:,}:"
        f" read as shown they lose their last fields, such as {first[width]!r:.40}",
        expected="as many fields as the header has names, or fewer rows that are damaged",
        remedy="quote fields that hold the separator, or drop those lines; the call below keeps the first fields",
    )


def _doubled(path: Path, separator: str) -> list[SchemaError]:
    """The error of two columns with one name, which polars would rename."""
    try:
        refuse_duplicates(read_header(path, separator), "inspected", path)
    except SchemaError as error:
        return [error]
    return []


def _options(path: Path, usual: str, seen: Survey) -> "_Options":
    with path.open("rb") as file:
        start = file.read(1 << 16)
    first = start.decode(seen.fits[0], "replace").lstrip("\ufeff")
    if not first.strip():
        raise no_header(path)
    hint = first.startswith("sep=") and len(first) > 5
    separator = first[4] if hint else likely_separator(path, encoding=seen.fits[0]) or usual
    alone = b"\r" in start and b"\n" not in start
    return _Options(separator, seen.fits[0], skip=int(hint), mixed=seen.mixed, end="\r" if alone else "\n")


def _packed_text(path: Path, ending: str, rows: int | None) -> Source:
    with gzip.open(path) as file:
        sample = file.read(1 << 18)
    try:
        (sample[: sample.rfind(b"\n") + 1] or sample).decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "cp1252"
    text = sample.decode(encoding, "replace")
    separator = separator_of(text, cut=len(sample) == 1 << 18) or SEPARATORS.get(f".{ending}", ",")
    options = _Options(separator, encoding)
    frame = options.read(path, rows)
    whole = rows is None or len(frame) < rows
    form = f"{options.words()}, compressed by gzip"
    return Source(path, frame, form, options.call(path), whole, len(frame) if whole else None)


@dataclass(frozen=True)
class _Options:
    """How a text file is read, for polars and for the call that is shown."""

    separator: str
    encoding: str = "utf-8"
    skip: int = 0
    mixed: bool = False
    end: str = "\n"
    quotes: bool = True
    ragged: bool = False

    @property
    def is_strict(self) -> bool:
        """Whether records can be counted as they lie in the file."""
        return self.encoding == "utf-8" and not self.skip and self.end == "\n"

    def read(self, path: Path, rows: int | None) -> pl.DataFrame:
        return pl.read_csv(
            in_utf8(path, encoding=self.encoding) if self.mixed else path,
            separator=self.separator,
            encoding="utf8" if self.mixed or self.encoding == "utf-8" else self.encoding,
            skip_rows=self.skip,
            eol_char=self.end,
            quote_char='"' if self.quotes else None,
            truncate_ragged_lines=self.ragged,
            n_rows=rows,
            infer_schema=False,
        )

    def call(self, path: Path) -> str:
        source = f"in_utf8({str(path)!r}, encoding={self.encoding!r})" if self.mixed else repr(str(path))
        options = [] if self.separator == "," else [f"separator={self.separator!r}"]
        options += [] if self.mixed or self.encoding == "utf-8" else [f"encoding={self.encoding!r}"]
        options += [f"skip_rows={self.skip}"] if self.skip else []
        options += [] if self.end == "\n" else [f"eol_char={self.end!r}"]
        options += [] if self.quotes else ["quote_char=None"]
        options += ["truncate_ragged_lines=True"] if self.ragged else []
        return f"pl.read_csv({', '.join([source, *options, 'infer_schema=False'])})"

    def words(self) -> str:
        encoding = f"UTF-8 and {self.encoding.upper()} mixed" if self.mixed else self.encoding.upper()
        return f"text in {encoding}, separated by {self.separator!r}"


def _opened(path: Path, *, packed: bool) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")
