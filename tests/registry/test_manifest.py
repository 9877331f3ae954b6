"""The manifest reads what it wrote, and refuses all else with one type of error."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.errors import CorruptAdapterError
from peftrec.registry import Manifest, Registry
from peftrec.registry.manifest import sealed

_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, small: Callable[..., Any]) -> str:
    root = tmp_path_factory.mktemp("adapters")
    told = {
        "learning_curve": [{"step": 20, "loss": 0.9}, {"step": 36, "eval_loss": 0.07}],
        "reliability": [{"predicted": 0.1, "observed": 0.12, "count": 50}],
        "latency": {"p50_ms": 3.5, "machine": "two cores"},
    }
    return Registry(root).publish("tea", small(**told)).manifest.to_json()


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        found += [inner for key, each in value.items() for inner in _paths(each, (*path, key))]
    elif isinstance(value, list):
        found += [inner for key, each in enumerate(value) for inner in _paths(each, (*path, key))]
    return found


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def test_round_trip(text: str) -> None:
    manifest = Manifest.from_json(text, where="here")
    assert manifest.to_json() == text
    assert Manifest.from_json(text.encode(), where="here") == manifest


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_mutated_manifests_are_refused_or_valid(text: str, data: st.DataObject) -> None:
    """Sealed again, so that the checks behind the seal are reached."""
    values = json.loads(text)
    path = data.draw(st.sampled_from(_paths(values)))
    parent, key = _at(values, path[:-1]), path[-1]
    if data.draw(st.booleans()):
        parent[key] = data.draw(_ANYTHING)
    elif isinstance(parent, dict) and data.draw(st.booleans()):
        parent[data.draw(st.text(max_size=5))] = data.draw(_ANYTHING)
    else:
        del parent[key]
    try:
        mutated = sealed(values)
    except ValueError:  # NaN
        mutated = json.dumps(values)
    try:
        manifest = Manifest.from_json(mutated, where="here")
    except CorruptAdapterError:
        return
    assert Manifest.from_json(manifest.to_json(), where="here") == manifest
    assert manifest.decoder_layers >= 1
    assert all(math.isfinite(entry["value"]) for entry in manifest.metrics)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_unsealed_changes_are_always_refused(text: str, data: st.DataObject) -> None:
    values = json.loads(text)
    changed = copy.deepcopy(values)
    path = data.draw(st.sampled_from(_paths(values)))
    _at(changed, path[:-1])[path[-1]] = data.draw(_ANYTHING)
    if json.dumps(changed) != json.dumps(values):
        with pytest.raises(CorruptAdapterError):
            Manifest.from_json(json.dumps(changed), where="here")


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptAdapterError):
        Manifest.from_json(content, where="here")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"schema_version": ' + "9" * 5000 + "}", "NaN", '{"a": 1, "a": 2}']
)
def test_hostile_json_is_refused(content: str) -> None:
    with pytest.raises(CorruptAdapterError, match=r"is not JSON|no object"):
        Manifest.from_json(content, where="here")


def test_a_newer_schema_names_the_way_out(text: str) -> None:
    with pytest.raises(CorruptAdapterError, match="install the peftrec that wrote it"):
        Manifest.from_json(text.replace('"schema_version": 2', '"schema_version": 3'), where="here")


def test_metrics_may_be_empty(text: str) -> None:
    values = {**json.loads(text), "metrics": []}
    assert Manifest.from_json(sealed(values), where="here").metrics == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../tea"),
        ("data", {"dataset": ["tea"]}),
        ("data", {"cleaning": {"rows_in": 1}}),
        ("data", {"other": {"rows_in": 1}}),
        ("version", "03"),
        ("version", "0"),
        ("parent", "tea"),
        ("created", "yesterday"),
        ("created", "2026-01-01"),
        ("files", {}),
        ("tensors", {"a": {"file": "card.md", "shape": [1], "dtype": "F16"}}),
        ("tensors", {"a": {"file": "decoder.safetensors", "shape": [-1], "dtype": "F16"}}),
        ("tensors", {"a": {"file": "decoder.safetensors", "shape": [1], "dtype": "I64"}}),
        ("ranks", {"q": True}),
        ("learning_curve", {}),
        ("learning_curve", [{"loss": 1.0}]),
        ("learning_curve", [{"step": 1, "loss": None}]),
        ("learning_curve", [{"step": "1"}]),
        ("reliability", None),
        ("reliability", [{"predicted": 0.1, "observed": 0.1}]),
        ("reliability", [{"predicted": 1.1, "observed": 0.1, "count": 1}]),
        ("reliability", [{"predicted": 0.1, "observed": -0.1, "count": 1}]),
        ("reliability", [{"predicted": 0.1, "observed": 0.1, "count": 1.5}]),
        ("reliability", [{"predicted": 0.1, "observed": 0.1, "count": 10**400}]),
        ("reliability", [{"predicted": 0.1, "observed": 0.1, "count": 1, "low": 0.0}]),
        ("latency", []),
        ("latency", {"p50_ms": None}),
        ("latency", {"p50_ms": [1.0]}),
    ],
)
def test_a_field_that_is_wrong_is_named(text: str, field: str, value: object) -> None:
    with pytest.raises(CorruptAdapterError, match=field[:-1]):
        Manifest.from_json(sealed({**json.loads(text), field: value}), where="here")


def test_what_is_not_known_is_empty(registry: Registry, small: Callable[..., Any]) -> None:
    manifest = registry.publish("tea", small()).manifest
    assert (manifest.learning_curve, manifest.reliability, manifest.latency) == ([], [], None)


@pytest.mark.parametrize("entry", [{"sha256": "A" * 64, "size": 1}, {"sha256": "a" * 63, "size": 1}, {"size": 1}])
def test_a_digest_has_64_hexadecimal_digits(text: str, entry: dict[str, object]) -> None:
    values = json.loads(text)
    values["files"]["card.md"] = entry
    with pytest.raises(CorruptAdapterError, match=r"card\.md"):
        Manifest.from_json(sealed(values), where="here")
