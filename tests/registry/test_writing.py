"""Kills, concurrent publishers, full and read-only disks."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from peftrec.errors import RegistryWriteError
from peftrec.registry import Registry, writing

Make = Callable[..., Any]
_HERE = Path(__file__).resolve()


def _start(*arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(_HERE.parents[2])}
    command = [sys.executable, str(_HERE.with_name("publisher.py")), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _answer(process: "subprocess.Popen[str]") -> list[str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


def _tree(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if path.name != ".lock"
    }


def test_a_kill_at_any_moment_leaves_whole_versions(registry: Registry, small: Make) -> None:
    *problems, counts = _answer(_start("kills", registry.root, 20))
    assert problems == [], counts
    number = int(counts.split()[0])
    assert number > 1, counts
    assert registry.publish("tea", small(), alias="production").version == str(number + 1)
    left = {path.name for path in (registry.root / "tea").iterdir()}
    assert left == {".lock", ".tmp", "aliases.json", "history.jsonl", *map(str, range(1, number + 2))}
    assert list((registry.root / "tea" / ".tmp").iterdir()) == []


def test_concurrent_publishers_get_different_numbers(registry: Registry) -> None:
    processes = [_start("many", registry.root, 5) for _ in range(4)]
    numbers = [number for process in processes for number in _answer(process)]
    assert sorted(map(int, numbers)) == list(range(1, 21))
    assert registry.verify() == []
    assert registry.open("tea").version == "20"


def test_a_file_size_limit_leaves_nothing_behind(registry: Registry, small: Make) -> None:
    registry.publish("tea", small(), alias="production")
    before = _tree(registry.root)
    kind, text = _answer(_start("limit", registry.root))
    assert kind == "RegistryWriteError"
    assert "raise the limit on file sizes" in text
    assert _tree(registry.root) == before


def _failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(("number", "remedy"), [(errno.EROFS, "writable"), (errno.ENOSPC, "free some space")])
@pytest.mark.parametrize("call", ["mkdir", "fsync", "rename"])
def test_a_disk_that_refuses(
    registry: Registry, small: Make, monkeypatch: pytest.MonkeyPatch, call: str, number: int, remedy: str
) -> None:
    registry.publish("tea", small(), alias="production")
    before = _tree(registry.root)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _failing(number))
        with pytest.raises(RegistryWriteError, match=remedy):
            registry.publish("tea", small(2), alias="production")
    assert _tree(registry.root) == before
    assert registry.open("tea").version == "1"


def test_a_read_only_root(registry: Registry, small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", _failing(errno.EROFS))
    with pytest.raises(RegistryWriteError, match="mount it writable"):
        registry.publish("tea", small())
    assert not registry.root.exists()


def test_an_alias_that_cannot_be_set_says_what_is_there(
    registry: Registry, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish("tea", small(), alias="production")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _failing(errno.ENOSPC))
        patch.setattr(Path, "replace", _failing(errno.ENOSPC))
        with pytest.raises(RegistryWriteError, match="tea@2 is there, but its alias 'production' could not be set"):
            registry.publish("tea", small(), alias="production")
    assert registry.open("tea").version == "1"
    assert registry.verify() == []


def test_a_publisher_that_hangs_is_not_waited_for_without_end(
    registry: Registry, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish("tea", small())
    monkeypatch.setattr(writing, "LOCK_SECONDS", 0.1)
    with (
        FileLock(registry.root / "tea" / ".lock"),
        pytest.raises(RegistryWriteError, match=r"not free within 0.1 seconds"),
    ):
        registry.publish("tea", small())
    assert registry.publish("tea", small()).version == "2"


def test_a_file_system_without_locks_is_refused(
    registry: Registry, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RegistryWriteError, match="without locks"):
        registry.publish("tea", small())
    assert registry.names() == []
