"""Numbers that were written in another unit: cents among whole amounts, grams among pieces."""

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.cancellations import ROW
from peftrec.data.cleaning.usual import Usual

HUNDRED = (80.0, 125.0)
"""How many times the usual price of its product a price must be to count as written in cents."""

MEASURED = 1000.0
"""Usual quantity from which a product counts as sold by weight or volume."""

_PRICE, _QUANTITY, _KNOWN = "usual_price", "usual_quantity", [col.ITEM]


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
    joined = frame.join(usual.products.select(*_KNOWN, _PRICE), on=col.ITEM, how="left", maintain_order="left")
    ratio = pl.col(col.PRICE) / pl.col(_PRICE)
    cents, whole = ratio.is_between(*HUNDRED), ratio.is_between(1 / HUNDRED[1], 1 / HUNDRED[0])
    price = pl.when(cents).then(pl.col(col.PRICE) / 100).when(whole).then(pl.col(col.PRICE) * 100)
    return _changed(joined, cents | whole, [price.otherwise(col.PRICE).alias(col.PRICE)], _PRICE)


def measured_quantity(frame: pl.DataFrame, usual: Usual) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Counts products that are sold by weight or volume in units of their usual quantity, so that 2 means *twice as much*.

    Prices of such a product become those of its usual quantity.

    Args:
        frame: Typed events with row numbers.
        usual: Of the whole log.

    Returns:
        The events, and those that changed as they were before.
    """
    joined = frame.join(usual.products.select(*_KNOWN, _QUANTITY), on=col.ITEM, how="left", maintain_order="left")
    measured = pl.col(_QUANTITY) >= MEASURED
    unit = pl.when(measured).then(_QUANTITY).otherwise(pl.lit(1, pl.Float32))
    values = [(pl.col(col.QUANTITY) / unit).alias(col.QUANTITY)]
    if col.PRICE in frame.columns:
        values.append((pl.col(col.PRICE) * unit).alias(col.PRICE))
    return _changed(joined, measured, values, _QUANTITY)


def _changed(
    frame: pl.DataFrame, changed: pl.Expr, values: list[pl.Expr], helper: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    before = frame.filter(changed).drop(helper).sort(ROW)
    return frame.with_columns(values).drop(helper), before
