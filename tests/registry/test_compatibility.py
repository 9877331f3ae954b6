"""All that does not fit is named in one error."""

from collections.abc import Callable
from typing import Any

import pytest

from peftrec.errors import CorruptAdapterError, IncompatibleAdapterError
from peftrec.registry import Fingerprints, Manifest, Registry
from peftrec.registry.compatibility import check, told_together

SHAPES = {"a": (2, 8), "b": (8, 2), "head": (8,)}


@pytest.fixture
def manifest(registry: Registry, small: Callable[..., Any]) -> Manifest:
    return registry.publish("tea", small()).manifest


def test_what_fits_passes(manifest: Manifest) -> None:
    check(manifest, fingerprints=manifest.fingerprints, decoder_layers=2, shapes=SHAPES)
    check(manifest, fingerprints=manifest.fingerprints, decoder_layers=2)


def test_every_mismatch_is_named_with_its_remedy(manifest: Manifest) -> None:
    shapes = {"a": (4, 8), "b": (8, 2), "bias": (8,)}
    with pytest.raises(IncompatibleAdapterError) as caught:
        check(manifest, fingerprints=Fingerprints("1" * 64, "2" * 64, "3" * 64), decoder_layers=3, shapes=shapes)
    for part in ("backbone 111", "tokenizer 222", "template 333", "decoder of 3 layers, trained with 2"):
        assert part in caught.value.found
    for part in ("a (2, 8) instead of (4, 8)", "bias missing instead of (8,)", "head is not known"):
        assert part in caught.value.found
    assert "b (8, 2)" not in caught.value.found
    for part in ("load the backbone it was trained on (minilm-l6)", "decoder_layers=2", "tokenizer", "templates"):
        assert part in caught.value.remedy


@pytest.mark.parametrize("part", ["backbone", "tokenizer", "template"])
def test_one_fingerprint_is_enough(manifest: Manifest, part: str) -> None:
    theirs = {name: getattr(manifest.fingerprints, name) for name in ("backbone", "tokenizer", "template")}
    with pytest.raises(IncompatibleAdapterError, match=f"{part} fff"):
        check(manifest, fingerprints=Fingerprints(**{**theirs, part: "f" * 64}), decoder_layers=2)


def test_damaged_files_and_mismatches_are_told_together(registry: Registry, small: Callable[..., Any]) -> None:
    version = registry.publish("tea", small())
    for file in ("card.md", "decoder.safetensors"):
        path = version.path / file
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(CorruptAdapterError) as caught, told_together(version):
        version.read("decoder.safetensors")
    assert "card.md has sha256" in caught.value.found
    assert caught.value.found.count("decoder.safetensors") == 1
    with pytest.raises(IncompatibleAdapterError) as other, told_together(version):
        check(version.manifest, fingerprints=version.manifest.fingerprints, decoder_layers=9)
    for part in ("decoder of 9 layers", "card.md has sha256", "decoder.safetensors has sha256"):
        assert part in other.value.found
    assert "decoder_layers=2" in other.value.remedy


def test_an_error_alone_stays_as_it_is(registry: Registry, small: Callable[..., Any]) -> None:
    version = registry.publish("tea", small())
    error = CorruptAdapterError("something else", expected="", remedy="")
    with pytest.raises(CorruptAdapterError) as caught, told_together(version):
        raise error
    assert caught.value is error
