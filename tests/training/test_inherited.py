"""A young platform keeps what it inherits: the rate is its own at once, trees come with its rows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.model import Adapter, Platform
from peftrec.model import extras as ops
from peftrec.model.forest import SHAPES, TREES, forest_logits
from peftrec.model.microscaling import rounded
from peftrec.model.purchase import PurchaseModel
from peftrec.model.scoring import snapshot_of
from peftrec.registry import Registry
from peftrec.training import TrainConfig, inherited
from peftrec.training.feature_path import labelled_of
from peftrec.training.inherited import SPARE, adjust, is_young
from peftrec.training.platform_rows import PlatformRows, candidates_bar
from peftrec.training.rows import Rows

CONFIG = TrainConfig(horizon_days=7, anchors=3, sampled_candidates=8)


@pytest.fixture
def world(board_shop: Dataset, tiny_backbone: Backbone) -> tuple[PurchaseModel, list[Rows]]:
    """Numbers of another world, wrong by far in the rate, and a young shop's rows."""
    source = PlatformRows.of(Platform.of(board_shop, tiny_backbone, progress=False), CONFIG.on(board_shop))
    extras = ops.initial(tiny_backbone.hidden, gain=8.0, generator=torch.Generator().manual_seed(0))
    extras["features_logit_bias"].fill_(-9.0)
    extras["forest_value"][:, 0] = torch.linspace(0.1, 0.001, TREES)
    model = PurchaseModel(tiny_backbone.decoder(), extras)
    with candidates_bar(source.shoppers, show=False) as bar:
        return model, source.offered(model.extras, bar)


def _logits(model: PurchaseModel, parts: list[Rows]) -> np.ndarray:
    features = torch.from_numpy(labelled_of(parts).features.astype(np.float32))
    with torch.inference_mode():
        return ops.feature_path({**model.extras}, features[None])[1][0].double().numpy()


def _expected(logits: np.ndarray, parts: list[Rows]) -> float:
    """Purchases that the chances sum to."""
    return float((labelled_of(parts).weight / (1 + np.exp(-logits))).sum())


def _loss(logits: np.ndarray, parts: list[Rows]) -> float:
    bought, weight = labelled_of(parts)[1:]
    return float(np.average(np.logaddexp(0, np.where(bought, -logits, logits)), weights=weight))


def test_with_few_rows_only_the_rate_is_learned(world: tuple[PurchaseModel, list[Rows]]):
    model, parts = world
    before = {name: value.detach().clone() for name, value in model.extras.items()}
    logits = _logits(model, parts)
    assert is_young(parts)
    adjust(model, parts, CONFIG)
    assert _expected(_logits(model, parts), parts) == pytest.approx(sum(part.labels.sum() for part in parts), rel=1e-3)
    np.testing.assert_allclose(np.diff(_logits(model, parts) - logits), 0, atol=1e-5)  # the ranking stays
    changed = {name for name, value in model.extras.items() if not torch.equal(value, before[name])}
    assert changed == {"features_logit_bias"}


def test_with_more_rows_boosting_goes_on(world: tuple[PurchaseModel, list[Rows]], monkeypatch: pytest.MonkeyPatch):
    model, parts = world
    before = {name: value.detach().clone() for name, value in model.extras.items()}
    monkeypatch.setattr(inherited, "FEW_ROWS", 10)
    logits = _logits(model, parts)
    adjust(model, parts, CONFIG)
    grown = _logits(model, parts)
    kept = slice(0, TREES - SPARE)
    assert torch.equal(model.extras["forest_value"][kept], before["forest_value"][kept])
    own = {name: value[-SPARE:] for name, value in model.extras.items() if name.startswith("forest_")}
    assert own["forest_value"].abs().sum() > 0
    shifted = logits + np.log(sum(part.labels.sum() for part in parts) / _expected(logits, parts))
    assert _loss(grown, parts) < 0.98 * _loss(shifted, parts)
    features = torch.from_numpy(labelled_of(parts).features.astype(np.float32))
    assert torch.isfinite(forest_logits({**model.extras}, features[None])).all()


def test_numbers_that_tell_nothing_grow_nothing(
    world: tuple[PurchaseModel, list[Rows]], monkeypatch: pytest.MonkeyPatch
):
    model, parts = world
    before = {name: value.detach().clone() for name, value in model.extras.items()}
    monkeypatch.setattr(inherited, "FEW_ROWS", 10)
    silent = [
        replace(part, candidates=replace(part.candidates, features=np.zeros_like(part.candidates.features)))
        for part in parts
    ]
    adjust(model, silent, CONFIG)
    assert all(torch.equal(model.extras[name], before[name]) for name in SHAPES)


@pytest.mark.slow
def test_an_adapted_backbone_s_numbers_reach_a_young_shop(
    board_shop: Dataset, tiny_bert: Callable[..., Path], tmp_path: Path
):
    from peftrec import AdaptConfig, ShoppingConfig, adapt, train_adapter

    quick = replace(CONFIG, feature_epochs=1, epochs=1, precision="fp32")
    shopping = ShoppingConfig(training=quick)
    backbone = adapt(
        Backbone.load(tiny_bert()), [board_shop], AdaptConfig(language=None, shopping=shopping), progress=False
    )
    adapter = train_adapter(board_shop, backbone, config=quick, progress=False)
    assert backbone.shopping is not None
    inherited_forest = backbone.shopping.extras["forest_value"]
    np.testing.assert_array_equal(adapter.extras["forest_value"], inherited_forest.astype(np.float16))
    network = backbone.shopping.extras["features_1"].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(adapter.extras["features_1"], rounded(network))
    # Statistics of so few rows are not read, neither by training nor by whoever serves it.
    assert adapter.silent
    platform, moment = Platform.of(board_shop, backbone, progress=False), board_shop.now
    assert snapshot_of(platform, adapter, moment) is platform.young(moment)
    assert snapshot_of(platform, replace(adapter, silent=False), moment) is platform.snapshot(moment)
    loaded = Adapter.load(Registry(tmp_path).publish("board", adapter), backbone)
    assert loaded.silent
