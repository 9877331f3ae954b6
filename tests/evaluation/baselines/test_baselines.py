"""Baselines: they find what there is to find, read nothing after the cut, and are tuned before it."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from peftrec.data import Catalog, Dataset, Events
from peftrec.data.histories import Ragged
from peftrec.errors import ConfigError, MissingExtraError
from peftrec.evaluation import Task, evaluate
from peftrec.evaluation.baselines import (
    ALS,
    EASE,
    Baseline,
    ItemKNN,
    LightGBMRanker,
    PersonalFrequency,
    Popular,
    TfidfText,
    TrainingRows,
    UserPopularityCF,
    default_baselines,
)
from peftrec.evaluation.baselines.base import Method, purchases, tuned, validation_task, visits
from peftrec.evaluation.baselines.linear import _strongest
from peftrec.evaluation.protocol import popular_lately
from tests.evaluation.worlds import START, Fixed, shop, tastes

CUT = START + timedelta(days=100)
METHODS: dict[str, Method] = {
    "popular": Popular(),
    "popular lately": Popular(28),
    "personal": PersonalFrequency(),
    "personal, decayed": PersonalFrequency(28),
    "UP-CF": UserPopularityCF(half_life=60, neighbours=20),
    "item-kNN": ItemKNN(neighbours=10),
    "EASE": EASE(regularisation=10),
    "ALS": ALS(factors=8),
    "TF-IDF": TfidfText(),
}


@pytest.fixture(scope="module")
def world() -> Dataset:
    return tastes()


def test_who_knows_the_taste_beats_chance_and_popularity(world: Dataset):
    """Eight of 32 products are bought by each; chance gives NDCG@10 of about a quarter, popularity the same."""
    future = world.split(at=CUT)[1]
    chance = Fixed("chance", np.random.default_rng(0).random((60, 32)))
    found = evaluate(
        chance, future, baselines=[Baseline(name, [method]) for name, method in METHODS.items()], progress=False
    )
    for name in set(METHODS) - {"popular", "popular lately"}:
        assert found.compare(name, "chance").low > 0.3, name
        assert found.value(name).value > 0.9, name
    assert found.value("popular").value < 0.5


@pytest.mark.parametrize("name", METHODS)
def test_what_happens_after_the_cut_changes_no_score(world: Dataset, name: str):
    frame = world.events.frame
    early, late = frame.filter(frame["timestamp"] < CUT), frame.filter(frame["timestamp"] >= CUT)
    other = Dataset(
        "other", world.catalog, Events.from_table(early.vstack(late.with_columns(item_id=late["item_id"].reverse())))
    )
    users = np.arange(60, dtype=np.int32)
    first, second = (METHODS[name].fit(data.split(at=CUT)[0])(users) for data in (world, other))
    np.testing.assert_array_equal(first, second)


def test_tuning_reads_nothing_after_the_cut(world: Dataset):
    past, future = world.split(at=CUT)
    task = validation_task(past)
    assert task.past.end < past.end < future.start
    assert task.past.end < past.end - timedelta(days=9)


@pytest.mark.parametrize("name", METHODS)
def test_every_shopper_and_product_gets_a_score(world: Dataset, name: str):
    past, _ = world.split(at=CUT)
    scores = METHODS[name].fit(past)(np.array([3, 59], np.int32))
    assert scores.shape == (2, 32)
    assert scores.dtype == np.float32
    assert not np.isnan(scores).any()


def test_scores_of_a_pool_are_those_of_the_catalogue(world: Dataset):
    past, _ = world.split(at=CUT)
    users, items = np.array([1, 7], np.int32), np.array([[0, 5, 31], [2, 2, 1]], np.int32)
    baseline = Baseline("UP-CF", [METHODS["UP-CF"]])
    whole = baseline.score_catalog(past, users)
    np.testing.assert_array_equal(baseline.score_pool(past, users, items), np.take_along_axis(whole, items, axis=1))


class Constant:
    """Scores that depend on nothing but the settings."""

    def __init__(self, scores: NDArray[np.float32], log: list[Dataset]) -> None:
        self.scores, self.log = scores, log

    def fit(self, past: Dataset):
        self.log.append(past)
        return lambda users: self.scores[users]


def test_tuning_chooses_what_ranks_best_before_the_cut(world: Dataset):
    past, _ = world.split(at=CUT)
    known = purchases(past).toarray().astype(np.float32)
    asked: list[Dataset] = []
    good, bad = Constant(known, asked), Constant(-known, asked)
    assert tuned("either", [bad, good], past) is good
    assert all(data.end < past.end for data in asked)


def test_a_fit_is_kept_for_its_past(world: Dataset):
    past, _ = world.split(at=CUT)
    log: list[Dataset] = []
    baseline = Baseline("one", [Constant(np.zeros((60, 32), np.float32), log)])
    for _ in range(3):
        baseline.score_catalog(past, np.arange(2, dtype=np.int32))
    assert len(log) == 1


def test_counts_by_hand():
    events = [("ann", "a", 0), ("ann", "a", 0.01), ("ann", "a", 10), ("ann", "b", 10), ("bob", "b", 10)]
    past = shop(events, "abc")
    assert purchases(past).toarray().tolist() == [[2, 1, 0], [0, 1, 0]]  # two lines of one visit are one purchase
    np.testing.assert_allclose(purchases(past, half_life=10).toarray(), [[1.5, 1, 0], [0, 1, 0]], rtol=0.01)
    assert visits(past).tolist() == [2, 1]
    assert visits(past, days=5).tolist() == [1, 1]


def test_personal_frequency_breaks_ties_by_popularity():
    events = [
        ("ann", "a", 0),
        ("ann", "b", 0),
        ("bob", "b", 1),
        ("cy", "c", 1),
        ("dan", "c", 1),
        ("eve", "c", 1),
        ("eve", "b", 1),
    ]
    scores = PersonalFrequency().fit(shop(events, "abcd"))(np.array([0], np.int32))
    assert np.argsort(-scores[0], kind="stable").tolist() == [1, 0, 2, 3]


def test_personal_frequency_breaks_ties_of_the_often_bought_too():
    """Bought a hundred times each: popularity must still tell them apart."""
    events = [("ann", item, float(day)) for day in range(100) for item in "ab"]
    events += [("bob", "b", 99), ("cy", "b", 99)]
    scores = PersonalFrequency().fit(shop(events, "abc"))(np.array([0], np.int32))
    assert scores[0, 1] > scores[0, 0]


def test_up_cf_by_hand():
    """ann and bob share a: what bob buys besides comes to ann, as in the paper with similarity 1/2 to the power q = 2."""
    events = [("ann", "a", 1), ("ann", "b", 1), ("bob", "a", 1), ("bob", "c", 1), ("cy", "d", 1)]
    past, ann = shop(events, "abcd"), np.array([0], np.int32)
    paper = UserPopularityCF(half_life=None, own=None, locality=2, neighbours=10).fit(past)(ann)
    np.testing.assert_allclose(paper[0], np.array([1 + 0.25, 1, 0.25, 0]) / 1.25, atol=1e-4)
    apart = UserPopularityCF(half_life=None, own=0.6, locality=2, neighbours=10).fit(past)(ann)
    np.testing.assert_allclose(apart[0], [0.6 + 0.4, 0.6, 0.4, 0], atol=1e-4)


def test_up_cf_serves_a_shopper_who_is_like_nobody():
    past = shop([("ann", "a", 1), ("bob", "b", 1)], "abc")
    scores = UserPopularityCF().fit(past)(np.array([0], np.int32))
    assert np.argsort(-scores[0], kind="stable").tolist() == [0, 1, 2]


def test_text_finds_products_never_sold(world: Dataset):
    past, _ = world.split(at=CUT)
    frame = world.catalog.frame
    wider = Catalog.from_table(
        {
            "item_id": [*frame["item_id"], "new tea", "new lamp"],
            "title": [*frame["title"], "tea of spring", "lamp of oak"],
        }
    )
    scores = TfidfText().fit(Dataset("wider", wider, past.events))(np.array([0], np.int32))  # a drinker of tea
    assert scores[0, 32] > scores[0, 33]
    assert scores[0, 32] > 0


def test_ease_leaves_rare_products_out():
    events = [(f"u{user}", item, 1.0 + user) for user in range(6) for item in ("a", "b")] + [("u0", "c", 1)]
    scores = EASE(regularisation=1, products=2).fit(shop(events, "abcd"))(np.array([0], np.int32))
    assert np.isneginf(scores[0]).tolist() == [False, False, True, True]


def test_ease_equals_its_formula():
    rng = np.random.default_rng(0)
    events = [(f"u{user}", f"i{item}", 1.0) for user in range(20) for item in rng.choice(6, 3, replace=False)]
    past = shop(events, [f"i{item}" for item in range(6)])
    scores = EASE(regularisation=5).fit(past)(np.arange(20, dtype=np.int32))
    X = np.log1p(purchases(past).toarray().astype(np.float64))
    P = np.linalg.inv(X.T @ X + 5 * np.eye(6))
    B = np.eye(6) - P / np.diag(P)[None]
    np.testing.assert_allclose(scores, X @ (B - np.diag(np.diag(B))), atol=1e-5)


def test_the_defaults_are_named_once_and_start_with_popularity():
    names = [baseline.name for baseline in default_baselines()]
    assert len(names) == len(set(names)) == 9
    assert names[0] == "popular"


def test_als_without_implicit_ends_in_the_command_that_mends_it(world: Dataset, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("implicit")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(MissingExtraError, match="implicit") as caught:
        ALS(factors=4).fit(world.split(at=CUT)[0])
    assert "peftrec[demo]" in caught.value.remedy


def test_als_warns_of_nothing_and_changes_no_setting_of_the_process():
    code = (
        "import os, sys, warnings; warnings.simplefilter('error')\n"
        "from tests.evaluation.worlds import tastes; from peftrec.evaluation.baselines import ALS\n"
        "past, name = tastes(shoppers=12, days=30), 'OPENBLAS_NUM_THREADS'\n"
        "ALS(factors=4).fit(past); sys.exit(f'{name} was set' if name in os.environ else 0)"
    )
    env = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr


class CountsAndPopularity:
    """Two features: times bought, buyers lately; all products are candidates."""

    def __init__(self, cut_days: Sequence[float] = (80, 70, 60)) -> None:
        self.cut_days = cut_days

    def training_rows(self, past: Dataset) -> TrainingRows:
        features, labels, groups = [], [], []
        for day in self.cut_days:
            before, after = past.split(at=START + timedelta(days=day))
            task = Task.from_split(after.window(end=START + timedelta(days=day + 10)))
            items, numbers = self.candidates(before, task.users)
            features.append(numbers)
            bought = np.zeros((len(task.users), len(past.catalog)), bool)
            bought[task.slices[0].relevant.rows, task.slices[0].relevant.values] = True
            labels.append(bought[items.rows, items.values])
            groups.append(np.diff(items.offsets))
        rows = np.concatenate(features), np.concatenate(labels), np.concatenate(groups)
        return TrainingRows(rows[0], rows[1], np.ones(len(rows[1]), np.float32), rows[2])

    def candidates(self, past: Dataset, users: NDArray[np.int32]) -> tuple[Ragged, NDArray[np.float32]]:
        items = Ragged.grid(np.tile(np.arange(len(past.catalog), dtype=np.int32), (len(users), 1)))
        return items, self.features(past, users, items)

    def features(self, past: Dataset, users: NDArray[np.int32], items: Ragged) -> NDArray[np.float32]:
        own = np.asarray(purchases(past)[users[items.rows], items.values]).ravel()
        return np.stack([own, popular_lately(past)[items.values]], axis=1).astype(np.float32)


@pytest.mark.parametrize("objective", ["lambdarank", "binary"])
def test_trees_learn_to_rank_by_the_shoppers_own_purchases(
    world: Dataset, monkeypatch: pytest.MonkeyPatch, objective: str
):
    monkeypatch.setattr("peftrec.evaluation.baselines.boosting.VALIDATION_ROWS", 60)
    monkeypatch.setattr("peftrec.evaluation.baselines.boosting.ROUNDS", 20)
    future = world.split(at=CUT)[1]
    ranker = LightGBMRanker(CountsAndPopularity(), objective=objective, name="LightGBM")
    found = evaluate(ranker, future, baselines=[Baseline("popular", [Popular()])], progress=False)
    assert found.value("LightGBM").value > 0.9
    assert ranker.chosen is not None
    assert ranker.chosen["objective"] == objective
    assert ("LightGBM" in found.calibration) == (objective == "binary")
    with pytest.raises(ConfigError, match="lambdarank or binary"):
        LightGBMRanker(CountsAndPopularity(), objective="magic")


def test_trees_cope_with_fewer_rows_than_validation_would_take(world: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peftrec.evaluation.baselines.boosting.ROUNDS", 20)
    past, _ = world.split(at=CUT)
    ranker = LightGBMRanker(CountsAndPopularity())
    assert np.isfinite(ranker.score_catalog(past, np.array([0], np.int32))).all()


@pytest.mark.slow
def test_real_households(grocery: Dataset):
    """150 households: habits must beat popularity by far, and similar shoppers add to habits."""
    future = grocery.split(at="2017-11-27T05:00")[1]
    first, *others = default_baselines()
    found = evaluate(first, future, baselines=others, progress=False)
    assert found.compare("personal, decayed", "popular").low > 0.1
    assert found.compare("UP-CF", "popular lately").low > 0.1
    assert found.value("UP-CF").value > 0.3


def test_neighbours_kept_are_the_strongest_and_of_equals_the_first():
    rng = np.random.default_rng(0)
    full = rng.integers(0, 5, (40, 30)).astype(np.float32)
    found = _strongest(sparse.csr_matrix(full), 7).toarray()
    for row, kept in zip(full, found, strict=True):
        best = np.argsort(-row, kind="stable")[:7]
        expected = np.zeros_like(row)
        expected[best] = row[best]
        np.testing.assert_array_equal(kept, expected)


def test_what_is_tried_in_place_of_a_setting_chooses_it(world: Dataset):
    past, _ = world.split(at=CUT)
    grid = [Popular(), PersonalFrequency(28)]
    assert tuned("either", grid, past) is grid[1]
    assert tuned("either", grid, past, trials=[PersonalFrequency(28), Popular()]) is grid[0]
    baseline = Baseline("either", grid, trials=[PersonalFrequency(28), Popular()])
    baseline.tune(past)
    assert baseline.chosen is grid[0]


def test_settings_are_tried_on_the_rows_behind_those_that_choose(world: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peftrec.evaluation.baselines.boosting.TRIAL_ROWS", 30)
    monkeypatch.setattr("peftrec.evaluation.baselines.boosting.ROUNDS", 20)
    past, _ = world.split(at=CUT)
    rows = CountsAndPopularity().training_rows(past)
    part = rows.part(slice(3, 7))
    first, last = rows.groups[:3].sum(), rows.groups[:7].sum()
    np.testing.assert_array_equal(part.features, rows.features[first:last])
    np.testing.assert_array_equal(part.groups, rows.groups[3:7])
    assert len(rows.part(slice(5, 5)).features) == 0
    ranker = LightGBMRanker(CountsAndPopularity())
    assert np.isfinite(ranker.score_catalog(past, np.array([0], np.int32))).all()
    learned = ranker._model.current_iteration()  # pyright: ignore[reportAttributeAccessIssue]
    assert learned == ranker.chosen["rounds"]  # pyright: ignore[reportOptionalSubscript]
