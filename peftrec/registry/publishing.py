"""What happens between an adapter in memory and a version on disk."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from peftrec.errors import CorruptAdapterError, RegistryError
from peftrec.registry.manifest import (
    CARD,
    CONFIG_FILE,
    FILES,
    PAGE,
    REQUIRED,
    SCHEMA_VERSION,
    TENSOR_FILES,
    FileEntry,
    Manifest,
    TensorEntry,
    sealed,
)
from peftrec.registry.tensors import tensor_entries

_OPTIONAL: dict[str, object] = {
    "data": {},
    "metrics": [],
    "protocol": "",
    "seed": 0,
    "privacy": None,
    "versions": {},
    "learning_curve": [],
    "reliability": [],
    "latency": None,
}
"""What is written where an adapter does not tell a fact."""


class Publishable(Protocol):
    """What can be published; :class:`peftrec.Adapter` is."""

    def files(self) -> Mapping[str, bytes]:
        """Content by file name: ``adapter_config.json``, ``adapter_model.safetensors``, ``decoder.safetensors``."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Fields of the manifest that only the adapter knows.

        ``method, base_model, decoder_layers, ranks, fingerprints`` must be there; ``data, metrics, protocol, seed, privacy,
        versions, learning_curve, reliability, latency`` may be.
        """
        ...


def draft(name: str, parent: str | None, adapter: Publishable) -> tuple[Manifest, dict[str, bytes]]:
    """Checks all that an adapter brings, before anything is written.

    Returns:
        The manifest of its version 1, still without card, and its files.

    Raises:
        RegistryError: A file or a field is missing or unknown, or a field holds what JSON cannot.
        CorruptAdapterError: A file is malformed, a field holds a wrong value, or a tensor is in two files.
    """
    files, facts = _files(adapter), _facts(adapter)
    where = f"what is published as {name}"
    tensors: dict[str, TensorEntry] = {}
    for file in sorted(TENSOR_FILES):
        entries = tensor_entries(file, files[file])
        if twice := sorted(set(entries) & set(tensors)):
            raise CorruptAdapterError(
                f"{where}: tensors in two files: {', '.join(twice)}",
                expected="every tensor in one file",
                remedy="rename or drop one of the two",
            )
        tensors |= entries
    values: dict[str, object] = {
        **_OPTIONAL,
        **facts,
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "version": "1",
        "parent": parent,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {file: asdict(_entry(content)) for file, content in files.items()},
        "tensors": {tensor: asdict(entry) for tensor, entry in tensors.items()},
    }
    try:
        text = sealed(values)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise RegistryError(
            f"{where}: describe() holds what a manifest cannot: {error}",
            expected="texts, finite numbers, booleans, None, and lists and dicts of them",
            remedy="convert NumPy values with .item(), moments with .isoformat()",
        ) from error
    return Manifest.from_json(text, where=where), files


def finished(manifest: Manifest, version: str, files: Mapping[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
    """The draft as a numbered version, with its cards."""
    # What draws them is loaded for those who publish; who only lists or serves starts sooner.
    from peftrec.registry.card import card
    from peftrec.registry.page import page

    numbered = replace(manifest, version=version)
    cards = {CARD: card(numbered).encode(), PAGE: page(numbered).encode()}
    entries = {file: _entry(content) for file, content in cards.items()}
    return replace(numbered, files={**numbered.files, **entries}), {**files, **cards}


def _entry(content: bytes) -> FileEntry:
    return FileEntry(hashlib.sha256(content).hexdigest(), len(content))


def _files(adapter: Publishable) -> dict[str, bytes]:
    files = cast(dict[str, object], dict(adapter.files()))
    if set(files) != set(FILES) or not all(isinstance(content, bytes) for content in files.values()):
        raise RegistryError(
            f"files() returns {', '.join(f'{f} ({type(c).__name__})' for f, c in files.items()) or 'nothing'}",
            expected=f"bytes for each of {', '.join(sorted(FILES))}, nothing else",
            remedy="publish a trained adapter, or mend its files()",
        )
    content = cast(dict[str, bytes], files)
    try:
        config: object = json.loads(content[CONFIG_FILE].decode())
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise CorruptAdapterError(
            f"{CONFIG_FILE} is no JSON object",
            expected="peft's configuration",
            remedy="publish a trained adapter, or mend its files()",
        )
    return content


def _facts(adapter: Publishable) -> dict[str, object]:
    facts = cast(object, adapter.describe())
    names = set(cast(Mapping[str, object], facts)) if isinstance(facts, Mapping) else set[str]()
    missing, unknown = sorted({*REQUIRED} - names), sorted(map(str, names - {*REQUIRED, *_OPTIONAL}))
    if missing or unknown:
        raise RegistryError(
            "describe()"
            + (f" lacks {', '.join(missing)}" if missing else "")
            + (" and" if missing and unknown else "")
            + (f" has the unknown {', '.join(unknown)}" if unknown else ""),
            expected=f"{', '.join(sorted(REQUIRED))}; where known {', '.join(sorted(_OPTIONAL))}",
            remedy="publish a trained adapter, or mend its describe()",
        )
    return dict(cast(Mapping[str, Any], facts))
