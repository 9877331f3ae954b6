"""What a row of an event table must satisfy: the one list behind both the strict errors and the cleaning report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.bots import bot_events, frequent
from peftrec.data.cleaning.cancellations import ROW, cancelled
from peftrec.data.cleaning.currency import check_rates
from peftrec.data.cleaning.usual import Usual
from peftrec.data.cleaning.zones import check_zone
from peftrec.data.reading.values import is_blank
from peftrec.errors import ConfigError, DataError, InvalidValueError, UnknownItemError

TIME_TEXT = "__timestamp_text"

PRODUCT_RULES = ("html", "mojibake", "empty_title", "near_duplicate")
"""Rules that concern products, in the order of application."""

LINK, MERGE = "link", "merge"


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
        non_product: Drop events whose item id ``non_product_ids`` matches.
        unknown_item: Drop events with an item that the catalogue does not hold.
        future_timestamp: Drop events after ``exported_at``; *kept*.
        unknown_event: Drop events of a type that is not in ``EVENT_TYPES``.
        missing_event: Take events whose type is not told, where others are, for purchases.
        missing_quantity: Take events whose quantity is not told for one piece.
        cancelled: Drop returns, which are purchases with a negative quantity, together with the purchase that each takes
            back: the latest before it of the same shopper, product and quantity; *kept*.
        non_positive_quantity: Drop events with a quantity of zero or less, such as partial returns and coupon lines; *kept*.
        zero_price: Drop events with a price of zero; *kept*. Off unless asked for, because free products are wanted too.
        negative_price: Drop events with a price below zero; *kept*.
        discount_out_of_range: Drop events with a discount outside 0..1; *kept*.
        negative_dwell: Drop events with a dwell time below zero; *kept*.
        duplicate_event: Drop all but the first of events that are equal in every column. Off unless asked for, because
            two equal lines in one basket usually are two units that were scanned one after the other.
        bot: Drop all events of shoppers that act like programs, see :func:`peftrec.data.cleaning.bots.bots`; *kept*.
        outlier_user: Drop all events of shoppers with far more events than all others, see ``most_events`` of
            :class:`peftrec.data.cleaning.usual.Usual`; *kept*.
        currency: Read prices that are texts with a currency sign or code, and what a column ``currency`` or
            ``currency_code`` says of them. If off, such a text is an error and the column an attribute.
        rates: Value of one unit of each currency in the common one, such as ``{"EUR": 1.08, "USD": 1}``; needed where
            prices name several.
        price_unit: Bring prices that are a hundred times their product's usual price, or a hundredth, to its unit.
        measured_quantity: Count products sold by weight or volume, whose usual quantity is 1,000 or more, in units of
            that quantity.
        timezone: IANA name of the clock that timestamps without a zone were written by, such as "Europe/London"; UTC if
            not given.
        html: Take HTML out of the texts of products.
        mojibake: Repair texts of products that were read in a wrong encoding, such as "CafÃ©".
        empty_title: Fill empty product titles; never drops a product.
        near_duplicate: What to do with products that repeat an earlier one, see
            :func:`peftrec.data.cleaning.duplicates.near_duplicates`. "link" names the earlier one in the catalogue's column
            ``canonical_id``, and models see what is bought of both; "merge" also gives their events to it and takes them
            out of the catalogue.
        title_from: Catalogue columns that an empty title is filled from, in this order; "unknown product <id>" if all
            of them are empty as well.
        non_product_ids: Regular expression of item ids that are no products, such as "POST|FEE"; it must match the whole id.
        exported_at: When the events were exported; now if not given.
    """

    missing_user: bool = True
    missing_item: bool = True
    missing_timestamp: bool = True
    unparsable_timestamp: bool = True
    non_product: bool = True
    unknown_item: bool = True
    future_timestamp: bool = True
    unknown_event: bool = True
    missing_event: bool = True
    missing_quantity: bool = True
    cancelled: bool = True
    non_positive_quantity: bool = True
    zero_price: bool = False
    negative_price: bool = True
    discount_out_of_range: bool = True
    negative_dwell: bool = True
    duplicate_event: bool = False
    bot: bool = True
    outlier_user: bool = True
    currency: bool = True
    price_unit: bool = True
    measured_quantity: bool = True
    html: bool = True
    mojibake: bool = True
    empty_title: bool = True
    near_duplicate: str | bool = LINK
    title_from: tuple[str, ...] = (col.CATEGORY, col.BRAND)
    non_product_ids: str | None = None
    exported_at: str | date | datetime | None = None
    timezone: str | None = None
    rates: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.non_product_ids is not None:
            try:
                pl.Series([""]).str.contains(self.non_product_ids)
            except pl.exceptions.PolarsError as error:
                raise ConfigError(
                    f"non_product_ids={self.non_product_ids!r} is no regular expression: {error}",
                    expected="a regular expression that matches whole item ids",
                    remedy="correct it; outside brackets, these mean something: . ^ $ * + ? { } [ ] ( ) | and the backslash",
                ) from error
        if self.near_duplicate not in (LINK, MERGE, False):
            raise ConfigError(
                f"near_duplicate={self.near_duplicate!r}",
                expected=f"'{LINK}', '{MERGE}' or False",
                remedy=f"the default is near_duplicate='{LINK}'",
            )
        if self.timezone is not None:
            check_zone(self.timezone)
        if self.rates is not None:
            check_rates(self.rates)
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
        columns: Columns whose values show the problem.
        broken: True for the rows that break the rule, or a function that returns their row numbers.
        expected: What the value should have been.
        keeps: Whether such rows can stay when the rule is off.
        strict: Whether :meth:`Events.from_table` refuses such rows.
        whole_shoppers: Whether it compares rows of one shopper, so that all of them must be there.
        error: What the strict check raises.
    """

    name: str
    columns: tuple[str, ...]
    broken: pl.Expr | Callable[[pl.DataFrame], pl.Series]
    expected: str
    keeps: bool = False
    strict: bool = True
    whole_shoppers: bool = False
    error: type[DataError] = InvalidValueError

    def split(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows that break the rule, and the others."""
        if isinstance(self.broken, pl.Expr):
            broken = frame.filter(self.broken)
            return broken, frame.filter(~self.broken.fill_null(False)) if len(broken) else frame
        rows = self.broken(frame)
        at = pl.col(ROW).is_in(rows.implode())
        return (frame.filter(at), frame.filter(~at)) if len(rows) else (frame.clear(), frame)


def event_rules(
    present: Sequence[str],
    *,
    moment: datetime,
    items: pl.Series | None,
    non_product_ids: str | None = None,
    usual: Usual | None = None,
) -> list[Rule]:
    """The rules that concern a table with these columns, in the order in which they are applied.

    Args:
        present: Columns of the typed event table.
        moment: Later events are in the future.
        items: Known item ids, or None where they are not checked yet.
        non_product_ids: Regular expression of item ids that are no products, if there are any.
        usual: Of the whole log; without it no shopper is far out.
    """
    time, text = pl.col(col.TIME), pl.col(TIME_TEXT) if TIME_TEXT in present else pl.lit(None, dtype=pl.String)
    rules = [
        Rule("missing_user", (col.USER,), is_blank(pl.col(col.USER)), "a user id in every row"),
        Rule("missing_item", (col.ITEM,), is_blank(pl.col(col.ITEM)), "an item id in every row"),
        Rule("missing_timestamp", (col.TIME,), time.is_null() & is_blank(text), "a timestamp in every row"),
        Rule(
            "unparsable_timestamp",
            (TIME_TEXT,),
            time.is_null() & ~is_blank(text),
            "ISO 8601, such as 2017-12-02T05:00:00Z",
        ),
    ]
    if non_product_ids is not None:
        service = pl.col(col.ITEM).str.contains(f"^(?:{non_product_ids})$")
        rules.append(Rule("non_product", (col.ITEM,), service, "the id of a product", keeps=True))
    if items is not None:
        known = pl.col(col.ITEM).is_in(items.implode())
        rules.append(Rule("unknown_item", (col.ITEM,), ~known, "an item of the catalogue", error=UnknownItemError))
    rules += [
        Rule("future_timestamp", (col.TIME,), time > moment, f"a moment up to {moment:%Y-%m-%d %H:%M} UTC", keeps=True),
        Rule("unknown_event", (col.EVENT,), ~_in(col.EVENT, col.EVENT_TYPES), f"one of {', '.join(col.EVENT_TYPES)}"),
        _of_shoppers(
            "cancelled", (col.USER, col.ITEM, col.QUANTITY), cancelled, "a purchase that no return takes back"
        ),
        Rule("non_positive_quantity", (col.QUANTITY,), pl.col(col.QUANTITY) <= 0, "more than 0", keeps=True),
        Rule("negative_price", (col.PRICE,), pl.col(col.PRICE) < 0, "0 or more", keeps=True),
        Rule("zero_price", (col.PRICE,), pl.col(col.PRICE) == 0, "more than 0", keeps=True, strict=False),
        Rule(
            "discount_out_of_range", (col.DISCOUNT,), ~_unit(col.DISCOUNT), "a share of the price, 0 to 1", keeps=True
        ),
        Rule("negative_dwell", (col.DWELL,), pl.col(col.DWELL) < 0, "0 seconds or more", keeps=True),
        _of_shoppers("duplicate_event", (col.USER, col.ITEM), _doubles, "events that differ"),
        _of_shoppers("bot", (col.USER,), bot_events, "a shopper who rests and reads"),
    ]
    if usual is not None:
        most = usual.most_events
        expected = f"at most {most:,.0f} events of one shopper"
        rules.append(_of_shoppers("outlier_user", (col.USER,), frequent(most), expected))
    return [rule for rule in rules if {*rule.columns} <= {*present, TIME_TEXT}]


def _of_shoppers(
    name: str, columns: tuple[str, ...], broken: pl.Expr | Callable[[pl.DataFrame], pl.Series], expected: str
) -> Rule:
    """A rule that compares the rows of one shopper, and never refuses a table."""
    return Rule(name, columns, broken, expected, keeps=True, strict=False, whole_shoppers=True)


def check(frame: pl.DataFrame, rules: Sequence[Rule]) -> None:
    """Raises the error of the first rule that a row breaks, naming row and value."""
    for rule in rules:
        broken, _ = rule.split(frame)
        if len(broken):
            more = f", and {len(broken) - 1:,} more rows" if len(broken) > 1 else ""
            raise rule.error(
                f"{rule.name.replace('_', ' ')} in the events, {example(broken, rule)}{more} (rows count from 0)",
                expected=rule.expected,
                remedy="correct the rows, or let Dataset.build(...) drop and count them",
            )


def example(broken: pl.DataFrame, rule: Rule) -> str:
    """The first broken row in words: "row 12: price -1.5"."""
    columns = [name if name in broken.columns else col.TIME for name in rule.columns]
    values = [f"{name.replace(TIME_TEXT, col.TIME)} {_shown(broken[name][0])}" for name in columns]
    return f"row {broken[ROW][0]}: {', '.join(values)}"


def _shown(value: object) -> str:
    shown = f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else "missing" if value is None else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _doubles(frame: pl.DataFrame) -> pl.Series:
    """Rows that equal an earlier one in every column."""
    content = [name for name in frame.columns if name not in (ROW, TIME_TEXT)]
    first = frame.unique(content, keep="first")
    return frame.join(first.select(ROW), on=ROW, how="anti")[ROW]


def _in(column: str, values: Sequence[str]) -> pl.Expr:
    return pl.col(column).is_in(list(values))


def _unit(column: str) -> pl.Expr:
    return pl.col(column).is_between(0, 1).fill_null(True)
