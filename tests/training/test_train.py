"""Training: same seed same adapter, frozen stays frozen, too little is refused, and it learns."""

import numpy as np
import pytest

from peftrec.backbone import Backbone
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.data import Dataset
from peftrec.errors import ConfigError, NotEnoughDataError
from peftrec.evaluation import evaluate
from peftrec.evaluation.baselines import Baseline, LightGBMRanker, Popular
from peftrec.model import Adapter, Platform
from peftrec.training import TrainConfig, train_adapter
from peftrec.training.rows import anchor, moments
from peftrec.training.table import CandidateTable

CUT = "2017-11-27T05:00"


@pytest.mark.parametrize("settings", [{"anchors": 0}, {"epochs": 0}, {"precision": "int4"}, {"validation_share": 1.0}])
def test_settings_that_cannot_work(settings: dict):
    with pytest.raises(ConfigError, match="the default is"):
        TrainConfig(**settings)


def test_labels_are_what_was_bought_after_the_anchor(grocery: Dataset, backbone: Backbone, quick: TrainConfig):
    platform = Platform.of(grocery, backbone, progress=False)
    log = grocery.log
    moment = moments(float(log.time[-1]) + 1, float(log.time[0]), quick)[0]
    one = anchor(platform, moment, quick)
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
    past, _ = grocery.split(at=CUT)
    again = train_adapter(past, backbone, config=quick, progress=False)
    assert again.extras.keys() == trained.extras.keys()
    # A matrix product may round differently when its inputs lie elsewhere in memory; another seed would share nothing.
    for name in ("features_1", "head_1", "event_1", "shopper"):
        one, other = again.extras[name].ravel(), trained.extras[name].ravel()
        assert np.corrcoef(one, other)[0, 1] > 0.99, name
    for name, pair in trained.low_rank.pairs.items():
        assert np.corrcoef(pair.a.ravel(), again.low_rank.pairs[name].a.ravel())[0, 1] > 0.99, name


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
