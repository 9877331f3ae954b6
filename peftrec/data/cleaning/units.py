"""Numbers that were written in another unit: cents among whole amounts, grams among pieces."""

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.cancellations import ROW
from peftrec.data.cleaning.usual import Usual

HUNDRED = (80.0, 125.0)
"""How many times the usual price of its product a price must be to count as written in cents."""

MEASURED = 1000.0
"""Usual quantity from which a product counts as sold by weight or volume."""

_USUAL = "__usual"
"""Column of what is usual while a table is repaired; a shop's own may well be called usual_price."""


def price_unit(frame: pl.DataFrame, usual: Usual) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Brings prices of a product that are a hundred times its usual price, or a hundredth, to its unit.

    Args:
        frame: Typed events with row numbers.
        usual: Of the whole log.

    Returns:
        The events, and those that changed as they were before.
    """
    if col.PRICE not in frame.columns:
        return frame, frame.clear()
    joined = _beside(frame, usual, "usual_price")
    ratio = pl.col(col.PRICE) / pl.col(_USUAL)
    cents, whole = ratio.is_between(*HUNDRED), ratio.is_between(1 / HUNDRED[1], 1 / HUNDRED[0])
    price = pl.when(cents).then(pl.col(col.PRICE) / 100).when(whole).then(pl.col(col.PRICE) * 100)
    return _changed(joined, cents | whole, [price.otherwise(col.PRICE).alias(col.PRICE)])


def measured_quantity(frame: pl.DataFrame, usual: Usual) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Counts products that are sold by weight or volume in units of their usual quantity, so that 2 means *twice as much*.

    Prices of such a product become those of its usual quantity.

    Args:
        frame: Typed events with row numbers.
        usual: Of the whole log.

    Returns:
        The events, and those that changed as they were before.
    """
    joined = _beside(frame, usual, "usual_quantity")
    measured = pl.col(_USUAL) >= MEASURED
    unit = pl.when(measured).then(_USUAL).otherwise(pl.lit(1, pl.Float32))
    values = [(pl.col(col.QUANTITY) / unit).alias(col.QUANTITY)]
    if col.PRICE in frame.columns:
        values.append((pl.col(col.PRICE) * unit).alias(col.PRICE))
    return _changed(joined, measured, values)


def _beside(frame: pl.DataFrame, usual: Usual, name: str) -> pl.DataFrame:
    known = usual.products.select(col.ITEM, pl.col(name).alias(_USUAL))
    return frame.join(known, on=col.ITEM, how="left", maintain_order="left")


def _changed(frame: pl.DataFrame, changed: pl.Expr, values: list[pl.Expr]) -> tuple[pl.DataFrame, pl.DataFrame]:
    before = frame.filter(changed).drop(_USUAL).sort(ROW)
    return frame.with_columns(values).drop(_USUAL), before
