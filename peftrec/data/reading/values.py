"""Turning a column into one of our types: text, number or moment. Nothing is guessed, nothing is trimmed."""

from datetime import UTC, date, datetime
from typing import cast

import polars as pl

from peftrec.data.reading.code import Code
from peftrec.data.reading.number_formats import as_numbers, style_of, unread_numbers
from peftrec.data.reading.time_formats import UNITS, WORDS, number_moments, since_1970, unit_of
from peftrec.errors import InvalidValueError, SchemaError

MOMENT = pl.Datetime("us", "UTC")
EXACT_FLOAT = 2.0**53  # above this a float no longer holds every whole number, so an id may have been rounded
_FIRST_MOMENT, _LAST_MOMENT = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Python knows no others, and polars cannot print all of its own; a day is left on both sides for time zones."""

_EXTREMES = tuple(int(moment.timestamp()) for moment in (_FIRST_MOMENT, _LAST_MOMENT))
_TIME_FORMATS = (
    ("%Y-%m-%dT%H:%M:%S%.f", False),
    ("%Y-%m-%d", False),
    ("%Y-%m-%dT%H:%M", False),
    ("%Y-%m-%dT%H:%M:%S%.f%#z", True),
    ("%Y-%m-%dT%H:%M%#z", True),
)


def as_id(column: pl.Series, what: str) -> pl.Series:
    """Ids as text; whole numbers without a decimal point, so 12.0 (how pandas holds 12 beside a gap) becomes "12".

    Raises:
        SchemaError: Ids are fractions, too large for their float type, dates, lists or bytes.
    """
    if column.dtype.is_float():
        column = column.fill_nan(None)
        odd = _first((column != column.round()) | (column.abs() > EXACT_FLOAT))
        if odd is not None:
            raise _wrong_type(
                column, what, "text or whole numbers", f"for example {column[odd]!r} in row {odd} (counting from 0)"
            )
        return column.cast(pl.Int64).cast(pl.String)
    if column.dtype == pl.String:
        return column
    if column.dtype.is_integer() or isinstance(column.dtype, (pl.Categorical, pl.Enum, pl.Null)):
        return column.cast(pl.String)
    raise _wrong_type(column, what, "text or whole numbers")


def as_text(column: pl.Series, what: str) -> pl.Series:
    """Text as it is; numbers, dates and categories as they print; lists of text joined by ", ".

    Raises:
        SchemaError: The column holds bytes, structs or lists of something else than text.
    """
    if column.dtype == pl.String:
        return column
    if column.dtype == pl.List(pl.String):
        return column.list.join(", ", ignore_nulls=True)
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = ((column == column.round()) & (column.abs() <= EXACT_FLOAT)).all()
        return (column.cast(pl.Int64) if whole else column).cast(pl.String)
    if _is_scalar(column.dtype) and column.dtype != pl.Binary:
        return column.cast(pl.String)
    raise _wrong_type(column, what, "text")


def as_number(column: pl.Series, what: str, *, single: bool) -> pl.Series:
    """Numbers as Float32 (``single``) or Float64; NaN becomes null.

    Raises:
        SchemaError: A text that is not a number, or a type that is none.
        InvalidValueError: An infinite value.
    """
    dtype, given = pl.Float32 if single else pl.Float64, column
    if column.dtype == pl.String:
        unread = unread_numbers(column)
        if unread.any():
            raise _no_numbers(column, unread, what)
        given, column = column, column.str.strip_chars().cast(pl.Float64, strict=False)
    elif not (column.dtype.is_numeric() or column.dtype == pl.Null):
        raise _wrong_type(column, what, "numbers")
    number = column.cast(dtype).fill_nan(None)
    row = _first(number.is_infinite())
    if row is not None:
        raise InvalidValueError(
            f"column '{column.name}' of the {what}, row {row} (counting from 0), is infinite, or too large for {dtype}:"
            f" {shown(given[row])}",
            expected="finite numbers, or nothing where the value is not known",
            remedy="correct the value or leave it empty",
        )
    return number


def as_moment(column: pl.Series, what: str) -> pl.Series:
    """Moments in UTC to the microsecond, taken as UTC where they name no time zone. Text other than ISO 8601: null.

    Raises:
        SchemaError: Numbers, as numbers or as text throughout, or another type that does not say which moment is meant.
        InvalidValueError: A moment before the year 1 or after the year 9999.
    """
    if column.dtype == pl.String:
        _refuse_number_texts(column, what)
        return _parse_moments(column)
    refuse_extremes(column, what)
    if column.dtype == pl.Null:
        return column.cast(MOMENT)
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.cast_time_unit("us")
        zoned = column.dtype != pl.Datetime("us")
        return column.dt.convert_time_zone("UTC") if zoned else column.dt.replace_time_zone("UTC")
    raise _no_moments(column, what)


def as_attribute(column: pl.Series, what: str) -> pl.Series:
    """A further column, kept as it is; NaN becomes null and categories become text.

    Raises:
        SchemaError: Lists, structs or Python objects, which no part of peftrec could show or compare.
        InvalidValueError: A date before the year 1 or after the year 9999.
    """
    if column.dtype == pl.List(pl.String) or isinstance(column.dtype, (pl.Categorical, pl.Enum, pl.Null)):
        return as_text(column, what)
    if not _is_scalar(column.dtype):
        raise _wrong_type(column, what, "plain values: text, numbers, dates, yes/no", "drop the column or flatten it")
    refuse_extremes(column, what)
    return column.fill_nan(None) if column.dtype.is_float() else column


def parse_moment(moment: str | date | datetime, *, name: str) -> datetime:
    """One moment in UTC, from a datetime, a date or ISO 8601 text.

    Raises:
        InvalidValueError: The text is not a date or time.
    """
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.strip())
        except ValueError:
            raise InvalidValueError(
                f"{name}={moment!r} is not a date or time",
                expected="ISO 8601 text such as '2017-12-02' or '2017-12-02T05:00', a date or a datetime",
                remedy="write the moment that way; without a time zone it is taken as UTC",
            ) from None
    elif not isinstance(cast(object, moment), date):
        raise InvalidValueError(
            f"{name}={moment!r}, a {type(moment).__name__}, is not a date or time",
            expected="ISO 8601 text such as '2017-12-02' or '2017-12-02T05:00', a date or a datetime",
            remedy="write the moment that way; without a time zone it is taken as UTC",
        )
    elif not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _parse_moments(column: pl.Series) -> pl.Series:
    text = column.str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d) +", "${1}T")
    parsed = pl.Series(column.name, [None], dtype=MOMENT).new_from_index(0, len(column))
    for pattern, zoned in _TIME_FORMATS:
        left = (parsed.is_null() & text.is_not_null()).arg_true()
        if not len(left):
            break
        part = text.gather(left).str.to_datetime(
            pattern, strict=False, time_unit="us", time_zone=None if zoned else "UTC", exact=True
        )
        part = part.dt.convert_time_zone("UTC") if zoned else part
        parsed = part if len(left) == len(parsed) else parsed.scatter(left, part)
    extreme = parsed.is_between(_FIRST_MOMENT, _LAST_MOMENT).not_().fill_null(False)
    return (parsed.set(extreme, None) if extreme.any() else parsed).alias(column.name)


def refuse_extremes(column: pl.Series, what: str) -> None:
    """Raises where a column of dates or datetimes holds one that Python has no year for.

    Raises:
        InvalidValueError: Names the first.
    """
    per_second = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
    if isinstance(column.dtype, pl.Datetime):
        least, most = (second * per_second[column.dtype.time_unit] for second in _EXTREMES)
    elif column.dtype == pl.Date:
        least, most = (second // 86_400 for second in _EXTREMES)
    else:
        return
    count = column.to_physical().cast(pl.Int128)
    row = _first(~count.is_between(least, most))
    if row is not None:
        raise InvalidValueError(
            f"column '{column.name}' of the {what}, row {row} (counting from 0), is out of the calendar: {column.dtype} holds"
            f" {count[row]}",
            expected="dates of the years 1 to 9999",
            remedy="correct the value or empty it; often a moment was counted in another unit than it was written in",
        )


def _refuse_number_texts(column: pl.Series, what: str) -> None:
    """Raises if a text column holds nothing but numbers since 1970: as a text none of them would be a moment."""
    first = column.drop_nulls().head(1)
    if not first.str.contains(r"^\s*\d{9,19}(?:\.\d*)?\s*$").any():
        return  # asked of one value, as logs are long
    written = column.set(column.str.strip_chars() == "", None)
    numbers = written.cast(pl.Float64, strict=False)
    unit = unit_of(numbers) if numbers.null_count() == written.null_count() else None
    if unit is not None:
        row, code = column.is_not_null().arg_max() or 0, since_1970(column.name, unit)
        raise _convert_first(
            column, what, f"row {row} (counting from 0) is {column[row]!r}", f"{WORDS[unit]} since 1970", code
        )


def _no_moments(column: pl.Series, what: str) -> SchemaError:
    expected = "dates and times: datetimes, dates or ISO 8601 text"
    column = column.fill_nan(None) if column.dtype.is_float() else column
    row = _first(column.is_not_null())
    if not column.dtype.is_numeric() or row is None:
        return _wrong_type(column, what, expected)
    example, guess = f"row {row} (counting from 0) is {column[row]!r}", number_moments(column)
    if guess is not None:
        return _convert_first(column, what, example, *guess)
    units = ", ".join(f"{least:.0e} to {end:.0e} for {WORDS[unit]}" for unit, (least, end) in UNITS.items())
    low, high = column.min(), column.max()
    found = f"{example}; all are between {low} and {high}, which is no one unit of time since 1970 ({units})"
    return _wrong_type(column, what, expected, found)


def _convert_first(column: pl.Series, what: str, example: str, meaning: str, code: Code) -> SchemaError:
    moment = column.drop_nulls().head(1).to_frame().select(code.expr).to_series()[0]
    return SchemaError(
        f"column '{column.name}' of the {what} holds {column.dtype}: {example}, which looks like {meaning}; it would be"
        f" {moment:%Y-%m-%d %H:%M:%S} UTC",
        expected=f"dates and times in '{column.name}': datetimes, dates or ISO 8601 text",
        remedy=f"convert it first, under the column's name in your table: table.with_columns({code.text})",
    )


def _no_numbers(column: pl.Series, unread: pl.Series, what: str) -> SchemaError:
    row, style = unread.arg_max() or 0, style_of(column)
    more = f", and {unread.sum() - 1:,} more rows are no numbers" if unread.sum() > 1 else ""
    error = _wrong_type(column, what, "numbers", f"row {row} (counting from 0) is {shown(column[row])}{more}")
    if style is None:
        return error
    code = as_numbers(column.name, style)
    return SchemaError(
        f"{error.found}; they are written with {style.name}",
        expected=error.expected,
        remedy=f"convert it first, under the column's name in your table: table.with_columns({code.text})"
        + (f"; {style.doubt}" if style.doubt else ""),
    )


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first(rows: pl.Series) -> int | None:
    """The first row that is true."""
    rows = rows.fill_null(False)
    return rows.arg_max() if rows.any() else None


def _is_scalar(dtype: pl.DataType) -> bool:
    return not dtype.is_nested() and not isinstance(dtype, (pl.Object, pl.Unknown))


def _wrong_type(column: pl.Series, what: str, expected: str, detail: str = "") -> SchemaError:
    return SchemaError(
        f"column '{column.name}' of the {what} holds {column.dtype}" + (f": {detail}" if detail else ""),
        expected=f"{expected} in '{column.name}'",
        remedy=f"convert the column, or map '{column.name}' to another one with columns={{'{column.name}': ...}}",
    )


def is_blank(text: pl.Expr) -> pl.Expr:
    """True where a text is null, empty or only white space."""
    return text.is_null() | (text.str.strip_chars().str.len_bytes() == 0)


def check_ids(frame: pl.DataFrame, column: str, what: str) -> None:
    """Raises unless ``column`` holds text, never blank and never twice.

    Raises:
        SchemaError: There is no such column, or it is not text.
        InvalidValueError: An id is missing or appears twice.
    """
    if frame.schema.get(column) != pl.String:
        raise SchemaError(
            f"column '{column}' of the {what} is {frame.schema.get(column, 'missing')}",
            expected=f"a String column '{column}'",
            remedy="build the table with from_table(table, columns=...)",
        )
    blank = frame.select(is_blank(pl.col(column)).arg_true())[column]
    if len(blank):
        raise InvalidValueError(
            f"{len(blank):,} rows of the {what} have no '{column}', the first is row {blank[0]} (counting from 0)",
            expected=f"a '{column}' in every row",
            remedy="fill in or drop these rows",
        )
    if frame[column].n_unique() < len(frame):
        twice = frame.select(column).filter(pl.col(column).is_duplicated())
        rows = frame.select((pl.col(column) == twice[column][0]).arg_true())[column].head(3).to_list()
        raise InvalidValueError(
            f"{twice[column].n_unique():,} values of '{column}' appear more than once in the {what}, such as"
            f" '{twice[column][0]}' in rows {', '.join(map(str, rows))} (counting from 0)",
            expected=f"each '{column}' once",
            remedy=f"drop the doubles, for example with frame.unique('{column}', keep='last')",
        )
