"""Trees as tables give what LightGBM gives."""

import lightgbm
import numpy as np
import pytest
import torch

from peftrec.data.features import FEATURES
from peftrec.model import forest
from peftrec.training.forest import fit_forest, settings_of, tables_of
from peftrec.training.rows import Labelled

ROWS = 4000


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    features = random.integers(-3, 4, (ROWS, len(FEATURES))).astype(np.float16)  # equal to thresholds now and then
    signal = features[:, 0].astype(float) * features[:, 1] + np.abs(features[:, 2])
    return features, random.random(ROWS) < 1 / (1 + np.exp(-signal))


def test_tables_predict_what_lightgbm_predicts(world: tuple[np.ndarray, np.ndarray]):
    features, labels = world
    weight = np.where(labels, 1, 3).astype(np.float32)
    tables = fit_forest(Labelled(features, labels, weight), seed=0, progress=False)
    again = fit_forest(Labelled(features, labels, weight), seed=0, progress=False)
    assert all(torch.equal(tables[name], again[name]) for name in tables)
    table = lightgbm.Dataset(features.astype(np.float32), labels.astype(np.int8), weight=weight)
    booster = lightgbm.train(settings_of(Labelled(features, labels, weight), seed=0), table, forest.TREES)
    expected = booster.predict(features.astype(np.float32), raw_score=True)
    found = forest.forest_logits(tables, torch.from_numpy(features.astype(np.float32))).numpy()
    assert np.ptp(expected) > 2  # it has learned something
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_leaf_holds_enough_purchases_to_speak_for_them():
    rare = np.random.default_rng(0).random(100_000) < 0.002
    few = Labelled(np.zeros((len(rare), 1), np.float32), rare, np.ones(len(rare), np.float32))
    assert settings_of(few, seed=0)["min_sum_hessian_in_leaf"] == pytest.approx(rare.sum() / 50)
    many = few._replace(bought=np.ones(len(rare), bool))
    assert settings_of(many, seed=0)["min_sum_hessian_in_leaf"] == 100


def test_stacked_forests_answer_as_each_alone(world: tuple[np.ndarray, np.ndarray]):
    features, labels = world
    worlds = [Labelled(features, labels ^ (features[:, column] > 0), np.ones(ROWS, np.float32)) for column in (3, 4)]
    several = [fit_forest(one, seed=0, progress=False) for one in worlds]
    stack = {name: torch.stack([one[name] for one in several]) for name in several[0]}
    x = torch.from_numpy(features[:200].astype(np.float32)).unflatten(0, (2, 100))
    together = forest.forest_logits(stack, x)
    for row, one in enumerate(several):
        assert torch.equal(together[row], forest.forest_logits(one, x[row]))
    assert not torch.equal(forest.forest_logits(several[1], x[0]), together[0])


def test_a_gpu_takes_another_way_to_the_same_leaves(world: tuple[np.ndarray, np.ndarray]):
    features, labels = world
    tables = fit_forest(Labelled(features, labels, np.ones(ROWS, np.float32)), seed=0, progress=False)
    x = torch.from_numpy(features[:333].astype(np.float32))
    found = forest.forest_logits(tables, x)
    torch.testing.assert_close(forest._gathered(*(tables[name] for name in forest.SHAPES), x), found, atol=1e-5, rtol=0)
    for some in (x[:1], x[7:40], x[300:]):  # whoever walks beside it
        at = (x == some[0]).all(dim=1).nonzero()[0, 0]
        assert torch.equal(forest.forest_logits(tables, some)[0], found[at])


def test_few_rows_make_trees_without_splits():
    features = np.zeros((50, len(FEATURES)), np.float16)
    labelled = Labelled(features, np.arange(50) < 10, np.ones(50, np.float32))
    tables = fit_forest(labelled, seed=0, progress=False)
    logits = forest.forest_logits(tables, torch.zeros(3, len(FEATURES)))
    torch.testing.assert_close(torch.sigmoid(logits), torch.full((3,), 0.2), atol=1e-3, rtol=0)


def test_an_empty_forest_says_nothing():
    assert torch.equal(forest.forest_logits(forest.empty(), torch.randn(5, len(FEATURES))), torch.zeros(5))


def test_a_tree_that_does_not_fit_is_refused():
    leaf = {"leaf_value": 0.0}
    split = {"split_feature": 0, "threshold": 0.5, "decision_type": "==", "left_child": leaf, "right_child": leaf}
    with pytest.raises(ValueError, match="=="):
        tables_of([split])


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ("forest_feature", len(FEATURES)),
        ("forest_feature", -1),
        ("forest_feature", 0.5),
        ("forest_child", forest.NODES),
        ("forest_child", -1),
        ("forest_child", 0.5),
        ("forest_child", np.nan),
        ("forest_child", np.inf),
        ("forest_feature", np.nan),
    ],
)
def test_damaged_tables_are_noticed(table: str, value: float):
    tables = {name: value.numpy() for name, value in forest.empty().items()}
    assert forest.is_whole(tables, len(FEATURES))
    tables[table][3, 0] = value
    assert not forest.is_whole(tables, len(FEATURES))


def test_tables_of_other_sizes_are_noticed():
    tables = {name: value.numpy() for name, value in forest.empty().items()}
    assert not forest.is_whole(tables | {"forest_threshold": tables["forest_threshold"][:200]}, len(FEATURES))


def test_a_split_at_the_last_node_is_noticed():
    tables = {name: value.numpy() for name, value in forest.empty().items()}
    tables["forest_threshold"][0, -1] = 0.5  # its right child would be the next tree's root
    assert not forest.is_whole(tables, len(FEATURES))


def test_thresholds_in_half_precision_part_what_is_in_half_precision_as_before():
    numbers = np.sort(np.random.default_rng(0).normal(scale=30, size=4000).astype(np.float16))
    between = (numbers[:-1].astype(np.float64) + numbers[1:]) / 2  # where LightGBM puts them
    for exact in (between, between.astype(np.float32), np.array([1e30, 3.0])):
        found = forest.thresholds_in_half(exact)
        assert np.isfinite(found).all()
        for threshold, half in zip(exact[::37], found[::37], strict=True):
            np.testing.assert_array_equal(numbers <= threshold, numbers <= half)


def test_a_number_beyond_half_precision_stays_at_its_leaf():
    tables = forest.empty()
    tables["forest_value"][:, 0] = 1.0
    assert forest.forest_logits(tables, torch.full((1, 2, len(FEATURES)), 1e30)).tolist() == [[400.0, 400.0]]
