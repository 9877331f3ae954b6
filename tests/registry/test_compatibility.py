"""All that does not fit is named in one error."""

from collections.abc import Callable
from typing import Any

import pytest

from peftrec.errors import IncompatibleAdapterError
from peftrec.registry import Fingerprints, Manifest, Registry
from peftrec.registry.compatibility import check

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
