"""Publish, open, aliases, and every way in which a folder can be wrong."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, RegistryError
from peftrec.registry import Registry

Make = Callable[..., Any]
FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "card.html",
    "card.md",
    "decoder.safetensors",
    "manifest.json",
)
HELD = ("adapter_model.safetensors", "decoder.safetensors")


def test_what_was_published_comes_back(registry: Registry, small: Make) -> None:
    published = registry.publish("grocery", small(3.0), alias="production")
    version = registry.open("grocery")
    assert version == published
    assert (version.reference, version.manifest.seed, version.manifest.parent) == ("grocery@1", 7, None)
    assert version.problems() == []
    assert registry.verify() == []
    tensors = version.tensors("adapter_model.safetensors")
    np.testing.assert_array_equal(tensors["a"], np.full((2, 8), 3, np.float16))
    assert version.size == sum((version.path / file).stat().st_size for file in FILES if file != "manifest.json")
    assert "ndcg@10 | all | 0.2500" in version.read("card.md").decode()


def test_aliases_and_numbers(registry: Registry, small: Make) -> None:
    for value in range(1, 4):
        registry.publish("tea", small(value))
    assert registry.open("tea").version == "3"
    registry.promote("tea@1")
    registry.publish("tea", small(), alias="canary", parent="tea@production")
    assert registry.aliases("tea") == {"production": "1", "canary": "4"}
    assert registry.open("tea").version == "1"
    assert registry.open("tea@canary").manifest.parent == "tea@1"
    assert [version.version for version in registry.versions("tea")] == ["1", "2", "3", "4"]
    assert registry.names() == ["tea"]


def test_an_empty_registry(registry: Registry) -> None:
    assert registry.names() == []
    assert registry.verify() == []
    with pytest.raises(AdapterNotFoundError, match="empty"):
        registry.open("tea")


def test_the_nearest_name_is_shown(registry: Registry, small: Make) -> None:
    registry.publish("grocery", small())
    with pytest.raises(AdapterNotFoundError, match="closest: grocery"):
        registry.open("grocerie")
    for reference in ("grocery@2", "grocery@canary", "grocery@01"):
        with pytest.raises(AdapterNotFoundError, match="no version or alias"):
            registry.open(reference)


@pytest.mark.parametrize("file", FILES)
def test_any_flipped_byte_is_noticed(registry: Registry, small: Make, file: str) -> None:
    path = registry.publish("tea", small()).path / file
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 25)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        same = file == "manifest.json" and _loaded(path.read_bytes()) == json.loads(whole)
        assert bool(registry.verify()) is not same  # a space in front of a key means nothing
        if file != "manifest.json":
            with pytest.raises(CorruptAdapterError, match="its bytes changed"):
                registry.open("tea").read(file)


def _loaded(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kept", [0, 7, 0.5, -1])
def test_truncation_is_noticed(registry: Registry, small: Make, file: str, kept: float) -> None:
    path = registry.publish("tea", small()).path / file
    whole = path.read_bytes()
    # The manifest's last byte is a line break, which means nothing.
    path.write_bytes(whole[: int(len(whole) * kept) if 0 < kept < 1 else int(kept) - 2 * (kept < 0)])
    assert registry.verify()
    if file != "manifest.json":
        with pytest.raises(CorruptAdapterError, match="bytes, the manifest says"):
            registry.open("tea@1").read(file)
    else:
        with pytest.raises(CorruptAdapterError, match="JSON"):
            registry.open("tea@1")


def test_a_changed_metric_is_refused(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small()).path / "manifest.json"
    path.write_text(path.read_text().replace('"value": 0.25', '"value": 0.99'))
    with pytest.raises(CorruptAdapterError, match="was changed"):
        registry.open("tea")


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_stops_opening(registry: Registry, small: Make, file: str) -> None:
    (registry.publish("tea", small()).path / file).unlink()
    with pytest.raises(CorruptAdapterError, match=re.escape(file)):
        registry.open("tea@1")
    assert any(file in problem for problem in registry.verify("tea"))


def test_a_surplus_file_and_a_linked_file_stop_opening(registry: Registry, small: Make, tmp_path: Path) -> None:
    path = registry.publish("tea", small()).path
    (path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(CorruptAdapterError, match=r"pytorch_model.bin is not in the manifest"):
        registry.open("tea")
    (path / "pytorch_model.bin").unlink()
    (path / "card.md").rename(tmp_path / "card.md")
    (path / "card.md").symlink_to(tmp_path / "card.md")
    with pytest.raises(CorruptAdapterError, match=r"card.md is a link"):
        registry.open("tea")


def test_hidden_files_of_the_system_disturb_nobody(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small()).path
    (path / ".DS_Store").write_bytes(b"left by a file manager")
    assert registry.open("tea").version == "1"
    assert registry.verify() == []


def test_verify_tells_of_adapters_without_a_whole_version(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small()).path
    (path / "manifest.json").unlink()
    assert registry.names() == []
    assert any("tea@1" in problem for problem in registry.verify())


def test_what_publishing_would_refuse_is_known_before(registry: Registry, small: Make) -> None:
    registry.check_ready("tea", alias="production")
    assert registry.names() == []
    registry.publish("tea", small())
    registry.check_ready("tea")
    for name, alias in (("My Shop", None), ("tea", "3")):
        with pytest.raises(RegistryError):
            registry.check_ready(name, alias=alias)
    (registry.root / "tea" / "aliases.json").write_text("[]")
    with pytest.raises(CorruptAdapterError):
        registry.check_ready("tea", alias="production")


def test_a_linked_adapter_is_refused(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small()).path.parent
    (registry.root / "coffee").symlink_to(path, target_is_directory=True)
    with pytest.raises(CorruptAdapterError, match="is a link"):
        registry.open("coffee")


def test_the_newest_version_opens_beside_a_damaged_older_one(registry: Registry, small: Make) -> None:
    (registry.publish("tea", small()).path / "manifest.json").write_text("{")
    registry.publish("tea", small())
    assert registry.newest("tea").version == "2"
    with pytest.raises(CorruptAdapterError):
        registry.versions("tea")


def test_a_card_accounts_for_the_rows_that_were_dropped(registry: Registry, small: Make) -> None:
    text = registry.publish("tea", small()).read("card.md").decode()
    assert "Of 1,200 events of the whole data set, 1,197 were kept." in text
    assert "| missing_user | dropped | 3 | 0.25% | row 7: a/b |" in text
    assert "| html |" not in text
    assert "Switched off: duplicate_event." in text
    assert "## Cleaning" not in registry.publish("plain", small(data={"dataset": "tea"})).read("card.md").decode()


def test_a_card_states_any_backbone_as_yaml(registry: Registry, small: Make) -> None:
    name = 'C:\\models\\"my": bert'
    text = registry.publish("tea", small(base_model=name)).read("card.md").decode()
    stated = next(line for line in text.splitlines() if line.startswith("base_model: "))
    assert json.loads(stated.removeprefix("base_model: ")) == name


def test_a_linked_version_is_refused(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small()).path
    (path.parent / "2").symlink_to(path, target_is_directory=True)
    with pytest.raises(CorruptAdapterError, match="is a link"):
        registry.open("tea@2")
    assert registry.open("tea@1").version == "1"
    assert registry.publish("tea", small()).version == "3"


def test_a_copied_version_is_refused(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small()).path
    shutil.copytree(path, path.parent / "2")
    with pytest.raises(CorruptAdapterError, match="says that it is tea@1"):
        registry.open("tea@2")


def test_swapped_tensor_files_are_noticed(registry: Registry, small: Make) -> None:
    one, two = registry.publish("tea", small(1)).path, registry.publish("tea", small(2)).path
    for file in HELD:
        shutil.copy(one / file, two / file)
        with pytest.raises(CorruptAdapterError, match="its bytes changed"):
            registry.open("tea@2").tensors(file)
    assert len(registry.verify()) == 2


def test_03_is_no_version(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small()).path
    shutil.copytree(path, path.parent / "03")
    assert [version.version for version in registry.versions("tea")] == ["1"]
    assert registry.publish("tea", small()).version == "2"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"production": 1}', b'{"production": "03"}', b'{"1": "1"}'])
def test_garbled_aliases(registry: Registry, small: Make, content: bytes) -> None:
    path = registry.publish("tea", small(), alias="production").path
    (path.parent / "aliases.json").write_bytes(content)
    assert registry.open("tea@1").version == "1"
    assert any("aliases.json" in problem for problem in registry.verify())
    for reference in ("tea", "tea@production"):
        with pytest.raises(CorruptAdapterError, match=r"aliases.json"):
            registry.open(reference)
    with pytest.raises(CorruptAdapterError, match=r"aliases.json"):
        registry.publish("tea", small(), alias="canary")
    assert registry.numbers("tea") == ["1"]
    registry.repair("tea")  # as the message says
    assert registry.aliases("tea") == {"production": "1"}
    assert registry.open("tea").version == "1"
    assert registry.verify() == []


def test_a_dangling_alias_is_reported(registry: Registry, small: Make) -> None:
    path = registry.publish("tea", small(), alias="production").path
    (path.parent / "aliases.json").write_text('{"production": "9"}')  # as it was written before there was a history
    (path.parent / "history.jsonl").unlink()
    assert registry.verify() == ["tea@production points to version 9, which is not there"]
    with pytest.raises(AdapterNotFoundError):
        registry.open("tea")


def test_a_root_that_is_a_file(tmp_path: Path, small: Make) -> None:
    (tmp_path / "file").touch()
    registry = Registry(tmp_path / "file")
    actions: list[Callable[[], object]] = [
        registry.names,
        registry.verify,
        lambda: registry.open("tea"),
        lambda: registry.versions("tea"),
        lambda: registry.publish("tea", small()),
    ]
    for act in actions:
        with pytest.raises(RegistryError, match="cannot be listed"):
            act()


@pytest.mark.parametrize(
    "name", ["", "Tea", "a b", "../tea", "tea/uk", ".tea", "tea.", "a--b", "con", "nul.txt", "x" * 65, "tea\n", "thé"]
)
def test_names_refused(registry: Registry, small: Make, name: str) -> None:
    with pytest.raises(RegistryError, match="adapter name"):
        registry.publish(name, small())
    with pytest.raises(AdapterNotFoundError):
        registry.versions(name)
    assert not registry.root.exists()


@pytest.mark.parametrize("alias", ["", "3", "latest", "Production", "../x"])
def test_aliases_refused(registry: Registry, small: Make, alias: str) -> None:
    registry.publish("tea", small())
    with pytest.raises(RegistryError, match="alias"):
        registry.publish("tea", small(), alias=alias)
    with pytest.raises(RegistryError, match="alias"):
        registry.promote("tea@1", alias=alias)
    assert len(registry.versions("tea")) == 1


@pytest.mark.parametrize("reference", ["", "@1", "tea@", "tea@1@2", "../tea@1", "tea@../1", "TEA", "tea @1", "tea@1\n"])
def test_references_refused(registry: Registry, small: Make, reference: str) -> None:
    registry.publish("tea", small())
    with pytest.raises(AdapterNotFoundError, match="reference"):
        registry.open(reference)
    if reference:
        with pytest.raises(RegistryError):
            registry.publish("tea", small(), parent=reference)


@pytest.mark.parametrize(
    "changes",
    [
        *({"without": name} for name in ("method", "base_model", "decoder_layers", "ranks", "fingerprints")),
        {"surprise": 1},
        {"method": 3},
        {"decoder_layers": 0},
        {"decoder_layers": True},
        {"decoder_layers": "2"},
        {"ranks": {"q": 0}},
        {"ranks": {"q": 2.0}},
        {"ranks": [2]},
        {"fingerprints": {"backbone": "a" * 64}},
        {"fingerprints": {"backbone": "a", "tokenizer": "b", "template": "c"}},
        {"metrics": [{"metric": "ndcg@10"}]},
        {"metrics": [{"metric": "m", "slice": "all", "value": float("nan"), "low": None, "high": None}]},
        {"metrics": [{"metric": "m", "slice": "all", "value": None, "low": None, "high": None}]},
        {"metrics": [{"metric": "m", "slice": 1, "value": 1.0, "low": None, "high": None}]},
        {"data": {"start": object()}},
        {"data": {"note": "\ud800"}},
        {"privacy": {"epsilon": 1.0}},
        {"seed": 1.5},
        {"versions": {"numpy": 2}},
    ],
)
def test_an_adapter_that_says_too_little_or_nonsense(registry: Registry, small: Make, changes: dict[str, Any]) -> None:
    with pytest.raises(RegistryError):
        registry.publish("tea", small(**changes))
    assert not registry.root.exists()


def _mangled(file: str, content: object) -> Callable[[dict[str, Any]], None]:
    return lambda files: files.update({file: content})


@pytest.mark.parametrize(
    "mangle",
    [
        lambda files: files.pop("decoder.safetensors"),
        _mangled("model.bin", b""),
        _mangled("../escape", b""),
        _mangled("decoder.safetensors", "text"),
        _mangled("decoder.safetensors", b""),
        _mangled("decoder.safetensors", b"\x80\x04]q\x00."),
        _mangled("decoder.safetensors", (2).to_bytes(8, "little") + b"[]"),
        _mangled("decoder.safetensors", save({"head": np.zeros(3, np.int64)})),
        _mangled("decoder.safetensors", save({"head": np.zeros(3, np.float32)}) + b"\0"),
        _mangled("decoder.safetensors", save({"a": np.zeros(3, np.float32)})),
        _mangled("adapter_config.json", b"[]"),
        _mangled("adapter_config.json", b"{"),
    ],
)
def test_files_refused(registry: Registry, small: Make, mangle: Callable[[dict[str, Any]], None]) -> None:
    adapter = small()
    mangle(adapter.content)
    with pytest.raises(RegistryError):
        registry.publish("tea", adapter)
    assert not registry.root.exists()


def test_the_same_tensor_in_two_files_is_named(registry: Registry, small: Make) -> None:
    adapter = small()
    adapter.content["decoder.safetensors"] = save({"a": np.zeros(3, np.float32)})
    with pytest.raises(CorruptAdapterError, match="tensors in two files: a"):
        registry.publish("tea", adapter)


def test_opening_is_quick(registry: Registry, small: Make) -> None:
    registry.publish("tea", small(), alias="production")
    took: list[float] = []
    for _ in range(30):
        begun = time.perf_counter()
        registry.open("tea")
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.005


def test_importing_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, peftrec.registry; print({'torch', 'numpy', 'safetensors', 'peft'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
