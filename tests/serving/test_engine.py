"""The engine on real weights: mixed batches, int8, swaps, new products and shoppers, bad requests."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Dataset, Events
from peftrec.data.log import kind_of
from peftrec.errors import (
    AdapterNotFoundError,
    ConfigError,
    CorruptAdapterError,
    IncompatibleAdapterError,
    NotEnoughDataError,
    RequestError,
    UnknownItemError,
    UnknownUserError,
)
from peftrec.evaluation import evaluate
from peftrec.model import Adapter
from peftrec.registry import Registry
from peftrec.serving import Batcher, Engine, decoding, measure_latency
from peftrec.serving.requests import Request, history_of
from peftrec.serving.retrieving import retrievals
from tests.serving.adapters import loud

CUT = "2017-11-27T05:00"

ROUNDING = 1e-2
"""Of probabilities by int8, where another batch moves a last bit before it is rounded, and an adapter is loud."""


@pytest.fixture(scope="module")
def registry(trained: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.publish("grocery", trained, alias="production")
    registry.publish("other", loud(trained), alias="production")
    return registry


def _with(adapter: Adapter, extras: dict) -> Adapter:
    return replace(adapter, extras=extras)


def _engine(
    backbone: Backbone, registry: Registry, grocery: Dataset, precision: str = "int8", **settings: object
) -> Engine:
    engine = Engine(backbone, registry, precision=precision, **settings)  # pyright: ignore
    past, _ = grocery.split(at=CUT)
    engine.attach(past, adapter="grocery")
    engine.attach(past, adapter="other")
    return engine


@pytest.fixture(scope="module")
def engine(backbone: Backbone, registry: Registry, grocery: Dataset) -> Engine:
    return _engine(backbone, registry, grocery)


@pytest.fixture(scope="module")
def exact(backbone: Backbone, registry: Registry, grocery: Dataset) -> Engine:
    return _engine(backbone, registry, grocery, precision="fp32")


def test_recommends_with_probabilities_best_first(engine: Engine, grocery: Dataset):
    found = engine.recommend("grocery", user=grocery.users[0], k=10)
    chances = [entry.probability for entry in found]
    assert len(found) == 10
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance < 1 for chance in chances)
    assert all(entry.item_id in set(grocery.catalog.ids) for entry in found)


def test_excluding_what_was_bought(engine: Engine, grocery: Dataset):
    past, _ = grocery.split(at=CUT)
    bought = set(past.events.frame.filter(past.events.frame["user_id"] == grocery.users[0])["item_id"])
    found = engine.recommend("grocery", user=grocery.users[0], k=10, exclude_bought=True)
    assert not bought & {entry.item_id for entry in found}


def test_what_was_only_looked_at_is_not_what_was_bought(engine: Engine, grocery: Dataset):
    met = engine.recommend("grocery", user=grocery.users[0], k=1)[0].item_id
    for event, shown in (("view", True), ("purchase", False)):
        history = [{"item_id": met, "event": event}]
        found = engine.recommend("grocery", history=history, k=400, exclude_bought=True)
        assert (met in {entry.item_id for entry in found}) == shown


def test_a_slow_load_keeps_nobody_else_waiting(
    backbone: Backbone, registry: Registry, grocery: Dataset, monkeypatch: pytest.MonkeyPatch
):
    engine = _engine(backbone, registry, grocery)
    loading, go, load = threading.Event(), threading.Event(), engine.slots._load

    def slowly(reference: str) -> Adapter:
        if reference.startswith("other"):
            loading.set()
            assert go.wait(60)
        return load(reference)

    monkeypatch.setattr(engine.slots, "_load", slowly)
    warm, cold = (Request(adapter=name, user=grocery.users[0], k=3) for name in ("grocery", "other"))
    engine.warm(warm)
    assert (engine.is_warm(warm), engine.is_warm(cold)) == (True, False)
    with Batcher(engine) as batcher:
        later = batcher.submit(cold)
        assert loading.wait(60)
        assert len(batcher.recommend(warm, deadline=60)) == 3
        assert not later.done()
        go.set()
        assert later.result(60)[0].adapter == "other@1"


def test_threads_ask_while_products_and_aliases_change(
    backbone: Backbone, grocery: Dataset, trained: Adapter, tmp_path: Path
):
    registry = Registry(tmp_path)
    for _ in range(2):
        registry.publish("shop", trained)
    registry.publish("shop", loud(trained, seed=1))
    past, ids = grocery.split(at=CUT)[0], grocery.catalog.ids[:8].to_list()
    engine = Engine(backbone, registry)
    engine.attach(past, adapter="shop")
    user = str(past.users[0])
    ways = {
        "score": lambda name: engine.score(name, ids, user=user),
        "similar": lambda name: [cosine for _, cosine in engine.similar(name, ids[0], k=3)],
        "embed": lambda name: engine.embed(name, user=user).tolist(),
        "recommend": lambda name: [one.probability for one in engine.recommend(name, user=user, k=5)],
    }
    versions = [f"shop@{number}" for number in (1, 2, 3)]
    right = {(way, name): ask(name) for way, ask in ways.items() for name in versions}
    assert right["score", "shop@1"] != right["score", "shop@3"]
    stop = threading.Event()

    def ask(seed: int) -> int:
        random, asked = np.random.default_rng(seed), 0
        while not stop.is_set():
            way, name = list(right)[random.integers(len(right))]
            np.testing.assert_allclose(ways[way](name), right[way, name], atol=2e-3)
            assert len(engine.recommend("shop@live", user=user, k=2)) == 2
            asked += 1
        return asked

    registry.promote(versions[0], alias="live")
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, seed) for seed in range(4)]
        for turn in range(12):
            registry.promote(versions[turn % 3], alias="live")
            # Nothing that anyone asked for above: what changes must not be seen there.
            engine.update_products("shop", {"item_id": [f"new {turn}"], "title": [f"garden chair {turn}"]})
            engine.remove_products("shop", [f"new {turn}"])
        stop.set()
        assert sum(one.result(60) for one in asking) > 4


def test_a_mixed_batch_equals_each_request_alone(exact: Engine, engine: Engine, grocery: Dataset):
    requests = [
        Request(adapter=name, user=user, k=5, exclude_bought=True)  # only there does the decoder, and its LoRA, decide
        for user in grocery.users[:4]
        for name in ("grocery", "other")
    ]
    together = exact.recommend_batch(requests)
    items = [[entry.item_id for entry in answer] for answer in together]
    rounded = engine.score_batch(requests, items)
    for at, request in enumerate(requests):
        alone = exact.recommend_batch([request])[0]
        assert [entry.item_id for entry in alone] == items[at]
        np.testing.assert_allclose([e.probability for e in alone], [e.probability for e in together[at]], atol=1e-5)
        np.testing.assert_allclose(rounded[at], engine.score_batch([request], [items[at]])[0], atol=ROUNDING)
    assert together[0] != together[1]  # two adapters, two answers


def test_scores_of_a_mixed_batch_are_those_of_each_request_alone(engine: Engine, grocery: Dataset):
    ids = grocery.catalog.ids.to_list()
    requests = [
        Request(adapter="grocery", user=grocery.users[0]),
        Request(adapter="other", history=[{"title": "oat milk"}, ids[5]]),
        Request(adapter="other@1", profile={"age": "45-54"}),
    ]
    items: list[list] = [ids[:40], [ids[3], {"title": "green tea"}, ids[7]], [{"title": "green tea"}]]
    together = engine.score_batch(requests, items)
    assert [len(scores) for scores in together] == [40, 3, 1]
    for request, own, scores in zip(requests, items, together, strict=True):
        np.testing.assert_allclose(scores, engine.score_batch([request], [own])[0], atol=ROUNDING)
    with pytest.raises(RequestError, match="2 lists of products for 1 requests"):
        engine.score_batch(requests[:1], items[:2])
    with pytest.raises(RequestError, match="at least one product"):
        engine.score_batch(requests[:2], [ids[:1], []])
    assert engine.score_batch([], []) == []


@pytest.mark.parametrize("names", [("grocery", "other"), ("grocery",), ("grocery", "grocery", "grocery", "other")])
def test_a_batch_that_is_read_in_parts_gives_each_request_its_own_answer(
    exact: Engine, engine: Engine, grocery: Dataset, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
):
    monkeypatch.setattr(decoding, "TOGETHER", 3)
    requests = [
        Request(adapter=name, user=user, k=5, exclude_bought=True)
        for user, name in zip(grocery.users[:8], (names * 8)[:8], strict=True)
    ]
    ids = grocery.catalog.ids.to_list()
    items = [ids[at : at + 20 + at] for at in range(len(requests))]
    together, scores = exact.recommend_batch(requests), exact.score_batch(requests, items)
    rounded = engine.score_batch(requests, items)
    for at, request in enumerate(requests):
        alone = exact.recommend_batch([request])[0]
        assert [entry.item_id for entry in alone] == [entry.item_id for entry in together[at]]
        np.testing.assert_allclose([e.probability for e in alone], [e.probability for e in together[at]], atol=1e-5)
        np.testing.assert_allclose(scores[at], exact.score_batch([request], [items[at]])[0], atol=1e-5)
        np.testing.assert_allclose(rounded[at], engine.score_batch([request], [items[at]])[0], atol=ROUNDING)
    assert len({tuple(entry.item_id for entry in answer) for answer in together}) == len(requests)


def test_a_shopper_as_a_vector_ranks_products_as_retrieval_does(engine: Engine, grocery: Dataset, backbone: Backbone):
    user = grocery.users[0]
    vector = engine.embed("other", user=user)
    assert vector.shape == (backbone.hidden,)
    row = engine._prepare(Request(adapter="other", user=user))
    near = retrievals([row], engine._decoding.read([row]).vectors)[0]
    items = np.arange(len(grocery.catalog))
    popularity = row.loaded.extras["popularity"].item() * np.log1p(row.snapshot.buyers)
    told = (near.of(items) - popularity) / row.loaded.extras["sharpness"].item()
    np.testing.assert_allclose(row.platform.items(items) @ vector, told, atol=1e-4)
    assert not np.allclose(vector, engine.embed("grocery", user=user))
    assert not np.allclose(vector, engine.embed("other", user=grocery.users[1]))


def test_an_adapter_that_reads_scenes_hears_them_in_a_mixed_batch(
    backbone: Backbone, trained: Adapter, grocery: Dataset, tmp_path: Path
):
    registry = Registry(tmp_path)
    heard_of = loud(trained)
    words = np.random.default_rng(1).normal(size=heard_of.extras["scene"].shape).astype(np.float16).astype(np.float32)
    registry.publish("grocery", loud(trained))
    registry.publish("other", replace(heard_of, extras={**heard_of.extras, "scene": words}, scene=True))
    engine = _engine(backbone, registry, grocery)
    scenes = (None, "Saturday evening, December, mobile app", "Monday morning, July, email")
    requests = [
        Request(adapter=name, user=grocery.users[0], k=5, exclude_bought=True, scene=scene)
        for name in ("grocery", "other")
        for scene in scenes
    ]
    chances = [[entry.probability for entry in answer] for answer in engine.recommend_batch(requests)]
    assert chances[0] == chances[1] == chances[2]  # an adapter without scenes does not listen
    heard = np.array(chances[3:])
    apart = [np.abs(heard[a] - heard[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 1e-3  # an adapter with scenes does
    for request, answer in zip(requests, chances, strict=True):
        alone = engine.recommend_batch([request])[0]
        off = np.abs(np.array([entry.probability for entry in alone]) - answer).max()
        assert off < min(2e-3, min(apart) / 2)  # rounding to int8, and nearer to its own scene than to another's


def test_a_history_may_tell_how_products_were_met(engine: Engine, grocery: Dataset):
    bought, met = grocery.catalog.ids[:2].to_list()
    seen = {"item_id": met, "days_ago": 0.01, "event": "view", "dwell_seconds": 60, "channel": "email"}
    plain = [{"item_id": bought, "days_ago": 3}]
    told = engine.score("grocery", [met], history=[*plain, seen])
    assert told != engine.score("grocery", [met], history=plain)
    histories = history_of(
        Request(adapter="grocery", history=[*plain, seen, {**seen, "days_ago": 0, "channel": "search"}]),
        grocery,
        [],
        0.0,
    )
    assert histories.page.tolist() == [1, 1, 2]
    assert histories.session.tolist() == [0, 1, 1]
    assert histories.entry.tolist() == [-1, kind_of("email"), kind_of("email")]
    assert histories.dwell.tolist()[1:] == [60, 60]
    known = history_of(Request(adapter="grocery", history=[seen]), grocery, [], 0.0, channels=["app", "email"])
    assert known.channel.tolist() == [1]
    for wrong, said in (({"dwel_seconds": 3}, "dwel_seconds"), ({"discount": 50}, "discount=50")):
        with pytest.raises(RequestError, match=said):
            engine.recommend("grocery", history=[{"item_id": met, **wrong}])
    with pytest.raises(RequestError, match="channel=7"):
        engine.recommend("grocery", history=[{"item_id": met, "channel": 7}])
    with pytest.raises(RequestError, match="scene=3"):
        engine.recommend("grocery", history=[met], scene=3)  # pyright: ignore[reportArgumentType]


def test_fp32_engine_equals_the_trained_model(
    backbone: Backbone, registry: Registry, grocery: Dataset, trained: Adapter
):
    past, _ = grocery.split(at=CUT)
    users = np.unique(past.log.user)[:20]
    served = _engine(backbone, registry, grocery, "fp32").recommender("grocery").score_catalog(past, users)
    model = trained.recommender(precision="fp32").score_catalog(past, users)
    assert np.array_equal(np.isfinite(served), np.isfinite(model))
    np.testing.assert_allclose(served[np.isfinite(served)], model[np.isfinite(model)], atol=1e-3)


def test_int8_says_what_fp32_says_about_products_never_bought(backbone: Backbone, registry: Registry, grocery: Dataset):
    past, _ = grocery.split(at=CUT)
    users = np.unique(past.log.user)[:40]
    never = np.ones((len(users), len(past.catalog)), bool)
    for row, user in enumerate(users):
        never[row, past.log.item[past.log.user == user]] = False
    logits = []
    for precision in ("fp32", "int8"):
        system = _engine(backbone, registry, grocery, precision).recommender("other")
        logits.append(system.score_catalog(past, users))
    plain = _engine(backbone, registry, grocery).recommender("grocery").score_catalog(past, users)
    both = never & np.isfinite(logits[0]) & np.isfinite(logits[1]) & np.isfinite(plain)
    exact, rounded, silent = logits[0][both], logits[1][both], plain[both]
    assert np.std(exact - silent) > 0.5, "the decoder must have something to say for this to mean anything"
    assert np.corrcoef(exact - silent, rounded - silent)[0, 1] > 0.99
    assert np.abs(exact - rounded).mean() < 0.1 * np.std(exact - silent)


def test_int8_stays_close_to_fp32(backbone: Backbone, registry: Registry, grocery: Dataset):
    past, future = grocery.split(at=CUT)
    users = np.unique(past.log.user)[::3]
    asked = future.events.frame.filter(pl.col("user_id").is_in(past.users.gather(users).implode()))
    future = replace(future, events=Events(asked), index=None)
    precise, served = (
        _engine(backbone, registry, grocery, precision).recommender("grocery") for precision in ("fp32", "int8")
    )
    tops = [np.argsort(-each.score_catalog(past, users), axis=1, kind="stable")[:, :10] for each in (precise, served)]
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(*tops, strict=True)]) >= 0.98
    precise.name = "fp32"
    found = evaluate([precise, served], future, baselines=None, progress=False)
    assert abs(found.value("fp32", "auc").value - found.value(served.name, "auc").value) <= 0.001


def test_numbers_that_are_none_are_refused_and_a_long_past_is_read(
    backbone: Backbone, grocery: Dataset, trained: Adapter, tmp_path: Path
):
    registry = Registry(tmp_path)
    registry.publish("grocery", trained)
    engine = Engine(backbone, registry)
    engine.attach(grocery.split(at=CUT)[0], adapter="grocery")
    ids = grocery.catalog.ids.to_list()
    long = [{"item_id": ids[at % len(ids)], "days_ago": 300 * (1 - at / 100_000)} for at in range(100_000)]
    assert len(engine.recommend("grocery", history=long, k=3)) == 3
    broken = dict(trained.extras) | {"head_1": np.full_like(trained.extras["head_1"], np.nan)}
    before = engine.recommend("grocery", user=grocery.users[0])
    try:
        registry.publish("grocery", _with(trained, broken))
    except CorruptAdapterError:
        pass  # refused at the door
    else:
        with pytest.raises(CorruptAdapterError, match="no numbers"):
            engine.recommend("grocery@2", user=grocery.users[0])
    assert engine.recommend("grocery", user=grocery.users[0]) == before


def test_a_published_version_takes_over_between_two_requests(
    backbone: Backbone, registry: Registry, grocery: Dataset, trained: Adapter
):
    engine = _engine(backbone, registry, grocery)
    user = grocery.users[0]
    before = engine.recommend("grocery", user=user, k=3)
    shifted = {name: value - (2 if name == "features_logit_bias" else 0) for name, value in trained.extras.items()}
    version = registry.publish("grocery", _with(trained, shifted), alias="production")
    try:
        after = engine.recommend("grocery", user=user, k=3)
        assert after[0].probability < before[0].probability
        assert engine.recommend("grocery@1", user=user, k=3) == before
    finally:
        registry.promote("grocery@1")
    assert version.version == "2"


def test_a_split_alias_gives_each_shopper_one_version(
    backbone: Backbone, registry: Registry, grocery: Dataset, trained: Adapter
):
    engine = _engine(backbone, registry, grocery)
    shifted = {name: value - (2 if name == "features_logit_bias" else 0) for name, value in trained.extras.items()}
    second = registry.publish("grocery", _with(trained, shifted))
    registry.split("grocery", {"1": 1, second.version: 1})
    try:
        users = grocery.users[:12].to_list()
        answers = engine.recommend_batch([Request(adapter="grocery", user=user, k=2) for user in users])
        drawn = [registry.open("grocery", user=user).version for user in users]
        assert len({*drawn}) == 2
        for user, version, answer in zip(users, drawn, answers, strict=True):
            assert answer == engine.recommend(f"grocery@{version}", user=user, k=2)
            bought = [item.item_id for item in answer]
            by_name = engine.score("grocery", bought, history=bought, split_by=user)
            assert by_name == engine.score(f"grocery@{version}", bought, history=bought)
    finally:
        registry.promote("grocery@1")


def test_latency_is_that_of_requests(engine: Engine, grocery: Dataset, trained: Adapter, tmp_path: Path):
    users = grocery.users[:9].to_list()
    told = measure_latency(engine, "grocery", users, k=3)
    assert (told["requests"], told["k"], told["precision"]) == (4, 3, engine.precision)
    assert 0 < float(str(told["p50_ms"])) <= float(str(told["p99_ms"]))
    version = Registry(tmp_path).publish("grocery", trained.with_facts(latency=told))
    assert f"{told['p50_ms']}" in version.read("card.md").decode()
    with pytest.raises(RequestError, match="5 shoppers"):
        measure_latency(engine, "grocery", users[:5])


def test_new_shoppers_and_new_products(engine: Engine, grocery: Dataset):
    ids = grocery.catalog.ids.to_list()
    assert len(engine.recommend("grocery", history=ids[:3], k=4)) == 4
    assert len(engine.recommend("grocery", profile={"age": "65+", "income": "35-49K"}, k=4)) == 4
    assert len(engine.recommend("grocery", history=[], k=4)) == 4
    with_text = engine.recommend("grocery", history=[ids[0], {"title": "copper kettle 🫖 水壶"}], k=4)
    assert all(entry.item_id in set(ids) for entry in with_text)
    chances = engine.score("grocery", [ids[0], {"title": "organic milk"}, {"title": ""}, {"title": "茶 " * 50_000}])
    assert len(chances) == 4
    assert all(0 <= chance <= 1 for chance in chances)


def test_similar_products_share_meaning(engine: Engine, grocery: Dataset):
    titles = dict(zip(grocery.catalog.ids, grocery.catalog.frame["title"], strict=True))
    item = next(key for key, title in titles.items() if title == "FLUID MILK WHITE ONLY")
    found = engine.similar("grocery", item, k=5)
    assert item not in [key for key, _ in found]
    assert sum("MILK" in titles[key] for key, _ in found) >= 4
    assert any("MILK" in titles[key] for key, _ in engine.similar("grocery", {"title": "whole milk"}, k=10))


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda e: e.recommend("nobody"), AdapterNotFoundError, "no adapter 'nobody'"),
        (lambda e: e.recommend("grocery@9"), AdapterNotFoundError, "9"),
        (lambda e: e.recommend("grocery", user="nobody"), UnknownUserError, "unknown shopper 'nobody'"),
        (lambda e: e.recommend("grocery", history=["no such id"]), UnknownItemError, "no such id"),
        (lambda e: e.recommend("grocery", k=0), RequestError, "at least 1"),
        (lambda e: e.recommend("grocery", k=10**6), RequestError, "3,000"),
        (lambda e: e.recommend("grocery", k="10"), RequestError, "whole number"),
        (lambda e: e.recommend("grocery", k=2.5), RequestError, "whole number"),
        (lambda e: e.recommend("grocery", user=1), RequestError, "write user='1'"),
        (lambda e: e.recommend("grocery", history=[995242]), RequestError, "write '995242'"),
        (lambda e: e.recommend("grocery", history=[{}]), RequestError, "a description"),
        (lambda e: e.recommend("grocery", profile={1: "a"}), RequestError, "attributes by name"),
        (lambda e: e.score("grocery", [995242]), RequestError, "write '995242'"),
        (lambda e: e.similar("grocery", 995242), RequestError, "write '995242'"),
        (lambda e: e.recommend("grocery", history="milk"), RequestError, "a list of products"),
        (lambda e: e.recommend("grocery", history={"title": "milk"}), RequestError, r"write history=\[{'title'"),
        (lambda e: e.recommend("grocery", history=5), RequestError, "a list of products"),
        (lambda e: e.recommend(7, user="1"), RequestError, "text such as 'grocery'"),
        (lambda e: e.recommend("grocery", user="1", history=[]), RequestError, "both user and history"),
        (lambda e: e.score("grocery", []), RequestError, "at least one product"),
        (
            lambda e: e.score("grocery", [{"title": "x"}], history=[{"title": "y", "days_ago": -1}]),
            RequestError,
            "days_ago",
        ),
    ],
)
def test_bad_requests_get_a_typed_error_and_change_nothing(engine: Engine, grocery: Dataset, ask, error, says: str):
    before = engine.recommend("grocery", user=grocery.users[0], k=5)
    with pytest.raises(error, match=says):
        ask(engine)
    assert engine.recommend("grocery", user=grocery.users[0], k=5) == before


def test_missing_values_of_a_description_say_nothing(engine: Engine, grocery: Dataset):
    history = [grocery.catalog.ids[0]]
    bare = {"title": "oat milk", "tags": "vegan, organic"}
    told = {**bare, "brand": None, "price": 3.5, "tags": ["vegan", "organic"]}
    assert engine.score("grocery", [told], history=history) == engine.score("grocery", [bare], history=history)
    one = engine.recommend("grocery", profile={"age": "45-54", "income": None}, k=5)
    assert one == engine.recommend("grocery", profile={"age": "45-54"}, k=5)


def test_a_platform_with_three_events_is_served_and_measured(backbone: Backbone, registry: Registry):
    shop = Dataset.build(
        name="tiny",
        catalog={"item_id": ["a", "b", "c"], "title": ["green tea", "kettle", "cup"]},
        events={
            "user_id": ["u", "v", "u"],
            "item_id": ["a", "b", "b"],
            "timestamp": ["2024-01-01", "2024-03-01", "2024-05-01"],
        },
    )
    past, future = shop.split(at="2024-04-01")
    engine = Engine(backbone, registry)
    engine.attach(past, adapter="grocery")
    for who in ({"user": "u"}, {"history": []}, {"history": ["c"]}, {"profile": {"age": "65+"}}):
        found = engine.recommend("grocery", k=3, **who)  # pyright: ignore[reportArgumentType]
        assert {entry.item_id for entry in found} == {"a", "b", "c"}
        assert all(0 <= entry.probability <= 1 for entry in found)
    result = evaluate(engine.recommender("grocery"), future, progress=False)
    assert result.value(f"peftrec {engine.precision}", "ndcg@10").value > 0
    with pytest.raises(NotEnoughDataError, match="no shopper"):
        evaluate(engine.recommender("grocery"), shop.split(at="2024-03-01")[1].window(end="2024-03-15"), progress=False)


def test_no_platform_attached(backbone: Backbone, registry: Registry):
    with pytest.raises(RequestError, match="no platform is attached"):
        Engine(backbone, registry).recommend("grocery")


def test_another_backbone_is_refused_with_every_mismatch(tiny_backbone: Backbone, registry: Registry, grocery: Dataset):
    engine = Engine(tiny_backbone, registry)
    engine.attach(grocery, adapter="grocery")
    with pytest.raises(IncompatibleAdapterError) as caught:
        engine.recommend("grocery")
    assert "backbone" in str(caught.value)
    assert "tokenizer" in str(caught.value)
    assert "layers" in str(caught.value)
    assert "retrieval_map" in str(caught.value) or "item_map" in str(caught.value)  # tensors of another width


def test_memory_budget_evicts_by_bytes(backbone: Backbone, registry: Registry, grocery: Dataset):
    size = _engine(backbone, registry, grocery).slots.get("grocery@1").size
    engine = _engine(backbone, registry, grocery, memory=int(1.5 * size))
    for name in ("grocery", "other", "grocery"):
        engine.recommend(name, user=grocery.users[0], k=1)
    assert engine.slots.counts().evictions == 2
    assert engine.slots.counts().bytes <= 1.5 * size
    with pytest.raises(RequestError, match="bytes"):
        _engine(backbone, registry, grocery, memory=1000).recommend("grocery", user=grocery.users[0])


def test_a_pinned_adapter_stays(backbone: Backbone, registry: Registry, grocery: Dataset):
    size = _engine(backbone, registry, grocery).slots.get("grocery@1").size
    engine = _engine(backbone, registry, grocery, memory=int(2.5 * size))
    assert engine.pin("grocery") == "grocery@1"
    loads = engine.slots.counts().loads
    for name in ("other", "grocery", "other", "grocery"):
        engine.recommend(name, user=grocery.users[0], k=1)
    assert engine.slots.counts().loads == loads + 1
    engine.unpin("grocery@1")
    with pytest.raises(AdapterNotFoundError):
        engine.pin("nobody")


@pytest.mark.parametrize("memory", ["much", "0", "-1MB", ""])
def test_amounts_of_memory_that_are_none(memory: str, backbone: Backbone, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"batch=2\.5"):
        Engine(backbone, tmp_path, batch=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="512MB"):
        Engine(backbone, tmp_path, memory=memory)


def test_a_plan_that_ends_too_soon_is_said(
    backbone: Backbone, registry: Registry, grocery: Dataset, caplog: pytest.LogCaptureFixture
):
    engine = Engine(backbone, registry)
    engine.attach(grocery.split(at=CUT)[0], adapter="grocery")
    assert not caplog.records  # five weeks of plan are left
    engine.attach(grocery, adapter="grocery")
    assert "end on 2018-01-01, but adapters read 5 weeks ahead" in caplog.text
    caplog.clear()
    engine.attach(replace(grocery, promotions=None), adapter="grocery")
    assert not caplog.records
