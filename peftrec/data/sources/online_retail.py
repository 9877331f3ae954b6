"""Online Retail (UCI): a year of invoices of a British gift wholesaler, one file without a catalogue."""

from dataclasses import replace

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.cleaning.zones import by_clock
from peftrec.data.dataset import Dataset
from peftrec.data.reading.mapping import rename_columns
from peftrec.data.reading.tables import Table, read_table
from peftrec.data.reading.values import as_id, as_moment, as_number, as_text
from peftrec.data.source import OF_ALL_EVENTS, DataSource

CLOCK = "Europe/London"

SOURCE = DataSource(
    name="Online Retail, UCI Machine Learning Repository",
    licence="CC BY 4.0",
    url="https://archive.ics.uci.edu/dataset/352/online+retail",
    note=f"titles and catalogue prices are made of all invoices, {OF_ALL_EVENTS}",
    clock=CLOCK,
    country="GB",
)
COLUMNS = {
    col.USER: "CustomerID",
    col.ITEM: "StockCode",
    col.TIME: "InvoiceDate",
    col.SESSION: "InvoiceNo",
    col.QUANTITY: "Quantity",
    col.PRICE: "UnitPrice",
    "text": "Description",
    "country": "Country",
}
SECOND_EDITION = COLUMNS | {col.USER: "Customer ID", col.SESSION: "Invoice", col.PRICE: "Price"}
SERVICES = r"POST|DOT|M|C2|D|S|B|PADS|BANK CHARGES|AMAZONFEE|CRUK|TEST.*|ADJUST.*|GIFT_.*"
"""Postage, carriage, manual entries, discounts, samples, fees, vouchers and corrections."""


def load_online_retail(table: Table, rules: CleaningRules | None = None) -> Dataset:
    """Reads the invoices of either edition: a CSV or Parquet file, or a DataFrame of UCI's workbook.

    One event is one line of an invoice, ``session_id`` the invoice. Stock codes are written in capitals. A customer's
    country is a profile. Times are taken as local to London.

    The catalogue is made of the lines: a product's title is the description that most of its sales carry, since the
    others are remarks of the stock room ("damaged", "wrongly coded"); its price is the median of its sales. Services are
    no part of it.

    Args:
        table: The invoices.
        rules: Which rows to drop. If not given: all rules, lines without a price and services that are no products included.

    Raises:
        SchemaError: A column is missing or of a wrong type, or the file cannot be read.
        NotEnoughDataError: Cleaning leaves no event.
    """
    rules = rules or replace(CleaningRules(), zero_price=True, non_product_ids=SERVICES)
    lines = read_table(table, what="invoice lines")
    names = SECOND_EDITION if {*SECOND_EDITION.values()} <= {*lines.columns} else COLUMNS
    lines = rename_columns(lines, names, required=tuple(names), optional=(), what="invoice lines")
    lines = lines.with_columns(
        as_id(lines[col.ITEM], "invoice lines").str.strip_chars().str.to_uppercase(),
        as_id(lines[col.USER], "invoice lines"),
        as_text(lines["text"], "invoice lines").str.strip_chars(),
        as_number(lines[col.QUANTITY], "invoice lines", single=True),
        as_number(lines[col.PRICE], "invoice lines", single=False),
        _moments(lines[col.TIME]),
    )
    return Dataset.build(
        name="online_retail",
        catalog=_products(lines, rules.non_product_ids if rules.non_product else None),
        events=lines.drop("text", "country"),
        profiles=_customers(lines),
        rules=rules,
        source=SOURCE,
    )


def _moments(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        american = column.str.to_datetime("%m/%d/%Y %H:%M", strict=False, time_unit="us", time_zone="UTC")
        moments = american.zip_with(american.is_not_null(), as_moment(column, "invoice lines"))
    else:
        moments = as_moment(column, "invoice lines")
    return by_clock(moments, CLOCK)


def _products(lines: pl.DataFrame, services: str | None) -> pl.DataFrame:
    if services is not None:
        lines = lines.filter(~pl.col(col.ITEM).str.contains(f"^(?:{services})$"))
    sold = (pl.col(col.PRICE) > 0) & (pl.col(col.QUANTITY) > 0)
    shouted = (pl.col("text") == pl.col("text").str.to_uppercase()) & pl.col("text").str.contains("[A-Z]{3}")
    named = (
        lines.group_by(col.ITEM, "text")
        .agg(sold.sum().alias("sales"), pl.len().alias("lines"))
        # What was never sold has a name only where it is written as names are: remarks are in small letters.
        .filter(pl.col("text") != "", (pl.col("sales") > 0) | shouted)
        .sort(col.ITEM, "sales", "lines", "text", descending=[False, True, True, False])
        .group_by(col.ITEM, maintain_order=True)
        .agg(pl.col("text").first().alias(col.TITLE))
    )
    priced = lines.filter(sold).group_by(col.ITEM).agg(pl.col(col.PRICE).median())
    ids = lines.select(pl.col(col.ITEM).drop_nulls().unique().sort())
    return ids.join(named, on=col.ITEM, how="left").join(priced, on=col.ITEM, how="left")


def _customers(lines: pl.DataFrame) -> pl.DataFrame:
    known = lines.filter(pl.col(col.USER).is_not_null())
    return known.group_by(col.USER).agg(pl.col("country").last()).sort(col.USER)
