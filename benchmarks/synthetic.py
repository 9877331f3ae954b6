"""A made-up log of any length: what the real ones are too short for.

Shoppers do 100 events each over a year. Products follow Zipf's law (the n-th most wanted is wanted 1/n as often as the
first), shoppers are drawn evenly, moments too; rows are in the order of time, as shops export them. Four events in five are
purchases. Ids are text, prices lie around a product's own and are at times a tenth or a fifth lower. One row in two hundred
has no shopper, as many are returns, and one in a thousand each has no moment, an unknown product or a negative price.
"""

from pathlib import Path

import numpy as np
import polars as pl

PRODUCTS, PER_SHOPPER, YEAR = 50_000, 100, 365 * 86_400
START = 1_483_228_800  # 2017-01-01, UTC
FILE_ROWS = 2_000_000


def write_catalog(path: Path) -> None:
    """Products in 200 categories, three sizes to a title."""
    ids = np.arange(PRODUCTS)
    titles = [f"product {at // 3} {('small', 'medium', 'large')[at % 3]}" for at in ids]
    categories = [f"category {at % 200}" for at in ids // 3]
    pl.DataFrame({"item_id": _texts("p", ids), "title": titles, "category": categories}).write_parquet(path)


def write_events(folder: Path, rows: int, *, seed: int) -> None:
    """Files of two million rows each, in the order of time."""
    rng = np.random.default_rng(seed)
    wanted = np.cumsum(1 / np.arange(1, PRODUCTS + 1))
    products = _texts("p", rng.permutation(PRODUCTS))
    shoppers = _texts("u", np.arange(max(1, rows // PER_SHOPPER)))
    usual = np.exp(rng.normal(1.5, 0.8, PRODUCTS))
    for number, first in enumerate(range(0, rows, FILE_ROWS)):
        count = min(FILE_ROWS, rows - first)
        frame = _events(np.random.default_rng([seed, number]), count, wanted, products, shoppers, usual)
        moment = START + YEAR * (first + np.sort(np.random.default_rng([seed, number, 1]).random(count)) * count) / rows
        time = pl.Series("timestamp", (moment * 1e6).astype(np.int64)).cast(pl.Datetime("us"))
        frame.with_columns(
            pl.when(pl.col("luck").is_between(0.010, 0.011)).then(None).otherwise(time).alias("timestamp")
        ).drop("luck").write_parquet(folder / f"events-{number:04d}.parquet", compression="zstd", compression_level=1)


def _events(
    rng: np.random.Generator,
    count: int,
    wanted: np.ndarray,
    products: pl.Series,
    shoppers: pl.Series,
    usual: np.ndarray,
) -> pl.DataFrame:
    at = np.searchsorted(wanted, rng.random(count) * wanted[-1]).clip(max=PRODUCTS - 1)
    kinds = pl.Series(["purchase", "view", "cart"])
    luck = pl.Series("luck", rng.random(count))
    price = usual[at] * rng.choice([1, 0.9, 0.8], count, p=[0.7, 0.2, 0.1])
    frame = pl.DataFrame(
        {
            "user_id": shoppers.gather(rng.integers(0, len(shoppers), count)),
            "item_id": products.gather(at),
            "event": kinds.gather(rng.choice(3, count, p=[0.8, 0.15, 0.05])),
            "quantity": rng.integers(1, 4, count),
            "price": price.round(2).astype(np.float32),
            "luck": luck,
        }
    )

    def spoilt(column: str, low: float, high: float, value: pl.Expr) -> pl.Expr:
        return pl.when(pl.col("luck").is_between(low, high)).then(value).otherwise(column).alias(column)

    return frame.with_columns(
        spoilt("user_id", 0.000, 0.005, pl.lit(None)),
        spoilt("quantity", 0.005, 0.010, -pl.col("quantity")),
        spoilt("item_id", 0.011, 0.012, pl.lit("nobody knows")),
        spoilt("price", 0.012, 0.013, -pl.col("price")),
    )


def _texts(letter: str, numbers: np.ndarray) -> pl.Series:
    return pl.Series(numbers).cast(pl.String).str.zfill(8).str.replace("^", letter)
