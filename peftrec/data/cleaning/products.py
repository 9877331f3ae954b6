"""Products as they should be: repaired texts, titles for all, one product once."""

from collections.abc import Mapping, Sequence

import polars as pl

from peftrec.data import columns as col
from peftrec.data.catalog import named_catalog, typed_catalog
from peftrec.data.cleaning.currency import Priced, in_one_currency
from peftrec.data.cleaning.duplicates import near_duplicates
from peftrec.data.cleaning.repair import REPAIRS, repaired
from peftrec.data.cleaning.report import RuleCount, counted
from peftrec.data.cleaning.rules import MERGE, ROW, CleaningRules
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import is_blank


def read_products(
    table: Table, columns: Mapping[str, str] | None, rules: CleaningRules
) -> tuple[pl.DataFrame, list[RuleCount], Sequence[str]]:
    """Reads products and repairs how their prices are written.

    Returns:
        The products, a count where there was something to repair, and the currencies that prices name.
    """
    named = named_catalog(table, columns)
    priced = in_one_currency(named, "catalogue", rules.rates) if rules.currency else Priced(named)
    count = counted("catalogue_currency", len(priced.rows), len(named), priced.example, action="repaired")
    return typed_catalog(priced.frame), [count] if priced.rows else [], priced.currencies


def clean_products(
    catalog: pl.DataFrame, rules: CleaningRules
) -> tuple[pl.DataFrame, pl.DataFrame | None, list[RuleCount]]:
    """Applies the rules that concern products.

    Args:
        catalog: A typed product table.
        rules: Which rules to apply.

    Returns:
        The products; where some are merged, ``item_id`` and ``canonical_id`` of those that are gone; a count per rule.
    """
    catalog, counts = repair_texts(catalog, rules)
    merged, named = None, catalog.select(~is_blank(pl.col(col.TITLE)))[col.TITLE]
    if rules.empty_title:
        catalog, count = fill_titles(catalog, rules.title_from)
        counts.append(count)
    if rules.near_duplicate:
        catalog, merged, count = join_duplicates(catalog, rules, named=named)
        counts.append(count)
    return catalog, merged, counts


def repair_texts(catalog: pl.DataFrame, rules: CleaningRules) -> tuple[pl.DataFrame, list[RuleCount]]:
    """Repairs the texts of a product table by the rules that are on."""
    counts = list[RuleCount]()
    for rule in REPAIRS:
        if rules.applies(rule):
            total = len(catalog)
            catalog, rows, shown = repaired(catalog, rule)
            counts.append(counted(rule, len(rows), total, shown, action="repaired"))
    return catalog, counts


def fill_titles(catalog: pl.DataFrame, sources: Sequence[str]) -> tuple[pl.DataFrame, RuleCount]:
    """Fills empty titles from other columns, or with "unknown product <id>"."""
    blank = is_blank(pl.col(col.TITLE))
    empty = catalog.with_row_index(ROW).filter(blank)
    texts = [pl.col(name).cast(pl.String) for name in sources if name in catalog.columns]
    others = [pl.when(~is_blank(text)).then(text) for text in texts]
    last = pl.lit("unknown product ") + pl.col(col.ITEM)
    filled = catalog.with_columns(pl.when(blank).then(pl.coalesce(*others, last)).otherwise(col.TITLE).alias(col.TITLE))
    shown = ""
    if len(empty):
        row = empty[ROW][0]
        shown = f"row {row}: item_id {empty[col.ITEM][0]!r} -> {filled[col.TITLE][row]!r}"
    return filled, counted("empty_title", len(empty), len(catalog), shown, action="filled")


def join_duplicates(
    catalog: pl.DataFrame, rules: CleaningRules, *, named: pl.Series
) -> tuple[pl.DataFrame, pl.DataFrame | None, RuleCount]:
    """Links or merges products that repeat an earlier one.

    Args:
        catalog: A typed product table.
        rules: ``near_duplicate`` says which.
        named: Boolean, which products came with a title; the others repeat nothing.

    Returns:
        The table; where products are merged, ``item_id`` and ``canonical_id`` of those that are gone; the count.
    """
    pairs, total = near_duplicates(catalog.filter(named)), len(catalog)
    shown = f"item_id {pairs[col.ITEM][0]!r} is {pairs[col.CANONICAL][0]!r}" if len(pairs) else ""
    if rules.near_duplicate == MERGE:
        count = counted("near_duplicate", len(pairs), total, shown, action="merged")
        return catalog.filter(~pl.col(col.ITEM).is_in(pairs[col.ITEM].implode())), pairs, count
    count = counted("near_duplicate", len(pairs), total, shown, action="linked")
    if len(pairs):
        catalog = catalog.drop(col.CANONICAL, strict=False).join(pairs, on=col.ITEM, how="left", maintain_order="left")
        catalog = catalog.with_columns(pl.col(col.CANONICAL).fill_null(pl.col(col.ITEM)))
    return catalog, None, count
