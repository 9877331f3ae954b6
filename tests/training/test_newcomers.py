"""Learning of products that nobody has bought yet: a shop that sells new ones every week."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.errors import ConfigError
from peftrec.model import Adapter, CandidateConfig
from peftrec.model.adapter import DECODER_FILE
from peftrec.registry import Registry
from peftrec.serving import Engine
from peftrec.serving.requests import Request
from peftrec.training import TrainConfig, train_adapter
from peftrec.training.newcomers import fitted
from tests.conftest import weekly_shop

KINDS = {
    "tea": ("green", "black", "herbal", "mint", "white", "oolong", "ginger", "lemon", "jasmine", "chamomile"),
    "wool socks": ("red", "striped", "long", "thick", "grey", "short", "warm", "soft", "blue", "brown"),
    "garden spade": ("small", "steel", "folding", "wooden", "sharp", "narrow", "heavy", "light", "pointed", "square"),
    "guitar strings": ("nylon", "bass", "silver", "bronze", "coated", "medium", "acoustic", "electric", "thin", "set"),
}
WEEKS, LATEST = 9, 9
CONFIG = TrainConfig(
    horizon_days=7, stride_days=7, anchors=4, epochs=1, feature_epochs=3, sampled_candidates=48, negatives=128
)


@pytest.fixture(scope="module")
def novelties() -> Dataset:
    """Sixty shoppers of one kind of thing each. A new thing of every kind comes each week, and most of them buy it."""
    random, rows = np.random.default_rng(0), []
    for user in range(60):
        kind = [*KINDS][user % len(KINDS)]
        for week in range(WEEKS):
            if random.random() < 0.8:
                rows.append((f"u{user:02d}", f"{KINDS[kind][week]} {kind}", week))
            if week and random.random() < 0.5:  # or one of those before once more
                rows.append((f"u{user:02d}", f"{KINDS[kind][random.integers(week)]} {kind}", week))
    return weekly_shop("novelties", [f"{word} {kind}" for kind, words in KINDS.items() for word in words], rows)


@pytest.fixture(scope="module")
def knowing(novelties: Dataset, backbone: Backbone) -> Adapter:
    return train_adapter(novelties, backbone, config=CONFIG, progress=False)


@pytest.fixture(scope="module")
def plain(novelties: Dataset, backbone: Backbone) -> Adapter:
    """The same without any such products."""
    return train_adapter(novelties, backbone, config=replace(CONFIG, newcomers=0), progress=False)


def test_a_known_curve_is_found():
    random = np.random.default_rng(0)
    closest = random.random(200_000).astype(np.float32)
    chance = 1 / (1 + np.exp(6 - 1 * closest - 4 * closest**2))
    bought = random.random(len(closest)) < chance
    found = fitted(closest, bought, np.ones(len(closest), np.float32))[0]
    asked = np.array([0.2, 0.5, 0.8, 1.0])
    told = found @ np.stack([np.ones(4), asked, asked**2])
    np.testing.assert_allclose(told, -6 + asked + 4 * asked**2, atol=0.3)
    # Each of the others stands for three: all are as much less likely.
    rarer = fitted(closest, bought, np.where(bought, 1, 3).astype(np.float32))[0]
    np.testing.assert_allclose(rarer @ np.stack([np.ones(4), asked, asked**2]), told - np.log(3), atol=0.2)


def test_of_few_purchases_only_their_rate_is_learned():
    bought = np.arange(1000) < 9
    rate, slope, curve = fitted(np.linspace(1, 0, 1000), bought, np.where(bought, 1, 2).astype(np.float32))[0]
    assert slope == curve == 0
    assert 1 / (1 + np.exp(-rate)) == pytest.approx(9.5 / (9 + 2 * 991 + 1))
    nobody = fitted(np.linspace(1, 0, 1000), np.zeros(1000, bool), np.ones(1000, np.float32))[0]
    assert 0 < 1 / (1 + np.exp(-nobody[0])) < 1e-3


def test_shoppers_are_offered_new_things_of_their_kind(novelties: Dataset, knowing: Adapter, tmp_path: Path):
    rate, slope, curve = knowing.extras["newcomer"][0]
    assert rate < 0
    assert rate + slope * 0.8 + curve * 0.64 > rate + slope * 0.2 + curve * 0.04
    registry = Registry(tmp_path)
    registry.publish("novelties", knowing)
    engine = Engine(knowing.backbone, registry, precision="fp32")
    engine.attach(novelties)
    latest = {kind: f"{words[LATEST]} {kind}" for kind, words in KINDS.items()}
    right = 0
    for user in range(20):
        kind = [*KINDS][user % len(KINDS)]
        chances = dict(zip(latest, engine.score("novelties", [*latest.values()], user=f"u{user:02d}"), strict=True))
        right += max(chances, key=chances.__getitem__) == kind
        names = [one.item_id for one in engine.recommend("novelties", user=f"u{user:02d}", k=10)]
        assert latest[kind] in names
        own = next(
            one for one in engine.recommend("novelties", user=f"u{user:02d}", k=10) if one.item_id == latest[kind]
        )
        assert own.probability == pytest.approx(chances[kind], rel=1e-3)
    assert right == 20


def test_who_has_not_learned_it_says_nothing_of_it(plain: Adapter):
    assert plain.candidates.newcomers == 0
    assert not plain.extras["newcomer"].any()
    assert "newcomer" not in load(plain.files()[DECODER_FILE])


def test_their_number_is_said_in_one_place(board_shop: Dataset, tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match=r"candidates.newcomers=20.*\n.*\n.*TrainConfig\(newcomers=20\)"):
        train_adapter(board_shop, tiny_backbone, config=TrainConfig(candidates=CandidateConfig(newcomers=20)))


def test_too_few_purchases_of_new_things_teach_nothing(board_shop: Dataset, tiny_backbone: Backbone):
    adapter = train_adapter(board_shop, tiny_backbone, config=CONFIG, progress=False)  # all is sold in the first weeks
    assert adapter.candidates.newcomers == 0


def test_what_was_learned_is_in_the_files_and_in_a_mixed_batch(
    novelties: Dataset, knowing: Adapter, plain: Adapter, tmp_path: Path
):
    assert np.array_equal(
        load(knowing.files()[DECODER_FILE])["newcomer"], knowing.extras["newcomer"].astype(np.float16)
    )
    registry = Registry(tmp_path)
    for name, adapter in (("novelties", knowing), ("plain", plain)):
        registry.publish(name, adapter)
        opened = Adapter.load(registry.open(f"{name}@1"), adapter.backbone)
        assert np.array_equal(opened.extras["newcomer"], adapter.extras["newcomer"])
        assert opened.candidates == adapter.candidates
    engine = Engine(knowing.backbone, registry, precision="fp32")
    for name in ("novelties", "plain"):
        engine.attach(novelties, adapter=name)
    requests = [Request(adapter=name, user=f"u{at:02d}", k=8) for at in range(3) for name in ("novelties", "plain")]
    answers = engine.recommend_batch(requests)
    for request, answer in zip(requests, answers, strict=True):
        alone = engine.recommend_batch([request])[0]
        assert [one.item_id for one in answer] == [one.item_id for one in alone]
        np.testing.assert_allclose([one.probability for one in answer], [one.probability for one in alone], atol=1e-4)
    assert answers[0] != answers[1]
