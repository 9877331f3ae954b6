"""Seconds since 1970, as logs of clicks count time, and how they become moments that the cleaning rules can judge."""

import polars as pl

from peftrec.data.reading.values import MOMENT

SECONDS, MILLISECONDS, MICROSECONDS, END = 1e8, 1e11, 1e14, 1e17
"""Where numbers begin to be read as seconds, as milliseconds and as microseconds, and where they end to be times.

Read so, each of them lies between 1973 and 5138; a date without marks, such as 20171202, is below all of them.
"""


def unix_times(column: pl.Series) -> pl.Series:
    """Turns numbers since 1970 into moments: seconds, milliseconds or microseconds, told apart by their size.

    Args:
        column: Numbers, or text with a number in each row. Any other type is returned as it is, as is text without
            such a number in any row.

    Returns:
        Moments in UTC if every value was such a number. Otherwise text: ISO 8601 in UTC for the numbers, and the other
        values as they were, so that the rules ``missing_timestamp`` and ``unparsable_timestamp`` count them.
    """
    if column.dtype != pl.String and not column.dtype.is_numeric():
        return column
    column = column.fill_nan(None) if column.dtype.is_float() else column
    text = column.cast(pl.String)
    number = text.str.strip_chars().cast(pl.Float64, strict=False).fill_nan(None)
    value, frame = pl.col("number"), pl.DataFrame({"number": number, "text": text})
    micros = (
        pl.when(value < MILLISECONDS).then(value * 1e6).when(value < MICROSECONDS).then(value * 1e3).otherwise(value)
    )
    known = value.is_between(SECONDS, END, closed="left")
    moments = frame.select(
        pl.when(known).then(micros).round().cast(pl.Int64).cast(MOMENT).alias(column.name)
    ).to_series()
    if moments.null_count() == column.null_count():
        return moments
    if moments.null_count() == len(moments):
        return text
    written = moments.dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
    return written.zip_with(moments.is_not_null(), text)
