"""A kill before any call to the system, an error of any of them, writers that wait for each other, and files from elsewhere."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from peftrec.errors import (
    AdapterNotFoundError,
    CorruptAdapterError,
    PeftrecError,
    RegistryError,
    RegistryWriteError,
)
from peftrec.registry import Registry, aliasing, collecting
from peftrec.registry.archive import Parcel, load
from peftrec.registry.keys import generate_key
from peftrec.registry.signing import read_signatures
from peftrec.registry.strict import SEAL, seal
from tests.registry.conftest import Small, small_files

NONE = timedelta(0)
CALLS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "truncate")
ACTIONS = ("publish", "promote", "rollback", "split", "tag", "delete", "restore", "gc", "install", "sign", "pin")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Versions 1 to 5 of tea: 2 in production, 4 deleted for long, 5 deleted for now; a key and a parcel beside it."""
    registry = Registry(tmp_path / "adapters")
    for value in range(1, 6):
        registry.publish("tea", Small(small_files(value)), alias="production" if value < 3 else None)
    registry.delete("tea@4", grace=NONE)
    registry.delete("tea@5")
    generate_key(tmp_path / "key.pem", tmp_path / "key.pub")
    return registry


def parcel_of(folder: Path) -> Parcel:
    """Version 7 of another registry's tea, signed."""
    other = Registry(folder / "other")
    if not other.root.exists():
        for value in range(1, 8):
            other.publish("tea", Small(small_files(10 + value)))
        other.sign("tea@7", folder / "key.pem")
    version = other.open("tea@7")
    return load(version, signature=read_signatures(version))


def act(registry: Registry, action: str, folder: Path, parcel: Parcel) -> None:
    """One change of each kind."""
    actions: dict[str, Callable[[], object]] = {
        "publish": lambda: registry.publish("tea", Small(small_files(9)), alias="production", parent="tea@1"),
        "promote": lambda: registry.promote("tea@3"),
        "rollback": lambda: registry.rollback("tea"),
        "split": lambda: registry.split("tea", {"1": 1, "3": 3}),
        "tag": lambda: registry.tag("tea@3", "reviewed"),
        "delete": lambda: registry.delete("tea@3"),
        "restore": lambda: registry.restore("tea@5"),
        "gc": lambda: registry.gc(),
        "install": lambda: registry.install(parcel, alias="production"),
        "sign": lambda: registry.sign("tea@2", folder / "key.pem"),
        "pin": lambda: registry.pin("tea", "production", reason="holidays"),
    }
    actions[action]()


def killed(work: Callable[[], object], *, before: int) -> bool:
    """Whether a process that does some work is killed before its n-th call; False where it makes fewer and ends."""
    child = os.fork()
    if child == 0:
        left = before

        def counting(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os._exit(9)
                return real(*arguments, **named)

            return call

        for name in CALLS:
            setattr(os, name, counting(getattr(os, name)))
        try:
            work()
        except BaseException:  # noqa: BLE001  # nothing may go on in the child
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, 9)
    return os.waitstatus_to_exitcode(status) == 9


def seen(registry: Registry) -> dict[str, Any]:
    """What readers see, but for when and by whom."""
    state = registry.state("tea")
    return {
        "served": registry.open("tea").version,
        "aliases": state.aliases,
        "pinned": state.pinned,
        "tags": state.tags,
        "deleted": {*state.deleted},
        "signed": read_signatures(registry.stored("tea", "2")) is not None,
    }


@pytest.mark.parametrize("action", ACTIONS)
def test_a_kill_before_any_call_leaves_the_old_state_or_the_new(
    registry: Registry, tmp_path: Path, action: str
) -> None:
    parcel = parcel_of(tmp_path)
    shutil.copytree(registry.root, tmp_path / "done")
    old = seen(registry)
    act(Registry(tmp_path / "done"), action, tmp_path, parcel)
    new = seen(Registry(tmp_path / "done"))
    assert new != old
    turn, kinds = 0, set[str]()
    while True:
        turn += 1
        copy = Registry(shutil.copytree(registry.root, tmp_path / f"killed-{turn}"))
        if not killed(lambda copy=copy: act(copy, action, tmp_path, parcel), before=turn):
            break
        now = seen(copy)
        assert now in (old, new), turn
        kinds.add("new" if now == new else "old")
        # Signatures that a remover leaves when it is killed, the next collection takes; everything else is whole at once.
        assert all("of no version" in told for told in copy.verify()), turn
        assert [entry.step for entry in copy.history("tea")] == list(range(1, copy.state("tea").step + 1))
        # The next writer goes on, and tells of a version that was finished without being told of.
        version = copy.publish("tea", Small(small_files(20)), alias="canary")
        told = [
            entry.details["version"] for entry in copy.history("tea") if entry.action in ("publish", "install", "found")
        ]
        untold = (
            {"7"} if action == "install" else set[str]()
        )  # beyond the next number; told of when it is installed again
        assert {*copy.numbers("tea")} <= {*told} | untold
        assert copy.open("tea@canary") == version
        copy.gc()
        assert copy.verify() == [], turn
        assert list((copy.root / "tea" / ".tmp").iterdir()) == []
    assert turn > 3
    assert "old" in kinds
    assert seen(copy) == new


@pytest.mark.parametrize("before", ["nothing", "a registry of before"])
def test_a_kill_in_the_very_first_change(tmp_path: Path, before: str) -> None:
    first = Registry(tmp_path / "first")
    if before != "nothing":
        first.publish("tea", Small())
        (first.root / "tea" / "history.jsonl").unlink()
        (first.root / "tea" / "aliases.json").write_text('{"production": "1"}')
    first.root.mkdir(exist_ok=True)
    turn = 0
    while True:
        turn += 1
        copy = Registry(shutil.copytree(first.root, tmp_path / f"killed-{turn}"))
        if not killed(lambda copy=copy: copy.publish("tea", Small(small_files(2)), alias="production"), before=turn):
            break
        if before == "nothing":
            assert copy.names() in ([], ["tea"])
        else:
            assert copy.open("tea").version in ("1", "2")
        assert copy.verify() == [], turn
        version = copy.publish("tea", Small(small_files(3)), alias="production")
        assert copy.open("tea") == version
        assert copy.verify() == []
        assert copy.repair("tea") == copy.state("tea")
    assert turn > 5


def test_a_reader_between_two_looks_at_the_first_change(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fresh = Registry(tmp_path / "fresh")
    fresh.publish("tea", Small())
    content = (fresh.root / "tea" / "aliases.json").read_bytes()
    (fresh.root / "tea" / "aliases.json").unlink()
    lexists = os.path.lexists

    def writes_meanwhile(path: Any) -> bool:
        (fresh.root / "tea" / "aliases.json").write_bytes(content)
        return lexists(path)

    monkeypatch.setattr(os.path, "lexists", writes_meanwhile)
    assert fresh.state("tea").step == 1


def test_what_nobody_counted_is_not_repaired_into_the_present(registry: Registry) -> None:
    folder = registry.root / "tea"
    before, present = registry.state("tea"), (folder / "aliases.json").read_bytes()
    registry.promote("tea@3")
    (folder / "aliases.json").write_bytes(present)  # as if the writer had been killed before the rename
    assert registry.open("tea").version == "2"
    assert registry.repair("tea") == before
    assert registry.open("tea").version == "2"
    assert len((folder / "history.jsonl").read_bytes()) == before.history


def test_a_collector_that_meets_another(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.publish("zoo", Small())
    other = Registry(registry.root)
    child = other.publish("zoo", Small(), parent="tea@1")
    registry.promote("tea@3")
    registry.delete("tea@1", grace=NONE)
    stored = Registry.stored

    def gone(self: Registry, name: str, version: str) -> Any:
        if (name, version) == ("zoo", "1"):
            raise AdapterNotFoundError("zoo@1 is not there", expected="", remedy="")
        return stored(self, name, version)

    monkeypatch.setattr(Registry, "stored", gone)
    assert f"{child.reference} descends from it" in registry.gc().kept["tea@1"]


def test_an_adapter_that_cannot_be_listed_may_need_anything(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.publish("zoo", Small())
    numbers = Registry.numbers

    def closed(self: Registry, name: str, *, complete: bool = True) -> list[str]:
        if name == "zoo":
            raise RegistryError("zoo cannot be listed", expected="", remedy="")
        return numbers(self, name, complete=complete)

    monkeypatch.setattr(Registry, "numbers", closed)
    assert "zoo cannot be listed" in registry.gc().kept["tea@4"]


def test_an_unsigned_version_never_gets_an_alias_of_a_registry_that_trusts_keys(
    registry: Registry, tmp_path: Path
) -> None:
    trusting = Registry(registry.root, trusted_keys=[tmp_path / "key.pub"])
    with pytest.raises(RegistryError, match="sign it, then promote it"):
        trusting.publish("mugs", Small(), alias="production")
    version = trusting.publish("mugs", Small())
    trusting.sign(version.reference, tmp_path / "key.pem")
    assert trusting.promote("mugs@1").version == "1"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_an_error_of_any_call_is_worded(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, number: int
) -> None:
    parcel = parcel_of(tmp_path)
    old = seen(registry)
    for turn in range(1, 100):
        copy, left = Registry(shutil.copytree(registry.root, tmp_path / f"failed-{turn}")), turn

        def failing(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise OSError(number, os.strerror(number))
                return real(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for name in ("fsync", "rename", "replace"):
                patch.setattr(os, name, failing(getattr(os, name)))
            told = ""
            try:
                act(copy, action, tmp_path, parcel)
            except RegistryWriteError as error:
                told = str(error)
        assert ("cannot be written" in told or "could not be" in told) == (left <= 0), turn
        assert "nothing was changed" not in told
        if left > 0:
            return
        if seen(copy) == old:
            act(copy, action, tmp_path, parcel)  # once the cause is mended
        copy.gc()
        assert copy.verify() == []
    raise AssertionError("more calls than expected")


def test_a_version_that_went_while_a_writer_waited(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = aliasing.turn

    def late(*folders: Path) -> Any:
        monkeypatch.setattr(aliasing, "turn", turn)
        registry.delete("tea@3", grace=NONE)
        registry.gc()
        return turn(*folders)

    for action in ("promote", "split", "tag"):
        copy = shutil.copytree(registry.root, registry.root.parent / action)
        monkeypatch.setattr(aliasing, "turn", late)
        with pytest.raises(AdapterNotFoundError):
            act(registry, action, registry.root.parent, parcel_of_nothing())
        assert registry.verify() == []
        shutil.rmtree(registry.root)
        shutil.move(copy, registry.root)


def parcel_of_nothing() -> Any:
    """For actions that install nothing."""
    return None


def test_a_child_that_comes_while_its_parent_is_collected(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Registry(tmp_path / "other")
    other.publish("tea", Small(small_files(1)))
    child = load(other.publish("mugs", Small(), parent="tea@1"))
    registry.promote("tea@3")
    registry.delete("tea@1", grace=NONE)
    look = collecting._Family.look  # pyright: ignore[reportPrivateUsage]

    def then_installs(family: Any) -> None:
        if not (registry.root / "mugs").exists():
            os.rename(registry.root / "tea" / ".lock", tmp_path / "lock")  # else it would wait for the collector
            registry.install(child)
        look(family)

    monkeypatch.setattr(collecting._Family, "look", then_installs)  # pyright: ignore[reportPrivateUsage]
    assert "mugs@1 descends from it" in registry.gc().kept["tea@1"]


@pytest.mark.parametrize("place", ["tea", "tea/.tmp", "tea/.lock"])
def test_nothing_is_written_or_removed_behind_a_link(registry: Registry, tmp_path: Path, place: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    path = registry.root / place
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(precious)
    for work in (lambda: registry.promote("tea@1"), lambda: registry.publish("tea", Small()), lambda: registry.gc()):
        with pytest.raises(RegistryError):
            work()
    assert [file.name for file in precious.iterdir()] == ["thesis.txt"]


def test_the_present_follows_from_the_history(registry: Registry, tmp_path: Path) -> None:
    registry.split("tea", {"1": 1, "2": 3}, alias="trial")
    registry.tag("tea@1", "reviewed")
    registry.pin("tea", "trial", reason="until Monday")
    registry.gc()
    registry.rollback("tea")
    before = registry.state("tea")
    path = registry.root / "tea" / "aliases.json"
    old = path.read_bytes()
    path.unlink()
    for work in (lambda: registry.open("tea"), lambda: registry.publish("tea", Small())):
        with pytest.raises(CorruptAdapterError, match="peftrec registry repair tea"):
            work()
    assert any("is missing beside history.jsonl" in problem for problem in registry.verify())
    assert registry.repair("tea") == registry.state("tea") == before
    assert path.read_bytes() == old
    assert registry.publish("tea", Small()).version == "6"  # 4 is gone for good


def test_an_old_copy_of_the_aliases_is_noticed(registry: Registry) -> None:
    path = registry.root / "tea" / "aliases.json"
    old = path.read_bytes()
    for version in ("1", "3", "1", "3"):
        registry.promote(f"tea@{version}")
    newest = registry.state("tea")
    path.write_bytes(old)
    with pytest.raises(CorruptAdapterError, match="seems to be an old copy"):
        registry.promote("tea@1")
    assert registry.repair("tea") == newest


@pytest.mark.parametrize("damage", ["shorter", "gone"])
def test_a_journal_that_lacks_bytes_is_not_written_to(registry: Registry, damage: str) -> None:
    path = registry.root / "tea" / "history.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-50]) if damage == "shorter" else path.unlink()
    with pytest.raises(PeftrecError):
        registry.promote("tea@1")
    path.write_bytes(content)  # a copy mends it
    assert registry.promote("tea@1").version == "1"
    assert registry.verify() == []


def test_a_plain_form_beside_a_history_is_no_way_past_the_seal(registry: Registry) -> None:
    (registry.root / "tea" / "aliases.json").write_text('{"production": "5"}')
    with pytest.raises(CorruptAdapterError, match="has no seal"):
        registry.open("tea")


def test_the_same_aim_again_is_no_move(registry: Registry) -> None:
    registry.promote("tea@3")
    registry.promote("tea@3")
    assert registry.rollback("tea").version == "2"


def test_many_changes_cost_no_more_than_few(registry: Registry) -> None:
    """The journal is never read whole: it may be damaged anywhere but at its end."""
    for _ in range(3):
        registry.promote("tea@1")
        registry.promote("tea@2")
    path = registry.root / "tea" / "history.jsonl"
    content = path.read_bytes()
    path.write_bytes(b"x" + content[1:])
    registry.promote("tea@3")
    assert registry.rollback("tea").version == "2"
    registry.gc()
    assert [entry.action for entry in registry.history("tea", last=2)] == ["rollback", "remove"]
    with pytest.raises(CorruptAdapterError, match="line 1 of"):
        registry.history("tea")


@pytest.mark.parametrize("file", ["aliases.json", "history.jsonl", "2/manifest.json", "2/card.md", "2.sig.json"])
def test_a_pipe_is_not_waited_for(registry: Registry, file: str) -> None:
    path = registry.root / "tea" / file
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert registry.verify()
    for work in (lambda: registry.promote("tea@2"), lambda: registry.open("tea@production").files()):
        try:
            work()
        except PeftrecError:
            continue


SEALED = [
    {"history": 10**30},
    {"history": 2**52},
    {"newest": 10**30},
    {"step": 0},
    {"aliases": {"production": {"1": 1e400}}},
    {"aliases": {"production": ["1"]}},
    {"aims": {"production": "1"}},
    {"deleted": {"1": "2026-01-01"}},
    {"removed": [[1]]},
    {"pinned": {"production": 7}},
    {"moment": "yesterday"},
]


@pytest.mark.parametrize("changed", SEALED, ids=str)
def test_a_sealed_state_that_says_nonsense(registry: Registry, changed: dict[str, Any]) -> None:
    path = registry.root / "tea" / "aliases.json"
    values = {name: value for name, value in json.loads(path.read_bytes()).items() if name != SEAL} | changed
    try:
        digest = seal(values)
    except ValueError:
        digest = "0" * 64
    path.write_text(json.dumps({**values, SEAL: digest}))
    for work in (lambda: registry.open("tea"), lambda: registry.history("tea"), lambda: registry.promote("tea@1")):
        try:
            work()
        except CorruptAdapterError:
            continue
        assert changed == {"history": 2**52}  # which only the journal can tell
    assert registry.open("tea@1").version == "1"


ENTRIES = [
    {"action": "rollback", "alias": "production"},
    {"action": "promote", "alias": "production"},
    {"action": "publish"},
    {"action": "publish", "version": "x"},
    {"action": "delete", "version": "1"},
    {"action": "begin"},
    {"action": "dance"},
    {"action": "tag", "version": "1"},
    {"action": "remove", "version": None},
]


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_a_sealed_entry_that_says_too_little(registry: Registry, entry: dict[str, Any]) -> None:
    folder = registry.root / "tea"
    values = {"step": 1, "moment": "2026-01-01T00:00:00+00:00", "by": "x", "previous": "", **entry}
    (folder / "history.jsonl").write_text(json.dumps({**values, SEAL: seal(values)}) + "\n")
    with pytest.raises(CorruptAdapterError, match="says too little"):
        registry.repair("tea")


def test_numbers_end(registry: Registry, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other")
    version = other.publish("tea", Small())
    last = str(10**12 - 1)
    manifest = json.loads((version.path / "manifest.json").read_bytes())
    values = {name: value for name, value in manifest.items() if name != SEAL} | {"version": last}
    target = shutil.copytree(version.path, registry.root / "tea" / last)
    text = json.dumps({**values, SEAL: seal(values)}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (target / "manifest.json").write_text(text)
    assert registry.publish("tea", Small()).version == "6"  # a number copied there by hand is not counted on from
    fresh = Registry(tmp_path / "fresh")
    shutil.copytree(target, fresh.root / "tea" / last)
    with pytest.raises(RegistryError, match="so that there is a next one"):
        fresh.publish("tea", Small())


def test_a_damaged_version_can_be_deleted_and_does_not_stop_the_rest(registry: Registry) -> None:
    registry.publish("mugs", Small())
    registry.publish("mugs", Small())
    (registry.root / "mugs" / "1" / "manifest.json").write_text("{}")
    assert "a damaged version may descend" in registry.gc().kept["tea@4"]
    registry.delete("mugs@1", grace=NONE)
    (registry.root / "toys").mkdir()
    (registry.root / "toys" / "aliases.json").write_text("[]")
    done = registry.gc()
    assert "no JSON object" in done.kept["toys"]
    assert {*done.removed} == {"mugs@1", "tea@4"}


def test_all_versions_deleted(registry: Registry) -> None:
    registry.publish("mugs", Small())
    registry.delete("mugs@1", grace=NONE)
    for work in (lambda: registry.open("mugs"), lambda: registry.newest("mugs"), lambda: registry.versions("mugs")):
        with pytest.raises(AdapterNotFoundError, match=r"all versions of mugs are deleted(.*\n)*.*restore mugs@1"):
            work()
    registry.gc()
    with pytest.raises(AdapterNotFoundError, match="no adapter 'mugs'"):
        registry.open("mugs")
    assert registry.publish("mugs", Small()).version == "2"


def test_signatures_of_nothing_are_told_and_collected(registry: Registry, tmp_path: Path) -> None:
    registry.sign("tea@1", tmp_path / "key.pem")
    path = registry.root / "tea" / "1.sig.json"
    shutil.copy(path, registry.root / "tea" / "9.sig.json")
    assert registry.verify() == ["tea: 9.sig.json are signatures of no version"]
    registry.gc()
    assert registry.verify() == []
    path.write_text("junk")
    assert any("1.sig.json" in problem or "signatures" in problem for problem in registry.verify())


@pytest.mark.parametrize(
    "work",
    [
        lambda registry: registry.split("tea", {"1": "x", "2": 1}),
        lambda registry: registry.split("tea", {"1": 1e-320, "2": 1}),
        lambda registry: registry.split("tea", {"production": 1, "2": 1}),
        lambda registry: registry.open("tea", user=5),
        lambda registry: registry.delete("tea@1", grace=timedelta.max),
        lambda registry: registry.delete("tea@1", grace=timedelta(days=-1)),
        lambda registry: registry.promote("tea@1", reason=None),
        lambda registry: registry.promote("tea@1", reason="x" * 3000),
        lambda registry: registry.stored("tea", "tea\0"),
        lambda registry: registry.history("nothing"),
    ],
)
def test_odd_arguments_are_told(registry: Registry, work: Callable[[Registry], object]) -> None:
    with pytest.raises(RegistryError):
        work(registry)


def test_half_a_character_is_a_shopper_too(registry: Registry) -> None:
    registry.split("tea", {"1": 1, "2": 1})
    assert registry.open("tea", user="\ud800").version in ("1", "2")


def test_a_dry_collection_writes_nothing(registry: Registry) -> None:
    shutil.rmtree(registry.root / "tea" / ".tmp")
    (registry.root / "tea" / ".lock").unlink()
    assert registry.gc(dry_run=True).removed == ("tea@4",)
    assert not (registry.root / "tea" / ".tmp").exists()
    assert not (registry.root / "tea" / ".lock").exists()
