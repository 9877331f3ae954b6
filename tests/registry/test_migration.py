"""A registry that an older peftrec wrote opens, verifies and reads, and its manifests stay what they were, byte for byte."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftrec.errors import CorruptAdapterError
from peftrec.registry import Manifest, Registry
from peftrec.registry.manifest import SCHEMA_VERSION, sealed
from peftrec.registry.migration import OLD_SCHEMAS, upgraded

STORED = Path(__file__).parent / "stored" / "schema-1"
SHIPPED = Path(__file__).parents[2] / "adapters"
MANIFESTS = sorted([*STORED.glob("*/*/manifest.json"), *SHIPPED.glob("*/*/manifest.json")])

Make = Callable[..., Any]


@pytest.fixture
def old(tmp_path: Path) -> Registry:
    """A copy that may be written to."""
    return Registry(shutil.copytree(STORED, tmp_path / "old"))


def test_an_old_registry_opens_verifies_and_reads(old: Registry) -> None:
    assert old.names() == ["tea"]
    assert old.verify() == []
    first, second = old.versions("tea")
    assert old.open("tea") == old.open("tea@production") == second
    assert old.open("tea@canary") == first
    assert (second.manifest.schema_version, second.manifest.parent) == (1, "tea@1")
    assert second.manifest.privacy == {"epsilon": 4.0, "delta": 1e-5}
    assert second.manifest.metrics[0]["value"] == 0.3
    np.testing.assert_array_equal(second.tensors("adapter_model.safetensors")["a"], np.full((2, 8), 3, np.float16))
    assert second.read("card.md").startswith(b"---\nlibrary_name: peft\n")


def test_what_schema_1_had_not_is_empty() -> None:
    manifest = Registry(STORED).open("tea@1").manifest
    assert (manifest.learning_curve, manifest.reliability, manifest.latency) == ([], [], None)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_a_manifest_of_any_age_is_written_again_byte_for_byte(path: Path) -> None:
    content = path.read_bytes()
    assert Manifest.from_json(content, where="here").to_json().encode() == content


def test_the_shipped_adapters_verify() -> None:
    assert Registry(SHIPPED).verify() == []


def test_an_old_version_published_again_is_a_new_one(old: Registry, small: Make) -> None:
    first = old.open("tea@1")
    again = old.publish("tea", small(**first.facts), parent="tea@1")
    assert (again.version, again.manifest.schema_version) == ("3", SCHEMA_VERSION)
    assert again.facts == first.facts
    assert {"card.md", "card.html"} < set(again.manifest.files)
    assert old.verify() == []


def test_a_schema_cannot_say_what_it_has_no_field_for() -> None:
    manifest = replace(Registry(STORED).open("tea@1").manifest, latency={"p50_ms": 1.0})
    with pytest.raises(ValueError, match="schema 1 has no field for latency"):
        manifest.to_json()


def _changed(**changes: object) -> str:
    return sealed(json.loads((STORED / "tea" / "1" / "manifest.json").read_bytes()) | changes)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (_changed(reliability=[]), "unknown 'reliability'"),
        (_changed(surprise=1), "unknown 'surprise'"),
        (_changed(schema_version=2), "lacks latency, learning_curve, reliability"),
        (_changed(schema_version=3), "schema_version '3'"),
        (_changed(schema_version=0), "schema_version '0'"),
        (_changed(schema_version=True), "schema_version 'True'"),
        (_changed(schema_version=1.0), r"schema_version '1\.0'"),
        (_changed(schema_version=[1]), "schema_version"),
        (_changed(seed=1.5), "field 'seed'"),
        (_changed().replace('"seed": 7', '"seed": 8'), "was changed"),
    ],
)
def test_an_old_manifest_is_read_as_strictly(content: str, told: str) -> None:
    with pytest.raises(CorruptAdapterError, match=told):
        Manifest.from_json(content, where="here")


def test_a_page_belongs_to_schema_2(registry: Registry, small: Make) -> None:
    new = json.loads(registry.publish("tea", small()).manifest.to_json())
    page = {"card.html": new["files"]["card.html"]}
    files = json.loads((STORED / "tea" / "1" / "manifest.json").read_bytes())["files"]
    with pytest.raises(CorruptAdapterError, match="field 'files' names"):
        Manifest.from_json(_changed(files=files | page), where="here")
    del new["files"]["card.html"]
    assert Manifest.from_json(sealed(new), where="here").schema_version == SCHEMA_VERSION


def test_there_is_a_way_from_every_schema_and_back() -> None:
    assert list(OLD_SCHEMAS) == list(range(1, SCHEMA_VERSION))
    for schema, form in OLD_SCHEMAS.items():
        values: dict[str, Any] = dict.fromkeys(form.fields) | {"schema_version": schema}
        assert form.downgrade(form.upgrade(values)) == values
        assert set(upgraded(values, schema)) == set(Manifest.__dataclass_fields__)
