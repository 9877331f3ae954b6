"""An adapter that is loaded knows what the one that was published knew."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from peftrec.backbone import Backbone
from peftrec.model import Adapter
from peftrec.registry import Registry


def test_publishing_a_loaded_adapter_loses_nothing(trained: Adapter, backbone: Backbone, tmp_path: Path):
    registry = Registry(tmp_path)
    first = registry.publish("first", trained.with_facts(protocol="weeks 1 to 4"))
    loaded = Adapter.load(first, backbone)
    second = registry.publish("second", loaded)
    assert second.facts == first.facts
    assert second.manifest.data["shoppers"]
    assert second.manifest.protocol == "weeks 1 to 4"
    assert loaded.learning_curve == trained.learning_curve != ()
    assert first.manifest.learning_curve == [dict(point) for point in trained.learning_curve]
    for file in ("adapter_model.safetensors", "decoder.safetensors"):  # their headers list metadata in any order
        one, other = first.tensors(file), second.tensors(file)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_loss_that_overflowed_does_not_keep_an_adapter_from_being_published(trained: Adapter, tmp_path: Path):
    curve = ({"step": 1.0, "loss": float("nan")}, {"step": 2.0, "loss": 0.5})
    version = Registry(tmp_path).publish("odd", replace(trained, learning_curve=curve))
    assert version.manifest.learning_curve == [{"step": 1.0}, {"step": 2.0, "loss": 0.5}]


def test_a_version_without_a_learning_curve_gets_that_of_its_decoder(trained: Adapter):
    old = replace(trained, facts={name: value for name, value in trained.facts.items() if name != "learning_curve"})
    assert old.describe()["learning_curve"] == [dict(point) for point in trained.learning_curve]
