"""Shoppers that cannot be people, and those that shop for thousands."""

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.cancellations import ROW

MOMENTS_PER_HOUR = 600
"""Different moments within one clock hour from which a shopper is taken for a program: one every six seconds."""

HOURS_PER_DAY = 22
"""Clock hours of one day (UTC) with events from which a shopper is taken for a program: people sleep."""


def bots(frame: pl.DataFrame) -> pl.DataFrame:
    """Shoppers that act like programs.

    That is, at 600 or more different moments within one clock hour, or in at least 22 of the 24 hours of one day. The
    lines of a basket share one moment, so large baskets are no sign.

    Args:
        frame: Typed events, of whole shoppers.

    Returns:
        ``user_id`` of each of them, sorted.
    """
    hour = pl.col(col.TIME).dt.truncate("1h")
    hours = frame.lazy().group_by(col.USER, hour.alias("hour")).agg(pl.col(col.TIME).n_unique().alias("moments"))
    days = hours.group_by(col.USER, pl.col("hour").dt.truncate("1d")).agg(
        pl.len().alias("hours"), pl.col("moments").max()
    )
    never_rests = (pl.col("moments") >= MOMENTS_PER_HOUR) | (pl.col("hours") >= HOURS_PER_DAY)
    return days.filter(never_rests).select(pl.col(col.USER).unique().sort()).collect()


def bot_events(frame: pl.DataFrame) -> pl.Series:
    """Row numbers of all events of :func:`bots`, rising."""
    return frame.join(bots(frame), on=col.USER, how="semi")[ROW].sort()


def frequent(most_events: float) -> pl.Expr:
    """True for the events of shoppers with more of them than ``most_events``; needs whole shoppers."""
    return pl.len().over(col.USER) > most_events
