"""Dropping bad rows with a reason, and repairing what was written in another way."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.currency import Priced, in_one_currency
from peftrec.data.cleaning.report import RuleCount, counted
from peftrec.data.cleaning.rules import ROW, TIME_TEXT, CleaningRules, Rule, check, event_rules, example
from peftrec.data.cleaning.units import measured_quantity, price_unit
from peftrec.data.cleaning.usual import Usual
from peftrec.data.cleaning.zones import in_utc
from peftrec.data.coupons import Coupons
from peftrec.data.events import USUAL, named_events, typed_columns
from peftrec.data.promotions import Promotions
from peftrec.data.reading.other_times import refuse_other_times
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import parse_moment
from peftrec.errors import InvalidValueError, NotEnoughDataError


def clean_events(
    frame: pl.DataFrame, items: pl.Series, rules: CleaningRules
) -> tuple[pl.DataFrame, list[RuleCount], list[str]]:
    """Drops the rows that break a rule.

    Args:
        frame: From ``read_events``.
        items: Ids of the catalogue.
        rules: Which rules to apply.

    Returns:
        The rows left, one count for each rule applied, and the names of the rules that are off.

    Raises:
        DataError: A row breaks a rule that is off and whose rows cannot be kept.
        NotEnoughDataError: No row is left.
    """
    kept, counts, off = apply_rules(frame, items, rules, usual_for(rules, frame.lazy()))
    if kept.is_empty():
        raise nothing_left(counts, len(frame))
    return kept, counts, off


def usual_for(rules: CleaningRules, events: pl.LazyFrame) -> Usual | None:
    """What the rules that are on compare with; None where they need nothing."""
    return Usual.of(events) if any(rules.applies(name) for name in NEED_USUAL) else None


def apply_rules(
    frame: pl.DataFrame, items: pl.Series, rules: CleaningRules, usual: Usual | None
) -> tuple[pl.DataFrame, list[RuleCount], list[str]]:
    """Drops and repairs like :func:`clean_events`; the events may be all those of some shoppers, and none may be left.

    Args:
        frame: From ``read_events``.
        items: Ids of the catalogue.
        rules: Which rules to apply.
        usual: From :func:`usual_for`, of the whole log.
    """
    total, counts, off, forbidden = len(frame), list[RuleCount](), list[str](), list[Rule]()
    for rule in rules_for(frame.columns, items, rules, usual):
        if not rules.applies(rule.name):
            off.append(rule.name)
            forbidden += [] if rule.keeps else [rule]
            continue
        broken, frame = rule.split(frame)
        counts.append(counted(rule.name, len(broken), total, example(broken, rule) if len(broken) else ""))
    check(frame, forbidden)
    if usual is None:
        off.append("outlier_user")  # it has no rule then, and is off like all that need to know what is usual
    frame, repairs = repair_units(frame, rules, usual, total=total)
    switched_off = [name for name in (*UNIT_REPAIRS, *FILLED) if not rules.applies(name)]
    return frame, [*counts, *repairs], [*off, *switched_off]


def rules_for(present: Sequence[str], items: pl.Series | None, rules: CleaningRules, usual: Usual | None) -> list[Rule]:
    """The rules for typed events with these columns; see :func:`peftrec.data.cleaning.rules.event_rules`."""
    moment = datetime.now(UTC) if rules.exported_at is None else parse_moment(rules.exported_at, name="exported_at")
    return event_rules(present, moment=moment, items=items, non_product_ids=rules.non_product_ids, usual=usual)


def read_and_repair(
    table: Table, columns: Mapping[str, str] | None, rules: CleaningRules
) -> tuple[pl.DataFrame, list[RuleCount], Sequence[str]]:
    """Reads events and repairs how their prices and times are written.

    Returns:
        Typed events with row numbers, one count for each repair that is on, and the currencies that prices name.
    """
    named = named_events(table, columns)
    total, counts = len(named), list[RuleCount]()
    priced = in_one_currency(named, "events", rules.rates) if rules.currency else Priced(named)
    if rules.currency:
        counts.append(counted("currency", len(priced.rows), total, priced.example, action="repaired"))
    typed, filled = _filled(typed_columns(priced.frame), rules)
    counts += filled
    if TIME_TEXT in typed.columns:
        refuse_other_times(named[col.TIME], name=col.TIME)
    if rules.timezone is not None:
        typed, rows, shown = in_utc(typed, named[col.TIME], rules.timezone)
        counts.append(counted("timezone", len(rows), total, shown, action="repaired"))
    return typed, counts, priced.currencies


def _filled(typed: pl.DataFrame, rules: CleaningRules) -> tuple[pl.DataFrame, list[RuleCount]]:
    """Takes rows that do not tell what happened, or how often, for what is usual.

    Raises:
        InvalidValueError: There are such rows, and the rule is off.
    """
    counts = list[RuleCount]()
    for name, (column, usual) in FILLED.items():
        empty = typed[column].is_null().arg_true()
        shown = f"row {empty[0]}: {column} missing -> {usual}" if len(empty) else ""
        if rules.applies(name):
            counts.append(counted(name, len(empty), len(typed), shown, action="repaired"))
        elif len(empty):
            more = f", and {len(empty) - 1:,} more rows" if len(empty) > 1 else ""
            raise InvalidValueError(
                f"{name.replace('_', ' ')} in the events, row {empty[0]}: {column} missing{more} (rows count from 0)",
                expected=f"a value in every row, since the rule {name} is off",
                remedy=f"fill or drop the rows, or leave {name}=True, which takes them for {usual}",
            )
    return typed.with_columns(pl.col(column).fill_null(usual) for column, usual in FILLED.values()), counts


FILLED = {f"missing_{column}": (column, usual) for column, usual in USUAL.items()}
"""Rule -> the column that it fills, and with what."""

_STAYS = "__stays"

NEED_USUAL = ("outlier_user", "price_unit", "measured_quantity")
"""Rules that compare with what is usual in the whole log."""

UNIT_REPAIRS = {"price_unit": (price_unit, col.PRICE), "measured_quantity": (measured_quantity, col.QUANTITY)}
"""Rule -> what repairs events, and the column that it changes."""


def repair_units(
    frame: pl.DataFrame, rules: CleaningRules, usual: Usual | None, *, total: int
) -> tuple[pl.DataFrame, list[RuleCount]]:
    """Repairs numbers written in another unit, by the rules that are on.

    Args:
        frame: Typed events with row numbers.
        rules: Which repairs to make.
        usual: Of the whole log; None leaves numbers as they are.
        total: Events that came in.
    """
    counts = list[RuleCount]()
    for name, (repair, column) in UNIT_REPAIRS.items():
        if usual is not None and rules.applies(name) and column in frame.columns:
            frame, before = repair(frame, usual)
            shown = ""
            if len(before):
                row = before[ROW][0]
                after = frame.filter(pl.col(ROW) == row)[column][0]
                shown = f"row {row}: item_id {before[col.ITEM][0]!r}, {column} {before[column][0]:g} -> {after:g}"
            counts.append(counted(name, len(before), total, shown, action="repaired"))
    return frame, counts


def canonical(frame: pl.DataFrame, merged: pl.DataFrame | None) -> pl.DataFrame:
    """Gives the rows of products that were merged to the product that stays."""
    if merged is None or merged.is_empty():
        return frame
    known = merged.select(col.ITEM, pl.col(col.CANONICAL).alias(_STAYS))  # a log may have a canonical_id of its own
    joined = frame.join(known, on=col.ITEM, how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce(_STAYS, col.ITEM).alias(col.ITEM)).drop(_STAYS)


def known_promotions(promotions: Promotions, items: pl.Series) -> tuple[Promotions, RuleCount]:
    """The promotions of the catalogue's products, and how many others were left out."""
    known = promotions.frame[col.ITEM].is_in(items.implode())
    strange = promotions.frame.with_row_index(ROW).filter(~known)
    shown = f"row {strange[ROW][0]}: item_id {strange[col.ITEM][0]!r}" if len(strange) else ""
    count = counted("unknown_promotion", len(strange), len(promotions), shown, action="left out")
    return (Promotions(promotions.frame.filter(known)) if len(strange) else promotions), count


def known_coupons(coupons: Coupons, items: pl.Series) -> tuple[Coupons, RuleCount]:
    """The coupons for the catalogue's products, and how many products of campaigns were left out."""
    known = coupons.products[col.ITEM].is_in(items.implode())
    strange = coupons.products.with_row_index(ROW).filter(~known)
    shown = f"row {strange[ROW][0]}: item_id {strange[col.ITEM][0]!r}" if len(strange) else ""
    count = counted("unknown_coupon", len(strange), len(coupons.products), shown, action="left out")
    return replace(coupons, products=coupons.products.filter(known)), count


def nothing_left(counts: Sequence[RuleCount], total: int) -> NotEnoughDataError:
    """The error where cleaning leaves no event, with what each rule dropped."""
    reasons = ", ".join(f"{count.rows:,} {count.rule}, e.g. {count.example}" for count in counts if count.rows)
    return NotEnoughDataError(
        f"cleaning dropped all {total:,} events: {reasons}",
        expected="at least one event that can be used",
        remedy="check the column mapping, and that events and catalogue write item ids the same way",
    )
