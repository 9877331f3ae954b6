"""Training: same seed same adapter, frozen stays frozen, too little is refused, and it learns."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from peftrec.backbone import Backbone
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.data import Dataset
from peftrec.errors import ConfigError, NotEnoughDataError
from peftrec.evaluation import evaluate
from peftrec.evaluation.baselines import Baseline, LightGBMRanker, Popular
from peftrec.model import Adapter, Platform
from peftrec.model.forest import SHAPES
from peftrec.training import TrainConfig, train_adapter
from peftrec.training.anchors import anchor, moments
from peftrec.training.table import CandidateTable

CUT = "2017-11-27T05:00"


@pytest.mark.parametrize(
    "settings",
    [
        {"anchors": 0},
        {"epochs": 0},
        {"epochs": float("inf")},
        {"learning_rate": float("nan")},
        {"weight_decay": float("inf")},
        {"clip_norm": -1.0},
        {"precision": "int4"},
        {"validation_share": 1.0},
    ],
)
def test_settings_that_cannot_work(settings: dict):
    with pytest.raises(ConfigError, match="the default is"):
        TrainConfig(**settings)


def test_anchors_of_scenes_fall_on_different_weekdays_and_hours():
    def clocks(config: TrainConfig) -> set[tuple[int, int]]:
        found = moments(400 * 86_400.0, 0.0, config)
        assert len(found) == config.anchors
        assert all(later - earlier >= config.horizon for later, earlier in pairwise(found))
        return {(int(one // 86_400) % 7, int(one // 3_600) % 24) for one in found}

    assert len(clocks(TrainConfig())) == 1
    assert len(clocks(TrainConfig(scene=True))) == 5


def test_labels_are_what_was_bought_after_the_anchor(grocery: Dataset, backbone: Backbone, quick: TrainConfig):
    platform = Platform.of(grocery, backbone, progress=False)
    log = grocery.log
    moment = moments(float(log.time[-1]) + 1, float(log.time[0]), quick)[0]
    one = anchor(platform.dataset, moment, quick)
    row = 5
    later = (log.user == one.users[row]) & (log.time >= moment)
    assert np.array_equal(one.bought[row], np.unique(log.item[later]))
    earlier = log.item[(log.user == one.users[row]) & (log.time < moment)]
    assert np.array_equal(one.first[row], np.setdiff1d(np.unique(log.item[later]), earlier))
    assert len(one.histories) == len(one.users)
    assert np.all(one.histories.age > 0)


def test_the_backbone_is_bit_equal_after_training(trained: Adapter, backbone: Backbone):
    assert weights_fingerprint(backbone.bert) == backbone.fingerprint
    assert trained.backbone is backbone


def test_same_seed_same_adapter(grocery: Dataset, backbone: Backbone, quick: TrainConfig, trained: Adapter):
    past, future = grocery.split(at=CUT)
    again = train_adapter(past, backbone, config=quick, progress=False)
    assert again.extras.keys() == trained.extras.keys()
    for name in (*SHAPES, "feature_mean", "feature_knots"):
        assert np.array_equal(again.extras[name], trained.extras[name]), name
    # A matrix product may round differently when its inputs lie elsewhere in memory, and training carries that on.
    users = np.unique(future.log.user).astype(np.int32)[:30]
    users = users[np.isin(users, past.log.user)]
    items = np.tile(np.arange(0, len(past.catalog), 10, dtype=np.int32), (len(users), 1))
    other = train_adapter(past, backbone, config=replace(quick, seed=1), progress=False)
    one, same, another = (
        each.recommender(precision="fp32").score_pool(past, users, items) for each in (trained, again, other)
    )
    assert np.abs(one - same).mean() < 0.1 * np.abs(one - another).mean()


def test_it_learns_and_is_calibrated(grocery: Dataset, trained: Adapter):
    _, future = grocery.split(at=CUT)
    found = evaluate(trained, future, baselines=[Baseline("popular", [Popular()])], progress=False)
    difference = found.compare("peftrec", "popular", "ndcg@10")
    assert difference.low > 0
    assert found.value("peftrec", "auc").value > 0.7
    assert found.value("peftrec", "ece").value < 0.08


def test_lightgbm_ranks_the_same_candidates(grocery: Dataset, backbone: Backbone, quick: TrainConfig):
    _, future = grocery.split(at=CUT)
    ranker = LightGBMRanker(CandidateTable(backbone, quick))
    found = evaluate(ranker, future, baselines=[Baseline("popular", [Popular()])], progress=False)
    assert found.compare("LightGBM LambdaRank", "popular", "ndcg@10").low > 0
    assert ranker.chosen is not None


def test_all_shoppers_held_out_is_refused(grocery: Dataset, backbone: Backbone, quick: TrainConfig):
    past, _ = grocery.split(at=CUT)
    with pytest.raises(ConfigError, match="no shopper to train on"):
        train_adapter(past, backbone, config=replace(quick, validation_share=1 - 1e-9), progress=False)


def test_nobody_held_out_trains_without_early_stopping(grocery: Dataset, backbone: Backbone, quick: TrainConfig):
    past, _ = grocery.split(at=CUT)
    config = replace(quick, validation_share=1e-9, anchors=1, epochs=0.2, feature_epochs=0.2)
    adapter = train_adapter(past, backbone, config=config, progress=False)
    assert adapter.learning_curve
    assert not any("eval_loss" in point for point in adapter.learning_curve)


def test_a_long_text_costs_no_more_than_itself(tiny_backbone: Backbone):
    products = 3000
    shop = Dataset.build(
        name="shop",
        catalog={
            "item_id": [str(at) for at in range(products)],
            "title": [f"tea {at % 7}" for at in range(products)],
            "description": ["long " * 20_000 if at == 5 else "" for at in range(products)],
        },
        events={"user_id": ["u"], "item_id": ["5"], "timestamp": ["2024-01-01"]},
    )
    tracemalloc.start()
    platform = Platform.of(shop, tiny_backbone, progress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # an array as wide as its longest text would take 1.2 GB
    assert len(platform.vectors) == 8
    same = platform.text_of == platform.text_of[7]
    assert same.sum() == len(range(0, products, 7))


def test_a_log_of_exactly_one_horizon_trains(tiny_backbone: Backbone, quick: TrainConfig):
    users = [f"u{at}" for at in range(40)]
    shop = Dataset.build(
        name="dates",
        catalog={"item_id": ["a", "b"], "title": ["tea", "kettle"]},
        events={
            "user_id": users * 2,
            "item_id": ["a"] * 40 + ["b"] * 40,
            "timestamp": ["2024-01-01"] * 40 + ["2024-02-05"] * 40,
        },
    )
    adapter = train_adapter(shop, tiny_backbone, config=quick, progress=False)
    assert all(np.isfinite(value).all() for value in adapter.extras.values())


def test_three_events_are_too_few(backbone: Backbone):
    shop = Dataset.build(
        name="tiny",
        catalog={"item_id": ["a", "b"], "title": ["tea", "kettle"]},
        events={
            "user_id": ["u", "u", "v"],
            "item_id": ["a", "b", "a"],
            "timestamp": ["2024-01-01", "2024-03-01", "2024-05-01"],
        },
    )
    with pytest.raises(NotEnoughDataError, match="at least 20"):
        train_adapter(shop, backbone, progress=False)
