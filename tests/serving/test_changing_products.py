"""Products that come, change and go while an engine serves."""

from pathlib import Path

import numpy as np
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Catalog, Dataset
from peftrec.errors import (
    ConfigError,
    InvalidValueError,
    NotEnoughDataError,
    RequestError,
    SchemaError,
    UnknownItemError,
)
from peftrec.model import Adapter
from peftrec.model.platform import Platform
from peftrec.registry import Registry
from peftrec.serving import Engine, Rules
from tests.serving.adapters import loud

CUT = "2017-11-27T05:00"
NEW = {"item_id": ["new-1"], "title": ["organic whole milk"], "category": ["DAIRY"]}


@pytest.fixture(scope="module")
def past(grocery: Dataset) -> Dataset:
    return grocery.split(at=CUT)[0]


@pytest.fixture(scope="module")
def registry(trained: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.publish("grocery", loud(trained))
    return registry


@pytest.fixture(params=["exact", "faiss"])
def engine(request: pytest.FixtureRequest, backbone: Backbone, registry: Registry, past: Dataset) -> Engine:
    engine = Engine(backbone, registry, precision="fp32", index=request.param)
    engine.attach(past, adapter="grocery")
    return engine


def test_a_new_product_is_found_scored_and_recommended(engine: Engine, past: Dataset):
    with pytest.raises(UnknownItemError):
        engine.similar("grocery", "new-1")
    engine.update_products("grocery", NEW)
    assert engine.similar("grocery", {"title": "organic whole milk", "category": "DAIRY"}, k=1)[0][0] == "new-1"
    assert 0 < engine.score("grocery", ["new-1"], user=past.users[0])[0] < 1
    only = Rules(available=frozenset({"new-1", past.catalog.ids[0]}))
    assert "new-1" in [one.item_id for one in engine.recommend("grocery", user=past.users[0], k=2, rules=only)]
    assert engine.recommend("grocery", history=["new-1"], k=3)


def test_it_is_as_if_the_platform_had_been_attached_with_it(engine: Engine, past: Dataset, backbone: Backbone):
    engine.update_products("grocery", NEW)
    shop = engine._shops.get("grocery")
    whole = Platform.of(
        Dataset(
            past.name, past.catalog.updated(NEW), past.events, past.profiles, past.source, promotions=past.promotions
        ),
        backbone,
        progress=False,
    )
    np.testing.assert_array_equal(
        shop.platform.items(np.arange(len(shop.catalog))), whole.items(np.arange(len(shop.catalog)))
    )
    mine, told = shop.platform.snapshot(past.now), whole.snapshot(past.now)
    for name in ("items", "buyers", "popular", "group_buyers"):
        np.testing.assert_allclose(getattr(mine, name), getattr(told, name), rtol=1e-6, err_msg=name)


def test_others_answer_as_before(engine: Engine, past: Dataset):
    users = past.users[:5]
    before = [engine.recommend("grocery", user=user) for user in users]
    far = {"item_id": ["new-2"], "title": ["hydraulic excavator bucket teeth"]}
    engine.update_products("grocery", far)
    engine.remove_products("grocery", ["new-2"])
    after = [engine.recommend("grocery", user=user) for user in users]
    for old, new in zip(before, after, strict=True):
        assert [one.item_id for one in new] == [one.item_id for one in old]
        np.testing.assert_allclose([one.probability for one in new], [one.probability for one in old], atol=1e-5)


def test_what_is_gone_is_shown_no_more_until_it_is_back(engine: Engine, past: Dataset):
    user = past.users[0]
    first = engine.recommend("grocery", user=user, k=5)
    gone = first[0].item_id
    engine.remove_products("grocery", [gone])
    assert [one.item_id for one in engine.recommend("grocery", user=user, k=4)] == [one.item_id for one in first[1:]]
    assert gone not in [item for item, _ in engine.similar("grocery", first[1].item_id, k=50)]
    assert engine.recommend("grocery", history=[gone], k=3)  # it may have been bought
    row = past.catalog.frame.filter(past.catalog.ids == gone)
    engine.update_products("grocery", row)
    assert engine.recommend("grocery", user=user, k=5) == first


def test_a_product_that_changed_is_another_to_the_model(engine: Engine, past: Dataset):
    item = past.catalog.ids[10]
    engine.update_products("grocery", {"item_id": [item], "title": ["stainless steel tea kettle"]})
    assert engine.similar("grocery", {"title": "stainless steel tea kettle"}, k=1)[0][0] == item
    shop = engine._shops.get("grocery")
    assert len(shop.catalog) == len(past.catalog)


@pytest.mark.parametrize(
    ("products", "error", "says"),
    [
        ({"item_id": ["a", "a"], "title": ["x", "y"]}, InvalidValueError, "more than once"),
        ({"item_id": ["a"], "title": [" "]}, InvalidValueError, "empty title"),
        ({"item_id": ["a"]}, SchemaError, "title"),
        ({"item_id": ["a"], "title": ["x"], "price": ["cheap"]}, SchemaError, "price"),
        ({"item_id": [], "title": []}, NotEnoughDataError, "products"),
    ],
)
def test_bad_products_change_nothing(engine: Engine, past: Dataset, products: dict, error: type, says: str):
    before = engine._shops.get("grocery")
    with pytest.raises(error, match=says):
        engine.update_products("grocery", products)
    assert engine._shops.get("grocery") is before


def test_bad_removals_change_nothing(engine: Engine, past: Dataset):
    before = engine._shops.get("grocery")
    with pytest.raises(UnknownItemError, match="nowhere"):
        engine.remove_products("grocery", [past.catalog.ids[0], "nowhere"])
    with pytest.raises(NotEnoughDataError, match="would be gone"):
        engine.remove_products("grocery", past.catalog.ids.to_list())
    with pytest.raises(RequestError, match="no platform is attached for the adapter 'elsewhere'"):
        engine.remove_products("elsewhere", ["1"])
    assert engine._shops.get("grocery") is before


def test_an_unknown_index(backbone: Backbone, tmp_path: Path):
    with pytest.raises(ConfigError, match="index='quick'"):
        Engine(backbone, tmp_path, index="quick")


def test_a_catalogue_is_updated_in_place_and_behind_its_end():
    catalog = Catalog.from_table({"item_id": ["b", "a"], "title": ["one", "two"], "price": [1.0, 2.0]})
    newer = catalog.updated({"item_id": ["c", "b"], "title": ["three", "other"], "color": ["red", None]})
    assert newer.ids.to_list() == ["b", "a", "c"]
    assert newer.frame["title"].to_list() == ["other", "two", "three"]
    assert newer.frame["price"].to_list() == [None, 2.0, None]
    assert newer.frame["color"].to_list() == [None, None, "red"]
    assert catalog.frame["title"].to_list() == ["one", "two"]
