"""Shoppers' pasts, laid end to end."""

from dataclasses import fields

import numpy as np
import pytest

from peftrec.data import Catalog, Dataset, Events
from peftrec.data.histories import EVENT_ARRAYS, Histories, first_of
from tests.evaluation.worlds import tastes


@pytest.fixture(scope="module")
def whole() -> Histories:
    shop: Dataset = tastes(shoppers=6)
    return Histories.of(shop, np.arange(6), moment=shop.now)


def test_shoppers_one_by_one_join_to_all_of_them(whole: Histories):
    joined = Histories.join([whole.take(np.array([row])) for row in range(len(whole))])
    for name in ("offsets", "channel", *EVENT_ARRAYS):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name), err_msg=name)
    assert {field.name for field in fields(Histories)} == {"offsets", "channel", "coupons", *EVENT_ARRAYS}


def test_a_shopper_without_a_past_takes_a_row(whole: Histories):
    nobody = Histories.of(tastes(shoppers=6), np.array([0]), moment=0.0)
    joined = Histories.join([nobody, whole, nobody])
    assert len(joined) == 8
    np.testing.assert_array_equal(joined.take(np.arange(1, 7)).item, whole.item)
    assert np.diff(joined.offsets)[[0, -1]].tolist() == [0, 0]


def test_the_channel_that_is_used_most_and_of_equals_the_first():
    used = [("u", "web"), ("u", "app"), ("u", None), ("v", "web"), ("v", None), ("v", None), ("w", None)]
    events = {
        "user_id": [user for user, _ in used],
        "item_id": ["a"] * len(used),
        "timestamp": [f"2024-01-0{day}" for day in range(1, 1 + len(used))],
        "channel": [channel for _, channel in used],
    }
    catalog = Catalog.from_table({"item_id": ["a"], "title": ["tea"]})
    shop = Dataset("shop", catalog, Events.from_table(events))
    found = Histories.of(shop, np.array([0, 1, 2, 0]), moment=shop.now)
    assert found.channel.tolist() == [0, 1, -1, 0]  # app comes before web
    assert Histories.of(shop, np.array([0]), moment=0.0).channel.tolist() == [-1]


def test_first_of_each_combination():
    rng = np.random.default_rng(0)
    keys = rng.integers(-2, 3, (3, 200))
    expected = np.unique(keys, axis=1, return_index=True)[1]
    np.testing.assert_array_equal(first_of(*keys), expected)
    assert 20 < len(expected) < 125
    assert not len(first_of(np.empty(0, np.int64), np.empty(0, np.int64)))
