"""Optuna searches the decoder's settings through the Trainer."""

from pathlib import Path

import pytest

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.errors import ConfigError
from peftrec.model import Platform
from peftrec.training import TrainConfig
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.search import search
from peftrec.training.train import Prepared, prepare, tune
from peftrec.tuners import AdaLoRAConfig, BottleneckConfig, LoRAConfig


@pytest.fixture(scope="module")
def prepared(board_shop: Dataset, tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    config = TrainConfig(
        horizon_days=7, anchors=2, epochs=1, feature_epochs=0.2, batch_size=8, validation_share=0.3, precision="fp32"
    )
    backbone = Backbone.load(tiny_bert_folder)
    source = PlatformRows.of(Platform.of(board_shop, backbone, progress=False), config)
    return prepare(source, backbone, folder=tmp_path_factory.mktemp("prepared"), progress=False)


@pytest.mark.slow
def test_the_best_trial_is_found_and_can_be_trained(prepared: Prepared, tiny_backbone: Backbone, tmp_path: Path):
    def suggest(trial):
        rank = trial.suggest_categorical("rank", [2, 4])
        tuner = (
            LoRAConfig(rank=rank) if trial.suggest_categorical("low", [True, False]) else BottleneckConfig(width=rank)
        )
        return tuner, {"learning_rate": trial.suggest_float("learning_rate", 1e-6, 1e-2, log=True)}

    found = search(prepared, tiny_backbone, suggest, trials=4, progress=False)
    assert len(found.trials) == 4
    assert len({loss for _, loss in found.trials}) > 1
    assert found.loss == min(loss for _, loss in found.trials)
    best = dict(found.trials[[loss for _, loss in found.trials].index(found.loss)][0])
    assert found.config.learning_rate == best["learning_rate"]
    assert isinstance(found.tuner, LoRAConfig if best["low"] else BottleneckConfig)
    assert tune(prepared, tiny_backbone, found.tuner, folder=tmp_path, progress=False).changes.ranks


def test_what_cannot_be_searched(prepared: Prepared, tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match="a trial that chooses anchors, seed"):
        search(
            prepared, tiny_backbone, lambda _: (LoRAConfig(rank=2), {"anchors": 1, "seed": 3}), trials=1, progress=False
        )
    with pytest.raises(ConfigError, match="'adalora', which takes part"):
        search(prepared, tiny_backbone, lambda _: (AdaLoRAConfig(rank=2), {}), trials=1, progress=False)
