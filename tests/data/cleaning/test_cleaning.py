"""Every row is kept or dropped under a name, and the report adds up."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftrec.data import CleaningReport, CleaningRules, Dataset, Events, RuleCount
from peftrec.data.cleaning.cancellations import ROW, cancelled
from peftrec.data.cleaning.currency import amounts
from peftrec.data.cleaning.repair import repaired, without_html
from peftrec.errors import ConfigError, InvalidValueError, NotEnoughDataError, UnknownItemError

CATALOG = {
    "item_id": ["a", "b", "c", "d"],
    "title": ["tea", None, " ", ""],
    "category": [None, "drinks", None, ""],
    "brand": [None, "x", "Best", None],
}
# One row for each rule, and two good ones.
ROWS: list[dict[str, object]] = [
    {"item_id": "a"},
    {"user_id": None},
    {"item_id": None},
    {"timestamp": None},
    {"timestamp": "noon"},
    {"item_id": "zz"},
    {"timestamp": "2999-01-01"},
    {"event": "wish"},
    {"quantity": 0},
    {"quantity": -3},
    {"price": -1},
    {"discount": 2},
    {"dwell_seconds": -1},
    {"item_id": "b"},
    {"item_id": "c", "quantity": 2},
    {"item_id": "c", "quantity": -2},
]
GOOD: dict[str, object] = {
    "user_id": "u",
    "item_id": "a",
    "timestamp": "2020-01-01",
    "event": "purchase",
    "quantity": 1,
    "price": 1,
    "discount": 0,
    "dwell_seconds": 1,
}


def table(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    full = [{**GOOD, **row} for row in rows]
    return {name: [row[name] for row in full] for name in GOOD}


def build(rows: Sequence[Mapping[str, object]], rules: CleaningRules | None = None) -> Dataset:
    return Dataset.build(name="shop", catalog=CATALOG, events=table(rows), rules=rules)


def report_of(dataset: Dataset) -> CleaningReport:
    assert dataset.report is not None
    return dataset.report


def test_each_rule_counts_its_rows_with_an_example():
    report = report_of(build(ROWS))
    assert (report.rows_in, report.rows_kept, report.rows_dropped) == (16, 2, 14)
    assert {count.rule: (count.rows, count.example) for count in report.counts} == {
        "currency": (0, ""),
        "missing_event": (0, ""),
        "missing_quantity": (0, ""),
        "missing_user": (1, "row 1: user_id missing"),
        "missing_item": (1, "row 2: item_id missing"),
        "missing_timestamp": (1, "row 3: timestamp missing"),
        "unparsable_timestamp": (1, "row 4: timestamp 'noon'"),
        "unknown_item": (1, "row 5: item_id 'zz'"),
        "future_timestamp": (1, "row 6: timestamp 2999-01-01 00:00:00"),
        "unknown_event": (1, "row 7: event 'wish'"),
        "cancelled": (2, "row 14: user_id 'u', item_id 'c', quantity 2.0"),
        "non_positive_quantity": (2, "row 8: quantity 0.0"),
        "negative_price": (1, "row 10: price -1.0"),
        "discount_out_of_range": (1, "row 11: discount 2.0"),
        "negative_dwell": (1, "row 12: dwell_seconds -1.0"),
        "bot": (0, ""),
        "outlier_user": (0, ""),
        "price_unit": (0, ""),
        "measured_quantity": (0, ""),
        "html": (0, ""),
        "mojibake": (0, ""),
        "empty_title": (3, "row 1: item_id 'b' -> 'drinks'"),
        "near_duplicate": (0, ""),
    }


def test_empty_titles_are_filled_in_order():
    assert build(ROWS).catalog.frame["title"].to_list() == ["tea", "drinks", "Best", "unknown product d"]
    by_brand = build(ROWS, CleaningRules(title_from=("brand",)))
    assert by_brand.catalog.frame["title"].to_list() == ["tea", "x", "Best", "unknown product d"]


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ("future_timestamp", 1),
        ("cancelled", 1),  # its return still has a quantity below zero
        ("non_positive_quantity", 2),
        ("negative_price", 1),
        ("discount_out_of_range", 1),
        ("negative_dwell", 1),
    ],
)
def test_rules_whose_rows_can_stay_switch_off(rule: str, more: int):
    dataset = build(ROWS, replace(CleaningRules(), **{rule: False}))
    assert len(dataset.events) == 2 + more
    assert rule in report_of(dataset).switched_off
    assert rule not in {count.rule for count in report_of(dataset).counts}


@pytest.mark.parametrize(
    ("rule", "error", "says"),
    [
        ("missing_user", InvalidValueError, "missing user"),
        ("missing_item", InvalidValueError, "missing item"),
        ("missing_timestamp", InvalidValueError, "missing timestamp"),
        ("unparsable_timestamp", InvalidValueError, "'noon'"),
        ("unknown_item", UnknownItemError, "row 5: item_id 'zz'"),
        ("unknown_event", InvalidValueError, "'wish'"),
        ("empty_title", InvalidValueError, "empty title"),
    ],
)
def test_rules_whose_rows_cannot_stay_become_errors(rule: str, error: type[Exception], says: str):
    with pytest.raises(error, match=says):
        build(ROWS, replace(CleaningRules(), **{rule: False}))


def test_equal_lines_are_two_units_unless_asked_otherwise():
    rows = [{}, {}, {"price": 2}, {}]
    assert len(build(rows).events) == 4
    report = report_of(build(rows, CleaningRules(duplicate_event=True)))
    assert report.rows_kept == 2
    assert [(c.rule, c.rows, c.example) for c in report.counts if c.rows and c.action == "dropped"] == [
        ("duplicate_event", 2, "row 1: user_id 'u', item_id 'a'")
    ]


def test_free_products_stay_unless_asked_otherwise():
    rows = [{"price": 0}, {"price": 2}, {"price": None}]
    assert len(build(rows).events) == 3
    report = report_of(build(rows, CleaningRules(zero_price=True)))
    assert {count.rule: count.example for count in report.counts if count.rows}["zero_price"] == "row 0: price 0.0"
    assert report.rows_kept == 2
    assert len(Events.from_table(table(rows))) == 3


def test_services_are_no_products():
    rows = [{"item_id": "POST"}, {"item_id": "a"}, {"item_id": "POSTCARD"}]
    counts = {
        count.rule: count.rows for count in report_of(build(rows, CleaningRules(non_product_ids="POST|FEE"))).counts
    }
    assert (counts["non_product"], counts["unknown_item"]) == (1, 1)
    with pytest.raises(ConfigError, match="no regular expression"):
        CleaningRules(non_product_ids="(")


@given(
    st.lists(
        st.tuples(st.sampled_from("uv"), st.sampled_from("ab"), st.sampled_from([1, 2, -1, -2]), st.integers(0, 9))
    )
)
def test_a_return_takes_back_the_latest_purchase_of_its_size(rows: list[tuple[str, str, int, int]]):
    frame = pl.DataFrame(
        {
            "user_id": [user for user, *_ in rows],
            "item_id": [item for _, item, *_ in rows],
            "quantity": [float(quantity) for *_, quantity, _ in rows],
            "timestamp": [datetime(2020, 1, 1 + day, tzinfo=UTC) for *_, day in rows],
        },
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "quantity": pl.Float32,
            "timestamp": pl.Datetime("us", "UTC"),
        },
    ).with_columns(event=pl.lit("purchase"))
    open_, found = dict[tuple[str, str, int], list[int]](), list[int]()
    for row in sorted(range(len(rows)), key=lambda row: rows[row][3]):
        user, item, quantity, _ = rows[row]
        stack = open_.setdefault((user, item, abs(quantity)), [])
        if quantity > 0:
            stack.append(row)
        elif stack:
            found += [row, stack.pop()]
    assert cancelled(frame.with_row_index(ROW)).to_list() == sorted(found)


def test_the_future_begins_at_the_export():
    rows = [{"timestamp": "2020-01-01"}, {"timestamp": "2020-03-01"}]
    assert len(build(rows, CleaningRules(exported_at="2020-02-01")).events) == 1
    with pytest.raises(InvalidValueError, match="exported_at='soon'"):
        build(rows, CleaningRules(exported_at="soon"))


def test_nothing_left_says_why():
    with pytest.raises(NotEnoughDataError, match=r"dropped all 2 events: 2 unknown_item, .* row 0: item_id 'y'"):
        build([{"item_id": "y"}, {"item_id": "z"}])


def test_title_from_is_a_tuple():
    with pytest.raises(ConfigError, match="is one text"):
        CleaningRules(title_from="brand")  # pyright: ignore[reportArgumentType]


@given(st.lists(st.sampled_from(ROWS), max_size=30), st.booleans())
def test_rows_always_add_up(rows: list[dict[str, object]], duplicates: bool):
    report = report_of(build([{}, *rows], CleaningRules(duplicate_event=duplicates)))
    dropped = sum(count.rows for count in report.counts if count.action == "dropped")
    assert report.rows_in == len(rows) + 1 == report.rows_kept + dropped


def test_a_report_that_does_not_add_up_cannot_be_made():
    with pytest.raises(InvalidValueError, match="10 events came in, 8 were kept and 1 dropped"):
        CleaningReport("x", 10, 8, 1, (RuleCount("missing_user", "dropped", 1, 0.1, "row 1"),))


def test_the_printed_report_fits_100_columns_and_names_every_rule():
    report = report_of(build([*ROWS, {"item_id": "茶" * 200}, {"event": "\n\x1b[31m🫖" * 50}]))
    lines = str(report).splitlines()
    widths = [sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in line) for line in lines]
    assert max(widths) <= 100
    assert "\x1b" not in str(report)
    assert lines[0] == "Cleaning of shop: 18 events in, 2 kept (11.11%), 16 dropped"
    assert all(count.rule in str(report) for count in report.counts)
    assert lines[-1] == "switched off: zero_price, duplicate_event"


def test_the_report_as_a_dict_is_json():
    report = json.loads(json.dumps(report_of(build(ROWS)).to_dict()))
    assert report["rows_in"] == report["rows_kept"] + report["rows_dropped"] == 16
    assert next(rule for rule in report["rules"] if rule["rows"]) == {
        "rule": "missing_user",
        "action": "dropped",
        "rows": 1,
        "share": pytest.approx(1 / 16),
        "example": "row 1: user_id missing",
    }


def test_texts_are_repaired_and_counted():
    catalog = {
        "item_id": ["a", "b", "c", "d", "e"],
        "title": ["Pens &ndash; <b>Pack</b> of 10", "CafÃ© crÃ¨me", "<br/>", "A&P 12/18&15PK < 3 > 2", 'Pencils" />'],
        "description": [None, "<style>p {x}</style>soft", None, "&amp;quot;x&amp;quot;", "<!-- left open"],
        "brand": [None, None, "Best", None, None],
    }
    shop = Dataset.build(name="shop", catalog=catalog, events=table([{}]))
    assert shop.catalog.frame["title"].to_list() == [
        "Pens – Pack of 10",
        "Café crème",
        "Best",
        "A&P 12/18&15PK < 3 > 2",
        "Pencils",
    ]
    assert shop.catalog.frame["description"].to_list() == [None, "soft", None, '"x"', ""]
    found = {count.rule: (count.action, count.rows, count.example) for count in report_of(shop).counts if count.rows}
    assert found == {
        "html": ("repaired", 5, "row 0: title 'Pens &ndash; <b>Pack</b> of 10' -> 'Pens – Pack of 10'"),
        "mojibake": ("repaired", 1, "row 1: title 'CafÃ© crÃ¨me' -> 'Café crème'"),
        "empty_title": ("filled", 1, "row 2: item_id 'c' -> 'Best'"),
    }
    kept = Dataset.build(
        name="shop", catalog=catalog, events=table([{}]), rules=CleaningRules(html=False, mojibake=False)
    )
    assert kept.catalog.frame["title"].to_list() == catalog["title"]
    assert {"html", "mojibake"} <= set(report_of(kept).switched_off)


@given(st.text())
def test_plain_text_stays_as_it_is(text: str):
    plain = text.replace("<", "").replace("&", "").replace("/>", "")
    frame = pl.DataFrame({"item_id": ["a"], "title": [plain]})
    assert repaired(frame, "html")[0].equals(frame)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("&lt;b&gt;bold&lt;/b&gt; pens", "bold pens"),
        ("&amp;lt;br/&amp;gt;pens", "pens"),
        ("Size <M> shirt", "Size <M> shirt"),
        ("if a<b and c>d", "if a<b and c>d"),
        ('<a href="x">link</a><BR>next', "link next"),
        ("<h2 class='x'>Title</h2>", "Title"),
    ],
)
def test_markup_goes_and_what_only_looks_like_it_stays(text: str, plain: str):
    assert without_html(text) == plain


def test_what_is_taken_for_a_purchase_of_one_is_counted():
    rows = [{"event": None}, {"quantity": None}, {"event": None, "quantity": None}, {"event": "view"}]
    shop = build([*rows, {}])
    found = {count.rule: (count.rows, count.example) for count in report_of(shop).counts}
    assert found["missing_event"] == (2, "row 0: event missing -> purchase")
    assert found["missing_quantity"] == (2, "row 1: quantity missing -> 1")
    assert shop.events.frame["event"].to_list().count("purchase") == 4
    for rule in ("missing_event", "missing_quantity"):
        with pytest.raises(InvalidValueError, match=rule.replace("_", " ") + ".*and 1 more rows") as caught:
            build([*rows, {}], CleaningRules(**{rule: False}))
        assert f"leave {rule}=True" in caught.value.remedy
        assert rule in report_of(build([{}], CleaningRules(**{rule: False}))).switched_off


def test_rules_are_rules():
    with pytest.raises(ConfigError, match="rules=<class"):
        build([{}], CleaningRules)  # pyright: ignore[reportArgumentType]


PRICES = {"user_id": ["u", "v", "w"], "item_id": ["a", "a", "b"], "timestamp": ["2020-01-01"] * 3, "price": [2, 4, 6]}


@pytest.mark.parametrize("column", ["currency", "currency_code"])
@pytest.mark.parametrize("as_text", [False, True])
def test_a_column_says_what_prices_are_in(column: str, as_text: bool):
    prices = [f"{price}" for price in PRICES["price"]] if as_text else PRICES["price"]
    events = PRICES | {"price": prices, column: ["USD", " eur", None]}
    with pytest.raises(InvalidValueError, match="2 currencies: EUR 1, USD 1"):
        Dataset.build(name="shop", catalog=CATALOG, events=events)
    shop = Dataset.build(name="shop", catalog=CATALOG, events=events, rules=CleaningRules(rates={"USD": 1, "EUR": 1.5}))
    assert shop.events.frame["price"].to_list() == [2, 6, 6]
    assert column not in shop.events.frame.columns  # it would tell of prices as they were
    count = next(count for count in report_of(shop).counts if count.rule == "currency")
    assert (count.rows, count.example.split(": ")[0]) == (1, "row 1")
    assert "(EUR) -> 6" in count.example


def test_a_price_that_names_its_currency_goes_before_the_column():
    events = PRICES | {"price": ["£2", "4", ""], "currency": ["USD", "USD", "USD"]}
    rules = CleaningRules(rates={"GBP": 3, "USD": 2})
    shop = Dataset.build(name="shop", catalog=CATALOG, events=events, rules=rules)
    assert shop.events.frame["price"].to_list() == [6, 8, None]


def test_catalogue_and_events_in_different_currencies_by_their_columns():
    catalog = {"item_id": ["a", "b"], "title": ["tea", "milk"], "price": [1, 2], "currency": ["USD", "USD"]}
    with pytest.raises(InvalidValueError, match="USD in the catalogue; EUR in the events"):
        Dataset.build(name="shop", catalog=catalog, events=PRICES | {"currency": ["EUR"] * 3})
    shop = Dataset.build(name="shop", catalog=catalog, events=PRICES | {"currency": ["USD"] * 3})
    assert shop.events.frame["currency"].to_list() == ["USD"] * 3


def test_a_column_of_currencies_is_an_attribute_where_the_rule_is_off():
    events = PRICES | {"currency": ["USD", "EUR", "USD"]}
    shop = Dataset.build(name="shop", catalog=CATALOG, events=events, rules=CleaningRules(currency=False))
    assert shop.events.frame["price"].to_list() == [2, 4, 6]


def test_dollars_are_not_all_the_same():
    texts = ["US$1", "C$1", "CA$1", "A$1", "R$1", "HK$1", "$1", "CN¥1", "¥1"]
    named = amounts(pl.Series(texts))["currency"].to_list()
    assert named == ["USD", "CAD", "CAD", "AUD", "BRL", "HKD", "USD", "CNY", "JPY"]


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        ({"USD": "1"}, "rates={'USD': '1'}"),
        ({"USD": True}, "rates={'USD': True}"),
        ({3: 1.0}, "rates={3: 1.0}"),
        ([("USD", 1)], "is a list"),
        ({"USD": 0}, "rates={'USD': 0}"),
    ],
)
def test_rates_are_numbers_of_currencies(rates: object, told: str):
    with pytest.raises(ConfigError, match=re.escape(told)):
        CleaningRules(rates=rates)  # pyright: ignore[reportArgumentType]


def test_a_zone_is_a_name():
    with pytest.raises(ConfigError, match="timezone=3 is no time zone"):
        CleaningRules(timezone=3)  # pyright: ignore[reportArgumentType]
