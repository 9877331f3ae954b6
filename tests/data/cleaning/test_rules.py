"""Rules that look at shoppers, prices, clocks and products: what each of them finds, and what it leaves alone."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from peftrec.data import CleaningRules, Dataset, Promotions, RuleCount
from peftrec.data.cleaning.currency import amounts
from peftrec.data.cleaning.duplicates import near_duplicates
from peftrec.data.cleaning.zones import by_clock
from peftrec.errors import ConfigError, InvalidValueError, SchemaError

START = datetime(2024, 1, 1, tzinfo=UTC)


def shop(
    events: pl.DataFrame, rules: CleaningRules | None = None, catalog: dict[str, list[str]] | None = None
) -> Dataset:
    catalog = catalog or {"item_id": ["tea", "pot"], "title": ["green tea", "tea pot"]}
    return Dataset.build(name="shop", catalog=catalog, events=events, rules=rules)


def count(dataset: Dataset, rule: str) -> RuleCount:
    assert dataset.report is not None
    return next(entry for entry in dataset.report.counts if entry.rule == rule)


def events(moments: Sequence[datetime], user: str = "anna", **columns: object) -> pl.DataFrame:
    values = {"user_id": user, "item_id": "tea", **columns}
    return pl.DataFrame({"timestamp": moments}).with_columns(
        pl.Series(name, value) if isinstance(value, list) else pl.lit(value).alias(name)
        for name, value in values.items()
    )


PERSON = [START + timedelta(hours=9, minutes=minute) for minute in range(60)]
EVERY_HOUR = [START + timedelta(hours=hour) for hour in range(22)]
EVERY_FIVE_SECONDS = [START + timedelta(seconds=5 * step) for step in range(600)]


@pytest.mark.parametrize("moments", [EVERY_HOUR, EVERY_FIVE_SECONDS])
def test_programs_are_dropped_and_people_stay(moments: list[datetime]):
    both = pl.concat([events(moments, "bot"), events(PERSON)])
    dataset = shop(both)
    assert count(dataset, "bot").rows == len(moments)
    assert dataset.users.to_list() == ["anna"]
    assert len(shop(both, CleaningRules(bot=False)).events) == len(both)


def test_a_large_basket_and_a_long_day_are_no_programs():
    basket = events([START] * 5_000)
    long_day = events([START + timedelta(hours=hour) for hour in range(21)], "bert")
    assert count(shop(pl.concat([basket, long_day]), CleaningRules(outlier_user=False)), "bot").rows == 0


def test_who_shops_for_thousands_is_far_out():
    people = [events([START] * size, f"user {size}") for size in range(1, 40)]
    trader = events([START] * 20_000, "trader")
    dataset = shop(pl.concat([*people, trader]))
    assert count(dataset, "outlier_user").rows == 20_000
    assert "trader" not in dataset.users
    kept = shop(pl.concat([*people, trader]), CleaningRules(outlier_user=False))
    assert "trader" in kept.users
    assert kept.report is not None
    assert "outlier_user" in kept.report.switched_off


def test_nobody_is_far_out_below_a_thousand_events():
    dataset = shop(pl.concat([*(events([START], f"user {n}") for n in range(50)), events([START] * 1_000)]))
    assert count(dataset, "outlier_user").rows == 0


def test_prices_in_cents_meet_the_others():
    table = events([START] * 7, price=[2.0, 2.1, 1.9, 2.0, 200.0, 0.02, 20.0])
    dataset = shop(table)
    assert dataset.events.frame["price"].to_list() == pytest.approx([2.0, 2.1, 1.9, 2.0, 2.0, 2.0, 20.0])
    assert count(dataset, "price_unit").rows == 2
    assert count(dataset, "price_unit").example == "row 4: item_id 'tea', price 200 -> 2"
    off = shop(table, CleaningRules(price_unit=False))
    assert off.events.frame["price"][4] == 200


def test_what_is_sold_by_weight_is_counted_in_usual_quantities():
    table = events([START] * 5, quantity=[1_000.0, 2_000.0, 1_000.0, 500.0, 1_000.0], price=0.01)
    dataset = shop(table)
    assert dataset.events.frame["quantity"].to_list() == [1.0, 2.0, 1.0, 0.5, 1.0]
    assert dataset.events.frame["price"].to_list() == pytest.approx([10.0] * 5)  # what is paid stays what it was
    assert count(dataset, "measured_quantity").rows == 5
    assert shop(table, CleaningRules(measured_quantity=False)).events.frame["quantity"][1] == 2_000


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("£2.55", 2.55, "GBP"),
        ("$ 1,299.00", 1299.0, "USD"),
        ("1.234,50 €", 1234.5, "EUR"),
        ("12,5 EUR", 12.5, "EUR"),
        ("1 234,50 zł", 1234.5, "PLN"),
        ("CHF 1'200.-", 1200.0, "CHF"),
        ("AUD 12", 12.0, "AUD"),
        ("1,200", 1200.0, None),
        ("-$3", -3.0, "USD"),
        ("$.99", 0.99, "USD"),
        ("5.00-", -5.0, None),
        ("(5,00 €)", -5.0, "EUR"),
        ("0,125 €", 0.125, "EUR"),
        ("1.234 €", 1234.0, "EUR"),
        ("1.234.567", 1234567.0, None),
        ("12 XXL", 12.0, None),
        ("2.5550", 2.555, None),
        ("¥1,200", 1200.0, "JPY"),
        ("$5.00 - $9.99", None, "USD"),
        ("ask us", None, None),
    ],
)
def test_price_texts(text: str, amount: float | None, currency: str | None):
    found = amounts(pl.Series([text])).row(0)
    assert found[1] == currency
    assert found[0] == (pytest.approx(amount) if amount is not None else None)


def test_a_mark_means_in_one_text_what_it_means_in_the_others():
    assert amounts(pl.Series(["€ 1,234", "€ 2,50"]))["amount"].to_list() == [1.234, 2.5]
    assert amounts(pl.Series(["€ 1,234", "€ 2.50"]))["amount"].to_list() == [1234.0, 2.5]
    assert amounts(pl.Series(["1.234", "0,5"]))["amount"].to_list() == [1234.0, 0.5]


def test_a_currency_sign_is_read_and_counted():
    dataset = shop(events([START] * 4, price=["2.55", "£2.55", " ", None]))
    assert dataset.events.frame["price"].to_list() == [pytest.approx(2.55), pytest.approx(2.55), None, None]
    assert count(dataset, "currency").example == "row 1: price '£2.55' -> 2.55"
    with pytest.raises(SchemaError, match=r"'£2\.55'"):
        shop(events([START] * 2, price=["2.55", "£2.55"]), CleaningRules(currency=False))


def test_several_currencies_need_rates():
    table = events([START] * 3, price=["10 EUR", "10 USD", "10"])
    with pytest.raises(InvalidValueError, match="EUR 1, USD 1") as caught:
        shop(table)
    assert "'EUR': ..." in caught.value.remedy
    with pytest.raises(InvalidValueError, match="prices of the events are in USD"):
        shop(table, CleaningRules(rates={"EUR": 1.1}))
    dataset = shop(table, CleaningRules(rates={"EUR": 1.1, "USD": 1}))
    assert dataset.events.frame["price"].to_list() == pytest.approx([11.0, 10.0, 10.0])


def test_an_unreadable_price_names_its_row():
    with pytest.raises(SchemaError, match=r"row 1 .* is 'cheap'"):
        shop(events([START] * 2, price=["£1", "cheap"]))


def test_prices_of_the_catalogue_are_read_as_well():
    catalog = {"item_id": ["tea"], "title": ["green tea"], "price": ["€ 3,20"]}
    dataset = shop(events([START]), catalog=catalog)
    assert dataset.catalog.frame["price"].to_list() == [3.2]
    assert count(dataset, "catalogue_currency").rows == 1


def test_catalogue_and_events_have_one_currency():
    catalog = {"item_id": ["tea"], "title": ["green tea"], "price": ["€ 3,20"]}
    table = events([START] * 2, price=["£2.50", "3"])
    with pytest.raises(InvalidValueError, match="2 currencies: EUR in the catalogue; GBP in the events") as caught:
        shop(table, catalog=catalog)
    assert "'EUR': ..., 'GBP': ..." in caught.value.remedy
    dataset = shop(table, CleaningRules(rates={"EUR": 0.5, "GBP": 1}), catalog=catalog)
    assert dataset.catalog.frame["price"].to_list() == pytest.approx([1.6])
    assert dataset.events.frame["price"].to_list() == pytest.approx([2.5, 3.0])


def test_clocks_of_a_place():
    texts = ["2024-07-01 12:00:00", "2024-07-01T12:00:00+00:00", "2024-01-15"]
    table = pl.DataFrame({"user_id": "u", "item_id": "tea", "timestamp": texts})
    dataset = shop(table, CleaningRules(timezone="America/New_York"))
    shown = [f"{moment:%Y-%m-%d %H:%M}" for moment in dataset.events.frame["timestamp"]]
    assert shown == ["2024-01-15 05:00", "2024-07-01 12:00", "2024-07-01 16:00"]
    assert count(dataset, "timezone").rows == 2
    naive = table.with_columns(pl.Series("timestamp", [datetime(2024, 7, 1, 12)] * 3))
    assert shop(naive, CleaningRules(timezone="America/New_York")).start.hour == 16


def test_the_hour_that_clocks_skip_is_moved_and_the_doubled_one_read_once():
    moments = pl.Series(["2024-03-31T01:30:00", "2024-10-27T01:30:00"]).str.to_datetime(time_unit="us", time_zone="UTC")
    read = by_clock(moments, "Europe/London")
    assert [f"{moment:%m-%d %H:%M}" for moment in read] == ["03-31 01:30", "10-27 00:30"]


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="Mars"):
        CleaningRules(timezone="Mars/Olympus")
    with pytest.raises(ConfigError, match="EUR"):
        CleaningRules(rates={"EUR": 0})
    with pytest.raises(ConfigError, match="near_duplicate='drop'"):
        CleaningRules(near_duplicate="drop")
    with pytest.raises(ConfigError, match="near_duplicate=True"):
        CleaningRules(near_duplicate=True)


def twins(titles: Sequence[str], **columns: list[str | float | None]) -> dict[str, str]:
    ids = [str(place) for place in range(len(titles))]
    found = near_duplicates(pl.DataFrame({"item_id": ids, "title": titles, **columns}))
    return dict(found.rows())


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Tea Pot", "TEA POT!"),
        ("tea, green 12OZ", "Green Tea 12 oz."),
        ("hanging heart holder", "hanging heart holders"),
        ("hanging heart holder", "hanging haert holder"),
        ("hanging heart holder", "hanging hearth holder"),
        ("ｔｅａ pot", "tea pot"),
        ("绿茶 500克", "绿茶 500 克"),
    ],
)
def test_one_product_written_twice(left: str, right: str):
    assert twins(["kettle", left, right]) == {"2": "1"}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("tea 12 oz", "tea 16 oz"),
        ("tea 1.5 l", "tea 15 l"),
        ("red cup", "bed cup"),
        ("cup large", "cut large"),  # short words
        ("light holder", "night holder"),  # another first letter
        ("candle holder", "candle holder set"),
        ("blue bowls", "blues bowl"),  # two errors
        ("c++ book", "c# book"),
        ("c book", "c++ book"),
        ("-5 diopters", "+5 diopters"),
    ],
)
def test_two_products(left: str, right: str):
    assert twins([left, right]) == {}


def test_two_words_that_other_titles_have_are_no_typing_error():
    assert twins(["white wine", "while wine", "while bread", "white bread"]) == {}
    assert twins(["white wine", "while wine", "white bread"]) == {"1": "0"}


def test_other_columns_must_agree_but_prose_and_prices_may_differ():
    assert twins(["tea", "tea"], brand=["Best", "BEST"]) == {"1": "0"}
    assert twins(["tea", "tea"], brand=["Best", "Other"]) == {}
    assert twins(["tea", "tea"], brand=["Best", None]) == {}
    assert twins(["tea", "tea"], price=[1.0, 2.0], description=["a", "b"]) == {"1": "0"}
    assert twins(["tea", "tea"], weight=[1.0, 2.0]) == {}


def test_chains_of_typing_errors_are_one_product():
    assert twins(["hanging hearts", "hanging heart", "hangin heart"]) == {"1": "0", "2": "0"}


CATALOG = {"item_id": ["1", "2", "3"], "title": ["tea pot", "Tea Pot.", "kettle"]}


def test_products_without_a_title_of_their_own_repeat_nothing():
    catalog = {"item_id": ["1", "2", "3"], "title": ["", None, "tea"], "category": ["tea", "tea", "tea"]}
    dataset = shop(events([START], item_id="1"), catalog=catalog)
    assert dataset.catalog.frame["title"].to_list() == ["tea", "tea", "tea"]
    assert count(dataset, "near_duplicate").rows == 0


def test_linking_keeps_products_and_names_the_first():
    dataset = shop(events([START] * 3, item_id=["2", "3", "1"]), catalog=CATALOG)
    assert dataset.catalog.frame["canonical_id"].to_list() == ["1", "1", "3"]
    assert dataset.events.frame["item_id"].to_list() == ["2", "3", "1"]
    assert count(dataset, "near_duplicate").action == "linked"
    again = Dataset.build(name="shop", catalog=dataset.catalog.frame, events=dataset.events.frame)
    assert again.catalog.digest == dataset.catalog.digest


def test_merging_gives_events_and_promotions_to_the_first():
    planned = Promotions.from_table({"item_id": ["2"], "start": ["2024-01-01"], "end": ["2024-01-08"]})
    rules = CleaningRules(near_duplicate="merge")
    table = events([START] * 3, item_id=["2", "3", "1"])
    dataset = Dataset.build(name="shop", catalog=CATALOG, events=table, promotions=planned, rules=rules)
    assert dataset.catalog.ids.to_list() == ["1", "3"]
    assert dataset.events.frame["item_id"].to_list() == ["1", "3", "1"]
    assert dataset.promotions is not None
    assert dataset.promotions.frame["item_id"].to_list() == ["1"]
    assert dataset.report is not None
    assert dataset.report.products == 3
    assert count(dataset, "near_duplicate").example == "item_id '2' is '1'"


@pytest.mark.parametrize("name", ["usual_price", "usual_quantity", "canonical_id"])
@pytest.mark.parametrize("value", ["gift", 7.0])
def test_columns_of_a_log_called_like_what_cleaning_works_with(name: str, value: object):
    rules = CleaningRules(near_duplicate="merge")
    table = events([START] * 6, item_id=["1", "1", "1", "1", "1", "2"], price=[2.0, 2.0, 2.0, 2.0, 200.0, 2.0])
    plain = shop(table, rules, CATALOG).events.frame
    told = shop(table.with_columns(pl.lit(value).alias(name)), rules, CATALOG).events.frame
    assert told.drop(name).equals(plain)
    assert told[name].to_list() == [value] * 6
    assert plain["price"].to_list() == [2.0] * 6  # cents were among them
    assert plain["item_id"].to_list() == ["1"] * 6


def test_every_rule_that_is_off_is_told():
    off = CleaningRules(outlier_user=False, price_unit=False, measured_quantity=False)
    report = shop(events([START], price=2.0), off).report
    assert report is not None
    assert {"outlier_user", "price_unit", "measured_quantity"} <= {*report.switched_off}


def test_a_catalogue_without_twins_stays_as_it_is():
    off = replace(CleaningRules(), near_duplicate=False)
    plain = {"item_id": ["tea"], "title": ["green tea"]}
    assert "canonical_id" not in shop(events([START]), catalog=plain).catalog.frame.columns
    assert "canonical_id" not in shop(events([START], item_id="1"), off, CATALOG).catalog.frame.columns
