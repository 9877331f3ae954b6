"""Products in the notations of Amazon's editions, brought into one table."""

import re
from pathlib import Path
from typing import cast

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.report import RuleCount, counted
from peftrec.data.cleaning.rules import ROW
from peftrec.data.reading.json_lines import Fields, read_json_lines, read_literal
from peftrec.data.reading.tables import read_table
from peftrec.data.reading.values import as_text, is_blank

_TEXT, _TEXTS = pl.String(), pl.List(pl.String())
_FIELDS_2014: Fields = {
    **dict.fromkeys(("asin", "title", "brand", "price", "imUrl"), _TEXT),
    "description": _TEXTS,
    "categories": pl.List(_TEXTS),
}
_FIELDS_2018: Fields = {
    **dict.fromkeys(("asin", "title", "brand", "price"), _TEXT),
    **dict.fromkeys(("description", "category", "feature", "imageURL", "image"), _TEXTS),
}
_FIELDS_2023: Fields = {
    **dict.fromkeys(("parent_asin", "title", "store", "price"), _TEXT),
    **dict.fromkeys(("description", "categories", "features"), _TEXTS),
    "images": pl.List(pl.Struct({"large": _TEXT})),
}

_AMOUNT = r"([0-9][0-9,]*(?:\.[0-9]+)?|\.[0-9]+)"
_PRICE = rf"(?i)^(?:from\s+)?\$?\s*{_AMOUNT}(?:\s*[-–]\s*\$?\s*{_AMOUNT})?$"
_NO_PRICE = ("", "—", "-", "none")
_SCRIPT = "getTime()"
"""Stands in titles that are the start of a page's script instead."""

_BETWEEN = re.compile(r"""(?<=['"]), (?=['"])""")
_ESCAPED = re.compile(r"\\(?:([ntr])|(.))")


def products_2014(path: Path) -> pl.DataFrame:
    """``meta_*.json``, in Python's notation: the first of several category paths, one text as description."""
    table, category = read_json_lines(path, _FIELDS_2014, key="asin"), pl.col("categories").list.first()
    return _table(table, item="asin", brand="brand", category=category, image=pl.col("imUrl"))


def products_2018(path: Path) -> pl.DataFrame:
    """``meta_*.json``."""
    image = pl.coalesce(pl.col("imageURL").list.first(), pl.col("image").list.first())
    table = read_json_lines(path, _FIELDS_2018, key="asin")
    return _table(table, item="asin", brand="brand", category=pl.col("category"), image=image, tags="feature")


def products_2023(path: Path) -> pl.DataFrame:
    """``meta_*.jsonl``, without mean and number of ratings: they count reviews that were still to come."""
    table, image = read_json_lines(path, _FIELDS_2023, key="parent_asin"), pl.col("images").list.first()
    image = image.struct.field("large")
    return _table(table, item="parent_asin", brand="store", category=pl.col("categories"), image=image, tags="features")


def products_minionerec(path: Path) -> pl.DataFrame:
    """Parquet whose descriptions are lists of texts in Python's notation, each list written as one text."""
    table = read_table(path, what="catalogue").rename({"categories": col.CATEGORY}, strict=False)
    texts = table[col.DESCRIPTION]
    if texts.dtype != pl.List(pl.String):
        texts = pl.Series(col.DESCRIPTION, [_entries(text) for text in as_text(texts, "catalogue")], _TEXTS)
    return table.with_columns(texts).with_columns(_joined(pl.col(col.DESCRIPTION), " ").alias(col.DESCRIPTION))


def tidy(products: pl.DataFrame) -> tuple[pl.DataFrame, list[RuleCount]]:
    """Makes prices numbers, takes debris of pages out of titles and brands, and keeps one line of each product.

    Of several lines of one product the last that has a title stays. A range of prices becomes its lower end, and what
    is no price, such as a style sheet, nothing. A script in place of a title becomes an empty title.

    Returns:
        The products, and how many lines and prices were left out.
    """
    texts = [name for name, dtype in products.schema.items() if dtype == pl.String]
    products = products.with_columns(_known(pl.col(name)).alias(name) for name in texts)
    optional = [name for name in col.CATALOG_OPTIONAL if name in products.columns]
    products = products.drop(name for name in optional if products[name].null_count() == len(products))
    script = pl.col(col.TITLE).str.contains(_SCRIPT, literal=True)
    products = products.with_columns(pl.when(~script).then(col.TITLE).alias(col.TITLE))
    if col.BRAND in products.columns:
        products = products.with_columns(pl.col(col.BRAND).str.replace(r"^\s*by\s*\n\s*", ""))
    products, doubled = _once(products)
    if col.PRICE not in products.columns:
        return products, [doubled]
    products, unread = _priced(products)
    return products, [doubled, unread]


def _table(
    table: pl.DataFrame, *, item: str, brand: str, category: pl.Expr, image: pl.Expr, tags: str | None = None
) -> pl.DataFrame:
    return table.select(
        pl.col(item).alias(col.ITEM),
        col.TITLE,
        _joined(pl.col("description"), " ").alias(col.DESCRIPTION),
        pl.col(brand).alias(col.BRAND),
        _joined(category, " > ").alias(col.CATEGORY),
        *([] if tags is None else [_joined(pl.col(tags), ", ").alias(col.TAGS)]),
        col.PRICE,
        image.alias(col.IMAGE),
    )


def _entries(text: str | None) -> list[str]:
    if not text or not text.startswith("["):
        return [text or ""]
    try:
        value = read_literal(text)
    except ValueError:
        # Quotes that were entities once were written out later, and no longer pair.
        entries = _BETWEEN.split(text.strip("[]"))
        return [_ESCAPED.sub(lambda found: found[2] or " ", entry[1:-1]) for entry in entries]
    return [str(entry) for entry in cast("list[object]", value)] if isinstance(value, list) else [text]


def _joined(texts: pl.Expr, separator: str) -> pl.Expr:
    entry = pl.element().str.strip_chars()
    return texts.list.eval(entry.filter(entry != "")).list.join(separator, ignore_nulls=True)


def _known(text: pl.Expr) -> pl.Expr:
    return pl.when(~is_blank(text)).then(text)


def _once(products: pl.DataFrame) -> tuple[pl.DataFrame, RuleCount]:
    by_worth = products.with_row_index(ROW).sort(pl.col(col.TITLE).is_null(), ROW, descending=[True, False])
    kept = by_worth.unique(col.ITEM, keep="last", maintain_order=True).sort(ROW)
    others = by_worth.join(kept.select(ROW), on=ROW, how="anti").sort(ROW)
    shown = f"row {others[ROW][0]}: item_id {others[col.ITEM][0]!r}" if len(others) else ""
    return kept.drop(ROW), counted("doubled_product", len(others), len(products), shown, action="left out")


def _priced(products: pl.DataFrame) -> tuple[pl.DataFrame, RuleCount]:
    text = pl.col(col.PRICE).str.strip_chars()
    amount = text.str.extract(_PRICE).str.replace_all(",", "").cast(pl.Float64)
    unread = products.filter(amount.is_null() & ~text.str.to_lowercase().is_in(_NO_PRICE))
    shown = f"item_id {unread[col.ITEM][0]!r}: price {unread[col.PRICE][0]!r}" if len(unread) else ""
    count = counted("unreadable_price", len(unread), len(products), shown, action="left out")
    return products.with_columns(amount.alias(col.PRICE)), count
