"""Aliases that move, and what the history tells of it: promote, roll back, split, pin, tag, delete, restore."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, PinnedAliasError, RegistryError
from peftrec.registry import Registry, collecting, journal, store
from peftrec.registry.split import choose

Make = Callable[..., Any]
NONE = timedelta(0)


@pytest.fixture
def three(registry: Registry, small: Make) -> Registry:
    """Three versions; production leads to the first."""
    registry.publish("tea", small(1), alias="production")
    registry.publish("tea", small(2))
    registry.publish("tea", small(3), parent="tea@2")
    return registry


def test_promotions_and_rollbacks_are_a_stack(three: Registry) -> None:
    three.promote("tea@2")
    three.promote("tea@3", reason="spring assortment")
    assert three.rollback("tea").version == "2"
    assert three.rollback("tea").version == "1"
    with pytest.raises(RegistryError, match="no earlier aim"):
        three.rollback("tea")
    three.promote("tea@3")
    assert three.rollback("tea").version == "1"
    told = [(entry.action, entry.details.get("reason")) for entry in three.history("tea")]
    assert told[:5] == [
        ("publish", None),
        ("publish", None),
        ("publish", None),
        ("promote", None),
        ("promote", "spring assortment"),
    ]
    assert [entry.step for entry in three.history("tea")] == list(range(1, 10))
    assert all("@" in entry.by for entry in three.history("tea"))


def test_a_rollback_to_what_is_gone_is_refused(three: Registry) -> None:
    three.promote("tea@2")
    three.delete("tea@1")
    with pytest.raises(AdapterNotFoundError, match="tea@1 is deleted"):
        three.rollback("tea")
    assert three.open("tea").version == "2"


def test_aliases_set_before_there_was_a_history_can_be_rolled_back_to(three: Registry) -> None:
    folder = three.root / "tea"
    (folder / "history.jsonl").unlink()
    (folder / "aliases.json").write_text('{"production": "1", "canary": "2"}')
    assert three.history("tea") == []
    assert three.aliases("tea") == {"production": "1", "canary": "2"}
    three.promote("tea@3")
    assert three.aliases("tea") == {"production": "3", "canary": "2"}
    assert three.rollback("tea").version == "1"


def test_a_pinned_alias_does_not_move(three: Registry, small: Make) -> None:
    three.pin("tea", "production", reason="nothing moves before the holidays")
    moves: list[Callable[[], object]] = [
        lambda: three.promote("tea@2"),
        lambda: three.rollback("tea"),
        lambda: three.split("tea", {"1": 1, "2": 1}),
        lambda: three.remove_alias("tea", "production"),
        lambda: three.publish("tea", small(), alias="production"),
        lambda: three.check_ready("tea", alias="production"),
    ]
    for move in moves:
        with pytest.raises(PinnedAliasError, match="before the holidays"):
            move()
    assert three.numbers("tea") == ["1", "2", "3"]
    three.promote("tea@2", alias="canary")
    three.unpin("tea", "production")
    assert three.promote("tea@2").version == three.open("tea").version == "2"
    with pytest.raises(RegistryError, match="is not pinned"):
        three.unpin("tea", "production")
    with pytest.raises(RegistryError, match="reason"):
        three.pin("tea", "production", reason=" ")


def test_a_split_is_sticky_and_follows_its_weights(three: Registry) -> None:
    three.split("tea", {"production": 0.8, "2": 0.2})
    users = [f"user-{number}" for number in range(4000)]
    first = {user: three.open("tea", user=user).version for user in users[:40]}
    assert first == {user: three.open("tea@production", user=user).version for user in users[:40]}
    assert {*first.values()} == {"1", "2"}
    assert three.open("tea").version == "1"  # without a shopper: the larger share
    assert three.splits("tea") == {"production": {"1": 0.8, "2": 0.2}}
    assert three.aliases("tea") == {"production": "1"}

    weights = {"1": 0.8, "2": 0.2}
    drawn = {user: choose(weights, user, salt="tea@production") for user in users}
    assert first.items() <= drawn.items()
    assert abs(Counter(drawn.values())["2"] / len(users) - 0.2) < 0.02  # three standard deviations
    more = {user: choose({"1": 0.5, "2": 0.5}, user, salt="tea@production") for user in users}
    assert {(drawn[user], more[user]) for user in users if drawn[user] != more[user]} == {("1", "2")}
    third = {user: choose({**weights, "3": 0.5}, user, salt="tea@production") for user in users}
    assert all(third[user] in (drawn[user], "3") for user in users)
    other = {user: choose(weights, user, salt="tea@canary") for user in users}
    both = sum(drawn[user] == other[user] == "2" for user in users) / len(users)
    assert abs(both - 0.04) < 0.015  # two experiments do not meet the same shoppers

    three.promote("tea@2")
    assert three.rollback("tea").version == "1"
    assert three.splits("tea") == {"production": weights}


@pytest.mark.parametrize("weights", [{}, {"1": 1.0}, {"1": 1, "2": 0}, {"1": 1, "2": -1}, {"1": 1, "2": float("nan")}])
def test_a_split_that_is_none(three: Registry, weights: dict[str, float]) -> None:
    with pytest.raises(RegistryError, match="two or more"):
        three.split("tea", weights)
    with pytest.raises(AdapterNotFoundError):
        three.split("tea", {"1": 1, "9": 1})


def test_tags(three: Registry) -> None:
    three.tag("tea@2", "reviewed", "spring")
    three.tag("tea@3", "reviewed")
    three.tag("tea@2", "spring", remove=True)
    assert three.state("tea").tags == {"2": ["reviewed"], "3": ["reviewed"]}
    with pytest.raises(RegistryError, match="alias 'Not A Tag'"):
        three.tag("tea@2", "Not A Tag")


def test_a_deleted_version_is_out_of_sight_and_comes_back(three: Registry, small: Make) -> None:
    three.delete("tea@3", reason="trained on the wrong month")
    with pytest.raises(AdapterNotFoundError, match=r"tea@3 is deleted.*\n.*\n.*peftrec registry restore tea@3"):
        three.open("tea@3")
    assert [version.version for version in three.versions("tea")] == ["1", "2"]
    assert three.newest("tea").version == "2"
    with pytest.raises(AdapterNotFoundError):
        three.promote("tea@3")
    with pytest.raises(AdapterNotFoundError):
        three.publish("tea", small(), parent="tea@3")
    assert three.verify() == []
    assert three.restore("tea@3").version == three.open("tea@3").version == "3"
    with pytest.raises(AdapterNotFoundError, match="not among the deleted"):
        three.restore("tea@3")


def test_what_an_alias_leads_to_is_not_deleted(three: Registry) -> None:
    three.split("tea", {"1": 1, "2": 1}, alias="trial")
    for version, alias in (("1", "production, trial"), ("2", "trial")):
        with pytest.raises(RegistryError, match=f"the alias {alias} leads to"):
            three.delete(f"tea@{version}")


def test_collection_keeps_what_is_needed(three: Registry, small: Make) -> None:
    three.publish("tea-uk", small(4), parent="tea@1")
    three.promote("tea@2")
    three.delete("tea@1", grace=NONE)
    three.delete("tea@3")
    dry = three.gc(dry_run=True)
    assert dry.removed == ()
    assert "tea-uk@1 descends from it" in dry.kept["tea@1"]
    assert "can be restored until" in dry.kept["tea@3"]
    three.delete("tea-uk@1", grace=NONE)
    assert three.gc().removed == ("tea-uk@1",)
    done = three.gc()  # the child is gone, so the parent may go
    assert done.removed == ("tea@1",)
    assert done.bytes > 1000
    assert not (three.root / "tea" / "1").exists()
    assert three.numbers("tea") == ["2", "3"]
    with pytest.raises(AdapterNotFoundError):
        three.restore("tea@1")
    assert [entry.action for entry in three.history("tea")][-1] == "remove"


def test_no_number_is_given_twice(three: Registry, small: Make) -> None:
    three.delete("tea@3", grace=NONE)
    three.gc()
    assert three.numbers("tea") == ["1", "2"]
    assert three.publish("tea", small()).version == "4"


def test_nothing_is_collected_while_a_manifest_cannot_be_read(three: Registry) -> None:
    three.delete("tea@3", grace=NONE)
    (three.root / "tea" / "2" / "manifest.json").write_text("{}")
    assert "a damaged version may descend" in three.gc().kept["tea@3"]


def test_a_clock_that_goes_backwards_collects_nothing(three: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    three.publish("mugs", three.open("tea@1"))
    three.delete("tea@3", grace=NONE)
    for module in (collecting, journal, store):
        monkeypatch.setattr(module, "now", lambda: datetime(2020, 1, 1, tzinfo=UTC))
    assert "this clock says 2020" in three.gc().kept["tea@3"]
    assert three.restore("tea@3").version == "3"
    three.promote("tea@2")  # order is told by steps, not by clocks
    assert three.rollback("tea").version == "1"
    three.delete("mugs@1", grace=timedelta(days=1))
    monkeypatch.undo()
    assert "can be restored" in three.gc().kept["mugs@1"]  # the grace began at the last change, not in 2020
    assert three.verify() == []


def test_a_changed_history_is_noticed(three: Registry) -> None:
    path = three.root / "tea" / "history.jsonl"
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    first = json.loads(lines[0]) | {"by": "somebody@else"}
    for changed in (
        content.replace(b"publish", b"promote", 1),
        b"".join(lines[1:]),
        b"".join([lines[1], lines[0], lines[2]]),
        content[:-10],
        json.dumps(first).encode() + b"\n" + b"".join(lines[1:]),
    ):
        path.write_bytes(changed)
        with pytest.raises(CorruptAdapterError, match=r"history.jsonl"):
            three.history("tea")
        assert any("history.jsonl" in problem for problem in three.verify())
        assert three.open("tea").version == "1"
    path.write_bytes(content + b'{"half": ')  # a killed writer's
    assert len(three.history("tea")) == 3
    three.promote("tea@2")
    assert [entry.action for entry in three.history("tea")] == ["publish"] * 3 + ["promote"]


def test_any_flipped_byte_of_the_aliases_is_noticed(three: Registry) -> None:
    path = three.root / "tea" / "aliases.json"
    content = path.read_bytes()
    for at in range(len(content)):
        for bit in (1, 64):
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            try:
                assert three.state("tea") is None  # never reached, or the change is none
            except CorruptAdapterError:
                continue
            except AssertionError:
                assert json.loads(path.read_bytes()) == json.loads(content)


def test_remove_alias(three: Registry) -> None:
    three.promote("tea@2", alias="canary")
    three.remove_alias("tea", "canary")
    assert three.aliases("tea") == {"production": "1"}
    with pytest.raises(AdapterNotFoundError, match="tea has no alias 'canary'"):
        three.remove_alias("tea", "canary")
    with pytest.raises(RegistryError, match="no earlier aim"):
        three.rollback("tea", alias="canary")


def test_unknown_adapters(registry: Registry) -> None:
    calls: list[Callable[[], object]] = [
        lambda: registry.rollback("tea"),
        lambda: registry.split("tea", {"1": 1, "2": 1}),
        lambda: registry.tag("tea@1", "x"),
        lambda: registry.delete("tea"),
        lambda: registry.restore("tea@1"),
        lambda: registry.promote("tea"),
    ]
    for call in calls:
        with pytest.raises(AdapterNotFoundError):
            call()
    assert not registry.root.exists()


def test_a_version_can_be_published_under_another_name(three: Registry, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other")
    copy = other.publish("tea-de", three.open("tea@3"))
    assert copy.reference == "tea-de@1"
    assert copy.files() == three.open("tea@3").files()
    assert copy.facts == three.open("tea@3").facts


def test_a_reference_leads_to_the_version_that_would_be_opened(three: Registry) -> None:
    three.split("tea", {"1": 1, "2": 1}, alias="trial")
    digest = three.open("tea@2").digest[:12]
    for reference in ("tea", "tea@1", "tea@production", "tea@trial", f"tea@sha256:{digest}"):
        assert three.resolve(reference) == three.open(reference).reference
    shoppers = [f"shopper {number}" for number in range(20)]
    led = {user: three.resolve("tea@trial", user=user) for user in shoppers}
    assert led == {user: three.open("tea@trial", user=user).reference for user in shoppers}
    assert {*led.values()} == {"tea@1", "tea@2"}
    for reference in ("tea@9", "tea@nowhere", "coffee"):
        with pytest.raises(AdapterNotFoundError) as opened:
            three.open(reference)
        with pytest.raises(AdapterNotFoundError) as resolved:
            three.resolve(reference)
        assert str(resolved.value) == str(opened.value)
    three.delete("tea@3")
    with pytest.raises(AdapterNotFoundError, match="deleted"):
        three.resolve("tea@3")


def test_what_a_version_holds_is_no_matter_to_who_only_asks_which_it_is(three: Registry) -> None:
    (three.root / "tea" / "2" / "manifest.json").write_text("{")
    assert three.resolve("tea@2") == "tea@2"
    with pytest.raises(CorruptAdapterError):
        three.open("tea@2")
