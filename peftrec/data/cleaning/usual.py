"""What is usual in a whole log: the numbers that single rows and shoppers are compared with."""

import math
from dataclasses import dataclass

import polars as pl

from peftrec.data import columns as col

ENOUGH = 5
"""Purchases of a product from which its usual price and quantity are taken."""

LEAST = 1000
"""Events that one shopper may always have."""

CROWD = 20
"""Shoppers without whom nobody is far out."""

FAR_OUT = 3.0
"""Interquartile ranges beyond the upper quartile from which a value is far out (Tukey, Exploratory Data Analysis, 1977)."""


@dataclass(frozen=True, eq=False)
class Usual:
    """Statistics of all events of a log, as they came in.

    Attributes:
        products: ``item_id``, ``usual_price`` (median of prices above zero, null below ``ENOUGH`` purchases or without
            prices) and ``usual_quantity`` (median of quantities above zero, likewise).
        most_events: More events than this are far out for one shopper: the logarithm of the count lies more than three
            interquartile ranges above the upper quartile. Never below ``LEAST``; infinite
            where there are fewer than ``CROWD`` shoppers.
    """

    products: pl.DataFrame
    most_events: float

    @classmethod
    def of(cls, events: pl.LazyFrame) -> "Usual":
        """Measures a typed event table, in any order; a lazy one is streamed.

        Args:
            events: With at least ``user_id``, ``item_id``, ``event`` and ``quantity``.
        """
        present = events.collect_schema().names()
        bought = events.filter(pl.col(col.EVENT) == "purchase", pl.col(col.ITEM).is_not_null())
        products = bought.group_by(col.ITEM).agg(
            _median(col.PRICE).alias("usual_price")
            if col.PRICE in present
            else pl.lit(None, pl.Float32).alias("usual_price"),
            _median(col.QUANTITY).alias("usual_quantity"),
        )
        shoppers = events.filter(pl.col(col.USER).is_not_null()).group_by(col.USER).len().select(pl.col("len").log())
        counts = shoppers.collect(engine="streaming")["len"]
        low, high = counts.quantile(0.25, "linear") or 0.0, counts.quantile(0.75, "linear") or 0.0
        limit = pl.Series([high + FAR_OUT * (high - low)]).exp()[0]
        most = max(LEAST, float(limit)) if len(counts) >= CROWD else math.inf
        return cls(products.collect(engine="streaming").sort(col.ITEM), most)


def _median(column: str) -> pl.Expr:
    above = pl.col(column).filter(pl.col(column) > 0)
    return pl.when(above.len() >= ENOUGH).then(above.median()).cast(pl.Float32)
