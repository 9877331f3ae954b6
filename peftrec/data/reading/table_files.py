"""Files of tables: looked at before they are read, so that what is wrong with one is told before its rows are used."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from peftrec.data.reading.encodings import in_encoding, survey, wrong_encoding
from peftrec.data.reading.faults import FAULTS, reason, unreadable
from peftrec.data.reading.memory import refuse_too_large
from peftrec.data.reading.text_files import MARKS, count_records, likely_separator, odd_record, read_header, width_by
from peftrec.errors import SchemaError

SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_file(path: Path, *, what: str) -> pl.DataFrame:
    """Reads a table; the columns of a text file arrive as text.

    Raises:
        SchemaError: It cannot be read as its name says, or does not fit into memory.
    """
    check_file(path, what=what)
    separator = SEPARATORS.get(path.suffix.lower())
    refuse_too_large(path, separator, what=what)
    try:
        return pl.read_parquet(path) if separator is None else read_text(path, separator)
    except FAULTS as error:
        raise (
            damaged_parquet(path, what, error) if separator is None else unreadable(f"the {what} file {path}", error)
        ) from error


def read_text(path: Path, separator: str) -> pl.DataFrame:
    """Reads a text table whose columns arrive as text.

    Raises:
        SchemaError: A row has more or fewer fields than the header, a quotation mark is out of place, or it is not UTF-8.
    """
    try:
        records = count_records(path, separator)  # polars fills short rows with nulls: they are refused before
    except UnicodeDecodeError as error:
        raise wrong_encoding(path, separator) from error
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False)
    except FAULTS as error:
        raise odd_record(path, separator) or unreadable(str(path), error) from error
    if len(frame) != records:
        raise odd_record(path, separator) or lost_rows(path, records, len(frame))
    return frame


def damaged_parquet(path: Path, what: str, error: BaseException) -> SchemaError:
    """Says which column is damaged, where the others can be read."""
    bad = list[str]()
    try:
        names = pl.read_parquet_schema(path)
    except FAULTS:
        return unreadable(f"the {what} file {path}", error)
    for name in names:
        try:
            pl.read_parquet(path, columns=[name])
        except FAULTS:
            bad.append(name)
    if not bad or len(bad) == len(names):
        return unreadable(f"the {what} file {path}", error)
    return SchemaError(
        f"the {what} file {path} cannot be read: its columns {', '.join(map(repr, bad))} are damaged"
        f" ({reason(error)}), the others are not",
        expected="a complete Parquet file",
        remedy="copy or export the file again; to do without them, pass"
        f" polars.read_parquet({str(path)!r}, columns={[name for name in names if name not in bad][:20]})",
    )


def check_file(path: Path, *, what: str) -> None:
    """Refuses a file whose name, size, header or last row say that its table would be read wrongly.

    Raises:
        SchemaError: With what is wrong with it.
    """
    suffix = path.suffix.lower()
    if suffix not in (*SEPARATORS, ".parquet") and not path.is_dir():
        raise SchemaError(
            f"the {what} file {path} ends in '{suffix}'",
            expected="a file that ends in .csv, .tsv or .parquet",
            remedy="read it with pandas or polars and pass the DataFrame",
        )
    try:
        size = path.stat().st_size
        if path.is_dir() or size == 0:
            raise SchemaError(
                f"{path} is {'a folder' if path.is_dir() else 'empty (0 bytes)'}",
                expected=f"a {suffix or '.csv, .tsv or .parquet'} file with the {what}",
                remedy="name one of the files in it" if path.is_dir() else "check how the file was written or copied",
            )
        if suffix in SEPARATORS:
            _check_text(path, SEPARATORS[suffix], what)
        else:
            _check_parquet(path, what)
    except FAULTS as error:
        raise unreadable(f"the {what} file {path}", error) from error


_OTHER_STARTS = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive or a workbook of Excel",
    b"ORC": "ORC",
    b"ARROW1": "Arrow, which polars.read_ipc reads",
    b"Obj\x01": "Avro",
    b"SQLite": "a database of SQLite",
}


def _check_parquet(path: Path, what: str) -> None:
    """Parquet begins and ends in four letters: a copy that stopped half-way lacks the last ones."""
    with path.open("rb") as file:
        start = file.read(6)
        file.seek(max(0, path.stat().st_size - 4))
        end = file.read()
    if start.startswith(b"PAR1") and end == b"PAR1":
        return
    other = next((name for mark, name in _OTHER_STARTS.items() if start.startswith(mark)), None)
    told = f"ends in {end!r}: it looks truncated" if start.startswith(b"PAR1") else f"begins with {start!r}"
    raise SchemaError(
        f"the {what} file {path} cannot be read: it has {path.stat().st_size:,} bytes and {told}"
        + (f", like {other}" if other else ""),
        expected="a Parquet file, whose first and last four bytes are PAR1",
        remedy="copy or export the file again"
        if start.startswith(b"PAR1")
        else "give the file the ending of what it is, or read it with pandas or polars and pass the DataFrame",
    )


def refuse_no_text(path: Path) -> bytes:
    """Raises where a file with the name of a text is none.

    Returns:
        Its first bytes.

    Raises:
        SchemaError: It begins like a file of another kind, or holds zero bytes alone.
    """
    with path.open("rb") as file:
        start = file.read(1 << 16)
    if start and not start.strip(b"\0"):
        raise SchemaError(
            f"{path} begins with {len(start):,} zero bytes",
            expected="text",
            remedy="copy or export the file again; zeros are what a write that was cut off leaves behind",
        )
    other = next((name for mark, name in _OTHER_STARTS.items() if start.startswith(mark)), None)
    if other is not None and (b"\0" in start or other == "gzip"):  # in a text, letters alone may name a column
        raise SchemaError(
            f"{path} cannot be read: it begins with {start[:6]!r}, like {other}",
            expected=f"text, as '{path.suffix}' says",
            remedy=_UNPACK.get(other, "give the file the ending of what it is"),
        )
    return start


_UNPACK = {
    "gzip": "unpack it first, for example with gunzip",
    "a zip archive or a workbook of Excel": "unpack it first, or save the workbook as CSV",
}


def _check_text(path: Path, separator: str, what: str) -> None:
    start = refuse_no_text(path)
    if b"\r" in start and b"\n" not in start:
        raise SchemaError(
            f"the lines of {path} end in carriage returns alone, as old Macs wrote them",
            expected="lines that end in a line feed",
            remedy=f"pass polars.read_csv({str(path)!r}, separator={separator!r}, eol_char='\\r', infer_schema=False)",
        )
    try:
        header = read_header(path, separator)
    except UnicodeDecodeError as error:
        raise wrong_encoding(path, separator) from error
    if any("\0" in name for name in header):
        raise in_encoding(path, separator, survey(path).fits[0], "its letters take two bytes each")
    if not header:
        raise no_header(path)
    _refuse_separator(path, header, separator)
    refuse_duplicates(header, what, path)
    _refuse_cut_row(path, separator, len(header))


def lost_rows(path: Path, records: int, rows: int) -> SchemaError:
    """The error of a text file that polars takes for fewer or more rows than there are records."""
    return SchemaError(
        f"{path} holds {records:,} rows by the rules of CSV, and {rows:,} could be read",
        expected="lines that end in a line feed, and carriage returns only before it or inside quotation marks",
        remedy=f"replace the others: path = Path({str(path)!r});"
        r" path.write_bytes(path.read_bytes().replace(b'\r\n', b'\n').replace(b'\r', b'\n'))",
    )


def no_header(path: Path) -> SchemaError:
    """The error of a text file without any column."""
    return SchemaError(
        f"{path} holds nothing but empty lines",
        expected="a header with the names of the columns, and rows under it",
        remedy="check how the file was written or copied",
    )


def _refuse_separator(path: Path, header: Sequence[str], separator: str) -> None:
    other = likely_separator(path)
    single = len(header) == 1
    if other is None and single:  # no row agrees with the next: the header alone has to tell
        other = max((mark for mark in MARKS if mark != separator), key=header[0].count)
    if single and not any(mark in header[0] for mark in MARKS):
        _refuse_pattern(path, header[0])
    if other in (None, separator) or not header[0].count(other) or not (single or header[0].startswith("sep=")):
        return
    skipped = ", skip_rows=1" if header[0].startswith("sep=") else ""
    raise SchemaError(
        f"{path} has a single column named {header[0][:80]!r}: it is separated by {other!r}, not by {separator!r}",
        expected="commas in a .csv file, tabs in a .tsv file",
        remedy=f"pass polars.read_csv({str(path)!r}, separator={other!r}{skipped}, infer_schema=False)",
    )


_PATTERNS = {"::": ("'::'", "::"), None: ("blanks", r"\s+")}
"""What texts may be split by that is more than one letter -> its name, and the pattern that pandas takes."""


def _refuse_pattern(path: Path, header: str) -> None:
    """Refuses a table whose fields are parted by more than a single letter, which polars cannot read."""
    for mark, (name, pattern) in _PATTERNS.items():
        if width_by(path, mark) > 1:
            raise SchemaError(
                f"{path} has a single column named {header[:80]!r}: it is separated by {name}",
                expected="commas in a .csv file, tabs in a .tsv file",
                remedy=f"pass pandas.read_csv({str(path)!r}, sep={pattern!r}, engine='python', dtype=str)",
            )


def _refuse_cut_row(path: Path, separator: str, width: int) -> None:
    """A copy that stopped half-way ends in a short row without a line end; polars would fill it with nulls."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        tail = file.read()
    line = tail.rpartition(b"\n")[2].decode("utf-8", "replace")
    if line and '"' not in line and line.count(separator) + 1 < width:
        raise SchemaError(
            f"{path} ends in the middle of a row: {line[-80:]!r} has {line.count(separator) + 1} of {width} fields",
            expected="whole rows up to the end",
            remedy="copy or export the file again; it looks truncated",
        )


def refuse_duplicates(names: Sequence[str], what: str, path: Path | None = None) -> None:
    """Raises if two columns have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(
            f"{path or f'the {what} table'} has more than one column named {', '.join(map(repr, twice))}",
            expected="column names that differ",
            remedy="rename or drop one of them before passing the table",
        )
