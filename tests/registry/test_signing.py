"""Keys, signatures, and what somebody may try who has neither."""

import base64
import json
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peftrec.errors import CorruptAdapterError, PeftrecError, RegistryError, RegistryWriteError, UntrustedAdapterError
from peftrec.registry import Registry, Version
from peftrec.registry.keys import generate_key, key_id, load_private_key, load_public_key
from peftrec.registry.signing import (
    MOST_SIGNATURES,
    SIZE_LIMIT,
    add_signature,
    check_signed,
    merge,
    parse_signatures,
    read_signatures,
    sign,
    signature_path,
)

Make = Callable[..., Any]


@pytest.fixture
def version(registry: Registry, small: Make) -> Version:
    return registry.publish("tea", small())


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def test_what_was_signed_is_trusted(tmp_path: Path, registry: Registry, version: Version) -> None:
    name = generate_key(tmp_path / "key.pem", tmp_path / "key.pub")
    content = add_signature(version, load_private_key(tmp_path / "key.pem"))
    assert content == read_signatures(version) == (registry.root / "tea" / "1.sig.json").read_bytes()
    trusted = load_public_key(tmp_path / "key.pub")
    (entry,) = check_signed(version.manifest, content, [trusted])
    assert entry.key == name == key_id(trusted)
    assert registry.verify() == []  # beside the version, not in it
    assert registry.open("tea").version == "1"


def test_the_private_key_is_for_its_owner_and_never_overwritten(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    generate_key(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(RegistryError, match="there already"):
        generate_key(private, tmp_path / "other.pub")
    assert private.read_bytes() == before
    with pytest.raises(RegistryError, match="there already"):
        generate_key(tmp_path / "other.pem", public)
    (tmp_path / "link.pem").symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(RegistryError, match="there already"):
        generate_key(tmp_path / "link.pem", tmp_path / "link.pub")
    with pytest.raises(RegistryWriteError, match="cannot be written"):
        generate_key(tmp_path / "absent" / "key.pem", tmp_path / "absent" / "key.pub")
    assert {path.name for path in tmp_path.iterdir()} == {"key.pem", "key.pub", "link.pem"}


def test_a_passphrase(tmp_path: Path) -> None:
    name = generate_key(tmp_path / "key.pem", tmp_path / "key.pub", passphrase="tea ☕")
    assert key_id(load_private_key(tmp_path / "key.pem", passphrase="tea ☕").public_key()) == name
    for passphrase in (None, "coffee", ""):
        with pytest.raises(RegistryError, match="cannot be opened"):
            load_private_key(tmp_path / "key.pem", passphrase=passphrase)
    for passphrase in ("", "x" * 2000):
        with pytest.raises(RegistryError, match="passphrase"):
            generate_key(tmp_path / "new.pem", tmp_path / "new.pub", passphrase=passphrase)
    assert not (tmp_path / "new.pem").exists()


def test_wrong_kinds_of_keys(tmp_path: Path) -> None:
    generate_key(tmp_path / "key.pem", tmp_path / "key.pub")
    with pytest.raises(RegistryError, match="holds a public key"):
        load_private_key(tmp_path / "key.pub")
    with pytest.raises(RegistryError, match="holds a private key"):
        load_public_key(tmp_path / "key.pem")
    with pytest.raises(RegistryError, match="cannot be opened"):
        load_private_key(tmp_path / "key.pem", passphrase="needless")
    curve = ec.generate_private_key(ec.SECP256R1())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "ec.pem").write_bytes(curve.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (tmp_path / "ec.pub").write_bytes(
        curve.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(RegistryError, match="holds a ECPrivateKey"):
        load_private_key(tmp_path / "ec.pem")
    with pytest.raises(RegistryError, match="holds a ECPublicKey"):
        load_public_key(tmp_path / "ec.pub")
    (tmp_path / "noise").write_bytes(b"\0" * 1000)
    for load in (load_private_key, load_public_key):
        for file, what in (("noise", "cannot be opened"), ("absent", "is not there"), (".", "is no file")):
            with pytest.raises(RegistryError, match=what):
                load(tmp_path / file)


def test_several_signers_and_the_same_one_twice(version: Version, key: Ed25519PrivateKey) -> None:
    other = Ed25519PrivateKey.generate()
    add_signature(version, key)
    add_signature(version, other)
    content = add_signature(version, key)
    assert {entry.key for entry in parse_signatures(content, version.manifest)} == {
        key_id(key.public_key()),
        key_id(other.public_key()),
    }
    assert len(check_signed(version.manifest, content, [key.public_key(), other.public_key()])) == 2
    assert len(check_signed(version.manifest, content, [other.public_key()])) == 1
    one, two = sign(version, key), sign(version, other)
    assert parse_signatures(merge(version.manifest, one, two), version.manifest) == parse_signatures(
        merge(version.manifest, two, one, two), version.manifest
    )


def test_a_damaged_version_is_not_signed(version: Version, key: Ed25519PrivateKey) -> None:
    path = version.path / "decoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CorruptAdapterError, match=r"cannot be signed.*its bytes changed"):
        add_signature(version, key)
    assert not signature_path(version).exists()


def test_what_is_not_trusted(registry: Registry, version: Version, small: Make, key: Ed25519PrivateKey) -> None:
    manifest, mine = version.manifest, [key.public_key()]
    with pytest.raises(UntrustedAdapterError, match="is not signed"):
        check_signed(manifest, None, mine)
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(UntrustedAdapterError, match=f"unknown keys only: {key_id(stranger.public_key())[:16]}"):
        check_signed(manifest, sign(version, stranger), mine)
    with pytest.raises(UntrustedAdapterError, match="unknown keys only"):
        check_signed(manifest, sign(version, key), [])
    second = registry.publish("tea", small(2.0))
    with pytest.raises(CorruptAdapterError, match="those of another manifest"):
        check_signed(second.manifest, sign(version, key), mine)
    with pytest.raises(CorruptAdapterError, match="those of another manifest"):
        sign(second, key, present=sign(version, key))


@pytest.mark.parametrize(
    "change", [{"name": "coffee"}, {"version": "2"}, {"seed": 8}, {"metrics": []}, {"protocol": "1\n2"}]
)
def test_a_signature_is_of_one_manifest_only(version: Version, key: Ed25519PrivateKey, change: dict[str, Any]) -> None:
    content = sign(version, key)
    forged = replace(version.manifest, **change)
    moved = content.replace(_seal(version.manifest).encode(), _seal(forged).encode())  # who writes the file can do this
    assert moved != content
    with pytest.raises(UntrustedAdapterError, match="does not match"):
        check_signed(forged, moved, [key.public_key()])


def _seal(manifest: Any) -> str:
    return json.loads(manifest.to_json())["sha256"]


def test_neither_key_nor_moment_can_be_changed(version: Version, key: Ed25519PrivateKey) -> None:
    content, other = sign(version, key), Ed25519PrivateKey.generate()
    trusted = [key.public_key(), other.public_key()]
    values = json.loads(content)
    year = values["signatures"][0]["signed"][:4]
    for old, new in ((key_id(key.public_key()), key_id(other.public_key())), (f'"{year}-', '"1999-')):
        with pytest.raises(UntrustedAdapterError, match="does not match"):
            check_signed(version.manifest, content.replace(old.encode(), new.encode()), trusted)
    # A trusted signature that matches does not excuse another that does not.
    both = json.loads(sign(version, other, present=content))
    both["signatures"][0]["signature"] = both["signatures"][1]["signature"]
    with pytest.raises(UntrustedAdapterError, match="does not match"):
        check_signed(version.manifest, (json.dumps(both, indent=1, sort_keys=True) + "\n").encode(), trusted)


def _hostile(values: dict[str, Any]) -> dict[str, bytes]:
    """Files of signatures that somebody made up, by what is wrong with them."""
    entry = values["signatures"][0]

    def text(**changes: object) -> bytes:
        return (json.dumps({**values, **changes}, indent=1, sort_keys=True) + "\n").encode()

    def one(**changes: object) -> bytes:
        return text(signatures=[{**entry, **changes}])

    many = [{**entry, "key": f"{number:064x}"} for number in range(5000)]
    good = text()
    return {
        "empty": b"",
        "not UTF-8": b"\xff" + good,
        "no object": b"[]",
        "deep": b"[" * (SIZE_LIMIT // 2),
        "a long number": b'{"schema_version": ' + b"9" * 5000 + b"}",
        "thousands": text(signatures=many),
        "more than allowed": text(signatures=many[: MOST_SIGNATURES + 1]),
        "none": text(signatures=[]),
        "no list": text(signatures={"0": entry}),
        "entries of another kind": text(signatures=[1]),
        "twice": text(signatures=[entry, entry]),
        "schema 2": text(schema_version=2),
        "schema true": text(schema_version=True),
        "a surplus field": text(extra=1),
        "no digest": text(digest=None),
        "upper case": text(digest=values["digest"].upper()),
        "key of another kind": one(key=7),
        "a short key": one(key="ab"),
        "a short signature": one(signature=base64.b64encode(b"x" * 63).decode()),
        "no base64": one(signature="!" * 88),
        "loose base64": one(signature=entry["signature"][:20] + "\n" + entry["signature"][20:]),
        "base64 with other last bits": one(signature=entry["signature"][:-3] + "B=="),
        "signature of another kind": one(signature=[entry["signature"]]),
        "no such day": one(signed="2025-02-30T00:00:00+00:00"),
        "no zone": one(signed="2025-02-03T00:00:00"),
        "a line break": one(signed="2025-02-03T00:00:00+00:00\n"),
        "other digits": one(signed="２025-02-03T00:00:00+00:00"),
        "a key given twice": good.replace(b'{\n "digest"', b'{\n "digest": "", "digest"'),
        "spaces": good + b" ",
        "too large": good + b" " * SIZE_LIMIT,
    }


def test_hostile_files_are_refused(version: Version, key: Ed25519PrivateKey) -> None:
    for what, content in _hostile(json.loads(sign(version, key))).items():
        with pytest.raises(CorruptAdapterError) as caught:
            check_signed(version.manifest, content, [key.public_key()])
        assert len(str(caught.value)) < 1000, what
        with pytest.raises(CorruptAdapterError):
            sign(version, key, present=content)


def test_no_mutation_of_a_signature_is_accepted(version: Version, key: Ed25519PrivateKey) -> None:
    content, rng = sign(version, key), np.random.default_rng(5)
    for _ in range(1000):
        place, bit = int(rng.integers(len(content))), int(rng.integers(8))
        changed = content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
        with pytest.raises((CorruptAdapterError, UntrustedAdapterError)):
            check_signed(version.manifest, changed, [key.public_key()])


def test_what_lies_beside_a_version_is_read_with_care(tmp_path: Path, version: Version, key: Ed25519PrivateKey) -> None:
    path = signature_path(version)
    assert read_signatures(version) is None
    (tmp_path / "elsewhere").write_bytes(sign(version, key))
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptAdapterError, match="is a link"):
        read_signatures(version)
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptAdapterError, match="no file"):
        add_signature(version, key)
    path.rmdir()
    path.write_bytes(b" " * (SIZE_LIMIT + 1))
    with pytest.raises(CorruptAdapterError, match="more than"):
        read_signatures(version)


def test_without_the_package(version: Version, tmp_path: Path) -> None:
    """In a process of its own, where cryptography cannot be imported; unsigned is refused all the same."""
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from pathlib import Path\n"
        "from peftrec.registry import Registry\n"
        "from peftrec.registry.keys import generate_key\n"
        "from peftrec.registry.signing import check_signed\n"
        "for call in (lambda: generate_key(Path('a'), Path('b')),\n"
        "             lambda: check_signed(Registry(sys.argv[1]).open('tea').manifest, None, [])):\n"
        "    try: call()\n"
        "    except Exception as error: print(type(error).__name__, error.remedy)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(version.path.parents[1])], text=True, capture_output=True, check=True
    )
    first, second, torch = done.stdout.splitlines()
    assert first == 'MissingExtraError pip install "peftrec[sign]"'
    assert second.startswith("UntrustedAdapterError")
    assert torch == "False"
    assert issubclass(UntrustedAdapterError, PeftrecError)
