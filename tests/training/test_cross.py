"""Training of cross-encoders: it learns, and it is refused where it must be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.errors import ConfigError
from peftrec.training import Adversarial, CrossEncoderConfig, TrainConfig, train_cross_encoder
from peftrec.training.cross import UNREAD
from peftrec.tuners import FullConfig
from tests.conformance import awake

QUICK = TrainConfig(
    horizon_days=7, anchors=2, epochs=12, batch_size=8, sampled_candidates=16, learning_rate=3e-3, precision="fp32"
)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"adversarial=.* for a cross-encoder") as caught:
        CrossEncoderConfig(training=replace(QUICK, adversarial=Adversarial()))
    assert "reads words" in str(caught.value)
    with pytest.raises(ConfigError, match=r"feature_drop=0\.2 for a cross-encoder"):
        CrossEncoderConfig(training=replace(QUICK, feature_drop=0.2))
    with pytest.raises(ConfigError, match="words=8"):
        CrossEncoderConfig(words=8)
    assert all(hasattr(QUICK, name) for name in UNREAD)


def test_a_sentence_longer_than_the_bert_reads_is_refused(board_shop: Dataset, tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match="words=65") as caught:
        train_cross_encoder(board_shop, tiny_backbone, config=CrossEncoderConfig(words=65, training=QUICK))
    assert "at most 64" in str(caught.value)


@pytest.mark.slow
def test_it_learns_who_buys_which_colour(board_shop: Dataset, tiny_backbone: Backbone):
    config = CrossEncoderConfig(words=48, training=replace(QUICK, epochs=40, patience=50))
    adapter = train_cross_encoder(board_shop, awake(tiny_backbone), FullConfig(), config, progress=False)
    users = np.arange(40, dtype=np.int32)
    items = np.tile(np.arange(len(board_shop.catalog), dtype=np.int32), (40, 1))
    chance = adapter.recommender(precision="fp32").score_pool(board_shop, users, items)
    green = np.array([title.startswith("green") for title in board_shop.catalog.frame["title"]])
    own = green[None] == (users % 2 == 1)[:, None]
    assert chance[own].mean() > 3 * chance[~own].mean()
    losses = [point["eval_loss"] for point in adapter.learning_curve if "eval_loss" in point]
    assert min(losses) < losses[0]


@pytest.mark.slow
def test_checkpoints_of_another_training_are_refused(board_shop: Dataset, tiny_backbone: Backbone, tmp_path: Path):
    config = CrossEncoderConfig(words=48, training=replace(QUICK, epochs=0.5))
    first = train_cross_encoder(board_shop, tiny_backbone, config=config, folder=tmp_path, progress=False)
    again = train_cross_encoder(board_shop, tiny_backbone, config=config, folder=tmp_path, resume=True, progress=False)
    assert all(np.array_equal(first.extras[name], again.extras[name]) for name in first.extras)
    with pytest.raises(ConfigError, match="another training"):
        train_cross_encoder(
            board_shop, tiny_backbone, config=replace(config, words=40), folder=tmp_path, resume=True, progress=False
        )
