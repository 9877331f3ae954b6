"""A data set checks its tables against each other and cuts by time without losing or leaking an event."""

import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from peftrec.data import Catalog, CleaningRules, Dataset, DataSource, Events, Profiles
from peftrec.errors import (
    InvalidValueError,
    NotEnoughDataError,
    SchemaError,
    UnknownItemError,
    UnknownUserError,
)

CATALOG = Catalog.from_table({"item_id": ["a", "b", "c"], "title": ["tea", "pot", "milk"]})
DAYS = ["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04", "2020-01-05"]


def shop(users: str = "uvuvw", items: str = "abcab", days: list[str] | None = None) -> Dataset:
    events = {"user_id": list(users), "item_id": list(items), "timestamp": days or DAYS}
    return Dataset("shop", CATALOG, Events.from_table(events))


def test_three_events_are_a_data_set():
    small = shop("uuu", "abc", ["2020-01-01"] * 3)
    assert len(small.log) == 3
    assert small.start == small.end == datetime(2020, 1, 1, tzinfo=UTC)
    assert small.users.to_list() == ["u"]
    assert len(small.digest) == 64


def test_the_one_liner():
    assert repr(shop()) == "Dataset(shop: 3 shoppers, 3 products, 5 events, 2020-01-01 00:00 to 2020-01-05 00:00 UTC)"


def test_users_are_sorted_and_include_those_with_only_a_profile():
    profiles = Profiles.from_table({"user_id": ["a-new-one", "u"]})
    dataset = dataclasses.replace(shop(), profiles=profiles)
    assert dataset.users.to_list() == ["a-new-one", "u", "v", "w"]
    assert dataset.log.user.tolist() == [1, 2, 1, 2, 3]


def test_unknown_items_are_an_error_naming_the_closest():
    with pytest.raises(UnknownItemError, match="2 of 2 item ids are not in the catalogue: 'x', 'y'"):
        shop(items="axxay")


def test_build_reads_any_tables_and_counts_what_it_drops():
    dataset = Dataset.build(
        name="shop",
        catalog=pl.DataFrame({"sku": [1, 2], "name": ["tea", None]}),
        events={"who": [7, 8, 9], "sku": [1, 2, 3], "when": DAYS[:3]},
        profiles={"who": [7], "age": [30]},
        catalog_columns={"item_id": "sku", "title": "name"},
        event_columns={"user_id": "who", "item_id": "sku", "timestamp": "when"},
        profile_columns={"user_id": "who"},
        source=DataSource("mine", "CC0", "https://example.org"),
    )
    assert dataset.users.to_list() == ["7", "8"]
    assert dataset.catalog.frame["title"].to_list() == ["tea", "unknown product 2"]
    assert dataset.report is not None
    assert dataset.report.rows_dropped == 1
    assert dataset.source is not None
    assert dataset.source.licence == "CC0"


def test_build_takes_ready_parts():
    ready = shop()
    built = Dataset.build(name="shop", catalog=ready.catalog, events=ready.events, rules=CleaningRules())
    assert built.digest == ready.digest


def test_build_with_empty_tables():
    empty = {"user_id": [], "item_id": [], "timestamp": []}
    with pytest.raises(NotEnoughDataError, match="events table has no rows"):
        Dataset.build(name="x", catalog=CATALOG, events=empty)
    with pytest.raises(NotEnoughDataError, match="catalogue has no rows"):
        Dataset.build(name="x", catalog={"item_id": [], "title": []}, events=empty)


def test_split_shares_everything_but_events():
    whole = shop()
    past, future = whole.split(at="2020-01-03")
    assert past.events.frame["timestamp"].dt.day().to_list() == [1, 2]
    assert future.events.frame["timestamp"].dt.day().to_list() == [3, 4, 5]
    assert future.past is past
    assert past.past is None
    assert past.catalog is future.catalog is whole.catalog
    assert past.users is future.users is whole.users
    assert np.shares_memory(past.log.item, whole.log.item)
    assert future.log.user.tolist() == whole.log.user[2:].tolist()
    assert past.end < future.start


@pytest.mark.parametrize(
    "at",
    [
        "2020-01-03T00:00Z",
        date(2020, 1, 3),
        datetime(2020, 1, 3),
        datetime(2020, 1, 3, 9, tzinfo=timezone(timedelta(hours=9))),
        "2020-01-02T00:00:00.000001",
    ],
)
def test_split_takes_every_form_of_moment(at: str | date | datetime):
    assert len(shop().split(at=at)[0].events) == 2


@pytest.mark.parametrize("at", ["2019-01-01", "2020-01-01", "2020-01-05T00:00:01", "2030-01-01"])
def test_a_split_that_leaves_a_side_empty_names_the_range(at: str):
    with pytest.raises(NotEnoughDataError) as caught:
        shop().split(at=at)
    assert "covers 2020-01-01 00:00 to 2020-01-05 00:00 UTC" in caught.value.expected


def test_a_split_at_nonsense():
    with pytest.raises(InvalidValueError, match="at='week 48'"):
        shop().split(at="week 48")


def test_the_past_of_a_second_split_is_everything_before():
    past, rest = shop().split(at="2020-01-02")
    middle, last = rest.split(at="2020-01-04")
    assert middle.past is past
    assert last.past is not None
    assert last.past.log.time.tolist() == shop().log.time[:3].tolist()
    assert last.past.log.item.tolist() == shop().log.item[:3].tolist()
    assert last.past.events.frame.equals(shop().events.frame[:3])


def test_windows():
    whole = shop()
    inner = whole.window(start="2020-01-02", end="2020-01-04")
    assert inner.events.frame["timestamp"].dt.day().to_list() == [2, 3]
    assert inner.past is not None
    assert inner.past.events.frame["timestamp"].dt.day().to_list() == [1]
    assert whole.window(end="2020-01-02").past is None
    assert len(whole.window().events) == 5
    later = whole.split(at="2020-01-02")[1].window(start="2020-01-04")
    assert later.past is not None
    assert len(later.past.events) == 3
    with pytest.raises(NotEnoughDataError, match="no event of 'shop' is in the window"):
        whole.window(start="2020-01-02T01:00", end="2020-01-02T02:00")


def test_replacing_the_events_forgets_the_old_index():
    past, _ = shop().split(at="2020-01-03")
    other = dataclasses.replace(past, events=shop("xyz", "cba", DAYS[:3]).events)
    assert other.users.to_list() == ["x", "y", "z"]
    assert other.log.item.tolist() == [2, 1, 0]


def test_a_past_must_share_catalogue_and_users():
    past, future = shop().split(at="2020-01-03")
    other = Catalog.from_table({"item_id": ["c", "b", "a"], "title": ["x", "y", "z"]})
    with pytest.raises(InvalidValueError, match="another catalogue"):
        Dataset("shop", other, future.events, past=past)
    stranger = shop(users="uvuvx")
    with pytest.raises(UnknownUserError, match="'x'"):
        _ = Dataset("shop", CATALOG, stranger.events, past=past).log


def test_digest_tells_contents_not_order_or_width():
    base = shop()
    shuffled = {"timestamp": DAYS[::-1], "item_id": list("bacba"), "user_id": list("wvuvu")}
    assert Dataset("other name", CATALOG, Events.from_table(shuffled)).digest == base.digest
    reordered = Catalog.from_table({"title": ["milk", "tea", "pot"], "item_id": ["c", "a", "b"]})
    assert dataclasses.replace(base, catalog=reordered).digest == base.digest
    assert shop(items="abcac").digest != base.digest
    assert shop(days=[*DAYS[:4], "2020-01-06"]).digest != base.digest
    assert dataclasses.replace(base, profiles=Profiles.from_table({"user_id": ["u"]})).digest != base.digest
    assert base.split(at="2020-01-03")[0].digest != base.digest


def test_digest_of_equal_keys_does_not_depend_on_order():
    events = {"user_id": ["u"] * 3, "item_id": ["a"] * 3, "timestamp": DAYS[:1] * 3}
    one, two = ({**events, "price": prices} for prices in ([1, 2, 3], [3, 1, 2]))
    assert shop_of(one).digest == shop_of(two).digest
    assert shop_of(one).digest != shop_of({**events, "price": [1, 2, 4]}).digest


def shop_of(events: Mapping[str, Sequence[object]]) -> Dataset:
    return Dataset("shop", CATALOG, Events.from_table(events))


def test_it_travels_to_other_processes():
    past, future = shop().split(at="2020-01-03")
    copy = pickle.loads(pickle.dumps(future))  # noqa: S301  # as multiprocessing does
    assert copy.digest == future.digest
    assert copy.past.digest == past.digest
    assert copy.log.user.tolist() == future.log.user.tolist()


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        shop().name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_a_file_as_events(tmp_path: Path):
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp,price\nu,a,2020-01-01,1.5\nv,b,2020-01-02,\n")
    dataset = Dataset.build(name="shop", catalog=CATALOG, events=tmp_path / "events.csv")
    assert dataset.events.frame["price"].to_list() == [1.5, None]
    with pytest.raises(SchemaError, match="from a column 'sku'"):
        Dataset.build(name="shop", catalog=CATALOG, events=tmp_path / "events.csv", event_columns={"item_id": "sku"})
