"""An adapter that is loaded knows what the one that was published knew."""

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
    for file in ("adapter_model.safetensors", "decoder.safetensors"):  # their headers list metadata in any order
        one, other = first.tensors(file), second.tensors(file)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)
