"""The adapters in ``adapters/`` are whole, small, and work with the code beside them."""

from pathlib import Path

import numpy as np
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.registry import Registry
from peftrec.serving import Engine

SHIPPED = Registry(Path(__file__).parents[1] / "adapters")


def test_there_are_at_least_two_and_all_are_whole():
    assert len(SHIPPED.names()) >= 2
    assert SHIPPED.verify() == []


@pytest.mark.parametrize("name", SHIPPED.names())
def test_it_is_small_measured_and_serves(name: str, backbone: Backbone, grocery: Dataset):
    version = SHIPPED.open(name)
    assert version.size < 2_000_000
    assert {entry["metric"] for entry in version.manifest.metrics} >= {"ndcg@10", "auc", "ece"}
    engine = Engine(backbone, SHIPPED)
    engine.attach(grocery.split(at="2017-11-27T05:00")[0], adapter=name)
    found = engine.recommend(name, user=grocery.users[0], k=5)
    assert len({entry.item_id for entry in found}) == 5
    assert np.all([0 < entry.probability < 1 for entry in found])
