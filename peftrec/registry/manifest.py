"""What a version says about itself. The field list is the format's specification; see ``adapters/README.md``."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from peftrec.errors import CorruptAdapterError
from peftrec.registry.migration import OLD_SCHEMAS, downgraded, upgraded
from peftrec.registry.strict import (
    SEAL,
    as_object,
    check_seal,
    check_values,
    corrupt,
    is_digest,
    is_whole,
    parse,
    same_keys,
    seal,
)

SCHEMA_VERSION = max(OLD_SCHEMAS) + 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT = 16 * 1024 * 1024
"""Bytes of a manifest; its JSON takes many times as much in memory."""
CARD = "card.md"
PAGE = "card.html"
CARDS = frozenset({CARD, PAGE})
CONFIG_FILE = "adapter_config.json"
TENSOR_FILES = frozenset({"adapter_model.safetensors", "decoder.safetensors"})
FILES = TENSOR_FILES | {CONFIG_FILE}
"""What an adapter brings; the cards and the manifest are made of it."""
REQUIRED = ("method", "base_model", "decoder_layers", "ranks", "fingerprints")
"""Fields that an adapter must tell."""
FACTS = (
    "data",
    "metrics",
    "protocol",
    "seed",
    "privacy",
    "versions",
    "learning_curve",
    "reliability",
    "latency",
)
"""Fields that tell where an adapter comes from and how good it is; one that is loaded and published again keeps them."""
WIDTHS = {"F16": 2, "F32": 4, "I8": 1}
"""Types that a version may hold, with the bytes of one value."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a version: sha256 in hexadecimal and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: the file it is in, its shape and its safetensors type, such as ``F16``."""

    file: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Fingerprints:
    """What an adapter was trained on: sha256 of the backbone's weights, of its tokenizer and of its text templates."""

    backbone: str
    tokenizer: str
    template: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest of a version.

    Attributes:
        schema_version: Of the format that it was published in. The fields are the present one's whichever it is; those that an
            older one had not are empty.
        name: Of the adapter.
        version: Number of the version, as text.
        parent: Version that training continued from, or None.
        created: ISO 8601, UTC.
        method: Tuner, such as ``lora``.
        base_model: Name that the backbone was loaded by.
        decoder_layers: Depth of the decoder.
        ranks: Rank per tuned linear map, 1 or more.
        fingerprints: Of what it was trained on.
        files: Digest and size of every other file.
        tensors: Every tensor by name.
        data: Source, digest, time range, counts and licence.
        metrics: Entries of metric, slice, value, low, high.
        protocol: How the metrics were measured.
        seed: Of training.
        privacy: ``{"epsilon": .., "delta": ..}``, or None where training was not private.
        versions: Of the libraries used.
        learning_curve: The training log, entries of ``step`` and further numbers; empty where it is not known.
        reliability: Entries of predicted, observed, count: the mean prediction of a group of predictions, the share of it that
            was bought, and how many it is of. Empty where it was not measured.
        latency: Numbers and texts such as ``{"p50_ms": .., "p99_ms": .., "machine": ..}``, or None where it was not measured.
    """

    schema_version: int
    name: str
    version: str
    parent: str | None
    created: str
    method: str
    base_model: str
    decoder_layers: int
    ranks: dict[str, int]
    fingerprints: Fingerprints
    files: dict[str, FileEntry]
    tensors: dict[str, TensorEntry]
    data: dict[str, Any]
    metrics: list[dict[str, Any]]
    protocol: str
    seed: int
    privacy: dict[str, Any] | None
    versions: dict[str, str]
    learning_curve: list[dict[str, float]]
    reliability: list[dict[str, float]]
    latency: dict[str, Any] | None

    def to_json(self) -> str:
        """The content of ``manifest.json``, sealed, in the schema that it was published in.

        Raises:
            ValueError: That schema has no field for something it holds.
        """
        return sealed(downgraded(asdict(self), self.schema_version))

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> "Manifest":
        """Reads a manifest strictly, in this schema or an older one.

        Args:
            text: Content of ``manifest.json``.
            where: For messages.

        Raises:
            CorruptAdapterError: Names the field that is missing, unknown or of a wrong type; or the seal does not match:
                something was changed after it was published; or a later peftrec wrote it.
        """
        values = parse(text, where)
        schema = values.get("schema_version")
        if type(schema) is not int or schema not in {*OLD_SCHEMAS, SCHEMA_VERSION}:
            raise CorruptAdapterError(
                f"{where} has schema_version {str(schema)[:80]!r}",
                expected=f"schema_version 1 to {SCHEMA_VERSION}, which this version of peftrec reads",
                remedy="install the peftrec that wrote it, or publish the adapter again",
            )
        old = OLD_SCHEMAS.get(schema)
        names = {entry.name for entry in fields(cls)} if old is None else old.fields
        same_keys(values, {SEAL, *names}, where, "the manifest")
        check_seal(values, where)
        values = upgraded(values, schema)
        check_values(values, where)
        files = {name: _file(name, entry, where) for name, entry in values["files"].items()}
        if not FILES <= set(files) <= FILES | (CARDS if old is None else old.cards):
            raise corrupt(where, f"field 'files' names {', '.join(sorted(files)) or 'none'}")
        read: dict[str, Any] = {
            "fingerprints": _fingerprints(values["fingerprints"], where),
            "files": files,
            "tensors": {name: _tensor(name, entry, where) for name, entry in values["tensors"].items()},
        }
        return cls(**{name: value for name, value in values.items() if name != SEAL} | read)


def sealed(values: Mapping[str, object]) -> str:
    """A manifest's text: readable JSON, sorted keys, with its own digest.

    Raises:
        ValueError: A value is not finite.
        TypeError: A value is none of JSON's.
    """
    return json.dumps({**values, SEAL: seal(values)}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _fingerprints(value: object, where: str) -> Fingerprints:
    values = as_object(value, where, "field 'fingerprints'")
    same_keys(values, {"backbone", "tokenizer", "template"}, where, "field 'fingerprints'")
    if not all(is_digest(entry) for entry in values.values()):
        raise corrupt(where, "field 'fingerprints' holds something else than sha256 in hexadecimal")
    return Fingerprints(**values)


def _file(name: str, value: object, where: str) -> FileEntry:
    values = as_object(value, where, f"file {name!r}")
    same_keys(values, {"sha256", "size"}, where, f"file {name!r}")
    if not is_digest(values["sha256"]) or not is_whole(values["size"], least=0):
        raise corrupt(where, f"file {name!r} has no digest and size")
    return FileEntry(**values)


def _tensor(name: str, value: object, where: str) -> TensorEntry:
    values = as_object(value, where, f"tensor {name!r}")
    same_keys(values, {"file", "shape", "dtype"}, where, f"tensor {name!r}")
    shape, file, dtype = values["shape"], values["file"], values["dtype"]
    if not isinstance(shape, list) or not all(is_whole(size, least=0) for size in cast(list[object], shape)):
        raise corrupt(where, f"tensor {name!r} has no shape")
    if not isinstance(file, str) or file not in TENSOR_FILES:
        raise corrupt(where, f"tensor {name!r} is in {str(file)[:80]!r}, expected {' or '.join(sorted(TENSOR_FILES))}")
    if not isinstance(dtype, str) or dtype not in WIDTHS:
        raise corrupt(where, f"tensor {name!r} has type {str(dtype)[:80]!r}, expected one of {', '.join(WIDTHS)}")
    return TensorEntry(file, tuple(cast(list[int], shape)), dtype)
