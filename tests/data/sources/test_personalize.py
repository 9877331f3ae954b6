"""Amazon Personalize's datasets: folders that are true to its schemas, and all that can be wrong with them."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from peftrec.data import CleaningRules, Dataset
from peftrec.data.sources.epoch import unix_times
from peftrec.data.sources.personalize import load_personalize
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError

INTERACTIONS = """USER_ID,ITEM_ID,EVENT_TYPE,EVENT_VALUE,TIMESTAMP,IMPRESSION,RECOMMENDATION_ID,DEVICE_TYPE,DISCOUNT
u1,007,View,,1586731606,007|70|17,rec-1,mobile,No
u1,007,AddToCart,2.5,1586731700,,,mobile,No
u1,007,Purchase,19.9,1586731800,,,desktop,Yes
u2,70,watch,0.5,1586735164,,,,No
u2,70,Add To Wishlist,,1586735170,,,,No
u2,70,CLICK,,1586735180,,,,No
u2,70,StartCheckout,,1586735190,,,,No
u2,70,,,1586735200,,,,No
u2,70,View,,tomorrow,,,,No
u2,70,View,,,,,,No
,70,View,,1586735300,,,,No
u2,99,View,,1586735300,,,,No
"""
ITEMS = """ITEM_ID,PRICE,CATEGORY_L1,CATEGORY_L2,CATEGORY_L10,PRODUCT_DESCRIPTION,CREATION_TIMESTAMP,PROMOTION,ITEM_NAME
007,19.9,Electronics|Productivity,Productivity|Computers,,A mouse | wireless,1570003267,Yes,Mouse
70,,Kitchen,Tea,Green tea,,,No,
17,5,Kitchen,,,,,,
"""
USERS = """USER_ID,AGE,GENDER,MEMBERSHIP_STATUS,INTERESTS
u1,31,F,Gold,tea|gardens
u3,,,Basic,
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, INTERACTIONS=INTERACTIONS, items_2024=ITEMS, Users=USERS)


def counts(dataset: Dataset) -> dict[str, int]:
    assert dataset.report is not None
    return {count.rule: count.rows for count in dataset.report.counts if count.rows}


def test_every_interaction_is_accounted_for(folder: Path):
    dataset = load_personalize(folder)
    assert counts(dataset) == {
        "missing_user": 1,
        "missing_timestamp": 1,
        "unparsable_timestamp": 1,
        "unknown_item": 1,
        "unknown_event": 2,
        "empty_title": 2,
    }
    assert dataset.report is not None
    assert (dataset.report.rows_in, dataset.report.rows_kept) == (12, 6)
    examples = {count.rule: count.example for count in dataset.report.counts}
    assert "StartCheckout" in examples["unknown_event"]  # its own spelling, not ours
    assert "tomorrow" in examples["unparsable_timestamp"]


def test_events(folder: Path):
    events = load_personalize(folder).events.frame
    assert events["event"].to_list() == ["view", "cart", "purchase", "view", "favourite", "click"]
    assert events["timestamp"][0] == datetime(2020, 4, 12, 22, 46, 46, tzinfo=UTC)
    assert events["item_id"][0] == "007"
    assert events["event_value"].to_list() == [None, 2.5, 19.9, 0.5, None, None]
    assert events["impression"][0] == "007|70|17"
    assert events["recommendation_id"][0] == "rec-1"
    assert events["device_type"].to_list() == ["mobile", "mobile", "desktop", None, None, None]
    assert events["shop_discount"][2] == "Yes"
    assert not {"discount", "price"} & set(events.columns)


def test_products(folder: Path):
    products = {row["item_id"]: row for row in load_personalize(folder).catalog.frame.to_dicts()}
    mouse, tea, bare = products["007"], products["70"], products["17"]
    assert (mouse["title"], mouse["category"], mouse["category_l2"]) == (
        "Mouse",
        "Electronics, Productivity",
        "Productivity, Computers",
    )
    assert (mouse["price"], mouse["description"], mouse["promotion"]) == (19.9, "A mouse | wireless", "Yes")
    assert mouse["creation_timestamp"] == datetime(2019, 10, 2, 8, 1, 7, tzinfo=UTC)
    assert (tea["title"], bare["title"]) == ("Green tea", "Kitchen")


def test_shoppers(folder: Path):
    dataset = load_personalize(folder)
    assert dataset.profiles is not None
    assert dataset.profiles.frame.row(0, named=True) == {
        "user_id": "u1",
        "age": "31",
        "gender": "F",
        "membership_status": "Gold",
        "interests": "tea, gardens",
    }
    assert dataset.users.to_list() == ["u1", "u2", "u3"]


def test_without_types_all_are_purchases_and_the_source_says_so(tmp_path: Path):
    plain = "user_id,item_id,timestamp\nu,007,1586731606\nu,70,1586731607\n"
    dataset = load_personalize(write(tmp_path, interactions=plain, items=ITEMS))
    assert dataset.events.frame["event"].to_list() == ["purchase", "purchase"]
    assert dataset.profiles is None
    assert dataset.source is not None
    assert "without EVENT_TYPE" in dataset.source.note
    typed = "user_id,item_id,timestamp,event_type\nu,007,1586731606,Purchase\n"
    assert load_personalize(write(tmp_path, interactions=typed)).source.note == ""  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("discount", ["0.15", "15"])
def test_a_discount_is_ours_where_it_is_a_share(tmp_path: Path, discount: str):
    told = f"USER_ID,ITEM_ID,TIMESTAMP,DISCOUNT\nu,007,1586731606,{discount}\nu,70,1586731606,\n"
    events = load_personalize(write(tmp_path, interactions=told, items=ITEMS)).events.frame
    name, value = ("discount", pytest.approx(0.15)) if discount == "0.15" else ("shop_discount", "15")
    assert events[name].to_list() == [value, None]


def test_the_shops_own_columns_under_our_names_are_kept(tmp_path: Path):
    told = "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT,QUANTITY,PAGE\nu,007,1586731606,View,Sale,3,home\n"
    events = load_personalize(write(tmp_path, interactions=told, items=ITEMS)).events.frame
    assert events.select("event", "shop_event", "quantity", "shop_page").row(0) == ("view", "Sale", 3, "home")


def test_parquet_holds_typed_columns(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("parquet")
    rows = pl.read_csv(folder / "INTERACTIONS.csv", infer_schema=False).head(8)
    rows.with_columns(pl.col("TIMESTAMP").cast(pl.Int64)).write_parquet(other / "interactions.parquet")
    items = pl.read_csv(folder / "items_2024.csv", infer_schema=False)
    items = items.with_columns(pl.col("PRICE").cast(pl.Float32), pl.col("CREATION_TIMESTAMP").cast(pl.Float64))
    items.write_parquet(other / "Items.Parquet")
    typed, text = load_personalize(other), load_personalize(folder)
    assert typed.events.frame.equals(text.events.frame)
    assert typed.catalog.frame["creation_timestamp"].equals(text.catalog.frame["creation_timestamp"])


def test_products_without_any_title_are_not_taken_for_one(tmp_path: Path):
    items = "ITEM_ID,PRICE,CATEGORY_L1\n007,1,Tea\n70,2,Tea\n"
    rows = "USER_ID,ITEM_ID,TIMESTAMP\nu,007,1586731606\nu,70,1586731606\n"
    folder = write(tmp_path, interactions=rows, items=items)
    dataset = load_personalize(folder)
    assert dataset.catalog.frame["title"].to_list() == ["Tea", "Tea"]
    assert "canonical_id" not in dataset.catalog.frame.columns


def test_rules_are_those_asked_for(folder: Path):
    with pytest.raises(InvalidValueError, match="empty title"):
        load_personalize(folder, CleaningRules(empty_title=False))
    with pytest.raises(InvalidValueError, match="unknown event"):
        load_personalize(folder, CleaningRules(unknown_event=False))


def test_files_that_are_missing_or_doubled_are_named(folder: Path, tmp_path: Path):
    (folder / "interactions_march.parquet").touch()
    with pytest.raises(SchemaError, match=r"more than one file of interactions: INTERACTIONS.csv, interactions_march"):
        load_personalize(folder)
    (folder / "interactions_march.parquet").unlink()
    (folder / "items_2024.csv").unlink()
    with pytest.raises(SchemaError, match=r"no file of items: INTERACTIONS.csv, Users.csv") as caught:
        load_personalize(folder)
    assert "items*.csv" in caught.value.expected
    with pytest.raises(SchemaError, match="is no folder"):
        load_personalize(folder / "INTERACTIONS.csv")
    with pytest.raises(SchemaError, match="is no folder"):
        load_personalize(tmp_path / "nowhere")


def test_columns_that_are_missing_or_doubled_are_named(folder: Path):
    write(folder, INTERACTIONS="USER_ID,ITEM_ID,WHEN\nu,007,1\n")
    with pytest.raises(SchemaError, match="no column TIMESTAMP; it has USER_ID, ITEM_ID, WHEN"):
        load_personalize(folder)
    write(folder, INTERACTIONS="USER_ID,ITEM_ID,item_id,TIMESTAMP\nu,007,7,1586731606\n")
    with pytest.raises(SchemaError, match="more than one column ITEM_ID"):
        load_personalize(folder)
    write(folder, INTERACTIONS="USER_ID,ITEM_ID,TIMESTAMP,EVENT_VALUE\nu,007,1586731606,much\n")
    with pytest.raises(SchemaError, match="event_value"):
        load_personalize(folder)


def test_doubled_ids_and_empty_tables_are_errors(folder: Path):
    write(folder, items_2024="ITEM_ID,PRICE,CATEGORY_L1\n007,1,Tea\n007,2,Tea\n")
    with pytest.raises(InvalidValueError, match="appear more than once"):
        load_personalize(folder)
    write(folder, items_2024="ITEM_ID,PRICE,CATEGORY_L1\n")
    with pytest.raises(NotEnoughDataError, match="catalogue has no rows"):
        load_personalize(folder)


def test_times_that_are_no_times_since_1970_are_not_guessed(folder: Path):
    write(folder, INTERACTIONS="USER_ID,ITEM_ID,TIMESTAMP\nu,007,-5\nu,007,1586731606\n")
    assert counts(load_personalize(folder))["unparsable_timestamp"] == 1
    write(folder, INTERACTIONS="USER_ID,ITEM_ID,TIMESTAMP\nu,007,20171202\nu,007,1586731606\n")
    with pytest.raises(SchemaError, match="year, month and day without marks"):
        load_personalize(folder)


def test_seconds_milliseconds_and_microseconds_are_told_apart_by_size():
    moment = datetime(2020, 4, 12, 22, 46, 46, tzinfo=UTC)
    for numbers in (
        pl.Series([1586731606, None]),
        pl.Series([1586731606.0, None]),
        pl.Series(["1586731606000", ""]).replace("", None),
        pl.Series([" 1586731606000000 ", None]),
    ):
        assert unix_times(numbers).to_list() == [moment, None]
    assert unix_times(pl.Series(["1586731606.5", "2020-01-01"])).to_list() == ["2020-04-12T22:46:46.500Z", "2020-01-01"]
    assert unix_times(pl.Series(["2020-01-01", "nan"])).to_list() == ["2020-01-01", "nan"]
    days = pl.Series([moment.date()])
    assert unix_times(days).equals(days)
