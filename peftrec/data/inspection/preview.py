"""What cleaning would do to a file: the same code that ``Dataset.build`` runs, on the guessed mapping."""

from dataclasses import dataclass, replace
from typing import cast

import polars as pl

from peftrec.data import columns as col
from peftrec.data.catalog import Catalog
from peftrec.data.cleaning.report import CleaningReport, RuleCount
from peftrec.data.cleaning.rules import LINK, PRODUCT_RULES, CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.inspection.guess import CATALOGUE, EVENTS, PROFILES
from peftrec.data.inspection.prepared import Prepared
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import Promotions
from peftrec.errors import DataError

COMPARED = 20_000
"""Products up to which near duplicates are looked for: the search takes long."""

_FORMS = {
    ".str.strip_chars()": pl.col(col.ITEM).str.strip_chars(),
    ".str.to_uppercase()": pl.col(col.ITEM).str.to_uppercase(),
    ".str.to_lowercase()": pl.col(col.ITEM).str.to_lowercase(),
    ".str.strip_chars_start('0')": pl.col(col.ITEM).str.strip_chars_start("0"),
    ".str.strip_suffix('.0')": pl.col(col.ITEM).str.strip_suffix(".0"),
}


@dataclass(frozen=True)
class Preview:
    """What would happen to a table.

    Attributes:
        events: The report of cleaning, for events.
        products: What each rule would do to a catalogue.
        refused: The error that would come instead, empty if there is none.
    """

    events: CleaningReport | None = None
    products: tuple[RuleCount, ...] = ()
    refused: str = ""


def preview(found: Prepared, catalog: Prepared | None) -> Preview:
    """What cleaning would do.

    Args:
        found: The file.
        catalog: The catalogue, for events; without it the rule ``unknown_item`` is left out.
    """
    if found.guess.missing:
        return Preview()
    try:
        if found.guess.table == EVENTS:
            return Preview(events=_events(found, catalog))
        if found.guess.table == CATALOGUE:
            return Preview(products=_products(found))
        table = Profiles if found.guess.table == PROFILES else Promotions
        table.from_table(found.frame, columns=found.guess.mapping)
    except DataError as error:
        return Preview(refused=str(error))
    return Preview()


def unmatched(found: Prepared, catalog: Prepared) -> str:
    """What would make more item ids match the catalogue's; empty if all do or nothing helps."""
    match = found.guess.matches.get(col.ITEM)
    if match is None or found.guess.table != EVENTS:
        return ""
    known, ids = catalog.ids(), found.ids()
    strange = ids.filter(~ids.is_in(known.implode())).to_frame()
    if strange.is_empty():
        return ""
    forms, width = dict(_FORMS), known.str.len_chars().max()
    if isinstance(width, int) and width < 30:
        forms[f".str.zfill({width})"] = pl.col(col.ITEM).str.zfill(width)
    helped = {how: int(strange.select(form.is_in(known.implode())).sum().item()) for how, form in forms.items()}
    best = max(helped, key=lambda how: helped[how])
    told = (
        f"{len(strange):,} of {len(ids):,} item ids are not in {catalog.source.path}, such as {strange[col.ITEM][0]!r}"
    )
    if not helped[best]:
        return f"{told}; its ids look like {', '.join(map(repr, known.head(3)))}"
    return f"{told}; {helped[best]:,} of them are after pl.col({match.theirs!r}).cast(pl.String){best}"


def _events(found: Prepared, catalog: Prepared | None) -> CleaningReport:
    ids = found.ids()
    stand_in = Catalog(pl.DataFrame([ids, ids.alias(col.TITLE)]))
    dataset = Dataset.build(
        name=found.source.path.name,
        catalog=stand_in if catalog is None else catalog.frame,
        catalog_columns=None if catalog is None else catalog.guess.mapping,
        events=found.frame,
        event_columns=found.guess.mapping,
        rules=CleaningRules(near_duplicate=False),
    )
    report = cast(CleaningReport, dataset.report)
    left_out = _OF_PRODUCTS if catalog is not None else ("unknown_item",)
    counts = tuple(count for count in report.counts if count.rule not in left_out)
    switched_off = tuple(rule for rule in report.switched_off if rule not in PRODUCT_RULES)
    return replace(report, counts=counts, switched_off=switched_off)


def _products(found: Prepared) -> tuple[RuleCount, ...]:
    """With one made-up event, which a data set needs."""
    rules = CleaningRules(near_duplicate=LINK if len(found.frame) <= COMPARED else False)
    dataset = Dataset.build(
        name=found.source.path.name,
        catalog=found.frame,
        catalog_columns=found.guess.mapping,
        events={col.USER: ["0"], col.ITEM: found.ids().head(1), col.TIME: ["2000-01-01"]},
        rules=rules,
    )
    return tuple(count for count in cast(CleaningReport, dataset.report).counts if count.rule in _OF_PRODUCTS)


_OF_PRODUCTS = ("catalogue_currency", *PRODUCT_RULES)
