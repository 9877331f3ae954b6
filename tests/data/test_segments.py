"""Segments: every event in exactly one, indices that still mean the same shopper and product."""

import dataclasses

import polars as pl
import pytest

from peftrec.data import Dataset
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError


@pytest.fixture
def shop() -> Dataset:
    return Dataset.build(
        name="shop",
        catalog={"item_id": ["a", "b", "c"], "title": ["tea", "pot", "milk"], "category": ["drinks", None, "drinks"]},
        events={
            "user_id": list("uvwuvx"),
            "item_id": list("abcbca"),
            "timestamp": [f"2020-01-0{day}" for day in range(1, 7)],
            "channel": ["web", "app", None, "app", "web", "app"],
        },
        profiles={"user_id": list("uvwz"), "age": ["old", "young", None, "old"], "kids": [1, 0, 1, 2]},
    )


def told(dataset: Dataset) -> list[tuple[str, str]]:
    """(user, item) of each event through the codes of its log."""
    users, items = dataset.users.to_list(), dataset.catalog.ids.to_list()
    return [(users[u], items[i]) for u, i in zip(dataset.log.user, dataset.log.item, strict=True)]


def rows(dataset: Dataset) -> list[tuple[str, ...]]:
    return dataset.events.frame.select("user_id", "item_id").rows()


@pytest.mark.parametrize("by", ["age", "kids", "category", "channel", "event"])
def test_every_event_is_in_one_segment_and_its_codes_hold(shop: Dataset, by: str):
    parts = shop.segment(by=by)
    assert sum(len(part.events) for part in parts.values()) == len(shop.events)
    assert list(parts) == sorted(parts)
    for part in parts.values():
        assert told(part) == rows(part)
        assert part.log.time.tolist() == sorted(part.log.time.tolist())


def test_by_profile_cuts_users_and_profiles(shop: Dataset):
    parts = shop.segment(by="age")
    assert {name: rows(part) for name, part in parts.items()} == {
        "old": [("u", "a"), ("u", "b")],
        "young": [("v", "b"), ("v", "c")],
        "unknown": [("w", "c"), ("x", "a")],
    }
    assert parts["old"].users.to_list() == ["u", "z"]
    assert parts["old"].profiles is not None
    assert parts["old"].profiles.frame["user_id"].to_list() == ["u", "z"]
    assert parts["old"].catalog is shop.catalog
    assert parts["old"].name == "shop[age=old]"
    assert "2" not in shop.segment(by="kids")  # z has a profile and no event


def test_by_catalogue_cuts_products_only(shop: Dataset):
    parts = shop.segment(by="category")
    assert parts["drinks"].catalog.ids.to_list() == ["a", "c"]
    assert parts["unknown"].catalog.ids.to_list() == ["b"]
    assert parts["drinks"].users is shop.users


def test_by_event_column(shop: Dataset):
    assert {name: len(part.events) for name, part in shop.segment(by="channel").items()} == {
        "app": 3,
        "unknown": 1,
        "web": 2,
    }


@pytest.mark.parametrize("by", ["age", "category", "channel"])
def test_the_past_is_cut_the_same_way(shop: Dataset, by: str):
    past, future = shop.split(at="2020-01-04")
    alone = past.segment(by=by)
    for name, part in future.segment(by=by).items():
        assert part.past is not None
        assert part.past.users.equals(part.users)
        assert part.past.catalog.ids.equals(part.catalog.ids)
        assert told(part.past) == rows(part.past)
        if name in alone:
            assert rows(part.past) == rows(alone[name])
            assert part.past.users.equals(alone[name].users)


def test_a_segment_may_have_an_empty_past(shop: Dataset):
    part = shop.split(at="2020-01-02")[1].segment(by="age")["young"]
    assert part.past is not None
    assert len(part.past.events) == len(part.past.log) == 0
    assert repr(part.past) == "Dataset(shop[age=young]: 0 shoppers, 3 products, 0 events, no time)"
    with pytest.raises(NotEnoughDataError, match="has no events"):
        _ = part.past.start
    with pytest.raises(NotEnoughDataError):
        part.past.split(at="2020-01-02")


def test_segments_split_and_split_parts_segment_alike(shop: Dataset):
    by_segment = shop.segment(by="channel")["app"].split(at="2020-01-04")[1]
    by_time = shop.split(at="2020-01-04")[1].segment(by="channel")["app"]
    assert rows(by_segment) == rows(by_time)
    assert by_segment.digest == by_time.digest


def test_a_segment_equals_one_built_from_its_rows(shop: Dataset):
    part = shop.segment(by="age")["old"]
    rebuilt = dataclasses.replace(part, index=None)
    assert rebuilt.users.equals(part.users)
    for name in ("user", "item", "time", "event"):
        assert getattr(rebuilt.log, name).tolist() == getattr(part.log, name).tolist()


@pytest.mark.parametrize("by", ["agge", "user_id", "timestamp", "nothing"])
def test_columns_one_cannot_segment_by(shop: Dataset, by: str):
    with pytest.raises(SchemaError) as caught:
        shop.segment(by=by)
    assert "profiles: age, kids; catalogue: title, category; events: event, quantity, channel" in caught.value.expected
    if by == "agge":
        assert "by='age'" in caught.value.remedy


def test_too_many_values(shop: Dataset):
    n = 1001
    events = {"user_id": ["u"] * n, "item_id": ["a"] * n, "timestamp": ["2020-01-01"] * n, "till": range(n)}
    many = Dataset.build(name="shop", catalog=shop.catalog, events=pl.DataFrame(events))
    with pytest.raises(InvalidValueError, match="'till' of the events has 1,001 values"):
        many.segment(by="till")
