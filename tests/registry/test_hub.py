"""The Hub, played by a server on this machine that huggingface_hub's own client talks to."""

import base64
import hashlib
import json
import threading
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import close_session

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, RegistryError, RegistryWriteError
from peftrec.registry import Registry, Version
from peftrec.registry.archive import load
from peftrec.registry.hub import pull_from_hub, push_to_hub
from peftrec.registry.signing import sign

Make = Callable[..., Any]
REPO = "shop/tea"
TOKEN = "hf_secret"


class Hub(ThreadingHTTPServer):
    """Repositories in memory: commits by id, branches and tags by name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.private = False
        self.broken = ""
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid], self.refs["main"] = files, oid
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        oid = self.refs.get(revision, revision)
        return oid, self.commits[oid]


class _Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self._path()
        if path == f"/api/models/{REPO}/refs":
            tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": o} for n, o in self.server.refs.items()]
            return self._json({"branches": [], "converts": [], "tags": [tag for tag in tags if tag["name"] != "main"]})
        revision, _, file = path.partition(f"/{REPO}/resolve/")[2].partition("/")
        if not file:
            revision = path.partition("/revision/")[2] or "main"
        try:
            oid, files = self.server.at(revision)
        except KeyError:
            kind = "RevisionNotFound" if self.server.commits else "RepoNotFound"
            return self._answer(404, b"", {"X-Error-Code": kind})
        if file:
            headers = {"X-Repo-Commit": oid, "ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"'}
            return self._answer(200, files[file], headers)
        siblings = [{"rfilename": n, "size": len(c), "blobId": "0" * 40} for n, c in files.items()]
        return self._json({"id": REPO, "sha": oid, "private": self.server.private, "siblings": siblings})

    def do_POST(self) -> None:
        path, body = self._path(), self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.broken and self.server.broken in path:
            return self._answer(400, b"out of order", {})
        if path == "/api/repos/create":
            if self.server.commits:
                return self._json({"url": f"{self.server.endpoint}/{REPO}"}, 409)
            self.server.private = bool(json.loads(body).get("private"))
            self.server.commit({".gitattributes": b""})
            return self._json({"url": f"{self.server.endpoint}/{REPO}"})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if "/preupload/" in path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        if "/tag/" in path:
            self.server.refs[json.loads(body)["tag"]] = self.server.at(path.partition("/tag/")[2])[0]
            return self._json({})
        return self._commit([json.loads(line) for line in body.splitlines()])

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        files = dict(self.server.at("main")[1])
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, self.server.refs["main"]):
                return self._answer(412, b"{}", {})
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "deletedFile":
                del files[value["path"]]
        oid = self.server.commit(files)
        return self._json({"commitUrl": f"{self.server.endpoint}/{REPO}/commit/{oid}", "commitOid": oid})

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        return path

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        close_session()
        server.shutdown()
        thread.join()


@pytest.fixture
def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=TOKEN)


@pytest.fixture
def version(registry: Registry, small: Make) -> Version:
    return registry.publish("tea", small())


def test_there_and_back(hub: Hub, api: HfApi, version: Version) -> None:
    signature = sign(version, Ed25519PrivateKey.generate())
    assert push_to_hub(version, REPO, signature=signature, api=api) == "tea-1"
    _, files = hub.at("tea-1")
    assert set(files) == {
        *(".gitattributes", "README.md", "manifest.json", "signatures.json"),
        *(set(version.manifest.files) - {"card.md"}),
    }
    assert files["README.md"] == (version.path / "card.md").read_bytes()
    for file in ("adapter_config.json", "adapter_model.safetensors"):  # where peft looks for them
        assert files[file] == (version.path / file).read_bytes()
    assert len(hub.commits) == 2  # the Hub's own first one, and ours
    for revision in (None, "main", "tea-1", hub.refs["tea-1"]):
        assert pull_from_hub(REPO, revision=revision, api=api) == load(version, signature=signature)


def test_the_next_version_leaves_nothing_of_the_one_before(
    hub: Hub, api: HfApi, registry: Registry, version: Version, small: Make
) -> None:
    push_to_hub(version, REPO, signature=sign(version, Ed25519PrivateKey.generate()), api=api)
    second = registry.publish("tea", small(2.0))
    assert push_to_hub(second, REPO, api=api) == "tea-2"
    assert "signatures.json" not in hub.at("tea-2")[1]
    assert pull_from_hub(REPO, api=api).reference == "tea@2"
    assert pull_from_hub(REPO, revision="tea-1", api=api).reference == "tea@1"


def test_the_same_version_twice_is_one_commit(hub: Hub, api: HfApi, version: Version, small: Make) -> None:
    push_to_hub(version, REPO, api=api)
    push_to_hub(version, REPO, api=api)
    assert len(hub.commits) == 2
    with pytest.raises(RegistryError, match="other signatures"):
        push_to_hub(version, REPO, signature=sign(version, Ed25519PrivateKey.generate()), api=api)
    other = Registry(version.path.parents[2] / "other").publish("tea", small(3.0))
    with pytest.raises(RegistryError, match="holds another tea@1"):
        push_to_hub(other, REPO, api=api)
    assert len(hub.commits) == 2


def test_what_is_private_does_not_go_to_a_public_place(hub: Hub, api: HfApi, version: Version) -> None:
    hub.commit({".gitattributes": b""})
    with pytest.raises(RegistryError, match="and public"):
        push_to_hub(version, REPO, private=True, api=api)
    assert not any("/commit/" in asked for asked in hub.asked)
    hub.private = True
    push_to_hub(version, REPO, private=True, api=api)
    assert pull_from_hub(REPO, api=api).reference == "tea@1"


@pytest.mark.parametrize("place", ["create", "preupload", "commit", "tag"])
def test_a_hub_that_is_out_of_order(hub: Hub, api: HfApi, version: Version, place: str) -> None:
    hub.broken = f"/{place}"
    with pytest.raises(RegistryWriteError, match="out of order") as caught:
        push_to_hub(version, REPO, token=TOKEN, api=api)
    assert TOKEN not in str(caught.value)
    assert "tea-1" not in hub.refs
    hub.broken = ""
    push_to_hub(version, REPO, api=api)
    assert pull_from_hub(REPO, revision="tea-1", api=api).reference == "tea@1"


def test_somebody_else_was_faster(hub: Hub, api: HfApi, version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit({".gitattributes": b""})
    whole = HfApi.create_commit

    def late(self: HfApi, *args: Any, **settings: Any) -> Any:
        hub.commit({".gitattributes": b"", "README.md": b"theirs"})
        return whole(self, *args, **settings)

    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(RegistryWriteError, match="412"):
        push_to_hub(version, REPO, api=api)
    assert hub.at("main")[1]["README.md"] == b"theirs"


def test_what_is_not_there(hub: Hub, api: HfApi, version: Version) -> None:
    with pytest.raises(AdapterNotFoundError, match="cannot be read"):
        pull_from_hub(REPO, api=api)
    hub.commit({"config.json": b"{}"})
    with pytest.raises(AdapterNotFoundError, match=r"holds no manifest\.json"):
        pull_from_hub(REPO, api=api)
    with pytest.raises(AdapterNotFoundError, match="cannot be read"):
        pull_from_hub(REPO, revision="tea-9", api=api)
    with pytest.raises(RegistryError, match="cannot be read"):
        pull_from_hub("no/such/name", api=api)
    nobody = HfApi(endpoint="http://127.0.0.1:1")
    with pytest.raises(RegistryError, match="cannot be read"):
        pull_from_hub(REPO, api=nobody)
    with pytest.raises(RegistryWriteError, match="cannot be written"):
        push_to_hub(version, REPO, api=nobody)


def test_a_tag_cannot_stand_for_another_version(
    hub: Hub, api: HfApi, registry: Registry, version: Version, small: Make
) -> None:
    push_to_hub(version, REPO, api=api)
    push_to_hub(registry.publish("tea", small(2.0)), REPO, api=api)
    assert pull_from_hub(REPO, reference="tea@1", api=api).reference == "tea@1"
    hub.refs["tea-2"] = hub.refs["tea-1"]
    with pytest.raises(CorruptAdapterError, match="holds tea@1"):
        pull_from_hub(REPO, reference="tea@2", api=api)
    with pytest.raises(AdapterNotFoundError, match="no aliases"):
        pull_from_hub(REPO, reference="tea@production", api=api)


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("README.md", b"x", r"README\.md has 1 bytes instead of"),
        ("README.md", None, r"lacks README\.md"),
        ("decoder.safetensors", "flip", "has sha256"),
        ("README.md", "flip", r"card\.md has sha256"),
        ("adapter_config.json", "flip", "has sha256"),
        ("manifest.json", "flip", "manifest"),
        ("manifest.json", b"{}", "manifest"),
        ("manifest.json", b" " * (16 * 1024 * 1024 + 1), "instead of at most"),
        ("signatures.json", b"{}", "signatures of tea@1"),
        ("signatures.json", b" " * 100_000, "instead of at most"),
    ],
)
def test_what_a_repository_made_up(
    hub: Hub, api: HfApi, version: Version, file: str, content: bytes | str | None, match: str
) -> None:
    push_to_hub(version, REPO, api=api)
    files = dict(hub.at("main")[1])
    if isinstance(content, bytes):
        files[file] = content
    elif content is None:
        del files[file]
    else:
        files[file] = files[file][:-9] + bytes([files[file][-9] ^ 1]) + files[file][-8:]
    hub.commit({**files, "evil.pkl": b"\x80\x04", "modeling.py": b"import os"})
    hub.asked.clear()
    with pytest.raises(CorruptAdapterError, match=match):
        pull_from_hub(REPO, api=api)
    assert not any("evil" in asked or "modeling" in asked for asked in hub.asked)


def test_what_is_too_large_is_not_fetched(hub: Hub, api: HfApi, version: Version) -> None:
    push_to_hub(version, REPO, api=api)
    hub.asked.clear()
    with pytest.raises(CorruptAdapterError, match="that are allowed"):
        pull_from_hub(REPO, limit=100, api=api)
    assert not any("safetensors" in asked for asked in hub.asked)


def test_nothing_is_warned_of(hub: Hub, api: HfApi, version: Version) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        push_to_hub(version, REPO, api=api)
        pull_from_hub(REPO, api=api)
