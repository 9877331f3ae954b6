"""Who is asked about, and what counts, in a shop small enough to work out by hand."""

from datetime import timedelta

import numpy as np
import pytest

from peftrec.data import Dataset
from peftrec.errors import InvalidValueError, NotEnoughDataError
from peftrec.evaluation import Task
from peftrec.evaluation.protocol import POOL_OWN, POOL_POPULAR, popular_lately
from tests.evaluation.worlds import START, shop

CUT = START + timedelta(days=50)


@pytest.fixture
def small() -> Dataset:
    return shop(
        [
            ("ann", "a", 0), ("ann", "a", 40), ("ann", "b", 41), ("ann", "a", 60), ("ann", "c", 60), ("ann", "c", 61),
            ("bob", "c", 1), ("bob", "c", 55),  # buys nothing new
            ("cy", "d", 45),  # buys nothing after the cut
            ("dan", "a", 70),  # nothing before the cut
        ],
        "abcde",
    )  # fmt: skip


def test_shoppers_need_a_past_and_a_purchase(small: Dataset):
    task = Task.from_split(small.split(at=CUT)[1])
    assert [task.past.users[int(user)] for user in task.users] == ["ann", "bob"]


def test_relevant_products_are_distinct(small: Dataset):
    everything, new = Task.from_split(small.split(at=CUT)[1]).slices
    assert [everything.relevant[row].tolist() for row in range(2)] == [[0, 2], [2]]
    assert not len(everything.excluded.values)
    assert new.rows.tolist() == [0]  # bob is left out
    assert new.relevant[0].tolist() == [2]
    assert new.excluded[0].tolist() == [0, 1]


def test_only_purchases_count():
    seen = shop([("ann", "a", 0), ("ann", "b", 60)], "ab", event="view")
    with pytest.raises(NotEnoughDataError, match="no shopper of 'small'"):
        Task.from_split(seen.split(at=CUT)[1])


def test_a_part_without_past_is_refused(small: Dataset):
    with pytest.raises(InvalidValueError, match="no past") as caught:
        Task.from_split(small)
    assert "split" in caught.value.remedy


def test_popularity_counts_buyers_of_the_last_weeks(small: Dataset):
    past, _ = small.split(at=CUT)
    assert popular_lately(past).tolist() == [1, 1, 0, 1, 0]
    assert popular_lately(past, days=float("inf")).tolist() == [1, 1, 1, 1, 0]


def test_the_pool_is_the_own_products_then_the_popular_ones(small: Dataset):
    pool = Task.from_split(small.split(at=CUT)[1]).pool
    rows = [pool.items[row][pool.mask[row]].tolist() for row in range(2)]
    assert rows == [[0, 1, 3], [2, 0, 1, 3]]  # ann bought a more than b; bob's c, then the popular by index
    assert pool.labels[0][pool.mask[0]].tolist() == [True, False, False]
    assert pool.labels[1][pool.mask[1]].tolist() == [True, False, False, False]


def test_the_pool_is_cut_at_its_sizes_and_holds_no_product_twice():
    items = [f"i{index:04d}" for index in range(900)]
    events = [("ann", item, 40.0 + 0.01 * index) for index, item in enumerate(items[:300])]
    events += [(f"u{index % 7}", item, 45) for index, item in enumerate(items[200:900])]
    events += [("ann", items[0], 60)]
    task = Task.from_split(shop(events, items).split(at=CUT)[1])
    (row,) = task.pool.items
    assert task.pool.mask.all()
    assert len(row) == len(set(row.tolist())) == POOL_OWN + POOL_POPULAR
    assert set(row[:POOL_OWN].tolist()) == set(range(50, 300))  # the latest: they decayed least
    # Then one buyer each, the lower index first: ann's own that found no room, and what only others bought.
    assert row[POOL_OWN:].tolist() == [*range(50), *range(300, 400)]


def test_a_sample_of_shoppers_is_drawn_by_the_seed():
    events = [(f"u{user:03d}", "a", day) for user in range(100) for day in (0, 60)]
    future = shop(events, "ab").split(at=CUT)[1]
    some, same, other = (Task.from_split(future, limit=10, seed=seed).users for seed in (1, 1, 2))
    assert len(some) == 10
    np.testing.assert_array_equal(some, same)
    assert not np.array_equal(some, other)
    assert (np.diff(some) > 0).all()
