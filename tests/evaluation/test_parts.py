"""Parts of all purchases, and what lists are like, in a shop small enough to work out by hand."""

from datetime import timedelta

import numpy as np
import pytest
from scipy import sparse

from peftrec.data import Catalog, Dataset, Events, Profiles
from peftrec.errors import ConfigError
from peftrec.evaluation import evaluate
from peftrec.evaluation.metrics import diversity, novelty
from tests.evaluation.worlds import START, Fixed

CUT = START + timedelta(days=50)
RULES = ("repeat", "head", "tail", "cold_products", "light_shoppers", "heavy_shoppers", "cold_shoppers")

BEFORE = [
    *[("ann", item, day) for day in range(6) for item in "abcdef"],  # six products, a's buyers are all three shoppers
    ("bob", "a", 1), ("bob", "b", 1), ("bob", "b", 9),
    ("cy", "a", 2),
]  # fmt: skip
AFTER = [("ann", "a", 60), ("ann", "g", 60), ("bob", "c", 60), ("cy", "a", 61), ("cy", "f", 61)]
# Buyers before: a 3, b 2, c to f 1 each, g none; nine pairs, so that a and b are the head.


@pytest.fixture
def future() -> Dataset:
    return world(AFTER)


def world(after: list[tuple[str, str, int]]) -> Dataset:
    """The window after the cut."""
    user, item, day = zip(*BEFORE, *after, strict=True)
    times = [START + timedelta(days=one) for one in day]
    events = Events.from_table({"user_id": list(user), "item_id": list(item), "timestamp": times})
    titles = ["red tea", "green tea", "black tea", "soap", "lamp", "desk", "chair"]
    catalog = Catalog.from_table({"item_id": list("abcdefg"), "title": titles})
    profiles = Profiles.from_table({"user_id": ["ann", "bob"], "income": ["high", "low"]})
    return Dataset("small", catalog, events, profiles).split(at=CUT)[1]


SCORES = np.array([[7, 6, 5, 4, 3, 2, 1]] * 3)  # a to g


def test_every_part_by_hand(future: Dataset):
    found = evaluate(Fixed("ours", SCORES), future, baselines=None, parts=(*RULES, "income"), progress=False)
    first, third = 1.0, 1 / np.log2(4)
    sixth, seventh = 1 / np.log2(7), 1 / np.log2(8)
    expected = {
        "repeat": {0: first, 2: first},  # ann's a and cy's a
        "head": {0: first, 2: first},
        "tail": {1: third, 2: sixth},  # bob's c and cy's f, though nobody's list is cut
        "cold_products": {0: seventh},  # ann's g
        "light_shoppers": {2: (first + sixth) / (1 + 1 / np.log2(3))},
        "heavy_shoppers": {0: (first + seventh) / (1 + 1 / np.log2(3))},
        "cold_shoppers": {1: third, 2: (first + sixth) / (1 + 1 / np.log2(3))},
        "income=high": {0: (first + seventh) / (1 + 1 / np.log2(3))},
        "income=low": {1: third},
        "income=unknown": {2: (first + sixth) / (1 + 1 / np.log2(3))},
    }
    for part, of_user in expected.items():
        assert found.users[part].tolist() == list(of_user), part
        np.testing.assert_allclose(found.vectors["ours", part, "ndcg@10"], list(of_user.values()), err_msg=part)
    assert "income=high" in str(found)


def test_head_tail_and_cold_products_are_all_there_is(future: Dataset):
    found = evaluate(Fixed("ours", SCORES), future, baselines=None, parts=RULES, progress=False)
    hits = {part: found.vectors["ours", part, "recall@20"] for part in ("head", "tail", "cold_products")}
    assert all((values == 1).all() for values in hits.values())  # seven products, all within twenty
    assert sum(map(len, hits.values())) == len(AFTER)  # here no shopper has two purchases in one of them


def test_a_part_in_which_nobody_buys_is_left_out():
    found = evaluate(
        Fixed("ours", SCORES), world([("cy", "f", 61)]), baselines=None, parts=("cold_products", "tail"), progress=False
    )
    assert found.slices == ("all", "never_bought", "tail")


def test_an_unknown_part_is_refused(future: Dataset):
    with pytest.raises(ConfigError, match="'wealth'") as caught:
        evaluate(Fixed("ours", SCORES), future, baselines=None, parts=("wealth",), progress=False)
    assert "cold_products" in caught.value.expected
    assert "income" in caught.value.expected


def test_what_lists_are_like(future: Dataset):
    picky = np.where(np.arange(7) < 2, SCORES, -np.inf)
    systems = [Fixed("all", SCORES), Fixed("two", picky)]
    found = evaluate(systems, future, baselines=None, lists=True, progress=False)
    assert found.value("all", "coverage@10").value == 1
    assert found.value("two", "coverage@10").value == pytest.approx(2 / 7)
    assert found.value("two", "novelty@10").value == pytest.approx((0 - np.log2(2 / 3)) / 2)
    assert found.value("two", "diversity@10").value < found.value("all", "diversity@10").value
    row = next(row for row in found.rows() if row["metric"] == "coverage@10")
    assert (row["low"], row["high"]) == (None, None)
    assert "coverage@10" not in {entry["metric"] for entry in found.facts()["metrics"]}
    assert "diversity@10" in {entry["metric"] for entry in found.facts()["metrics"]}


def test_lists_are_not_looked_at_unasked(future: Dataset):
    found = evaluate(Fixed("ours", SCORES), future, baselines=None, progress=False)
    assert "novelty@10" not in found.metrics("ours")


def test_diversity_is_one_less_the_mean_cosine():
    words = sparse.csr_matrix(np.array([[1, 0], [0, 1], [0.6, 0.8]]))
    found = diversity([np.array([0, 1]), np.array([0, 2]), np.array([0, 1, 2]), np.array([1])], words)
    np.testing.assert_allclose(found[:3], [1, 0.4, 1 - (0 + 0.6 + 0.8) / 3])
    assert np.isnan(found[3])


def test_novelty_is_in_bits():
    np.testing.assert_allclose(
        novelty([np.array([0]), np.array([0, 1, 2])], np.array([4, 1, 0]), 4), [0, (0 + 2 + 2) / 3]
    )
