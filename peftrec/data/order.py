"""Moments for logs that say only in which order a shopper's events came."""

from datetime import date

import polars as pl

from peftrec.data import columns as col
from peftrec.data.reading.values import MOMENT, as_id, as_number
from peftrec.errors import InvalidValueError

FINAL = date(2000, 1, 31)
"""The made-up day of every shopper's last event: ``dataset.split(at=FINAL)`` leaves the last event of each out."""


def timestamps_from_order(users: pl.Series, position: pl.Series) -> pl.Series:
    """Gives every event a day, so that each shopper's events fall on a row of days that ends on ``FINAL``.

    The days are made up: only the order of one shopper's events is real. The last falls on ``FINAL``, the one before it
    on the day before, and so on, whatever the gaps between positions. So nothing that is counted in days means
    anything, and whether one shopper's event came before another's is not known.

    Args:
        users: User id of every event.
        position: Any numbers that rise from one event of a shopper to the next; equal ones keep the order of the rows.

    Returns:
        ``timestamp``, midnight UTC, in the order of the rows; null where the user or the position is.

    Raises:
        SchemaError: Positions are no numbers, or user ids are neither text nor whole numbers.
        InvalidValueError: A position is infinite, or the two columns differ in length.
    """
    if len(users) != len(position):
        raise InvalidValueError(
            f"{len(users):,} users and {len(position):,} positions",
            expected="one user and one position for each event",
            remedy="take both columns from one table",
        )
    # Whole numbers stay whole: a float does not tell large ones apart.
    number = position if position.dtype.is_integer() else as_number(position, "events", single=False)
    events = pl.DataFrame({"user": as_id(users, "events"), "position": number})
    known, order = pl.col("user").is_not_null(), pl.col("position")
    before_last = (order.count().cast(pl.Int64) - order.rank("ordinal")).over("user")
    day = pl.lit(FINAL).cast(MOMENT) - pl.duration(days=before_last)
    return events.select(pl.when(known).then(day).alias(col.TIME))[col.TIME]
