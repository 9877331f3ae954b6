"""Remotes: real folders, memory, and file systems that fail half-way."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from peftrec.errors import (
    AdapterNotFoundError,
    CorruptAdapterError,
    MissingExtraError,
    RegistryError,
    RegistryWriteError,
)
from peftrec.registry import Registry, Version
from peftrec.registry.archive import load, pack
from peftrec.registry.remote import pull, push, remote_versions
from peftrec.registry.signing import parse_signatures, sign

Make = Callable[..., Any]


@pytest.fixture
def version(registry: Registry, small: Make) -> Version:
    return registry.publish("tea", small())


@pytest.fixture(params=["file", "path", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A remote's folder that does not exist yet."""
    if request.param == "memory":
        folder = f"/{uuid.uuid4().hex}"
        yield f"memory:/{folder}"
        files = fsspec.filesystem("memory")
        if files.exists(folder):
            files.rm(folder, recursive=True)
    else:
        yield f"{'file://' if request.param == 'file' else ''}{tmp_path / 'remote'}"


def _held(url: str) -> dict[str, bytes]:
    """Everything that a remote holds, hidden files among it."""
    files, root = fsspec.url_to_fs(url)
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def test_there_and_back(url: str, registry: Registry, version: Version, small: Make) -> None:
    assert remote_versions(url) == []
    signature = sign(version, Ed25519PrivateKey.generate())
    address = push(version, url, signature=signature)
    assert address == f"{url}/tea/1.peftrec"
    assert pull(address) == pull(url, reference="tea@1") == load(version, signature=signature)
    assert _held(url) == {"tea/1.peftrec": pack(load(version, signature=signature))}
    for value in range(2, 12):
        second = registry.publish("tea", small(value))
    push(second, url + "/")
    push(registry.publish("coffee", small()), url)
    assert remote_versions(url) == [("coffee", "1"), ("tea", "1"), ("tea", "11")]
    assert pull(url + "/", reference="tea@11").manifest == second.manifest


def test_the_same_version_twice_is_written_once(url: str, version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    push(version, url)
    before = _held(url)
    for kind in (LocalFileSystem, MemoryFileSystem):
        monkeypatch.setattr(kind, "mv", _never)
    assert push(version, url) == f"{url}/tea/1.peftrec"
    assert _held(url) == before


def _never(*_: object, **__: object) -> None:
    raise AssertionError("nothing was to be written")


def test_another_version_under_the_same_name_is_refused(
    url: str, version: Version, tmp_path: Path, small: Make
) -> None:
    other = Registry(tmp_path / "other").publish("tea", small(2.0))
    push(other, url)
    before = _held(url)
    with pytest.raises(RegistryError, match="is another tea@1"):
        push(version, url)
    assert _held(url) == before
    files, root = fsspec.url_to_fs(url)
    files.pipe_file(f"{root}/tea/1.peftrec", b"something else")
    with pytest.raises(RegistryError, match="is no intact version"):
        push(version, url)
    assert _held(url) == {"tea/1.peftrec": b"something else"}


def test_signatures_of_both_sides_are_kept(url: str, version: Version) -> None:
    one, two = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    push(version, url)
    push(version, url, signature=sign(version, one))
    push(version, url, signature=sign(version, two))
    push(version, url)
    parcel = pull(url, reference="tea@1")
    assert len(parse_signatures(parcel.signature or b"", parcel.manifest)) == 2
    assert len(_held(url)) == 1


def test_what_is_not_there(url: str, version: Version) -> None:
    for missing in (url, f"{url}/tea/1.peftrec"):
        with pytest.raises((AdapterNotFoundError, RegistryError)):
            pull(missing)
    with pytest.raises(AdapterNotFoundError, match="no archive"):
        pull(url, reference="tea@1")
    push(version, url)
    with pytest.raises(AdapterNotFoundError, match="no archive"):
        pull(url, reference="tea@2")
    for reference in ("tea", "tea@production", "tea@01", "../tea@1", "tea/../..@1"):
        with pytest.raises(RegistryError):
            pull(url, reference=reference)


def test_a_remote_cannot_hand_out_another_version(url: str, registry: Registry, version: Version, small: Make) -> None:
    """Each is intact and could be signed; that it is the one asked for is a fact of its own."""
    push(version, url)
    push(registry.publish("tea", small(2.0)), url)
    files, root = fsspec.url_to_fs(url)
    files.pipe_file(f"{root}/tea/2.peftrec", files.cat_file(f"{root}/tea/1.peftrec"))
    with pytest.raises(CorruptAdapterError, match="holds tea@1"):
        pull(url, reference="tea@2")


def test_what_a_remote_made_up(url: str, version: Version) -> None:
    push(version, url)
    files, root = fsspec.url_to_fs(url)
    whole = files.cat_file(f"{root}/tea/1.peftrec")
    for junk in (b"", whole[:-1], whole + b"x", whole.replace(b"lora", b"LORA")):
        files.pipe_file(f"{root}/tea/1.peftrec", junk)
        with pytest.raises(CorruptAdapterError, match=r"1\.peftrec"):
            pull(url, reference="tea@1")
    files.pipe_file(f"{root}/tea/1.peftrec", whole)
    with pytest.raises(CorruptAdapterError, match="allowed"):
        pull(url, reference="tea@1", limit=100)
    for name in ("tea/01.peftrec", "tea/2.zip", "tea/.3.peftrec.0.new", "Tea/1.peftrec", "tea/-1.peftrec", "1.peftrec"):
        files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        files.pipe_file(f"{root}/{name}", b"x")
    assert remote_versions(url) == [("tea", "1")]


def test_a_damaged_version_is_not_pushed(url: str, version: Version) -> None:
    (version.path / "card.md").write_bytes(b"x")
    with pytest.raises(CorruptAdapterError):
        push(version, url)
    assert _held(url) == {}


class _Breaking:
    """A file that breaks after some bytes, as a full disk or a lost connection does."""

    def __init__(self, file: Any, left: int) -> None:
        self.file, self.left = file, left

    def __enter__(self) -> "_Breaking":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # what came so far is kept, which is the worst that can happen

    def write(self, data: bytes) -> int:
        kept = data[: self.left]
        self.file.write(kept)
        self.left -= len(kept)
        if len(kept) < len(data):
            raise ConnectionResetError("the connection was lost")
        return len(kept)


class _Fails:
    """What a file system does wrong; mixed into a real one."""

    after = 1 << 40
    moves = "whole"

    def open(self, path: str, mode: str = "rb", **settings: Any) -> Any:
        file = super().open(path, mode, **settings)  # pyright: ignore[reportAttributeAccessIssue]
        return _Breaking(file, type(self).after) if "w" in mode else file

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        files: Any = self
        content = files.cat_file(path1)
        if type(self).moves == "half":
            content = content[: len(content) // 2]
        if type(self).moves != "never":
            files.pipe_file(path2, content)
        raise PermissionError(f"{path2} cannot be moved")


class _BreakingMemory(_Fails, MemoryFileSystem):
    protocol = "breaking-memory"
    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    pseudo_dirs = [""]  # noqa: RUF012


class _BreakingLocal(_Fails, LocalFileSystem):
    protocol = "breaking-local"
    local_file = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return LocalFileSystem._strip_protocol(str(path).removeprefix("breaking-local://"))


@pytest.fixture(params=[_BreakingMemory, _BreakingLocal])
def breaking(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[type[Any], str]:
    kind = request.param
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    for name in ("after", "moves"):
        monkeypatch.setattr(kind, name, getattr(_Fails, name))
    monkeypatch.setattr(_BreakingMemory, "store", {})
    monkeypatch.setattr(_BreakingMemory, "pseudo_dirs", [""])
    return kind, f"{kind.protocol}://{tmp_path / 'remote'}"


@pytest.mark.parametrize("after", [0, 1, 500, 5000])
def test_a_write_that_breaks_leaves_nothing(
    breaking: tuple[type[Any], str], version: Version, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    kind, url = breaking
    monkeypatch.setattr(kind, "after", after)
    with pytest.raises(RegistryWriteError, match="connection was lost"):
        push(version, url)
    assert _held(url) == {}
    assert remote_versions(url) == []


@pytest.mark.parametrize("moves", ["never", "half"])
def test_a_move_that_breaks_leaves_nothing_half(
    breaking: tuple[type[Any], str], version: Version, monkeypatch: pytest.MonkeyPatch, moves: str
) -> None:
    kind, url = breaking
    monkeypatch.setattr(kind, "moves", moves)
    with pytest.raises(RegistryWriteError, match="cannot be moved"):
        push(version, url)
    assert _held(url) == {}


def test_a_move_that_succeeds_and_says_it_failed(breaking: tuple[type[Any], str], version: Version) -> None:
    _, url = breaking
    with pytest.raises(RegistryWriteError):
        push(version, url)
    assert pull(url, reference="tea@1").manifest == version.manifest
    push(version, url)  # it is there: nothing to do
    assert list(_held(url)) == ["tea/1.peftrec"]


def test_a_remote_that_keeps_other_bytes(url: str, version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = fsspec.url_to_fs(url)
    whole = type(files).open

    def swallow(self: Any, path: str, mode: str = "rb", **settings: Any) -> Any:
        file = whole(self, path, mode, **settings)
        if "w" in mode:
            write = file.write
            monkeypatch.setattr(file, "write", lambda data: write(data[:-1]), raising=False)
        return file

    with monkeypatch.context() as patch:
        patch.setattr(type(files), "open", swallow)
        patch.setattr(type(files), "mv", _never)
        with pytest.raises(RegistryWriteError, match="came back"):
            push(version, url)
    assert _held(url) == {}


def test_addresses_that_lead_nowhere(tmp_path: Path, version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(RegistryError, match="cannot be"):
        push(version, str(tmp_path / "file"))
    with pytest.raises(RegistryError, match="Protocol not known"):
        remote_versions("nowhere://tea")
    monkeypatch.setitem(known_implementations, "tea", {"class": "tea.pot.X", "err": "Install teafs"})
    for call in (lambda: push(version, "tea://pot"), lambda: pull("tea://pot/1.peftrec")):
        with pytest.raises(MissingExtraError, match="pip install teafs"):
            call()


def test_passwords_are_not_shown(version: Version) -> None:
    for call in (remote_versions, pull, lambda url: push(version, url)):
        with pytest.raises(RegistryError) as caught:
            call("nowhere://me:secret@word@host/tea?ticket=secret")
        assert "secret" not in str(caught.value)
        assert "nowhere://" in str(caught.value)
