"""Text that is not UTF-8: which bytes are not, where they are, and as which encodings they would read."""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peftrec.data.reading.text_files import likely_separator, place, records
from peftrec.errors import SchemaError

ENCODINGS = ("cp1252", "cp1251", "gb18030", "shift_jis")
"""Tried, in this order, on text that is not UTF-8: western European, Cyrillic, Chinese, Japanese."""

_SAMPLE = 1000  # lines by which the likely ones are told


@dataclass(frozen=True)
class Survey:
    """Which lines of a text file are not UTF-8.

    Attributes:
        fits: Encodings that read all of them, the likely ones first; UTF-8 alone if there are none.
        line: The first of them.
        number: Which line that is, from 1.
        found: Its first bytes that are not UTF-8.
        bad: How many there are.
        other: Lines with letters in UTF-8.
    """

    fits: tuple[str, ...]
    line: bytes = b""
    number: int = 0
    found: bytes = b""
    bad: int = 0
    other: int = 0

    @property
    def mixed(self) -> bool:
        """Whether lines are in different encodings."""
        return bool(self.bad and self.other)


def survey(path: Path) -> Survey:
    """Looks at every line of a text file."""
    with path.open("rb") as file:
        start = file.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return Survey(("utf-16",))
    if b"\0" in start and len(start) > 1:
        return Survey(("utf-16-be" if start[0] == 0 else "utf-16-le",))
    sample, first, bad, other, fits = list[bytes](), Survey(()), 0, 0, list(ENCODINGS)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
                other += not line.isascii()
            except UnicodeDecodeError as error:
                bad += 1
                first = first if first.number else Survey((), line, number, line[error.start : error.end])
                sample += [line] if len(sample) < _SAMPLE else []
                fits = [name for name in fits if _decodes(line, name)]
    if not bad:
        return Survey(("utf-8",))
    likely = tuple(name for name in _ordered(sample) if name in fits) or ("latin-1",)
    return replace(first, fits=likely, bad=bad, other=other)


def wrong_encoding(path: Path, separator: str) -> SchemaError:
    """The error of a text file that is not UTF-8: the first bytes that are not, and as which encodings they would read."""
    seen = survey(path)
    if not seen.bad:
        with path.open("rb") as file:
            return in_encoding(path, separator, seen.fits[0], f"it begins with the bytes {file.read(2).hex(' ')}")
    told = f"{_column_of(path, separator, seen)} holds the bytes {seen.found.hex(' ')}, which are no UTF-8;"
    told += f" {_readings(seen.line, seen.fits)}" + (
        f"; {seen.bad - 1:,} more lines are like it" if seen.bad > 1 else ""
    )
    if not seen.mixed:
        return in_encoding(path, separator, seen.fits[0], told)
    return SchemaError(
        f"{path} cannot be read: {told}; {seen.other:,} other lines hold letters in UTF-8, so the file mixes encodings",
        expected="UTF-8 throughout",
        remedy=f"read each line as what it is: polars.read_csv(peftrec.data.reading.encodings.in_utf8({str(path)!r},"
        f" encoding={seen.fits[0]!r}), separator={separator!r}, infer_schema=False), and pass that",
    )


def _ordered(lines: Sequence[bytes]) -> tuple[str, ...]:
    """``ENCODINGS``, the likely ones first: a western text has single letters above ASCII, others whole words of them."""
    runs = re.findall(rb"[\x80-\xff]+", b"".join(lines))
    high, long = b"".join(runs), sum(len(run) for run in runs if len(run) > 2)
    western, cyrillic, chinese, japanese = ENCODINGS
    if 2 * long < len(high):
        return ENCODINGS
    if sum(byte >= 0xC0 for byte in high) > 0.9 * len(high):
        return cyrillic, chinese, japanese, western
    return chinese, japanese, cyrillic, western


def in_utf8(path: str | Path, *, encoding: str) -> bytes:
    """A text file whose lines are in different encodings, all of it in UTF-8.

    Args:
        path: The file.
        encoding: Of the lines that are not UTF-8.

    Raises:
        SchemaError: A line is neither.
    """
    lines = list[bytes]()
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                lines.append(line if _decodes(line, "utf-8") else line.decode(encoding).encode())
            except (UnicodeDecodeError, LookupError) as error:
                raise SchemaError(
                    f"line {number} of {path} is neither UTF-8 nor {encoding}: {error}",
                    expected=f"lines in UTF-8 or {encoding}",
                    remedy=f"try another encoding, such as {', '.join(ENCODINGS)}",
                ) from error
    return b"".join(lines)


def in_encoding(path: Path, separator: str, encoding: str, told: str) -> SchemaError:
    """The error of a text file in another encoding; ``told`` says how it shows."""
    separator = likely_separator(path, encoding=encoding) or separator
    return SchemaError(
        f"{path} cannot be read: {told}",
        expected="text in UTF-8",
        remedy=f"pass polars.read_csv({str(path)!r}, separator={separator!r}, encoding={encoding!r}, infer_schema=False)",
    )


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _readings(line: bytes, encodings: Sequence[str]) -> str:
    start = next(at for at, byte in enumerate(line) if byte > 127)
    piece = line[max(0, start - 10) : start + 20]
    shown = [f"{name}: {piece.decode(name, 'replace').strip()!r}" for name in encodings]
    return f"read as {', as '.join(shown)}"


def _column_of(path: Path, separator: str, seen: Survey) -> str:
    """The row, line and column of the first bytes that are not UTF-8."""
    line, row, begins, fields, header = seen.number, -1, 1, list[str](), list[str]()
    try:
        with records(path, separator, encoding="latin-1") as found:
            header = fields = found.header()
            for number, record in enumerate(found):
                if found.line > line:
                    break
                row, begins, fields = number, found.line, record
    except csv.Error:
        return f"line {line}"
    if row < 0:
        return f"the header, line {line},"
    bad = (at for at, field in enumerate(fields) if not _decodes(field.encode("latin-1"), "utf-8"))
    at = next(bad, None)
    name = f", column '{header[at]}'" if at is not None and at < len(header) else ""
    return f"{place(row, begins)}{name},"
