"""Purchases that were taken back: a return is matched to the purchase it cancels."""

import polars as pl

from peftrec.data import columns as col

ROW = "__row"
"""Column of row numbers while a table is cleaned."""

_SIZE, _STEP, _DEPTH, _LEVEL = "__size", "__step", "__depth", "__level"


def cancelled(frame: pl.DataFrame) -> pl.Series:
    """Rows of purchases that were cancelled, and of the returns that cancelled them.

    A return is a row with a negative quantity. It cancels the latest purchase before it of the same product by the same
    shopper in the same quantity that no other return has cancelled. A return of a part of a purchase cancels nothing,
    since the shopper kept the rest.

    Args:
        frame: A typed event table with row numbers.

    Returns:
        Row numbers, rising.
    """
    pair = [col.USER, col.ITEM, _SIZE]
    purchase, size = pl.col(col.EVENT) == "purchase", pl.col(col.QUANTITY).abs().alias(_SIZE)
    returns = frame.filter(purchase, pl.col(col.QUANTITY) < 0).select(*pair[:-1], size).unique()
    rows = (
        frame.filter(purchase, pl.col(col.QUANTITY) != 0)
        .with_columns(size, pl.col(col.QUANTITY).sign().alias(_STEP))
        .join(returns, on=pair, how="semi")  # most logs have few returns, or none
        .sort(col.TIME, ROW)
    )
    # Purchases open and returns close, like brackets: a return belongs to the purchase on the same level just before it.
    total = pl.col(_STEP).cum_sum().over(pair)
    rows = rows.with_columns(total.alias(_DEPTH))
    unmatched = pl.min_horizontal(pl.col(_DEPTH).cum_min().over(pair), 0)  # returns without any purchase before them
    rows = rows.with_columns((pl.col(_DEPTH) - unmatched + (pl.col(_STEP) < 0)).alias(_LEVEL))
    level = [*pair, _LEVEL]
    before, after = pl.col(_STEP).shift(1).over(level), pl.col(_STEP).shift(-1).over(level)
    taken_back = (pl.col(_STEP) > 0) & (after < 0)
    takes_back = (pl.col(_STEP) < 0) & (before > 0)
    return rows.filter(taken_back | takes_back)[ROW].sort()
