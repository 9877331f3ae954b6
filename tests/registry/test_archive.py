"""One version as one file, and every way in which such a file can lie."""

import errno
import hashlib
import io
import json
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from peftrec.errors import CorruptAdapterError, RegistryError, RegistryWriteError
from peftrec.registry import Registry, Version
from peftrec.registry.archive import Parcel, archive_name, load, pack, read_archive, write_archive
from peftrec.registry.manifest import MANIFEST_LIMIT, sealed
from peftrec.registry.signing import check_signed, sign

Make = Callable[..., Any]
_DAY = (1980, 1, 1, 0, 0, 0)


@pytest.fixture
def version(registry: Registry, small: Make) -> Version:
    return registry.publish("tea", small())


@pytest.fixture
def signature(version: Version) -> bytes:
    return sign(version, Ed25519PrivateKey.generate())


@pytest.fixture
def content(version: Version, signature: bytes) -> bytes:
    return pack(load(version, signature=signature))


def _zip(members: list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip as an attacker would make it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, _DAY) if isinstance(name, str) else name
            entry.compress_type = method
            archive.writestr(entry, content)
    return buffer.getvalue()


def _unpacked(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _refused(content: bytes, match: str, **options: Any) -> None:
    with pytest.raises(CorruptAdapterError, match=match):
        read_archive(content, **options)


def test_there_and_back(tmp_path: Path, version: Version, signature: bytes, small: Make) -> None:
    path = tmp_path / archive_name("tea", "1")
    write_archive(version, path, signature=signature)
    with path.open("rb") as file:
        parcels = [read_archive(path), read_archive(str(path)), read_archive(path.read_bytes()), read_archive(file)]
    assert all(parcel == parcels[0] for parcel in parcels)
    parcel = parcels[0]
    assert (parcel.reference, parcel.manifest, parcel.signature) == ("tea@1", version.manifest, signature)
    assert parcel.content == {file: (version.path / file).read_bytes() for file in version.manifest.files}
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "adapters"] == ["tea-1.peftrec"]
    # What came back is a version like any other.
    other = Registry(tmp_path / "other")
    folder = other.root / "tea" / "1"
    folder.mkdir(parents=True)
    for file, content in {**parcel.content, "manifest.json": parcel.manifest.to_json().encode()}.items():
        (folder / file).write_bytes(content)
    assert other.verify() == []
    assert other.open("tea").manifest == version.manifest


def test_an_archive_is_a_zip_like_any_other_and_always_the_same(version: Version, content: bytes) -> None:
    assert content == pack(load(version, signature=_unpacked(content)["signatures.json"]))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted([*version.manifest.files, "manifest.json", "signatures.json"])
        for entry in archive.infolist():
            assert (entry.date_time, entry.compress_type) == (_DAY, zipfile.ZIP_STORED)
            assert entry.external_attr >> 16 == stat.S_IFREG | 0o644
    assert read_archive(pack(load(version))).signature is None


def test_a_version_in_the_first_schema_keeps_its_seal(registry: Registry, version: Version, content: bytes) -> None:
    """What was signed and packed before the format grew stays what it was."""
    values = json.loads((version.path / "manifest.json").read_bytes())
    files = {name: entry for name, entry in values["files"].items() if name != "card.html"}
    old = {name: value for name, value in values.items() if name not in ("learning_curve", "reliability", "latency")}
    (version.path / "manifest.json").write_text(sealed({**old, "schema_version": 1, "files": files}), encoding="utf-8")
    (version.path / "card.html").unlink()
    first, key = registry.open("tea"), Ed25519PrivateKey.generate()
    parcel = read_archive(pack(load(first, signature=sign(first, key))))
    assert parcel.manifest == first.manifest
    assert parcel.manifest.schema_version == 1
    assert check_signed(parcel.manifest, parcel.signature, [key.public_key()])
    assert _unpacked(pack(parcel))["manifest.json"] == (version.path / "manifest.json").read_bytes()


def test_a_file_is_not_overwritten_unless_told(tmp_path: Path, version: Version) -> None:
    path = tmp_path / "tea.peftrec"
    path.write_bytes(b"mine")
    with pytest.raises(RegistryError, match="there already"):
        write_archive(version, path)
    assert path.read_bytes() == b"mine"
    write_archive(version, path, overwrite=True)
    assert read_archive(path).reference == "tea@1"
    with pytest.raises(RegistryWriteError, match="cannot be written"):
        write_archive(version, tmp_path / "absent" / "tea.peftrec")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_state(
    tmp_path: Path, version: Version, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "tea.peftrec").write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(RegistryWriteError, match="free some space"):
            write_archive(version, folder / "tea.peftrec", overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"tea.peftrec": b"old"}


def test_a_damaged_version_and_strange_signatures_are_not_packed(
    tmp_path: Path, registry: Registry, version: Version, small: Make, signature: bytes
) -> None:
    second = registry.publish("tea", small(2.0))
    for given, match in ((signature, "another manifest"), (b"{}", "signatures of tea@2")):
        with pytest.raises(CorruptAdapterError, match=match):
            write_archive(second, tmp_path / "tea.peftrec", signature=given)
    (version.path / "card.md").write_bytes(b"x")
    with pytest.raises(CorruptAdapterError, match=r"card\.md"):
        write_archive(version, tmp_path / "tea.peftrec")
    assert not (tmp_path / "tea.peftrec").exists()


def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    for junk, match in (
        (b"", "no zip"),
        (b"PK", "no zip"),
        (b"x" * 1000, "no zip"),
        (b"#!/bin/sh\n" + content, "in front"),
        (content + b"\0", "something follows"),
        (content[:-22] + content[-22:-2] + b"\4\0note", "something follows"),
        (content[:-1], "truncated"),
        (_zip([]), "no zip|no manifest"),
        (content + content, "lies about its place"),
    ):
        _refused(junk, match)
    with pytest.raises(RegistryError, match="No such file"):
        read_archive(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(RegistryError, match="no plain file"):
            read_archive(path)


@pytest.mark.parametrize(
    "name", ["../manifest.json", "/etc/passwd", "a/../../b", "..\\x", "C:\\x", "model.pkl", "Manifest.json", "é", ""]
)
def test_names_that_no_version_has(content: bytes, name: str) -> None:
    unsigned = [member for member in _unpacked(content).items() if member[0] != "signatures.json"]
    _refused(_zip([*unsigned, (name, b"x")]), "which no version has")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")  # zipfile tells the attacker
def test_entries_of_other_kinds(content: bytes) -> None:
    members = list(_unpacked(content).items())
    _refused(_zip([*members[:-1], members[0]]), "twice")
    _refused(_zip([*members, *members]), "claims 14 files")
    _refused(_zip(members, zipfile.ZIP_DEFLATED), "is compressed")
    link, folder = zipfile.ZipInfo("card.md", _DAY), zipfile.ZipInfo("card.md", _DAY)
    link.external_attr, folder.external_attr = (stat.S_IFLNK | 0o777) << 16, (stat.S_IFDIR | 0o755) << 16
    others = [(name, data) for name, data in members if name != "card.md"]
    for entry in (link, folder):
        _refused(_zip([*others, (entry, b"/etc/passwd")]), "is a link or a folder")
    locked = bytearray(content)
    locked[content.index(b"PK\1\2") + 8] |= 1
    _refused(bytes(locked), "is encrypted")
    _refused(_zip(list(reversed(members))), "packed in another way")
    noted = zipfile.ZipInfo("card.md", _DAY)
    noted.extra = b"\xfe\xca\4\0evil"
    _refused(_zip([*others, (noted, dict(members)["card.md"])]), "malformed entry|another way|directory")


def test_a_directory_that_lies(content: bytes) -> None:
    start = content.index(b"PK\1\2")
    for offset, form, value, match in (
        (20, "<L", 2**32 - 1, "compressed"),  # one of the two sizes
        (42, "<L", 2**32 - 1, "lies about the place"),
        (42, "<L", 1, "another way"),
        (28, "<H", 65535, "no version has"),
    ):
        changed = bytearray(content)
        struct.pack_into(form, changed, start + offset, value)
        _refused(bytes(changed), match)
    both = bytearray(content)
    struct.pack_into("<LL", both, start + 20, 2**31, 2**31)
    _refused(bytes(both), "lies about the place")
    for count in (0, 5, 65535):
        changed = bytearray(content)
        struct.pack_into("<HH", changed, len(content) - 14, count, count)
        _refused(bytes(changed), "lies about its size|claims")


def _forged(content: bytes, **changes: object) -> bytes:
    """An archive whose manifest was sealed anew after a change: anyone can do that."""
    members = _unpacked(content)
    members.pop("signatures.json", None)
    values = json.loads(members["manifest.json"])
    members["manifest.json"] = sealed({**values, **changes}).encode()
    return _packed(members)


def _packed(members: dict[str, bytes]) -> bytes:
    """The canonical zip of any files, which the public way in would refuse."""
    from peftrec.registry import archive

    return b"".join(archive._pieces(members))


def test_files_that_the_manifest_does_not_name(content: bytes) -> None:
    members = _unpacked(content)
    values = json.loads(members["manifest.json"])
    files = values["files"]
    without = {name: data for name, data in members.items() if name != "card.md"}
    _refused(_packed(without), "lacks card.md")
    _refused(_packed({n: d for n, d in members.items() if n != "manifest.json"}), "no manifest.json")
    _refused(_forged(content, files={n: e for n, e in files.items() if n != "card.md"}), "which the manifest does not")
    _refused(_packed({**members, "card.md": b"x"}), "card.md has 1 bytes")
    other = bytes(reversed(members["card.md"]))
    _refused(_packed({**members, "card.md": other}), "card.md has sha256")
    _refused(_packed({**members, "manifest.json": members["manifest.json"] + b"\n"}), "written in another way")
    _refused(_forged(content, files={**files, "../evil": files["card.md"]}), "evil")
    _refused(_forged(content, name="../tea"), "name of an adapter")
    _refused(_surrogate(members), "no text")


def _surrogate(members: dict[str, bytes]) -> bytes:
    """A manifest with half a character, which JSON can hold and UTF-8 cannot."""
    values = {**json.loads(members["manifest.json"]), "protocol": "\ud800"}
    text = json.dumps(json.loads(sealed(values)), indent=1, sort_keys=True) + "\n"
    kept = {name: data for name, data in members.items() if name != "signatures.json"}
    return _packed({**kept, "manifest.json": text.encode()})


def test_tensors_that_the_manifest_does_not_describe(content: bytes) -> None:
    members = _unpacked(content)
    values = json.loads(members["manifest.json"])
    shapes = {**values["tensors"], "head": {**values["tensors"]["head"], "shape": [4, 2]}}
    _refused(_forged(content, tensors=shapes), "other tensors")
    _refused(_forged(content, tensors={n: e for n, e in values["tensors"].items() if n != "head"}), "other tensors")
    pickle = b"\x80\x04\x95" + b"\0" * 50
    both = save({"head": np.zeros(8, np.float32), "a": np.zeros((2, 8), np.float16)})
    for data, match in ((pickle, "claims a header"), (both, "other tensors")):
        entry = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        forged = _unpacked(_forged(content, files={**values["files"], "decoder.safetensors": entry}))
        _refused(_packed({**forged, "decoder.safetensors": data}), match)


def test_signatures_of_another_version(registry: Registry, small: Make, content: bytes) -> None:
    second = registry.publish("tea", small(2.0))
    foreign = sign(second, Ed25519PrivateKey.generate())
    _refused(_packed({**_unpacked(content), "signatures.json": foreign}), "another manifest")
    _refused(_packed({**_unpacked(content), "signatures.json": b"{}"}), "signatures of tea@1")


def test_limits(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tea.peftrec"
    path.write_bytes(content)
    assert read_archive(path, limit=len(content)).reference == "tea@1"
    for source in (path, content, io.BytesIO(content)):
        with pytest.raises(CorruptAdapterError, match="that are allowed"):
            read_archive(source, limit=len(content) - 1)

    class Endless(io.RawIOBase):
        read_so_far = 0

        def read(self, size: int = -1) -> bytes:
            self.read_so_far += size
            return b"P" * size

    endless = Endless()
    with pytest.raises(CorruptAdapterError, match="that are allowed"):
        read_archive(endless, limit=5_000_000)  # pyright: ignore[reportArgumentType]
    assert endless.read_so_far == 5_000_001
    _refused(_packed({**_unpacked(content), "manifest.json": b" " * (MANIFEST_LIMIT + 1)}), "manifest.json of")
    monkeypatch.setattr("peftrec.registry.archive.SIZE_LIMIT", 1000)
    with pytest.raises(RegistryError, match="at most 1,000"):
        pack(read_archive(content, limit=10**6))


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A flipped bit, a cut, a hole, a doubled, swapped or overwritten piece."""
    one, two = sorted(int(place) for place in rng.integers(0, len(content), 2))
    size = int(rng.integers(1, 40))
    match int(rng.integers(6)):
        case 0:
            return content[:one] + bytes([content[one] ^ 1 << int(rng.integers(8))]) + content[one + 1 :]
        case 1:
            return content[:one]
        case 2:
            return content[:one] + content[two:]
        case 3:
            return content[:two] + content[one:two] + content[two:]
        case 4:
            return content[:one] + content[two : two + size] + content[one + size : two] + content[one : one + size]
        case _:
            return content[:one] + rng.bytes(size) + content[one + size :]


def test_no_mutation_is_accepted(content: bytes) -> None:
    rng, refused = np.random.default_rng(11), 0
    for _ in range(2000):
        changed = _mutated(content, rng)
        if changed == content:
            continue
        with pytest.raises(CorruptAdapterError):
            read_archive(changed)
        refused += 1
    assert refused > 1900


def test_any_flipped_bit_of_what_surrounds_the_files_is_noticed(content: bytes) -> None:
    """Headers and directory: times, versions, attributes, all that other readers pass over."""
    places = [*range(60), *range(content.index(b"PK\1\2"), len(content))]
    for place in places:
        for bit in range(8):
            changed = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
            with pytest.raises(CorruptAdapterError):
                read_archive(changed)


def test_entries_swapped_between_two_versions(
    registry: Registry, small: Make, version: Version, content: bytes
) -> None:
    other = _unpacked(pack(load(registry.publish("tea", small(2.0)))))
    members = _unpacked(content)
    for name in other:
        if other[name] != members[name]:
            _refused(_packed({**members, name: other[name]}), "tea@|manifest|sha256|bytes|another")
    assert isinstance(read_archive(content), Parcel)
    assert asdict(read_archive(content).manifest) == asdict(version.manifest)


def test_who_repacks_and_seals_anew_loses_the_signature(version: Version) -> None:
    key = Ed25519PrivateKey.generate()
    content = pack(load(version, signature=sign(version, key)))
    signed = read_archive(content)
    assert check_signed(signed.manifest, signed.signature, [key.public_key()])
    forged = _unpacked(_forged(content, metrics=[]))
    _refused(_packed({**forged, "signatures.json": signed.signature or b""}), "another manifest")
