"""Text tables as they lie on disk: every record is counted, and what is wrong with one is told with its row and line."""

import codecs
import csv
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peftrec.errors import SchemaError

MARKS = ",;\t|^~\x01"
"""Separators that are tried where a file is not separated as its name says; the last one is Hive's."""

_SAMPLE = 1 << 18  # bytes
_LONGEST = 2**31 - 1  # letters


@contextmanager
def records(
    path: Path, separator: str, *, encoding: str = "utf-8-sig", keep: list[str] | None = None
) -> "Generator[Records]":
    """The records of a text file, by the rules of CSV: quotation marks around a field protect separators and line ends.

    Args:
        path: The file.
        separator: Between fields.
        encoding: Of the file.
        keep: Gets every line as it is read.
    """
    with _long_fields(), path.open(encoding=encoding, newline="") as file:
        yield Records(file if keep is None else (keep.append(line) or line for line in file), separator)


@contextmanager
def _long_fields() -> Generator[None]:
    """Lets fields be longer than csv takes by itself: descriptions are, and all that follows a stray quotation mark."""
    limit = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


class Records:
    """Iterates over the fields of each record; ``line`` is the first line of the latest one, from 1."""

    def __init__(self, lines: Iterable[str], separator: str) -> None:
        self._reader = csv.reader(lines, delimiter=separator, strict=True)
        self.line = 1

    def __iter__(self) -> Iterator[list[str]]:
        """Record by record."""
        return self

    def __next__(self) -> list[str]:
        self.line = self._reader.line_num + 1
        return next(self._reader)

    def widths(self) -> Counter[int]:
        """How many of the records that are left have how many fields; an empty line has none."""
        return Counter(map(len, self._reader))

    def header(self) -> list[str]:
        """The first record that is not an empty line; no fields if there is none."""
        return next((record for record in self if record), list[str]())


def read_header(path: Path, separator: str) -> list[str]:
    """Column names; none if the file holds nothing but empty lines.

    Raises:
        SchemaError: The header has a quotation mark out of place.
        UnicodeDecodeError: It is not UTF-8.
    """
    try:
        with records(path, separator) as found:
            return found.header()
    except csv.Error as error:
        raise _first_fault(path, separator, 0) from error


def count_records(path: Path, separator: str) -> int:
    """Records under the header, empty lines included.

    Raises:
        SchemaError: One has more or fewer fields than the header, or a quotation mark out of place.
        UnicodeDecodeError: The file is not UTF-8.
    """
    width = len(read_header(path, separator))
    try:
        with records(path, separator) as found:
            found.header()
            widths = found.widths()
    except csv.Error as error:
        raise _first_fault(path, separator, width) from error
    if widths.keys() - {0, width}:
        raise _first_fault(path, separator, width)
    return widths.total()


def odd_record(path: Path, separator: str) -> SchemaError | None:
    """The error of the first record that no two readers take alike, if there is one.

    It has a quotation mark that belongs to no pair, or ends in a carriage return alone.
    """
    lines = list[str]()
    with records(path, separator, keep=lines) as found:
        for number, record in enumerate(found):
            if sum(line.count('"') for line in lines) % 2:
                told = f"{place(number - 1, found.line)} has a quotation mark inside a field: {_shown(record)}"
                return _fault(path, separator, told, _QUOTES)
            if lines and lines[-1].endswith("\r"):
                told = f"{place(number - 1, found.line)} ends in a carriage return alone: {_shown(record)}"
                return _fault(path, separator, told, _RETURNS)
            lines.clear()
    return None


def line_of(path: Path, separator: str, row: int) -> int | None:
    """The line of the file, from 1, at which a row of its table (from 0) begins; None if it has no such row."""
    try:
        with records(path, separator) as found:
            found.header()
            for number, _ in enumerate(found):
                if number == row:
                    return found.line
    except (OSError, UnicodeDecodeError, csv.Error):
        pass  # the line is an extra of a message about something else
    return None


def likely_separator(path: Path, *, encoding: str = "utf-8-sig", header: bool = True) -> str | None:
    """The mark of ``MARKS`` by which nearly all records of a file's beginning have the same number of fields, two or more.

    Args:
        path: The file.
        encoding: Of the file.
        header: Whether the first line counts.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    return separator_of(codecs.decode(sample, encoding, "replace"), header=header, cut=len(sample) == _SAMPLE)


def separator_of(text: str, *, header: bool = True, cut: bool = False) -> str | None:
    """See :func:`likely_separator`; ``cut`` says that the text ends in the middle of a line."""
    lines = text.splitlines(keepends=True)
    lines = lines[0 if header else 1 : -1 if cut and len(lines) > 2 else None]
    with _long_fields():
        widths = {mark: _width(lines, mark) for mark in MARKS}
    best = max(widths, key=lambda mark: widths[mark])
    return best if widths[best] > 1 else None


def width_by(path: Path, mark: str | None) -> int:
    """Fields of nearly all lines of a file's beginning where a text, or any run of blanks, parts them; else 0."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
    lines = codecs.decode(sample, "utf-8-sig", "replace").splitlines()
    lines = lines[: -1 if len(sample) == _SAMPLE and len(lines) > 2 else None]
    return _most([len(line.split(mark)) for line in lines if line.strip()])


def _width(lines: Sequence[str], mark: str) -> int:
    """Fields of nearly all records; 0 where that differs from record to record."""
    return _most([len(record) for record in csv.reader(lines, delimiter=mark) if record])


def _most(widths: Sequence[int]) -> int:
    counts = Counter(widths)
    width, rows = max(counts.items(), key=lambda item: item[1], default=(0, 0))
    return width if rows >= 0.9 * counts.total() else 0


def _first_fault(path: Path, separator: str, width: int) -> SchemaError:
    """What is wrong with the first bad record; asked for only where there is one."""
    row, wrong, first = -1, 0, ""
    with records(path, separator) as found:
        try:
            found.header()
            for row, record in enumerate(found):
                if len(record) not in (0, width):
                    wrong += 1
                    first = first or f"{place(row, found.line)} has {len(record)} of {width} fields: {_shown(record)}"
        except csv.Error as error:
            first = first or f"{place(row + 1, found.line)} has a quotation mark out of place ({error})"
            return _fault(path, separator, first, _QUOTES)
    more = f", and {wrong - 1:,} more rows have another number of fields" if wrong > 1 else ""
    return _fault(path, separator, first + more, _FIELDS + _other_mark(path, separator))


_FIELDS = (
    "put a field that holds a separator or a line end into quotation marks; an empty field still needs its separator"
)
_QUOTES = (
    "write a quotation mark inside a quoted field twice, and close every quoted field; where quotation marks mean nothing,"
    " pass polars.read_csv({path!r}, separator={separator!r}, quote_char=None, infer_schema=False)"
)

_RETURNS = (
    "replace them: path = Path({path!r});"
    r" path.write_bytes(path.read_bytes().replace(b'\r\n', b'\n').replace(b'\r', b'\n'))"
)


def _fault(path: Path, separator: str, first: str, remedy: str) -> SchemaError:
    return SchemaError(
        f"{path} cannot be read: {first}",
        expected="the same number of fields in every row, as in the header, and a line feed at the end of each",
        remedy=remedy.replace("{path!r}", repr(str(path))).replace("{separator!r}", repr(separator)),
    )


def _other_mark(path: Path, separator: str) -> str:
    other = likely_separator(path, header=False)
    if other is None or other == separator:
        return ""
    return (
        f". Its rows look separated by {other!r}: if so, pass polars.read_csv({str(path)!r}, separator={other!r},"
        " infer_schema=False)"
    )


def place(row: int, line: int) -> str:
    """Where a row is, in words."""
    return f"row {row} (counting from 0; line {line} of the file)"


def _shown(record: Sequence[str]) -> str:
    text = repr(",".join(record))
    return text if len(text) <= 80 else f"{text[:77]}..."
