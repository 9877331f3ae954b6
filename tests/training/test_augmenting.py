"""Augmentation changes what the decoder reads in training, and nothing else."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.data.augment import AttributeDrop, Crop, EventDrop, TextChain, WordDrop
from peftrec.data.tokens import EVENT_FEATURES
from peftrec.errors import ConfigError
from peftrec.model import Platform
from peftrec.model.scoring import AdapterRecommender
from peftrec.training import Augmentation, TrainConfig, train_adapter
from peftrec.training.anchors import anchor, moments
from peftrec.training.augmenting import text_variants, told_otherwise
from peftrec.training.rows import RowDataset, Rows


@pytest.fixture
def platform(grocery: Dataset, tiny_backbone: Backbone) -> Platform:
    return Platform.of(grocery, tiny_backbone, progress=False)


def rows_of(platform: Platform, config: TrainConfig, variants: np.ndarray | None) -> tuple[RowDataset, Rows, Rows]:
    """Rows of one moment with candidates, plain and augmented for the first half of the shoppers."""
    log = platform.dataset.log
    moment = moments(float(log.time[-1]) + 1, float(log.time[0]), config)[0]
    one, snapshot = anchor(platform.dataset, moment, config), platform.snapshot(moment)
    half = np.arange(len(platform.dataset.users)) < len(platform.dataset.users) // 2
    rng = np.random.default_rng(0)
    parts = [
        Rows.begin(one, snapshot, config, rng, augmented=told).offered(one, snapshot, config, nearest=None, rng=rng)
        for told in (half, None)
    ]
    keep = np.ones(len(half), bool)
    return (
        RowDataset(platform, parts[:1], config, keep=keep, moment=moment, variants=variants),
        parts[0],
        parts[1],
    )


def test_every_text_gets_its_variants(platform: Platform, tiny_backbone: Backbone):
    told = Augmentation(attributes=AttributeDrop(0.5), text=TextChain(((WordDrop(0.3), 1.0),)), variants=3)
    found = text_variants(platform, tiny_backbone, told, np.random.default_rng(0), progress=False)
    assert found is not None
    assert found.shape == (3, *platform.vectors.shape)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), np.ones(found.shape[:2]), rtol=0, atol=1e-6)
    changed = (np.abs(found - platform.vectors) > 1e-3).any(axis=-1)
    assert changed.mean() > 0.5
    assert not np.array_equal(found[0], found[1])  # each variant draws anew
    of_history = Augmentation(history=Crop())
    assert text_variants(platform, tiny_backbone, of_history, np.random.default_rng(0), progress=False) is None


def test_a_share_of_the_products_is_read_in_another_text(platform: Platform, quick: TrainConfig):
    marked = np.zeros((2, *platform.vectors.shape), np.float32)
    marked[:, :, 0] = [[2.0], [3.0]]
    config = replace(quick, augmentation=Augmentation(text=WordDrop(), share=0.25))
    rows, _, _ = rows_of(platform, config, marked)
    torch.manual_seed(0)
    batch = rows.collate([rows[at] for at in range(16)])["batch"]
    for vectors, mask in ((batch.shoppers.vectors, batch.shoppers.mask), (batch.vectors, batch.weight > 0)):
        first = vectors[mask][:, 0].numpy()
        assert np.isin(first, [2.0, 3.0]).mean() == pytest.approx(0.25, abs=0.05)
        assert (first == 2.0).sum() > 0
        assert (first == 3.0).sum() > 0
    assert not np.isin(batch.first[batch.first_mask][:, 0].numpy(), [2.0, 3.0]).any()
    everyone = np.ones(len(platform.dataset.users), bool)
    natural = RowDataset(platform, rows.parts, config, keep=everyone, moment=rows.parts[0].moment)
    plain = natural.collate([natural[at] for at in range(16)])["batch"]
    assert not np.isin(plain.vectors[..., 0].numpy(), [2.0, 3.0]).any()


def test_only_pasts_of_some_shoppers_are_told_otherwise(platform: Platform, quick: TrainConfig):
    config = replace(quick, augmentation=Augmentation(history=EventDrop(0.5), share=1.0))
    _, told, plain = rows_of(platform, config, None)
    times = EVENT_FEATURES.index("times_bought")  # words are cut to the longest sentence, purchases are not
    fewer = told.tokens.features[..., times].sum(axis=1) < plain.tokens.features[..., times].sum(axis=1)
    half = told.users < len(platform.dataset.users) // 2
    assert fewer[half].all()
    assert not fewer[~half].any()
    assert np.array_equal(told.users, plain.users)
    assert told.tokens.mask.any(axis=1).all()


def test_pasts_that_are_not_augmented_are_the_same_object(platform: Platform, quick: TrainConfig):
    log = platform.dataset.log
    one = anchor(platform.dataset, moments(float(log.time[-1]) + 1, float(log.time[0]), quick)[0], quick)
    everyone, rng = np.ones(len(one.users), bool), np.random.default_rng(0)
    assert told_otherwise(one.histories, None, rng, of=everyone) is one.histories
    assert told_otherwise(one.histories, Augmentation(text=WordDrop()), rng, of=everyone) is one.histories


@pytest.mark.parametrize("settings", [{}, {"text": WordDrop(), "variants": 0}, {"text": WordDrop(), "share": 0}])
def test_what_changes_nothing_is_refused(settings: dict):
    with pytest.raises(ConfigError):
        Augmentation(**settings)


def browsed_world() -> Dataset:
    """A small shop with a year of purchases and channels that mean something in words."""
    rng = np.random.default_rng(0)
    kinds = ["tea", "kettle", "pot", "socks", "milk", "bread"]
    items = [f"{colour} {kind}" for kind in kinds for colour in ("red", "green", "blue", "small", "large")]
    user, day = rng.integers(0, 60, 3000), rng.integers(0, 360, 3000)
    return Dataset.build(
        name="shop",
        catalog={"item_id": items, "title": items, "brand": [item.split()[0] for item in items]},
        events={
            "user_id": [f"u{code}" for code in user],
            "item_id": [
                items[(code * 7 + draw) % len(items)] for code, draw in zip(user, rng.integers(0, 9, 3000), strict=True)
            ],
            "timestamp": [datetime(2024, 1, 1) + timedelta(days=int(at)) for at in day],
            "channel": [("red box", "green paper")[code % 2] for code in user],
        },
    )


def test_an_adapter_trains_with_augmentation_and_scenes(tiny_backbone: Backbone, quick: TrainConfig):
    shop = browsed_world()
    # Nobody is held out, so that nothing is taken back: chance is all that there is to learn here.
    fast = replace(quick, anchors=1, epochs=2, feature_epochs=0.5, negatives=16, validation_share=1e-9)
    told = Augmentation(attributes=AttributeDrop(), text=WordDrop(), history=Crop(), variants=1)
    plain, augmented, scene = (
        train_adapter(shop, tiny_backbone, config=replace(fast, **settings), progress=False)
        for settings in ({}, {"augmentation": told}, {"scene": True})
    )
    assert not plain.extras["scene"].any()
    assert scene.extras["scene"].any()
    assert scene.scene
    assert not np.array_equal(plain.extras["head_2"], augmented.extras["head_2"])
    users = np.arange(8, dtype=np.int32)
    items = np.tile(np.arange(len(shop.catalog), dtype=np.int32), (8, 1))
    speaking = AdapterRecommender(scene, precision="fp32").score_pool(shop, users, items)
    silent = AdapterRecommender(replace(scene, scene=False), precision="fp32").score_pool(shop, users, items)
    assert np.isfinite(speaking).all()
    assert not np.array_equal(speaking, silent)
