"""What a row of an event table must satisfy: the one list behind both the strict errors and the cleaning report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from peftrec.data import columns as col
from peftrec.data.values import is_blank
from peftrec.errors import ConfigError, DataError, InvalidValueError, UnknownItemError

ROW = "__row"
TIME_TEXT = "__timestamp_text"


@dataclass(frozen=True)
class CleaningRules:
    """Which rules ``Dataset.build`` applies; ``False`` switches one off.

    A row that breaks several rules is counted under the first of them, in the order below. Where a row without the rule
    would still be a legal event (the ones marked *kept*), switching the rule off keeps such rows; for the others,
    switching it off turns them into the typed error that ``Events.from_table`` raises.

    Args:
        missing_user: Drop events without a user id.
        missing_item: Drop events without an item id.
        missing_timestamp: Drop events without a timestamp.
        unparsable_timestamp: Drop events whose timestamp is text other than ISO 8601.
        unknown_item: Drop events with an item that the catalogue does not hold.
        future_timestamp: Drop events after ``exported_at``; *kept*.
        unknown_event: Drop events of a type that is not in ``EVENT_TYPES``.
        non_positive_quantity: Drop events with a quantity of zero or less, such as returns and coupon lines; *kept*.
        negative_price: Drop events with a price below zero; *kept*.
        discount_out_of_range: Drop events with a discount outside 0..1; *kept*.
        negative_dwell: Drop events with a dwell time below zero; *kept*.
        duplicate_event: Drop all but the first of events that are equal in every column. Off unless asked for, because
            two equal lines in one basket usually are two units that were scanned one after the other.
        empty_title: Fill empty product titles; never drops a product.
        title_from: Catalogue columns that an empty title is filled from, in this order; "unknown product <id>" if all
            of them are empty as well.
        exported_at: When the events were exported; now if not given.
    """

    missing_user: bool = True
    missing_item: bool = True
    missing_timestamp: bool = True
    unparsable_timestamp: bool = True
    unknown_item: bool = True
    future_timestamp: bool = True
    unknown_event: bool = True
    non_positive_quantity: bool = True
    negative_price: bool = True
    discount_out_of_range: bool = True
    negative_dwell: bool = True
    duplicate_event: bool = False
    empty_title: bool = True
    title_from: tuple[str, ...] = (col.CATEGORY, col.BRAND)
    exported_at: str | date | datetime | None = None

    def __post_init__(self) -> None:
        if isinstance(self.title_from, str):
            raise ConfigError(
                f"title_from={self.title_from!r} is one text",
                expected="a tuple of catalogue columns",
                remedy=f"write title_from=({self.title_from!r},)",
            )

    def applies(self, rule: str) -> bool:
        """Whether the rule of that name is on."""
        return bool(getattr(self, rule))


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong with an event.

    Args:
        name: Name in the cleaning report, and in ``CleaningRules``.
        column: Column whose value shows the problem.
        broken: True for the rows that break the rule.
        expected: What the value should have been.
        keeps: Whether such rows can stay when the rule is off.
        error: What the strict check raises.
    """

    name: str
    column: str
    broken: pl.Expr
    expected: str
    keeps: bool = False
    error: type[DataError] = InvalidValueError


def event_rules(present: Sequence[str], *, moment: datetime, items: pl.Series | None) -> list[Rule]:
    """The rules that concern a table with these columns, in the order in which they are applied.

    Args:
        present: Columns of the typed event table.
        moment: Later events are in the future.
        items: Known item ids, or None where they are not checked yet.
    """
    time, text = pl.col(col.TIME), pl.col(TIME_TEXT) if TIME_TEXT in present else pl.lit(None, dtype=pl.String)
    rules = [
        Rule("missing_user", col.USER, is_blank(pl.col(col.USER)), "a user id in every row"),
        Rule("missing_item", col.ITEM, is_blank(pl.col(col.ITEM)), "an item id in every row"),
        Rule("missing_timestamp", col.TIME, time.is_null() & is_blank(text), "a timestamp in every row"),
        Rule(
            "unparsable_timestamp",
            TIME_TEXT,
            time.is_null() & ~is_blank(text),
            "ISO 8601, such as 2017-12-02T05:00:00Z",
        ),
    ]
    if items is not None:
        known = pl.col(col.ITEM).is_in(items.implode())
        rules.append(Rule("unknown_item", col.ITEM, ~known, "an item of the catalogue", error=UnknownItemError))
    rules += [
        Rule("future_timestamp", col.TIME, time > moment, f"a moment up to {moment:%Y-%m-%d %H:%M} UTC", keeps=True),
        Rule("unknown_event", col.EVENT, ~_in(col.EVENT, col.EVENT_TYPES), f"one of {', '.join(col.EVENT_TYPES)}"),
        Rule("non_positive_quantity", col.QUANTITY, pl.col(col.QUANTITY) <= 0, "more than 0", keeps=True),
        Rule("negative_price", col.PRICE, pl.col(col.PRICE) < 0, "0 or more", keeps=True),
        Rule("discount_out_of_range", col.DISCOUNT, ~_unit(col.DISCOUNT), "a share of the price, 0 to 1", keeps=True),
        Rule("negative_dwell", col.DWELL, pl.col(col.DWELL) < 0, "0 seconds or more", keeps=True),
    ]
    return [rule for rule in rules if rule.column in (*present, TIME_TEXT)]


def check(frame: pl.DataFrame, rules: Sequence[Rule]) -> None:
    """Raises the error of the first rule that a row breaks, naming row and value."""
    for rule in rules:
        broken = frame.filter(rule.broken)
        if len(broken):
            more = f", and {len(broken) - 1:,} more rows" if len(broken) > 1 else ""
            raise rule.error(
                f"{rule.name.replace('_', ' ')} in the events, {example(broken, rule)}{more} (rows count from 0)",
                expected=rule.expected,
                remedy="correct the rows, or let Dataset.build(...) drop and count them",
            )


def example(broken: pl.DataFrame, rule: Rule) -> str:
    """The first broken row in words: "row 12: price -1.5"."""
    column = rule.column if rule.column in broken.columns else col.TIME
    value = broken[column][0]
    shown = f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else "missing" if value is None else repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"row {broken[ROW][0]}: {column.replace(TIME_TEXT, col.TIME)} {shown}"


def _in(column: str, values: Sequence[str]) -> pl.Expr:
    return pl.col(column).is_in(list(values))


def _unit(column: str) -> pl.Expr:
    return pl.col(column).is_between(0, 1).fill_null(True)
