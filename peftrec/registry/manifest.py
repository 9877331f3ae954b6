"""What a version says about itself. The field list is the format's specification; see ``adapters/README.md``."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from peftrec.errors import CorruptAdapterError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


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
        schema_version: Of this format.
        name: Of the adapter.
        version: Number of the version, as text.
        parent: Version that training continued from, or None.
        created: ISO 8601, UTC.
        method: Tuner, such as ``lora``.
        base_model: Name that the backbone was loaded by.
        decoder_layers: Depth of the decoder.
        ranks: Rank per tuned linear map.
        fingerprints: Of what it was trained on.
        files: Digest and size of every other file.
        tensors: Every tensor by name.
        data: Source, digest, time range, counts and licence.
        metrics: Entries of metric, slice, value, low, high.
        protocol: How the metrics were measured.
        seed: Of training.
        privacy: ``{"epsilon": .., "delta": ..}``, or None where training was not private.
        versions: Of the libraries used.
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

    def to_json(self) -> str:
        """Readable, with sorted keys."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> "Manifest":
        """Reads a manifest strictly.

        Args:
            text: Content of ``manifest.json``.
            where: For messages.

        Raises:
            CorruptAdapterError: Names the field that is missing, unknown or of a wrong type.
        """
        try:
            content: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _corrupt(where, f"is not JSON: {error}") from error
        values = _object(content, where, "the manifest")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise CorruptAdapterError(
                f"{where} has schema_version {values.get('schema_version')!r}",
                expected=f"schema_version {SCHEMA_VERSION}, which this version of peftrec reads",
                remedy="install the peftrec that wrote it, or publish the adapter again",
            )
        names = {entry.name for entry in fields(cls)}
        _same_keys(values, names, where, "the manifest")
        for name, kind in _TYPES.items():
            if not isinstance(values[name], kind) or isinstance(values[name], bool):
                raise _corrupt(where, f"field '{name}' holds {type(values[name]).__name__}")
        if not all(isinstance(rank, int) for rank in values["ranks"].values()):
            raise _corrupt(where, "field 'ranks' holds something else than whole numbers")
        if not all(isinstance(entry, dict) for entry in values["metrics"]):
            raise _corrupt(where, "field 'metrics' holds something else than objects")
        if not all(isinstance(value, str) for value in values["versions"].values()):
            raise _corrupt(where, "field 'versions' holds something else than text")
        return cls(
            **{
                **values,
                "fingerprints": _fingerprints(values["fingerprints"], where),
                "files": {name: _file(name, entry, where) for name, entry in values["files"].items()},
                "tensors": {name: _tensor(name, entry, where) for name, entry in values["tensors"].items()},
            }
        )


_TYPES: dict[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "name": str,
    "version": str,
    "parent": (str, type(None)),
    "created": str,
    "method": str,
    "base_model": str,
    "decoder_layers": int,
    "ranks": dict,
    "fingerprints": dict,
    "files": dict,
    "tensors": dict,
    "data": dict,
    "metrics": list,
    "protocol": str,
    "seed": int,
    "privacy": (dict, type(None)),
    "versions": dict,
}


def safe_file_name(name: str) -> bool:
    """Whether a name stays inside its folder on every system."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\:\0") and len(name) < 128


def _corrupt(where: str, what: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{where}: {what}",
        expected="a manifest as peftrec writes it, see adapters/README.md",
        remedy="restore the version from a copy, or publish it again under the next number",
    )


def _object(value: object, where: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _corrupt(where, f"{what} is no object")
    return cast(dict[str, Any], value)


def _same_keys(values: Mapping[str, object], names: set[str], where: str, what: str) -> None:
    missing, unknown = names - set(values), set(values) - names
    if missing or unknown:
        parts = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        parts += [f"has the unknown {', '.join(sorted(unknown))}"] if unknown else []
        raise _corrupt(where, f"{what} {' and '.join(parts)}")


def _fingerprints(value: object, where: str) -> Fingerprints:
    values = _object(value, where, "field 'fingerprints'")
    _same_keys(values, {"backbone", "tokenizer", "template"}, where, "field 'fingerprints'")
    if not all(isinstance(entry, str) for entry in values.values()):
        raise _corrupt(where, "field 'fingerprints' holds something else than text")
    return Fingerprints(**values)


def _file(name: str, value: object, where: str) -> FileEntry:
    values = _object(value, where, f"file {name!r}")
    _same_keys(values, {"sha256", "size"}, where, f"file {name!r}")
    if not safe_file_name(name):
        raise _corrupt(where, f"file name {name!r} could lead out of the folder")
    if not isinstance(values["sha256"], str) or type(values["size"]) is not int or values["size"] < 0:
        raise _corrupt(where, f"file {name!r} has no digest and size")
    return FileEntry(**values)


def _tensor(name: str, value: object, where: str) -> TensorEntry:
    values = _object(value, where, f"tensor {name!r}")
    _same_keys(values, {"file", "shape", "dtype"}, where, f"tensor {name!r}")
    shape = values["shape"]
    good = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in cast(list[object], shape))
    if not good or not isinstance(values["dtype"], str) or not isinstance(values["file"], str):
        raise _corrupt(where, f"tensor {name!r} has no file, shape and dtype")
    return TensorEntry(values["file"], tuple(cast(list[int], shape)), values["dtype"])
