"""A backbone that knows shopping serves a platform without an adapter, and a shop from its catalogue alone."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from peftrec.backbone import Backbone, Shopping
from peftrec.cli.main import app
from peftrec.data import Catalog, Dataset
from peftrec.errors import (
    AdapterNotFoundError,
    ConfigError,
    IncompatibleAdapterError,
    NotEnoughDataError,
    RegistryError,
    RequestError,
    UnknownUserError,
)
from peftrec.model import Adapter, Platform
from peftrec.model.adapter import numbers_digest
from peftrec.model.scoring import snapshot_of
from peftrec.registry import Registry
from peftrec.serving import Engine
from peftrec.serving.requests import Request
from peftrec.training import train_adapter
from tests.serving.adapters import loud

CUT = "2017-11-27T05:00"


def _knowing(backbone: Backbone, adapter: Adapter, **settings: object) -> Backbone:
    """The backbone with a decoder that is not its BERT's, and an adapter's extras as its own."""
    decoder = backbone.decoder()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(3)
        for layer in decoder:
            for name in ("attention.self.query", "output.dense"):
                weight = layer.get_submodule(name).weight
                weight.add_(torch.randn_like(weight), alpha=0.02)  # pyright: ignore[reportArgumentType]
    told = {
        "history": adapter.history,
        "candidates": asdict(replace(adapter.candidates, newcomers=0)),  # only platforms learn of those
        "scene": adapter.scene,
        "numbers": numbers_digest(),
        **settings,
    }
    extras = {**adapter.extras, "newcomer": np.zeros((1, 3), np.float32)}
    return replace(backbone, shopping=Shopping(decoder, extras, told))


@pytest.fixture(scope="module")
def past(grocery: Dataset) -> Dataset:
    return grocery.split(at=CUT)[0]


@pytest.fixture(scope="module")
def new_shop(grocery: Dataset) -> Dataset:
    return Dataset.build(name="new", catalog=grocery.catalog)


@pytest.fixture(scope="module")
def knowing(backbone: Backbone, trained: Adapter) -> Backbone:
    return _knowing(backbone, loud(trained, seed=1))


@pytest.fixture
def registry(knowing: Backbone, trained: Adapter, tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    registry.publish("tuned", replace(loud(trained, seed=2), backbone=knowing), alias="production")
    return registry


@pytest.fixture
def engine(knowing: Backbone, registry: Registry, past: Dataset, new_shop: Dataset) -> Engine:
    """Platforms ``tuned``, with an adapter, ``shop``, the same without one, and ``new``, a catalogue alone."""
    return _engine(knowing, registry, {"tuned": past, "shop": past, "new": new_shop})


def _engine(backbone: Backbone, registry: Registry, platforms: dict[str, Dataset], **settings: object) -> Engine:
    engine = Engine(backbone, registry, **settings)  # pyright: ignore[reportArgumentType]
    for name, dataset in platforms.items():
        engine.attach(dataset, adapter=name)
    return engine


def _ids(found: list) -> list[str]:
    return [entry.item_id for entry in found]


def test_a_mixed_batch_with_and_without_adapters_equals_each_request_alone(engine: Engine, grocery: Dataset):
    ids = grocery.catalog.ids.to_list()
    asked = [{"user": user} for user in grocery.users[:3]]
    requests = [Request(adapter=name, k=5, exclude_bought=True, **who) for who in asked for name in ("tuned", "shop")]
    for history in ([], ids[:2], [ids[5], {"title": "copper kettle"}]):
        requests += [Request(adapter=name, k=5, history=history) for name in ("new", "tuned", "shop")]
    together = engine.recommend_batch(requests)
    for request, answer in zip(requests, together, strict=True):
        alone = engine.recommend_batch([request])[0]
        assert _ids(alone) == _ids(answer)
        np.testing.assert_allclose([e.probability for e in alone], [e.probability for e in answer], atol=2e-3)
    assert together[0] != together[1]  # the adapter tells otherwise than the backbone itself


def test_the_engine_says_what_the_backbone_says_in_peft_s_own_modules(
    knowing: Backbone, registry: Registry, past: Dataset, new_shop: Dataset
):
    known = replace(new_shop, profiles=past.profiles)
    engine = _engine(knowing, registry, {"shop": past, "new": known}, precision="fp32")
    model = Adapter.of_backbone(knowing).recommender(precision="fp32")
    for name, data, users in (("shop", past, np.unique(past.log.user)[:8]), ("new", known, np.arange(8))):
        served, told = (each.score_catalog(data, users) for each in (engine.recommender(name), model))
        assert np.isfinite(told).any()
        assert np.array_equal(np.isfinite(served), np.isfinite(told))
        np.testing.assert_allclose(served[np.isfinite(served)], told[np.isfinite(told)], atol=1e-3)
        some = np.tile(np.arange(30, dtype=np.int32), (8, 1))
        pooled = [each.score_pool(data, users, some) for each in (engine.recommender(name), model)]
        np.testing.assert_allclose(*pooled, atol=1e-4)


def _having_read(backbone: Backbone, facts: dict[str, object]) -> Backbone:
    """As if it, or what it was made of, had been adapted on a platform."""
    shopping = {"stages": [{"stage": "shopping"}], "data": [facts], "parents": []}
    return replace(backbone, origin={"stages": [], "data": [], "parents": [{"origin": shopping}]})


def test_statistics_of_a_platform_that_the_backbone_has_never_seen_stay_silent(
    knowing: Backbone, registry: Registry, past: Dataset, trained: Adapter
):
    seen = _having_read(knowing, {"dataset": past.name, "events": 9})
    platform = Platform.of(past, knowing, progress=False)
    for adapter, knows in (
        (Adapter.of_backbone(knowing), False),
        (Adapter.of_backbone(seen), True),
        (replace(trained, backbone=knowing), True),
    ):
        assert bool(snapshot_of(platform, adapter, past.now).buyers.any()) is knows
    grown = replace(
        past, catalog=past.catalog.updated({"item_id": ["new"], "title": ["kettle"]}), index=None, past=None
    )
    others = {"item_id": [f"toy {number}" for number in range(200)], "title": ["toy"] * 200}
    for sample, data, knows in (
        (past.catalog.sample, past, True),
        (past.catalog.sample, grown, True),
        (Catalog.from_table(others).sample, past, False),  # another shop of the same name
    ):
        assert _having_read(knowing, {"dataset": past.name, "events": 9, "sample": sample}).has_read(data) is knows
    ids = past.catalog.ids.to_list()
    one, other = (
        _engine(backbone, registry, {"shop": past}).score("shop", ids[:30], history=ids[:4])
        for backbone in (knowing, seen)
    )
    assert np.abs(np.log(one) - np.log(other)).max() > 0.1


def test_its_decoder_and_not_the_bert_s_is_what_reads(
    engine: Engine, knowing: Backbone, backbone: Backbone, past: Dataset, registry: Registry
):
    assert knowing.shopping is not None
    other = replace(knowing, shopping=replace(knowing.shopping, decoder=backbone.decoder()))
    items = past.catalog.ids[:20].to_list()
    one = engine.score("shop", items, history=[{"title": "tea"}])
    two = _engine(other, registry, {"shop": past}).score("shop", items, history=[{"title": "tea"}])
    assert np.abs(np.log(one) - np.log(two)).max() > 0.1  # far more than rounding to int8 does


@pytest.mark.parametrize("k", [1, 10, 200, 2500, 3000])
@pytest.mark.parametrize("who", [{"history": []}, {"profile": {"age": "45-54"}}, {}, {"history": [{"title": "tea"}]}])
def test_a_catalogue_alone_answers_as_many_products_as_it_has(engine: Engine, new_shop: Dataset, k: int, who: dict):
    found = engine.recommend("new", k=k, **who)
    assert len({entry.item_id for entry in found}) == len(found) == k
    chances = [entry.probability for entry in found]
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance < 1 for chance in chances)
    assert set(_ids(found)) <= set(new_shop.catalog.ids)


def test_what_was_bought_elsewhere_is_read_and_may_be_left_out(engine: Engine, new_shop: Dataset):
    ids = new_shop.catalog.ids.to_list()
    bought = ids[:900]
    found = engine.recommend("new", history=bought, k=2100, exclude_bought=True)
    assert len(found) == 2100
    assert not set(bought) & set(_ids(found))
    assert engine.recommend("new", history=ids[:3]) != engine.recommend("new", history=ids[7:9])
    chances = engine.score("new", [ids[0], {"title": "oat milk"}], history=[{"title": "organic milk"}])
    assert all(0 < chance < 1 for chance in chances)
    milk = engine.similar("new", {"title": "whole milk"}, k=5)
    assert len(milk) == 5


def test_of_products_that_are_as_likely_the_nearer_come_first(
    backbone: Backbone, trained: Adapter, registry: Registry, new_shop: Dataset
):
    """Where the decoder is silent, all products of a new shop have the same numbers, and the profile decides."""
    extras = dict(loud(trained, seed=1).extras)
    extras["head_2"] = np.zeros_like(extras["head_2"])
    engine = _engine(_knowing(backbone, replace(trained, extras=extras)), registry, {"new": new_shop})
    young, old = (engine.recommend("new", profile={"age": age}, k=20) for age in ("19-24", "65+"))
    assert len({entry.probability for entry in (*young, *old)}) == 1
    assert _ids(young) != _ids(old)
    assert _ids(young) != new_shop.catalog.ids[:20].to_list()
    row = engine._prepare(Request(adapter="new", profile={"age": "65+"}))
    vectors = engine._decoding.read([row]).vectors
    shopper = (vectors @ row.loaded.extras["item_map"].T)[0].numpy()
    near = (row.platform.vectors @ shopper)[row.platform.text_of]
    place = dict(zip(new_shop.catalog.ids, near, strict=True))
    shown = np.array([place[item] for item in _ids(old)])
    assert (np.diff(shown) <= 1e-6).all()
    assert shown[0] == pytest.approx(near.max(), abs=1e-6)


def test_a_published_adapter_takes_over_at_the_next_request(
    engine: Engine, registry: Registry, knowing: Backbone, trained: Adapter, past: Dataset
):
    def answer() -> list:
        return engine.recommend("shop", user=past.users[0], exclude_bought=True)

    before = answer()
    assert engine.slots.counts().loads == 0
    registry.publish("shop", replace(loud(trained, seed=5), backbone=knowing))
    assert _ids(answer()) != _ids(before)
    assert engine.slots.counts().loads == 1
    shutil.rmtree(registry.root / "shop")
    assert answer() == before


def test_a_folder_without_a_version_is_no_adapter_yet(engine: Engine, registry: Registry, past: Dataset):
    before = engine.recommend("shop", user=past.users[0])
    (registry.root / "shop").mkdir()
    (registry.root / "shop" / ".lock").touch()
    assert engine.recommend("shop", user=past.users[0]) == before


@pytest.mark.parametrize("reference", ["shop@1", "shop@canary", "new@production"])
def test_a_version_or_an_alias_always_means_an_adapter(engine: Engine, reference: str):
    with pytest.raises(AdapterNotFoundError, match="no adapter"):
        engine.recommend(reference, history=[])
    with pytest.raises(AdapterNotFoundError, match="no adapter"):
        engine.recommender(reference)


def test_an_alias_that_leads_nowhere_is_no_reason_to_fall_back(engine: Engine, registry: Registry):
    second = registry.publish("tuned", Adapter.load(registry.open("tuned"), engine.backbone), alias="production")
    shutil.rmtree(second.path)
    with pytest.raises(AdapterNotFoundError, match="leads to version 2, which is not there"):
        engine.recommend("tuned", history=[])


def test_it_takes_no_memory_of_adapters_and_is_there_once(
    knowing: Backbone, registry: Registry, past: Dataset, new_shop: Dataset
):
    engine = _engine(knowing, registry, {"shop": past, "new": new_shop}, memory=1)
    rows = [engine._prepare(Request(adapter=name, history=[])) for name in ("shop", "new", "shop")]
    assert len({id(row.loaded) for row in rows}) == 1
    assert rows[0].loaded.restored().changes.low_rank == {}
    engine.recommend("new", history=[])
    assert (engine.slots.counts().bytes, engine.slots.counts().loads) == (0, 0)


def test_a_backbone_that_knows_nothing_of_shopping_says_what_would_help(
    backbone: Backbone, tmp_path: Path, new_shop: Dataset
):
    plain = _engine(backbone, Registry(tmp_path), {"new": new_shop})
    for ask in (lambda: plain.recommend("new", history=[]), lambda: plain.recommender("new")):
        with pytest.raises(AdapterNotFoundError, match="no adapter 'new'") as caught:
            ask()
        assert caught.value.remedy.startswith("publish one: peftrec demo")
        assert "peftrec.adapt" in caught.value.remedy
    with pytest.raises(ConfigError, match="knows nothing of shopping") as refused:
        Adapter.of_backbone(backbone)
    assert "peftrec.adapt" in refused.value.remedy


def test_a_name_without_a_platform_is_unknown(engine: Engine):
    with pytest.raises(AdapterNotFoundError, match="no adapter 'nwe'") as caught:
        engine.recommend("nwe", history=[])
    assert 'engine.attach(dataset, adapter="nwe")' in caught.value.remedy


def test_a_platform_may_have_a_name_that_no_adapter_can(knowing: Backbone, registry: Registry, new_shop: Dataset):
    engine = Engine(knowing, registry)
    engine.attach(replace(new_shop, name="Mein Laden"))
    assert len(engine.recommend("Mein Laden", history=[], k=3)) == 3


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda e: e.recommend("new", user="1"), UnknownUserError, "knows no shoppers yet"),
        (lambda e: e.recommend("shop", user="nobody"), UnknownUserError, "unknown shopper 'nobody'"),
        (lambda e: e.recommend("new", k=3001), RequestError, "3,000"),
        (lambda e: e.score("new", []), RequestError, "at least one product"),
    ],
)
def test_bad_requests_get_a_typed_error(engine: Engine, ask: Callable, error: type, says: str):
    with pytest.raises(error, match=says):
        ask(engine)


def test_a_backbone_is_not_published_as_an_adapter(knowing: Backbone, registry: Registry):
    with pytest.raises(RegistryError, match="has no tuner"):
        registry.publish("zero", Adapter.of_backbone(knowing))
    assert not (registry.root / "zero").exists()


def test_a_backbone_adapted_to_other_numbers_or_shapes_is_refused(backbone: Backbone, trained: Adapter):
    with pytest.raises(IncompatibleAdapterError, match="was adapted to other numbers"):
        Adapter.of_backbone(_knowing(backbone, trained, numbers="0" * 64))
    wrong = {**trained.extras, "item_map": trained.extras["item_map"][:-1]}
    with pytest.raises(IncompatibleAdapterError, match="item_map is"):
        Adapter.of_backbone(_knowing(backbone, replace(trained, extras=wrong)))


def test_a_saved_backbone_serves_as_before(
    engine: Engine, knowing: Backbone, registry: Registry, new_shop: Dataset, tmp_path: Path
):
    loaded = Backbone.load(knowing.save(tmp_path / "backbone"))
    again = _engine(loaded, registry, {"new": new_shop})
    assert again.recommend("new", history=[], k=5) == engine.recommend("new", history=[], k=5)


def test_training_on_a_catalogue_alone_names_the_way_out(backbone: Backbone, new_shop: Dataset):
    with pytest.raises(NotEnoughDataError, match="'new' has no events to train on") as caught:
        train_adapter(new_shop, backbone, progress=False)
    assert "peftrec.adapt" in caught.value.remedy


def test_the_command_line_serves_it_or_says_why_not(
    knowing: Backbone, new_shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = knowing.save(tmp_path / "backbone")
    monkeypatch.setattr("peftrec.load_dataset", lambda name, path: new_shop)
    words = ["recommend", "new", "--registry", str(tmp_path / "registry"), "--k", "3", "--json"]
    done = CliRunner().invoke(app, [*words, "--backbone", str(folder)])
    assert done.exit_code == 0
    assert done.stdout.count('"item_id"') == 3
    refused = CliRunner().invoke(app, words).exception
    assert isinstance(refused, AdapterNotFoundError)
    assert "peftrec.adapt" in str(refused)
