"""What a date means in a country: its season and the public holidays that come."""

from datetime import date, timedelta

import holidays
import polars as pl

from peftrec.errors import ConfigError

HOLIDAY = "__holiday"

_SOUTHERN = "AO AR AU BO BR BW BI CL EC FJ ID LS MG MW MU MZ NA NZ PG PY PE RW SZ TL TZ UY ZA ZM ZW"
SOUTHERN = frozenset(_SOUTHERN.split())
"""Countries whose people mostly live south of the equator."""


def is_southern(country: str) -> bool:
    """Whether summer there is in January."""
    return country in SOUTHERN


def holidays_ahead(moments: pl.Series, country: str, *, days: int) -> pl.Series:
    """The first public holiday from each moment's day up to ``days`` days later.

    Args:
        moments: Of any time zone; their own calendar day counts.
        country: ISO 3166 code, such as "US".
        days: How far to look ahead.

    Returns:
        Its name in English, null where there is none; the series is called ``HOLIDAY``.

    Raises:
        ConfigError: There is no such country.
    """
    if country not in holidays.list_supported_countries():
        raise ConfigError(
            f"country={country!r}",
            expected="an ISO 3166 code of two letters, such as 'US' or 'GB'",
            remedy="correct the country of the data source, or leave it out",
        )
    dates = moments.dt.date().rename("date")
    distinct = dates.drop_nulls().unique().sort()
    known = holidays.country_holidays(country, language="en_US", years={day.year for day in distinct})

    def coming(day: date) -> str | None:
        names = (known.get(day + timedelta(days=ahead)) for ahead in range(days + 1))
        return next((name for name in names if name), None)

    names = pl.Series(HOLIDAY, [coming(day) for day in distinct], pl.String)
    table = pl.DataFrame({"date": distinct, HOLIDAY: names})
    return dates.to_frame().join(table, on="date", how="left", maintain_order="left")[HOLIDAY]
