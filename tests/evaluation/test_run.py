"""The whole protocol on worlds whose numbers are known."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from peftrec.data import Dataset
from peftrec.errors import ConfigError, InvalidValueError, NotEnoughDataError
from peftrec.evaluation import Task, evaluate
from peftrec.evaluation.metrics import RANKING, Places, descending_ranks
from peftrec.evaluation.run import chunks, measure
from peftrec.registry import Registry
from tests.evaluation.worlds import START, Fixed, shop
from tests.registry.conftest import Small, small_facts

CUT = START + timedelta(days=50)


@pytest.fixture
def future() -> Dataset:
    events = [("ann", "a", 0), ("ann", "b", 1), ("ann", "a", 60), ("ann", "d", 60), ("bob", "c", 1), ("bob", "c", 60)]
    return shop(events, "abcd").split(at=CUT)[1]


def test_numbers_by_hand(future: Dataset):
    """Ann buys a (known) and d (new); bob buys c again."""
    system = Fixed("ours", [[4, 3, 1, 2], [4, 3, 1, 2]])  # a b d c for both
    found = evaluate(system, future, baselines=None, progress=False)
    log = np.log2
    ann, bob = (1 + 1 / log(4)) / (1 + 1 / log(3)), 1 / log(5)
    np.testing.assert_allclose(found.vectors["ours", "all", "ndcg@10"], [ann, bob])
    np.testing.assert_allclose(found.vectors["ours", "all", "mrr"], [1, 1 / 4])
    # Without a and b, which she bought before, d stands first for ann; bob buys nothing new.
    np.testing.assert_allclose(found.vectors["ours", "never_bought", "ndcg@10"], [1])
    assert found.users["never_bought"].tolist() == [0]
    assert found.value("ours").value == pytest.approx((ann + bob) / 2)


def test_facts_are_what_a_manifest_tells(future: Dataset, tmp_path: Path):
    systems = [Fixed("ours", [[0.8, 0.6, 0.2, 0.4]] * 2, probabilistic=True), Fixed("plain", np.ones((2, 4)))]
    found = evaluate(systems, future, baselines=None, progress=False)
    told = found.facts()
    metrics = {(entry["metric"], entry["slice"]): entry for entry in told["metrics"]}
    value, low, high = found.value("ours")
    assert metrics["ndcg@10", "all"] == {"metric": "ndcg@10", "slice": "all", "value": value, "low": low, "high": high}
    assert ("ece", "all") in metrics
    curve = found.reliability("ours")
    assert [group["count"] for group in told["reliability"]] == curve.count.tolist()
    version = Registry(tmp_path).publish("ours", Small(facts=small_facts() | told))
    assert version.manifest.metrics == told["metrics"]
    assert version.manifest.reliability == told["reliability"]
    assert "reliability" not in found.facts("plain")
    with pytest.raises(ConfigError, match="nobody"):
        found.facts("nobody")


def test_what_is_no_candidate_earns_nothing(future: Dataset):
    nothing = Fixed("nothing", np.full((2, 4), -np.inf))
    found = evaluate(nothing, future, baselines=None, progress=False)
    for slice_ in found.slices:
        for metric in ("ndcg@10", "hit_rate@10", "recall@20", "mrr"):
            assert found.value("nothing", metric, slice_) == (0, 0, 0)
    assert found.value("nothing", "auc").value == 0.5


def test_products_never_sold_are_ranked_too():
    events = [("ann", "a", 0), ("ann", "b", 60)]
    future = shop(events, "abzyx").split(at=CUT)[1]
    found = evaluate(Fixed("ours", [[0, 1, 2, 3, 4]]), future, baselines=None, progress=False)
    assert found.value("ours", "mrr").value == pytest.approx(1 / 4)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    items = [f"i{index:02d}" for index in range(30)]
    events = [
        (f"u{user:02d}", items[int(rng.integers(30))], float(day)) for user in range(25) for day in range(0, 100, 4)
    ]
    future = shop(events, items).split(at=CUT)[1]
    system = Fixed("ours", rng.random((25, 30)), probabilistic=True)
    whole = evaluate(system, future, baselines=None, progress=False)
    monkeypatch.setattr("peftrec.evaluation.run.CELLS", 90)  # three shoppers at once
    parts = evaluate(system, future, baselines=None, progress=False)
    assert whole.vectors.keys() == parts.vectors.keys()
    for key, values in whole.vectors.items():
        np.testing.assert_array_equal(values, parts.vectors[key])


def test_what_leaves_a_ranking_moves_up_all_behind_it(monkeypatch: pytest.MonkeyPatch):
    """As if it had been scored minus infinity before anything was sorted, ties and what is not ranked included."""
    rng = np.random.default_rng(0)
    items = [f"i{index:02d}" for index in range(40)]
    events = [
        (f"u{user:02d}", items[int(rng.integers(40))], float(day)) for user in range(20) for day in range(0, 100, 5)
    ]
    task = Task.from_split(shop(events, items).split(at=CUT)[1])
    scores = rng.integers(0, 6, (20, 40)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    monkeypatch.setattr("peftrec.evaluation.run.CELLS", 120)
    found, _ = measure(Fixed("ours", scores), task)
    for part in task.slices:
        left = scores[task.users[part.rows]].copy()
        left[part.excluded.rows, part.excluded.values] = -np.inf
        ranks = descending_ranks(left)[part.relevant.rows, part.relevant.values]
        for name, metric in RANKING.items():
            np.testing.assert_array_equal(found[part.name, name], metric(Places.of(part.relevant.rows, ranks)))
    assert len(task.slices[1].excluded.values)


def test_chunks_cover_every_row_once_whatever_the_catalogue():
    assert np.concatenate(list(chunks(7, 10**9))).tolist() == list(range(7))
    assert not list(chunks(0, 10))


def test_probabilities_bring_log_loss_and_calibration(future: Dataset):
    half = Fixed("half", np.full((2, 4), 0.5), probabilistic=True)
    found = evaluate(half, future, baselines=[Fixed("scores", np.full((2, 4), 0.5))], progress=False)
    assert found.value("half", "log_loss").value == pytest.approx(np.log(2))
    # Both pools hold a, b and c; ann buys a, bob c, and d is in no pool.
    assert found.value("half", "ece").value == pytest.approx(0.5 - 2 / 6)
    assert found.reliability("half").count.sum() == 6
    assert "ece" not in found.metrics("scores")
    with pytest.raises(ConfigError, match="probabilistic system 'scores'"):
        found.reliability("scores")


def test_systems_are_told_apart(future: Dataset):
    system = Fixed("ours", np.zeros((2, 4)))
    with pytest.raises(ConfigError, match="two systems are called 'ours'"):
        evaluate([system, system], future, baselines=None, progress=False)
    with pytest.raises(ConfigError, match="no system to evaluate"):
        evaluate([], future, baselines=None, progress=False)
    with pytest.raises(ConfigError, match="not a system"):
        evaluate(42, future, baselines=None, progress=False)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="no baselines called 'many'"):
        evaluate(system, future, baselines="many", progress=False)


def test_a_system_that_breaks_is_named(future: Dataset):
    with pytest.raises(InvalidValueError, match="'broken' scored"):
        evaluate(Fixed("broken", np.full((2, 4), np.nan)), future, baselines=None, progress=False)
    with pytest.raises(InvalidValueError, match="shape"):
        evaluate(Fixed("broken", np.zeros((2, 3))), future, baselines=None, progress=False)


class Factory:
    """Becomes a recommender, as an adapter does."""

    def recommender(self) -> Fixed:
        return Fixed("made", np.zeros((2, 4)))


def test_what_knows_how_to_become_a_recommender_is_one(future: Dataset):
    assert evaluate(Factory(), future, baselines=None, progress=False).systems == ("made",)


def test_a_segment_is_evaluated_on_its_own(future: Dataset):
    parts = future.segment(by="title")
    for title, user in (("product a", 0), ("product c", 1)):
        found = evaluate(Fixed("ours", np.zeros((2, 1))), parts[title], baselines=None, progress=False)
        assert found.users["all"].tolist() == [user]
        assert found.value("ours", "mrr").value == 1  # the only product there is
    with pytest.raises(NotEnoughDataError, match="no shopper"):  # nobody had d before
        evaluate(Fixed("ours", np.zeros((2, 1))), parts["product d"], baselines=None, progress=False)
