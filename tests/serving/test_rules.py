"""What a shop wants shown: stock, prices, categories, variety."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Catalog, Dataset
from peftrec.errors import RequestError
from peftrec.model import Adapter
from peftrec.registry import Registry
from peftrec.serving import Engine, Rules
from peftrec.serving.requests import Request

CATALOG = Catalog.from_table(
    {
        "item_id": ["tea", "mug", "kettle", "spoon"],
        "title": ["green tea", "red mug", "steel kettle", "spoon"],
        "price": [3.0, 8.0, 40.0, None],
        "category": ["drinks", "kitchen", "kitchen", None],
    }
)


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        (Rules(), [1, 1, 1, 1]),
        (Rules(available=frozenset({"tea", "spoon"})), [1, 0, 0, 1]),
        (Rules(available=frozenset()), [0, 0, 0, 0]),
        (Rules(available=frozenset({"tea", "newer than the catalogue"})), [1, 0, 0, 0]),
        (Rules(exclude=frozenset({"tea"})), [0, 1, 1, 1]),
        (Rules(least_price=5), [0, 1, 1, 0]),
        (Rules(most_price=8), [1, 1, 0, 0]),
        (Rules(least_price=4, most_price=20), [0, 1, 0, 0]),
        (Rules(categories=frozenset({"kitchen"})), [0, 1, 1, 0]),
        (Rules(categories=frozenset({"kitchen"}), most_price=10), [0, 1, 0, 0]),
    ],
)
def test_what_is_allowed(rules: Rules, allowed: list[int]):
    assert rules.allowed(CATALOG).astype(int).tolist() == allowed


def test_lists_are_taken_for_sets():
    loose: Any = ["tea", "mug", "tea"]
    assert Rules(available=loose) == Rules(available=frozenset({"tea", "mug"}))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"available": "tea"}, "a list of texts"),
        ({"exclude": [7]}, "ids are text"),
        ({"least_price": -1}, "0 or more"),
        ({"most_price": float("nan")}, "0 or more"),
        ({"least_price": 9, "most_price": 8}, "exchange"),
        ({"diversity": 1}, "0 to below 1"),
        ({"diversity": True}, "0 to below 1"),
        ({"most_of_category": 0}, "at least 1"),
        ({"most_of_category": True}, "at least 1"),
    ],
)
def test_rules_that_are_none(settings: dict[str, Any], what: str):
    with pytest.raises(RequestError, match=what):
        Rules(**settings)


def test_rules_that_do_not_fit_the_catalogue():
    for rules in (Rules(exclude=frozenset({"coffee"})), Rules(available=frozenset({"coffee", "cups"}))):
        with pytest.raises(RequestError, match="is in the catalogue, such as 'coffee'"):
            rules.allowed(CATALOG)
    nameless = Catalog.from_table({"item_id": ["a"], "title": ["a"], "category": [None]})
    with pytest.raises(RequestError, match="no product of the category 'x'"):
        Rules(categories=frozenset({"x"})).allowed(nameless)
    with pytest.raises(RequestError, match="no product of the category 'toys'"):
        Rules(categories=frozenset({"toys"})).allowed(CATALOG)
    bare = Catalog.from_table({"item_id": ["a"], "title": ["a"]})
    for rules in (Rules(most_price=1), Rules(categories=frozenset({"x"}))):
        with pytest.raises(RequestError, match="which the catalogue does not tell"):
            rules.allowed(bare)


def test_diversity_by_hand():
    """Two like products and one of its own kind: the second place goes to whichever the weight says."""
    chance = np.array([0.8, 0.7, 0.4])
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    apart = np.arange(3)
    assert Rules().ranked(chance, vectors, apart, 3) == [0, 1, 2]
    # 0.5 * 0.7 / 0.8 - 0.5 * 1 < 0.5 * 0.4 / 0.8 - 0
    assert Rules(diversity=0.5).ranked(chance, vectors, apart, 3) == [0, 2, 1]
    # 0.8 * 0.7 / 0.8 - 0.2 * 1 = 0.5 > 0.8 * 0.4 / 0.8 = 0.4
    assert Rules(diversity=0.2).ranked(chance, vectors, apart, 3) == [0, 1, 2]
    assert Rules(most_of_category=1).ranked(chance, vectors, np.array([0, 0, 1]), 3) == [0, 2]
    assert Rules(most_of_category=1).ranked(chance, vectors, np.array([0, 0, 1]), 1) == [0]
    opposed = np.array([[1, 0], [1, 0.0], [-1, 0]], np.float32)
    opposed[1] = (0, 1)
    assert Rules(diversity=0.3).ranked(np.array([0.8, 0.7, 0.69]), opposed, apart, 3) == [
        0,
        2,
        1,
    ]  # cosine -1 is a bonus
    assert Rules().ranked(np.zeros(0), np.zeros((0, 2), np.float32), np.zeros(0, np.int64), 3) == []


@pytest.fixture(scope="module")
def engine(backbone: Backbone, grocery: Dataset, trained: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    registry = Registry(tmp_path_factory.mktemp("rules"))
    registry.publish("grocery", trained)
    engine = Engine(backbone, registry)
    engine.attach(grocery, adapter="grocery")
    return engine


def test_an_answer_keeps_the_rules(engine: Engine, grocery: Dataset):
    user = grocery.users[0]
    free = engine.recommend("grocery", user=user, k=8)
    assert engine.recommend("grocery", user=user, k=8, rules=Rules()) == free
    shown = {entry.item_id for entry in free}
    without = engine.recommend("grocery", user=user, k=8, rules=Rules(exclude=frozenset(shown)))
    assert len(without) == 8
    assert not shown & {entry.item_id for entry in without}
    # Ten products that the sources would never name: retrieval names them, since nothing else is allowed.
    rare = sorted({*grocery.catalog.ids} - shown)[-10:]
    narrow = engine.recommend("grocery", user=user, k=10, rules=Rules(available=frozenset(rare)))
    assert {entry.item_id for entry in narrow} == {*rare}
    chances = dict(zip(rare, engine.score("grocery", rare, user=user), strict=True))
    assert [entry.probability for entry in narrow] == pytest.approx(sorted(chances.values(), reverse=True), abs=1e-6)
    assert engine.recommend("grocery", user=user, k=3, rules=Rules(available=frozenset())) == []


def test_variety_costs_probability_and_no_more(engine: Engine, grocery: Dataset):
    user = grocery.users[0]
    plain = engine.recommend("grocery", user=user, k=6)
    varied = engine.recommend("grocery", user=user, k=6, rules=Rules(diversity=0.6))
    assert varied[0] == plain[0]
    assert sum(entry.probability for entry in varied) <= sum(entry.probability for entry in plain)
    backbone = engine.backbone

    def likeness(titles: list[str]) -> float:
        vectors = backbone.encode(titles, progress=False)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((vectors @ vectors.T)[np.triu_indices(len(titles), 1)].mean())

    assert likeness([entry.title for entry in varied]) < likeness([entry.title for entry in plain])


def test_rules_beside_what_was_bought(engine: Engine, grocery: Dataset):
    user = grocery.users[0]
    bought = {*grocery.events.frame.filter(pl.col("user_id") == user)["item_id"]}
    stock = sorted(bought)[:5] + sorted({*grocery.catalog.ids} - bought)[:5]
    found = engine.recommend("grocery", user=user, k=10, exclude_bought=True, rules=Rules(available=frozenset(stock)))
    assert {entry.item_id for entry in found} == {*stock} - bought


def test_rules_are_rules():
    with pytest.raises(RequestError, match="rules="):
        Request(adapter="grocery", rules={"available": ["tea"]})  # pyright: ignore[reportArgumentType]
