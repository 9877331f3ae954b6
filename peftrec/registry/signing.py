"""Who vouches for a version: Ed25519 signatures beside it, since the version itself never changes.

``<name>/<version>.sig.json``::

    {"digest": <the manifest's seal>, "schema_version": 1,
     "signatures": [{"key": <sha256 of the public key>, "signature": <base64>, "signed": <moment>}]}

Signed are the five lines ``peftrec registry version v1``, name, version, seal and moment. The seal covers the digest of every
file, so a version that was read and whose signature matches is what the key's holder saw.
"""

import base64
import json
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from peftrec.disk import replace_durably
from peftrec.errors import CorruptAdapterError, UntrustedAdapterError
from peftrec.registry.keys import key_id
from peftrec.registry.manifest import Manifest
from peftrec.registry.strict import SEAL, is_digest
from peftrec.registry.version import Version
from peftrec.registry.writing import SIGNATURES, temporaries

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIZE_LIMIT = 64 * 1024
"""Bytes that a file of signatures may have."""
MOST_SIGNATURES = 64
_SCHEMA_VERSION = 1
_DOMAIN = "peftrec registry version v1"
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", re.ASCII)
_BYTES = 64  # of an Ed25519 signature


@dataclass(frozen=True)
class Signature:
    """One key's signature: the key's id, the raw signature, and when it was made, ISO 8601 in UTC."""

    key: str
    signature: bytes
    signed: str


def signature_path(version: Version) -> Path:
    """Where a version's signatures are: beside its folder."""
    return version.path.with_name(f"{version.version}{SIGNATURES}")


def read_signatures(version: Version) -> bytes | None:
    """The signatures beside a version, or None; what they are worth, :func:`check_signed` says.

    Raises:
        CorruptAdapterError: The file is a link, too large, or cannot be read.
    """
    path = signature_path(version)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise _malformed(str(path), "is a link or no file")
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _malformed(str(path), f"cannot be read: {error.strerror or error}") from error
    if len(content) > SIZE_LIMIT:
        raise _malformed(str(path), f"has more than {SIZE_LIMIT:,} bytes")
    return content


def add_signature(version: Version, key: "Ed25519PrivateKey") -> bytes:
    """Signs a version and writes the signature beside it, next to those of others; the adapter's lock is held.

    Returns:
        The file's content.

    Raises:
        CorruptAdapterError: See :func:`sign` and :func:`read_signatures`.
    """
    content = sign(version, key, present=read_signatures(version))
    replace_durably(signature_path(version), content, temporaries=temporaries(version.path.parent))
    return content


def sign(version: Version, key: "Ed25519PrivateKey", *, present: bytes | None = None) -> bytes:
    """Signs a version after every byte of it was read and checked.

    Args:
        version: What is vouched for.
        key: Of the one who vouches.
        present: Signatures that are there already; they stay, but one of the same key is replaced.

    Returns:
        The content of the file of signatures.

    Raises:
        CorruptAdapterError: The version is damaged, or ``present`` is malformed or of another version.
    """
    if problems := version.problems():
        raise CorruptAdapterError(
            f"{version.reference} cannot be signed: {'; '.join(problems)}",
            expected="a version whose files are as they were published",
            remedy="restore it from a copy, or publish it again; then sign that",
        )
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    raw = key.sign(_message(version.manifest, moment))
    mine = _encode(manifest_seal(version.manifest), [Signature(key_id(key.public_key()), raw, moment)])
    return mine if present is None else merge(version.manifest, present, mine)


def merge(manifest: Manifest, *contents: bytes) -> bytes:
    """One file of signatures out of several; of the same key, the last one stays.

    Raises:
        CorruptAdapterError: One is malformed or of another version, or there are too many signatures.
    """
    entries = [entry for content in contents for entry in parse_signatures(content, manifest)]
    merged = _encode(manifest_seal(manifest), {entry.key: entry for entry in entries}.values())
    parse_signatures(merged, manifest)
    return merged


def check_signed(
    manifest: Manifest, content: bytes | None, trusted: "Iterable[Ed25519PublicKey]"
) -> tuple[Signature, ...]:
    """Whether a trusted key vouches for a version.

    That its files are those of the manifest is checked where they are read.

    Args:
        manifest: Of the version.
        content: Its signatures; None where it has none.
        trusted: One of these must have signed. All of these that did must match.

    Returns:
        The signatures by trusted keys.

    Raises:
        UntrustedAdapterError: It is unsigned, signed by unknown keys only, or a signature does not match.
        CorruptAdapterError: ``content`` is malformed or belongs to another manifest.
    """
    keys = {key_id(key): key for key in trusted}
    where = f"{manifest.name}@{manifest.version}"
    if content is None:
        raise _untrusted(f"{where} is not signed", keys)
    signatures = parse_signatures(content, manifest)
    known = tuple(entry for entry in signatures if entry.key in keys)
    if not known:
        ids = ", ".join(_short(entry.key) for entry in signatures[:8]) + (", …" if len(signatures) > 8 else "")
        raise _untrusted(f"{where} is signed by unknown keys only: {ids}", keys)
    from cryptography.exceptions import InvalidSignature

    for entry in known:
        try:
            keys[entry.key].verify(entry.signature, _message(manifest, entry.signed))
        except InvalidSignature as error:
            raise _untrusted(f"{where}: the signature of key {_short(entry.key)} does not match", keys) from error
    return known


def parse_signatures(content: bytes, manifest: Manifest) -> list[Signature]:
    """Reads a file of signatures strictly; what they are worth, :func:`check_signed` says.

    Raises:
        CorruptAdapterError: It is not byte for byte as peftrec writes it, holds none or too many, or is of another manifest.
    """
    where = f"signatures of {manifest.name}@{manifest.version}"
    if len(content) > SIZE_LIMIT:
        raise _malformed(where, f"{len(content):,} bytes, more than {SIZE_LIMIT:,}")
    try:
        values: object = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise _malformed(where, "no JSON") from error
    names, entry_names = {"schema_version", "digest", "signatures"}, {"key", "signature", "signed"}
    if not isinstance(values, dict) or set(fields := cast(dict[str, object], values)) != names:
        raise _malformed(where, f"no object of {', '.join(sorted(names))}")
    if fields["schema_version"] != _SCHEMA_VERSION or not is_digest(fields["digest"]):
        raise _malformed(where, "another schema_version than 1, or a digest that is no sha256")
    if not isinstance(entries := fields["signatures"], list) or not 1 <= len(cast(list[object], entries)) <= (
        MOST_SIGNATURES
    ):
        raise _malformed(where, f"no list of 1 to {MOST_SIGNATURES} signatures")
    signatures: list[Signature] = []
    for entry in cast(list[object], entries):
        if not isinstance(entry, dict) or set(cast(dict[str, object], entry)) != entry_names:
            raise _malformed(where, f"an entry that is no object of {', '.join(sorted(entry_names))}")
        signatures.append(_entry(cast(dict[str, object], entry), where))
    if len({entry.key for entry in signatures}) != len(signatures):
        raise _malformed(where, "two signatures of one key")
    if (
        _encode(cast(str, fields["digest"]), signatures) != content
    ):  # keys that are there twice, another order, 1.0 for 1
        raise _malformed(where, "written in another way than peftrec does")
    if fields["digest"] != (digest := manifest_seal(manifest)):
        raise CorruptAdapterError(
            f"{where} are those of another manifest: {_short(cast(str, fields['digest']))} instead of {_short(digest)}",
            expected="signatures of this very version",
            remedy="restore the version that was signed, or remove the file and sign this one",
        )
    return signatures


def manifest_seal(manifest: Manifest) -> str:
    """The seal of a manifest, over its text as it was published."""
    return str(json.loads(manifest.to_json())[SEAL])


def _entry(values: Mapping[str, object], where: str) -> Signature:
    key, text, signed = values["key"], values["signature"], values["signed"]
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        dated = isinstance(signed, str) and _MOMENT.fullmatch(signed) and datetime.fromisoformat(signed)
    except ValueError:
        raw, dated = b"", None
    if not is_digest(key) or len(raw) != _BYTES or not dated:
        raise _malformed(where, "an entry without a key's sha256, 64 bytes in base64 and a moment in UTC")
    return Signature(cast(str, key), raw, cast(str, signed))


def _encode(digest: str, signatures: Iterable[Signature]) -> bytes:
    entries = [
        {"key": entry.key, "signature": base64.b64encode(entry.signature).decode(), "signed": entry.signed}
        for entry in sorted(signatures, key=lambda entry: entry.key)
    ]
    values = {"schema_version": _SCHEMA_VERSION, "digest": digest, "signatures": entries}
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def _message(manifest: Manifest, moment: str) -> bytes:
    """What is signed. None of the parts can hold the line break that ends it."""
    return "\n".join((_DOMAIN, manifest.name, manifest.version, manifest_seal(manifest), moment)).encode()


def _short(digest: str) -> str:
    return digest[:16]


def _malformed(where: str, what: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{where}: {what}",
        expected="a file of signatures as peftrec writes it, see adapters/README.md",
        remedy="restore the file from a copy, or remove it and sign again",
    )


def _untrusted(what: str, keys: Mapping[str, object]) -> UntrustedAdapterError:
    return UntrustedAdapterError(
        what,
        expected=f"a signature of {' or '.join(map(_short, sorted(keys)))}"
        if keys
        else "keys that are trusted; none is",
        remedy="ask its publisher for a signature, or trust the key of one whose adapters you want",
    )
