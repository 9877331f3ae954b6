"""From the tables of a shop, as they came, to the parts of a data set that fit each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, cast

import polars as pl

from peftrec.data import columns as col
from peftrec.data.catalog import Catalog
from peftrec.data.cleaning.clean import canonical, clean_events, known_coupons, known_promotions, read_and_repair
from peftrec.data.cleaning.currency import refuse_several
from peftrec.data.cleaning.products import clean_products, read_products
from peftrec.data.cleaning.report import CleaningReport, RuleCount
from peftrec.data.cleaning.rules import PRODUCT_RULES, CleaningRules
from peftrec.data.coupons import Coupons
from peftrec.data.events import MADE_UP, Events, in_time_order, no_events, typed_events
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import Promotions
from peftrec.data.reading.places import naming_files
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import MOMENT
from peftrec.errors import ConfigError, NotEnoughDataError, SchemaError

Columns = Mapping[str, str] | None
"""Our name -> their name."""


@dataclass(frozen=True)
class Given:
    """Tables as a caller passes them, each with its mapping."""

    catalog: tuple[Table | Catalog, Columns]
    events: tuple[Table | Events | None, Columns]
    profiles: tuple[Table | Profiles | None, Columns]
    promotions: tuple[Table | Promotions | None, Columns]
    coupons: Coupons | None


class Built(TypedDict):
    """Arguments of a data set."""

    catalog: Catalog
    events: Events
    profiles: Profiles | None
    promotions: Promotions | None
    coupons: Coupons | None
    report: CleaningReport
    ordered: bool


def built(given: Given, rules: CleaningRules, *, name: str) -> Built:
    """Reads, cleans and joins; see ``Dataset.build`` for the errors, which name the files that values stand in."""
    if not isinstance(cast(object, rules), CleaningRules):
        raise ConfigError(f"rules={rules!r:.60}", expected="CleaningRules(...)", remedy="write rules=CleaningRules()")
    places = {"catalogue": given.catalog, "events": given.events}
    with naming_files(**places, profiles=given.profiles, promotions=given.promotions):
        return _built(given, rules, name)


def _built(given: Given, rules: CleaningRules, name: str) -> Built:
    parts = read_parts(given, rules)
    raw, repairs, currencies = _events(given, rules)
    refuse_several({"catalogue": parts.currencies, "events": currencies})
    none = raw, list[RuleCount](), list[str]()
    kept, dropped, off = (
        none if raw.is_empty() else clean_events(canonical(raw, parts.merged), parts.catalog.ids, rules)
    )
    report = CleaningReport(
        name=name,
        rows_in=len(raw),
        rows_kept=len(kept),
        products=parts.came,
        counts=(*repairs, *dropped, *parts.counts),
        switched_off=(*off, *(rule for rule in PRODUCT_RULES if not rules.applies(rule))),
    )
    return Built(
        catalog=parts.catalog,
        events=Events(in_time_order(kept)),
        profiles=parts.profiles,
        promotions=parts.promotions,
        coupons=parts.coupons,
        report=report,
        ordered=MADE_UP in raw.columns,
    )


@dataclass(frozen=True)
class Parts:
    """Everything but the events, read and cleaned.

    Attributes:
        catalog: Products.
        profiles: Shoppers' attributes, if there are any.
        promotions: Those of the products, if there are any.
        coupons: Likewise.
        merged: ``item_id`` and ``canonical_id`` of products that are gone; None where none are.
        came: Products that came in.
        counts: What rules did to these tables.
        currencies: What prices of products name.
    """

    catalog: Catalog
    profiles: Profiles | None
    promotions: Promotions | None
    coupons: Coupons | None
    merged: pl.DataFrame | None
    came: int
    counts: tuple[RuleCount, ...]
    currencies: Sequence[str]


def read_parts(given: Given, rules: CleaningRules) -> Parts:
    """Reads, cleans and joins all tables but the events."""
    counts, currencies, merged, came = list[RuleCount](), list[str](), None, 0
    catalog, columns = given.catalog
    if not isinstance(catalog, Catalog):
        products, counts, currencies = read_products(catalog, columns, rules)
        came = len(products)
        products, merged, more = clean_products(products, rules)
        catalog, counts = Catalog(products), [*counts, *more]
    promotions, coupons = _promotions(given), given.coupons
    if not isinstance(cast(object, coupons), Coupons | None):
        raise SchemaError(
            f"coupons is a {type(coupons).__name__}",
            expected="Coupons, since they come in two tables",
            remedy="pass coupons=Coupons.from_tables(products, recipients)",
        )
    if promotions is not None:
        promotions = replace(promotions, frame=canonical(promotions.frame, merged))
        promotions, count = known_promotions(promotions, catalog.ids)
        counts.append(count)
    if coupons is not None:
        coupons, count = known_coupons(replace(coupons, products=canonical(coupons.products, merged)), catalog.ids)
        counts.append(count)
    return Parts(
        catalog, _profiles(given), promotions, coupons, merged, came or len(catalog), tuple(counts), currencies
    )


def _events(given: Given, rules: CleaningRules) -> tuple[pl.DataFrame, list[RuleCount], Sequence[str]]:
    """Typed events, what was repaired in them, and the currencies that they name; no rows where the shop has no events yet.

    A table without rows is refused: where events were asked for, none is more often a mistake than a new shop.
    """
    events, columns = given.events
    if events is None and columns is not None:
        raise SchemaError(
            "event_columns without events",
            expected="a table of events whose columns they are",
            remedy="pass events=..., or leave event_columns out where the shop has none yet",
        )
    if events is None or (isinstance(events, Events) and not len(events)):
        none = pl.DataFrame(schema={col.USER: pl.String, col.ITEM: pl.String, col.TIME: MOMENT})
        return typed_events(none if events is None else events.frame), [], []
    raw, repairs, currencies = read_and_repair(events.frame if isinstance(events, Events) else events, columns, rules)
    if raw.is_empty():
        error = no_events()
        remedy = f"{error.remedy}; leave events out where the shop has none yet"
        raise NotEnoughDataError(error.found, expected=error.expected, remedy=remedy)
    return raw, repairs, currencies


def _profiles(given: Given) -> Profiles | None:
    table, columns = given.profiles
    if table is None or isinstance(table, Profiles):
        return table
    return Profiles.from_table(table, columns=columns)


def _promotions(given: Given) -> Promotions | None:
    table, columns = given.promotions
    if table is None or isinstance(table, Promotions):
        return table
    return Promotions.from_table(table, columns=columns)
