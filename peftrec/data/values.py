"""Turning a column into one of our types: text, number or moment. Nothing is guessed, nothing is trimmed."""

from datetime import UTC, date, datetime

import polars as pl

from peftrec.errors import InvalidValueError, SchemaError

MOMENT = pl.Datetime("us", "UTC")
EXACT_FLOAT = 2.0**53  # above this a float no longer holds every whole number, so an id may have been rounded
_NO_NUMBER = ("", "na", "n/a", "nan", "null", "none")
_TIME_FORMATS = (
    ("%Y-%m-%dT%H:%M:%S%.f", False),
    ("%Y-%m-%d", False),
    ("%Y-%m-%dT%H:%M", False),
    ("%Y-%m-%dT%H:%M:%S%.f%#z", True),
)


def as_id(column: pl.Series, what: str) -> pl.Series:
    """Ids as text; whole numbers without a decimal point, so 12.0 (how pandas holds 12 beside a gap) becomes "12".

    Raises:
        SchemaError: Ids are fractions, too large for their float type, dates, lists or bytes.
    """
    if column.dtype.is_float():
        column = column.fill_nan(None)
        odd = column.filter((column != column.round()) | (column.abs() > EXACT_FLOAT))
        if len(odd):
            raise _wrong_type(column, what, "text or whole numbers", f"for example {odd[0]!r}")
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
    dtype = pl.Float32 if single else pl.Float64
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        number = text.cast(pl.Float64, strict=False)
        unread = number.is_null() & ~text.str.to_lowercase().is_in(_NO_NUMBER).fill_null(True)
        row = unread.arg_max()
        if row is not None and unread[row]:
            raise _wrong_type(column, what, "numbers", f"row {row} (counting from 0) is {column[row]!r}")
        column = number
    elif not (column.dtype.is_numeric() or column.dtype == pl.Null):
        raise _wrong_type(column, what, "numbers")
    number = column.cast(dtype).fill_nan(None)
    infinite = number.is_infinite().fill_null(False)
    if infinite.any():
        row = infinite.arg_max()
        raise InvalidValueError(
            f"column '{column.name}' of the {what}, row {row} (counting from 0), is infinite",
            expected="finite numbers, or nothing where the value is not known",
            remedy="correct the value or leave it empty",
        )
    return number


def as_moment(column: pl.Series, what: str) -> pl.Series:
    """Moments in UTC to the microsecond, taken as UTC where they name no time zone. Text other than ISO 8601: null.

    Raises:
        SchemaError: Numbers or another type that does not say which moment is meant.
    """
    if column.dtype == pl.String:
        return _parse_moments(column)
    if column.dtype == pl.Null:
        return column.cast(MOMENT)
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.cast_time_unit("us")
        zoned = column.dtype != pl.Datetime("us")
        return column.dt.convert_time_zone("UTC") if zoned else column.dt.replace_time_zone("UTC")
    raise _wrong_type(
        column,
        what,
        "dates and times: datetimes, dates or ISO 8601 text",
        "seconds since 1970 need pl.from_epoch first",
    )


def as_attribute(column: pl.Series, what: str) -> pl.Series:
    """A further column, kept as it is; NaN becomes null and categories become text.

    Raises:
        SchemaError: Lists, structs or Python objects, which no part of peftrec could show or compare.
    """
    if column.dtype == pl.List(pl.String) or isinstance(column.dtype, (pl.Categorical, pl.Enum, pl.Null)):
        return as_text(column, what)
    if not _is_scalar(column.dtype):
        raise _wrong_type(column, what, "plain values: text, numbers, dates, yes/no", "drop the column or flatten it")
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
    return parsed.alias(column.name)


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
        twice = frame.with_row_index("row").filter(pl.col(column).is_duplicated())
        rows = twice.filter(pl.col(column) == twice[column][0])["row"].head(3).to_list()
        raise InvalidValueError(
            f"{twice[column].n_unique():,} values of '{column}' appear more than once in the {what}, such as"
            f" '{twice[column][0]}' in rows {', '.join(map(str, rows))} (counting from 0)",
            expected=f"each '{column}' once",
            remedy=f"drop the doubles, for example with frame.unique('{column}', keep='last')",
        )
