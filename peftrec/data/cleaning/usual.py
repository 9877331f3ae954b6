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
        products = _medians(bought, col.QUANTITY, "usual_quantity")
        nothing = pl.DataFrame(schema={col.ITEM: pl.String, "usual_price": pl.Float32})
        prices = _medians(bought, col.PRICE, "usual_price") if col.PRICE in present else nothing
        products = products.join(prices, on=col.ITEM, how="left").select(col.ITEM, "usual_price", "usual_quantity")
        shoppers = events.filter(pl.col(col.USER).is_not_null()).group_by(col.USER).len().select(pl.col("len").log())
        counts = shoppers.collect(engine="streaming")["len"]
        low, high = counts.quantile(0.25, "linear") or 0.0, counts.quantile(0.75, "linear") or 0.0
        limit = pl.Series([high + FAR_OUT * (high - low)]).exp()[0]
        most = max(LEAST, float(limit)) if len(counts) >= CROWD else math.inf
        return cls(products.sort(col.ITEM), most)


def _medians(bought: pl.LazyFrame, column: str, name: str) -> pl.DataFrame:
    """The median above zero of each product, of how often it has each value: a product has far fewer values than rows."""
    counts = bought.group_by(col.ITEM, column).agg(pl.len().alias("rows")).collect(engine="streaming")
    value, rows, above = pl.col(column), pl.col("rows"), pl.col(column) > 0
    reached, total = rows.filter(above).cum_sum(), rows.filter(above).sum()
    low, high = (value.filter(above).filter(reached > at).first() for at in ((total - 1) // 2, total // 2))
    median = pl.when(total >= ENOUGH).then((low.cast(pl.Float64) + high) / 2).cast(pl.Float32)
    return counts.sort(column).group_by(col.ITEM).agg(median.alias(name))
