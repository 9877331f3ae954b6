"""Times that name no zone: read by the clock of the place where they were written."""

from zoneinfo import ZoneInfo

import polars as pl

from peftrec.data import columns as col
from peftrec.data.reading.values import MOMENT
from peftrec.errors import ConfigError

_NAMED = r"(?:[Zz]|[+-]\d\d(?::?\d\d)?)\s*$"


def check_zone(zone: str) -> None:
    """Raises unless there is a zone of that name.

    Raises:
        ConfigError: There is none.
    """
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError, TypeError, AttributeError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ConfigError(
            f"timezone={zone!r} is no time zone: {error}",
            expected="an IANA name such as 'Europe/London' or 'America/New_York'",
            remedy="correct it, or leave it out where timestamps are in UTC",
        ) from error


def local_rows(written: pl.Series) -> pl.Series:
    """Boolean, true where a timestamp of a raw column names no zone."""
    if written.dtype == pl.String:
        time_of_day = written.str.contains(r"\d[T ]\d\d")
        return (written.is_not_null() & ~(time_of_day & written.str.contains(_NAMED))).fill_null(False)
    naive = written.dtype == pl.Date or (isinstance(written.dtype, pl.Datetime) and written.dtype.time_zone is None)
    return written.is_not_null() if naive else pl.Series([False]).new_from_index(0, len(written))


def by_clock(moments: pl.Series, zone: str) -> pl.Series:
    """Reads moments, which were taken as UTC, by a zone's clock.

    The hour that is repeated in autumn is taken for its first run; a time in the hour that is skipped in spring is moved
    one hour on, as clocks were.
    """
    plain = moments.dt.replace_time_zone(None)
    read = plain.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    later = plain.dt.offset_by("1h").dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return read.zip_with(read.is_not_null(), later).dt.convert_time_zone("UTC").cast(MOMENT)


def in_utc(frame: pl.DataFrame, written: pl.Series, zone: str) -> tuple[pl.DataFrame, list[int], str]:
    """Converts the timestamps of a typed event table that named no zone.

    Args:
        frame: Typed events.
        written: Their timestamps as they came, row by row.
        zone: IANA name, such as "Europe/London".

    Returns:
        The table, the rows that were converted, and the first of them in words.
    """
    at = (local_rows(written) & frame[col.TIME].is_not_null()).arg_true()
    if not len(at):
        return frame, [], ""
    before = frame[col.TIME].gather(at)
    after = by_clock(before, zone)
    shown = f"row {at[0]}: {before[0]:%Y-%m-%d %H:%M} in {zone} -> {after[0]:%Y-%m-%d %H:%M} UTC"
    return frame.with_columns(frame[col.TIME].scatter(at, after)), at.to_list(), shown
