"""Adapters of the other form in the same registry and the same engine."""

from pathlib import Path

import numpy as np
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.model import Adapter
from peftrec.registry import Registry
from peftrec.serving import Engine
from peftrec.serving.requests import Request
from peftrec.tuners import BottleneckConfig, LoRAConfig
from tests.serving.adapters import worded

CUT = "2017-11-27T05:00"
ITEMS = 12


@pytest.fixture(scope="module")
def registry(backbone: Backbone, trained: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.publish("grocery", trained)
    registry.publish("words", worded(backbone, LoRAConfig(rank=4), 1))
    registry.publish("narrow", worded(backbone, BottleneckConfig(width=8), 2))
    return registry


@pytest.fixture(scope="module", params=["fp32", "int8"])
def engine(request: pytest.FixtureRequest, backbone: Backbone, registry: Registry, grocery: Dataset) -> Engine:
    engine = Engine(backbone, registry, precision=request.param)
    for name in ("grocery", "words", "narrow"):
        engine.attach(grocery.split(at=CUT)[0], adapter=name)
    return engine


def test_both_forms_share_a_batch(engine: Engine, grocery: Dataset):
    user = grocery.users[0]
    requests = [Request(adapter=name, user=user, k=3) for name in ("words", "grocery", "narrow", "words")]
    together = engine.recommend_batch(requests)
    alone = [engine.recommend_batch([request])[0] for request in requests]
    assert together[0] == together[3]
    for one, other in zip(together, alone, strict=True):
        assert [entry.item_id for entry in one] == [entry.item_id for entry in other]
        np.testing.assert_allclose(
            [entry.probability for entry in one], [entry.probability for entry in other], atol=2e-3
        )
    assert together[0] != together[2]
    chances = [entry.probability for entry in together[0]]
    assert chances == sorted(chances, reverse=True)


def test_scores_are_those_of_evaluation(engine: Engine, registry: Registry, backbone: Backbone, grocery: Dataset):
    past, user = grocery.split(at=CUT)[0], 3
    items = np.arange(ITEMS, dtype=np.int32)[None]
    adapter = Adapter.load(registry.open("words"), backbone)
    expected = adapter.recommender(precision="fp32").score_pool(past, np.array([user]), items)[0]
    found = engine.score("words", list(past.catalog.ids[:ITEMS]), user=past.users[user])
    np.testing.assert_allclose(found, expected, atol=1e-5 if engine.precision == "fp32" else 0.05)
    served = engine.recommender("words").score_pool(past, np.array([user]), items)[0]
    np.testing.assert_allclose(served, found, atol=1e-5 if engine.precision == "fp32" else 2e-3)


def test_described_products_and_similarity(engine: Engine, grocery: Dataset):
    known, new = engine.score(
        "words", [grocery.catalog.ids[0], {"title": "copper kettle"}], history=[{"title": "green tea"}]
    )
    assert 0 < known < 1
    assert 0 < new < 1
    assert known != new
    assert len(engine.similar("words", {"title": "cheddar cheese"}, k=3)) == 3


def test_the_manifest_tells_the_form(registry: Registry, tmp_path: Path):
    assert registry.open("words").manifest.method == "lora (cross-encoder)"
    assert registry.open("grocery").manifest.method == "lora"
    assert "classifier" in registry.open("words").manifest.tensors
