"""Several platforms under one schema: nothing is lost, nothing is mixed up, and they come apart again."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from peftrec.data import CleaningRules, Coupons, Dataset, DataSource, Events, load_dataset
from peftrec.data.digest import event_digest
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError

DAYS = [f"2020-01-0{day}" for day in range(1, 7)]


@pytest.fixture
def books() -> Dataset:
    """Visits, channels, stores, prices, an age: three shoppers, one of them without a profile."""
    return Dataset.build(
        name="books",
        catalog={
            "item_id": ["1", "2", "3"],
            "title": ["atlas", "novel", "poems"],
            "price": [30.0, 10.0, None],
            "size": [10, 20, 30],
        },
        events={
            "user_id": list("uvuvwz"),
            "item_id": list("123129"),  # the last is not in the catalogue
            "timestamp": DAYS,
            "event": ["click", "cart", "purchase", "click", "purchase", "click"],
            "price": [30.0, 10.0, 5.0, 30.0, 10.0, 1.0],
            "session_id": ["s", "s", None, "t", "t", "t"],
            "channel": ["web", "web", "web", None, "web", "web"],
            "store_id": [7, 7, 7, 8, 8, 8],
        },
        profiles={"user_id": ["u", "v"], "age": [30, 40]},
        promotions={"item_id": ["1"], "start": ["2020-01-04"], "end": ["2020-01-05"]},
        coupons=Coupons.from_tables(
            {"campaign_id": [5], "item_id": ["2"]},
            {"campaign_id": [5], "user_id": ["v"], "start": ["2020-01-02"], "end": ["2020-01-09"]},
        ),
        source=DataSource("Books of old", "CC0", "https://example.org", "simulated"),
    )


@pytest.fixture
def tools() -> Dataset:
    """The same ids, which mean something else, a text where the books have a number, and no price at all."""
    return Dataset.build(
        name="tools",
        catalog={"item_id": ["1", "2"], "title": ["saw", "nail"], "size": ["large", None], "colour": ["red", None]},
        events={"user_id": list("uux"), "item_id": list("121"), "timestamp": [DAYS[0], DAYS[2], DAYS[4]]},
        profiles={"user_id": ["x"], "member": [True]},
    )


def stripped(frame: pl.DataFrame, platform: str) -> pl.DataFrame:
    """A pooled platform's table without its namespace and the columns that it did not bring."""
    texts = pl.col(pl.String).str.strip_prefix(f"{platform}/")
    kept = [column.name for column in frame if column.null_count() < len(column) and column.name != "platform"]
    return frame.select(kept).with_columns(texts)


def events_digest(frame: pl.DataFrame) -> str:
    filled = frame.select(column.name for column in frame if column.null_count() < len(column))
    filled = filled.with_columns(pl.col("^store_id$").cast(pl.String))
    return event_digest(filled, ["timestamp", "user_id", "item_id"])


def told(dataset: Dataset) -> list[tuple[str, str]]:
    """(user, item) of each event through the codes of its log."""
    users, items = dataset.users.to_list(), dataset.catalog.ids.to_list()
    return [(users[u], items[i]) for u, i in zip(dataset.log.user, dataset.log.item, strict=True)]


def test_ids_say_whose_they_are(books: Dataset, tools: Dataset):
    pool = Dataset.pool([books, tools])
    assert pool.name == "pool"
    assert pool.catalog.ids.to_list() == ["books/1", "books/2", "books/3", "tools/1", "tools/2"]
    assert pool.users.to_list() == ["books/u", "books/v", "books/w", "tools/u", "tools/x"]
    frame = pool.events.frame
    assert frame["timestamp"].is_sorted()
    assert frame.filter(pl.col("session_id").is_not_null())["session_id"].to_list() == ["books/s"] * 2 + ["books/t"] * 2
    assert frame["channel"].drop_nulls().unique().to_list() == ["books/web"]
    assert frame["store_id"].drop_nulls().unique().sort().to_list() == ["books/7", "books/8"]
    assert pool.promotions is not None
    assert pool.promotions.frame["item_id"].to_list() == ["books/1"]
    assert pool.coupons is not None
    assert pool.coupons.products.rows() == [("books/5", "books/2")]
    assert pool.coupons.recipients["user_id"].to_list() == ["books/v"]
    assert told(pool) == frame.select("user_id", "item_id").rows()


def test_canonical_products_stay_within_their_platform(books: Dataset, tools: Dataset):
    twins = Dataset.build(
        name="twins",
        catalog={"item_id": ["1", "2"], "title": ["Red Lamp", "red lamp"]},
        events={"user_id": ["u"], "item_id": ["1"], "timestamp": DAYS[:1]},
    )
    frame = Dataset.pool([tools, twins]).catalog.frame
    assert frame.filter(pl.col("platform") == "twins")["canonical_id"].to_list() == ["twins/1", "twins/1"]


@pytest.mark.parametrize("table", ["catalog", "events", "profiles"])
def test_every_table_says_the_platform(books: Dataset, tools: Dataset, table: str):
    frame = getattr(Dataset.pool([books, tools]), table).frame
    key = "item_id" if table == "catalog" else "user_id"
    assert frame["platform"].to_list() == frame[key].str.split("/").list.first().to_list()


def test_tables_have_the_columns_of_all(books: Dataset, tools: Dataset):
    pool = Dataset.pool([books, tools])
    products = {row["item_id"]: row for row in pool.catalog.frame.iter_rows(named=True)}
    assert products["books/1"]["size"] == "10"
    assert products["tools/1"]["size"] == "large"
    assert products["books/1"]["colour"] is None
    assert products["tools/1"]["price"] is None
    assert pool.profiles is not None
    shoppers = {row["user_id"]: row for row in pool.profiles.frame.iter_rows(named=True)}
    assert shoppers["books/u"]["age"] == 30
    assert shoppers["tools/x"]["member"] is True
    assert shoppers["books/w"] == {"user_id": "books/w", "age": None, "member": None, "platform": "books"}


def test_a_column_that_nobody_filled_in_does_not_turn_numbers_into_text(books: Dataset, tools: Dataset):
    empty = tools.catalog.frame.with_columns(pl.lit(None, pl.String).alias("size"))
    pool = Dataset.pool([books, dataclasses.replace(tools, catalog=type(tools.catalog)(empty))])
    assert pool.catalog.frame["size"].to_list() == [10, 20, 30, None, None]


def test_prices_come_into_one_currency(books: Dataset, tools: Dataset):
    pool = Dataset.pool([books, tools], currencies={"books": 2.0})
    assert pool.catalog.frame["price"].to_list() == [60.0, 20.0, None, None, None]
    priced = pool.events.frame.filter(pl.col("platform") == "books")["price"]
    assert priced.dtype == pl.Float32
    assert priced.to_list() == [60.0, 20.0, 10.0, 60.0, 20.0]
    assert books.events.frame["price"][0] == 30.0


def test_types_of_events_can_mean_something_else(books: Dataset, tools: Dataset):
    pool = Dataset.pool([books, tools], events={"books": {"click": "view", "cart": "click"}})
    types = pool.events.frame.filter(pl.col("platform") == "books")["event"].to_list()
    assert types == ["view", "click", "purchase", "view", "purchase"]
    assert pool.events.frame.filter(pl.col("platform") == "tools")["event"].unique().to_list() == ["purchase"]


def test_a_pool_comes_apart_into_its_platforms(books: Dataset, tools: Dataset):
    parts = Dataset.pool([books, tools]).segment(by="platform")
    assert list(parts) == ["books", "tools"]
    for platform in (books, tools):
        part = parts[platform.name]
        assert part.name == f"pool[platform={platform.name}]"
        own = stripped(part.events.frame, platform.name)
        assert events_digest(own) == events_digest(platform.events.frame)
        assert [item.partition("/")[2] for item in part.catalog.ids] == platform.catalog.ids.to_list()
        assert [user.partition("/")[2] for user in part.users] == platform.users.to_list()
        assert told(part) == part.events.frame.select("user_id", "item_id").rows()
        assert part.log.time.tolist() == platform.log.time.tolist()
        assert part.profiles is not None
        assert len(part.profiles) == len(platform.users)
    assert parts["tools"].promotions is not None
    assert len(parts["tools"].promotions) == 0


def test_other_segments_of_a_pool_run_across_platforms(books: Dataset, tools: Dataset):
    assert list(Dataset.pool([books, tools]).segment(by="event")) == ["cart", "click", "purchase"]


def test_pasts_and_futures_line_up(books: Dataset, tools: Dataset):
    whole = Dataset.pool([books, tools])
    cut = [part.split(at=DAYS[2]) for part in (books, tools)]
    past, future = Dataset.pool([first for first, _ in cut]), Dataset.pool([second for _, second in cut])
    straight, ahead = whole.split(at=DAYS[2])
    assert future.past is not None
    for ours, theirs in ((past, straight), (future.past, straight), (future, ahead)):
        assert ours.users.equals(theirs.users)
        assert ours.catalog.ids.equals(theirs.catalog.ids)
        assert ours.digest == theirs.digest
        for name in ("user", "item", "time"):
            assert np.array_equal(getattr(ours.log, name), getattr(theirs.log, name))
    parts = future.segment(by="platform")
    assert {name: len(part.past.events) for name, part in parts.items() if part.past} == {"books": 2, "tools": 1}


def test_pasts_that_do_not_line_up(books: Dataset, tools: Dataset):
    early, late = books.split(at=DAYS[1])[1], tools.split(at=DAYS[4])[1]
    with pytest.raises(InvalidValueError, match="the past of one ends at 2020-01-03 00:00:00 UTC"):
        Dataset.pool([early, late])
    with pytest.raises(InvalidValueError, match="'books' is a part that has a past, 'tools' has none"):
        Dataset.pool([early, tools])
    deep = dataclasses.replace(late, past=dataclasses.replace(tools, past=tools))
    with pytest.raises(InvalidValueError, match="the past of 'tools' has a past of its own"):
        Dataset.pool([deep])
    nothing = dataclasses.replace(late, past=dataclasses.replace(tools, events=Events(tools.events.frame.clear())))
    with pytest.raises(NotEnoughDataError, match="no past of tools has an event"):
        Dataset.pool([nothing])


def test_one_account_of_all_rows(books: Dataset, tools: Dataset):
    rules = CleaningRules(bot=False, zero_price=True)
    bad = Dataset.build(
        name="bad",
        catalog={"item_id": ["1", "2"], "title": ["cup", ""]},
        events={"user_id": ["a", None, "b", "a"], "item_id": ["1", "1", "9", "1"], "timestamp": DAYS[:4]},
        promotions={"item_id": ["1", "8", "9"], "start": DAYS[:3], "end": DAYS[1:4]},
        rules=rules,
    )
    by_hand = dataclasses.replace(tools, report=None)
    report = Dataset.pool([books, by_hand, bad], name="all").report
    assert report is not None
    assert (report.name, report.rows_in, report.rows_kept, report.products) == ("all", 13, 10, 7)
    counts = {(count.rule, count.action): count for count in report.counts}
    unknown = counts["unknown_item", "dropped"]
    assert (unknown.rows, unknown.share) == (2, pytest.approx(2 / 10))  # of the platforms that were cleaned
    assert unknown.example == "books, row 5: item_id '9'"
    left_out = counts["unknown_promotion", "left out"]
    assert (left_out.rows, left_out.share) == (2, pytest.approx(2 / 4))
    titles = counts["empty_title", "filled"]
    assert (titles.rows, titles.share) == (1, pytest.approx(1 / 5))
    assert "bot (bad)" in report.switched_off
    assert "duplicate_event (books, bad)" in report.switched_off
    assert "Cleaning of all: 13 events in, 10 kept" in str(report)
    assert Dataset.pool([by_hand]).report is None


def test_sources_are_told_with_their_platforms(books: Dataset, tools: Dataset):
    source = Dataset.pool([books, tools]).source
    assert source == DataSource(
        "books: Books of old; tools: not stated",
        "books: CC0; tools: not stated",
        "books: https://example.org",
        "books: simulated",
    )
    assert Dataset.pool([tools]).source is None


def test_a_pool_keeps_the_clock_that_all_its_shoppers_live_by(books: Dataset, tools: Dataset):
    london = DataSource("one", "", "", clock="Europe/London", country="GB")
    alike = [dataclasses.replace(shop, source=london) for shop in (books, tools)]
    source = Dataset.pool(alike).source
    assert source is not None
    assert (source.clock, source.country) == ("Europe/London", "GB")
    abroad = dataclasses.replace(tools, source=dataclasses.replace(london, clock="Europe/Paris", country="FR"))
    source = Dataset.pool([alike[0], abroad]).source
    assert source is not None
    assert (source.clock, source.country) == ("UTC", "")


def test_names_that_cannot_be_namespaces(books: Dataset, tools: Dataset):
    with pytest.raises(InvalidValueError, match="2 platforms are called 'books'"):
        Dataset.pool([books, dataclasses.replace(tools, name="books")])
    with pytest.raises(InvalidValueError, match="a platform is called 'a/b'"):
        Dataset.pool([dataclasses.replace(books, name="a/b"), tools])
    with pytest.raises(NotEnoughDataError, match="no platforms"):
        Dataset.pool([])
    with pytest.raises(SchemaError, match="has a column 'platform' already"):
        Dataset.pool([Dataset.pool([books]), tools])


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), "2"])
def test_rates_that_are_none(books: Dataset, rate: float):
    with pytest.raises(InvalidValueError, match=r"currencies=\{'books'"):
        Dataset.pool([books], currencies={"books": rate})


def test_only_data_sets_are_pooled(books: Dataset):
    with pytest.raises(SchemaError, match="the platforms are among others a str"):
        Dataset.pool([books, "tools"])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("currencies", "events", "says"),
    [
        ({"toys": 1.0}, None, "currencies names the platform 'toys'"),
        (None, {"toys": {"click": "view"}}, "events names the platform 'toys'"),
        (None, {"books": {"click": "look"}}, "there is no type of event 'look'"),
        (None, {"books": {"glance": "view"}}, "there is no type of event 'glance'"),
    ],
)
def test_names_that_are_not_there(
    books: Dataset, currencies: Mapping[str, float] | None, events: Mapping[str, Mapping[str, str]] | None, says: str
):
    with pytest.raises(InvalidValueError, match=says):
        Dataset.pool([books], currencies=currencies, events=events)


def ordered(name: str, users: str) -> Dataset:
    return Dataset.build(
        name=name,
        catalog={"item_id": ["1"], "title": ["cup"]},
        events={"user_id": list(users), "item_id": ["1"] * len(users), "position": range(len(users))},
    )


def test_made_up_moments_do_not_mix_with_real_ones(books: Dataset):
    one, two = ordered("one", "aab"), ordered("two", "aa")
    assert Dataset.pool([one, two]).ordered
    assert Dataset.pool([one, two]).segment(by="platform")["one"].ordered
    with pytest.raises(InvalidValueError, match="the moments of 'one' are made up"):
        Dataset.pool([books, one])


@pytest.mark.data
def test_two_real_platforms(data_folder: Path, grocery: Dataset):
    wholesale = load_dataset("online_retail", data_folder / "online_retail/uci_online_retail.parquet")
    pool = Dataset.pool([grocery, wholesale], currencies={"online_retail": 1.3})
    assert len(pool.events) == len(grocery.events) + len(wholesale.events)
    assert len(pool.users) == len(grocery.users) + len(wholesale.users)
    parts = pool.segment(by="platform")
    own = stripped(parts["grocery"].events.frame, "grocery")
    assert events_digest(own) == events_digest(grocery.events.frame)
    assert parts["online_retail"].log.price == pytest.approx(wholesale.log.price * 1.3, nan_ok=True)
    assert pool.source is not None
    assert "online_retail: CC BY 4.0" in pool.source.licence


def test_one_data_set_is_no_list_of_them(books: Dataset):
    with pytest.raises(SchemaError, match="the platforms are one data set"):
        Dataset.pool(books)  # pyright: ignore[reportArgumentType]
