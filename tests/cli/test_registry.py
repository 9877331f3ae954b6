"""``peftrec registry`` as a person and as a program uses it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from peftrec.cli.main import app
from peftrec.cli.registry.options import console
from peftrec.errors import PeftrecError
from peftrec.registry import Registry
from tests.registry.conftest import Small, small_facts, small_files

METRIC = {"metric": "ndcg@10", "slice": "all", "value": 0.4, "low": 0.3, "high": 0.5}


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which no table folds, whatever the width was when the command line was imported."""
    monkeypatch.setattr(console, "_width", 200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three versions of tea, the first in production; one of toys."""
    registry = Registry(tmp_path / "adapters")
    registry.publish("tea", Small(), alias="production", reason="first trial")
    registry.publish("tea", Small(small_files(2), small_facts() | {"metrics": [METRIC]}), parent="tea@1")
    registry.publish("tea", Small(small_files(3)))
    registry.publish("toys", Small(small_files(4), small_facts() | {"method": "adalora"}))
    return registry.root


def ask(folder: Path, *words: object) -> Result:
    return CliRunner().invoke(app, ["registry", *map(str, words), "--registry", str(folder)])


def told(folder: Path, *words: object) -> Any:
    """What a command prints for programs."""
    done = ask(folder, *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def test_pages(folder: Path) -> None:
    assert [row["name"] for row in told(folder, "list")] == ["tea", "toys"]
    first = ask(folder, "list", "--limit", 1)
    assert "more: peftrec registry list" in first.output
    assert "--after tea" in first.output
    assert [row["name"] for row in told(folder, "list", "--after", "tea")] == ["toys"]
    assert "no adapters in" in ask(folder, "list", "--after", "toys").output


def test_find_and_diff(folder: Path) -> None:
    assert [row["reference"] for row in told(folder, "find", "metrics.ndcg@10>0.3")] == ["tea@2"]
    assert "toys@1" in ask(folder, "find", "method=adalora").output
    assert "no version meets" in ask(folder, "find", "method=none").output
    fields = told(folder, "diff", "tea@1", "tea@2")
    assert fields["metrics.ndcg@10.all"] == [0.25, 0.4]
    assert "metrics.ndcg@10.all" in ask(folder, "diff", "tea@1", "tea@2").output


def test_promote_rollback_and_their_history(folder: Path) -> None:
    assert told(folder, "promote", "tea@2", "--reason", "better on gifts")["reference"] == "tea@2"
    assert "leads to version 3" in ask(folder, "promote", "tea@3").output
    assert told(folder, "rollback", "tea") == {"reference": "tea@2", "alias": "production"}
    entries = told(folder, "history", "tea", "--limit", 3)
    assert [(entry["action"], entry["details"].get("reason")) for entry in entries] == [
        ("promote", "better on gifts"),
        ("promote", None),
        ("rollback", None),
    ]
    assert "better on gifts" in ask(folder, "history", "tea").output
    assert [row["reference"] for row in told(folder, "lineage", "tea@2")] == ["tea@2", "tea@1"]


def test_gates(folder: Path) -> None:
    for words, what in (
        (("--most-bytes", 10), "at most 10 are asked"),
        (("--most-ece", 0.01), "no calibration error"),
        (("--better",), "--better without --at"),
        (("--least-gain", 0.1), "--least-gain without --better"),
    ):
        done = ask(folder, "promote", "tea@2", *words)
        assert isinstance(done.exception, PeftrecError)
        assert what in str(done.exception)
    assert told(folder, "promote", "toys@1", "--better")["evidence"]["bytes"] > 1000
    assert Registry(folder).open("tea").version == "1"


def test_split_pin_and_tags(folder: Path) -> None:
    assert told(folder, "split", "tea", "1=0.75", "2=0.25")["shares"] == {"1": 0.75, "2": 0.25}
    assert "1 (75%) + 2 (25%)" in ask(folder, "list").output
    assert "VERSION=WEIGHT" in str(ask(folder, "split", "tea", "1", "2=x").exception)
    assert told(folder, "pin", "tea", "production", "--reason", "holidays")["pinned"] == "holidays"
    assert "is pinned: holidays" in str(ask(folder, "promote", "tea@2").exception)
    assert "pinned:  production: holidays" in ask(folder, "show", "tea@2").output
    assert "may move" in ask(folder, "unpin", "tea", "production").output
    assert told(folder, "tag", "tea@2", "reviewed", "spring")["tags"] == ["reviewed", "spring"]
    assert "#reviewed" in ask(folder, "show", "tea@2").output
    assert told(folder, "tag", "tea@2", "spring", "--remove")["tags"] == ["reviewed"]
    assert [row["reference"] for row in told(folder, "find", "tag=reviewed")] == ["tea@2"]


def test_delete_restore_and_gc(folder: Path) -> None:
    assert told(folder, "delete", "tea@3", "--days", 0)["reference"] == "tea@3"
    assert told(folder, "gc", "--dry-run")["removed"] == ["tea@3"]
    assert "tea@3 is back" in ask(folder, "restore", "tea@3").output
    ask(folder, "delete", "tea@3")
    assert "can be restored until" in ask(folder, "gc").output
    assert told(folder, "gc")["removed"] == []
    assert "deleted, may go" in ask(folder, "versions", "tea").output
    assert told(folder, "versions", "tea")[2]["deleted"] > "2026"


def test_an_adapter_of_which_all_is_deleted(folder: Path) -> None:
    ask(folder, "delete", "toys@1")
    assert told(folder, "list")[1] == {"name": "toys", "version": None, "aliases": {}, "deleted": ["1"]}
    assert "see: peftrec registry versions toys" in ask(folder, "list").output
    assert "deleted, may go" in ask(folder, "versions", "toys").output


def test_repair_and_aliases_that_go(folder: Path) -> None:
    path = folder / "tea" / "aliases.json"
    path.unlink()
    assert "peftrec registry repair tea" in str(ask(folder, "show", "tea").exception)
    assert told(folder, "repair", "tea")["aliases"] == {"production": {"1": 1.0}}
    assert told(folder, "remove-alias", "tea", "production")["removed"] == "production"
    assert told(folder, "show", "tea")["reference"] == "tea@3"


def test_options_that_would_do_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    url = (tmp_path / "bucket").as_uri()
    ask(folder, "push", "tea@1", url)
    for words, what in (
        (("push", "tea@1", url, "--private"), "--private with"),
        (("pull", url, "--alias", "canary"), "--alias without a version"),
        (("promote", "tea@2", "--metric", "auc"), "--metric without --better"),
        (("split", "tea", "1=0.5", "1=0.1"), "a version twice"),
    ):
        assert what in str(ask(folder, *words).exception)


def test_texts_of_others_are_no_commands_and_no_markup(folder: Path) -> None:
    evil = "lora\x1b[2J[red]\x07"
    facts = small_facts() | {"method": evil, "protocol": evil, "data": {"source": evil, "licence": evil}}
    Registry(folder).publish("evil", Small(small_files(5), facts), reason=evil)
    Registry(folder).tag("evil@1", "seen")
    for words in (
        ("list",),
        ("find", "tag=seen"),
        ("show", "evil"),
        ("versions", "evil"),
        ("diff", "evil@1", "tea@1"),
        ("history", "evil"),
        ("lineage", "evil"),
    ):
        done = ask(folder, *words)
        assert done.exit_code == 0, done.output
        assert not {"\x1b", "\x07"} & {*done.output}, words
    assert "[red]" in ask(folder, "find", "tag=seen").output


def test_a_version_travels_as_a_file(folder: Path, tmp_path: Path) -> None:
    file, other = tmp_path / "tea.peftrec", tmp_path / "other"
    assert told(folder, "export", "tea@2", file)["reference"] == "tea@2"
    assert "is there already" in str(ask(folder, "export", "tea@2", file).exception)
    assert told(other, "import", file, "--alias", "production")["reference"] == "tea@2"
    assert Registry(other).open("tea").manifest == Registry(folder).open("tea@2").manifest
    assert told(other, "import", file)["reference"] == "tea@2"  # the same again is nothing new
    assert told(other, "import", file, "--name", "tea-de")["reference"] == "tea-de@1"
    assert told(folder, "copy", "tea@1", other)["reference"] == "tea@1"
    assert Registry(other).numbers("tea") == ["1", "2"]
    Registry(other).publish("mugs", Small())
    assert told(other, "publish", "mugs", folder, "toys@1", "--alias", "canary")["reference"] == "mugs@2"


def test_a_taken_number_is_told(folder: Path, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other")
    other.publish("tea", Small(small_files(9)))
    done = ask(folder, "copy", "tea@1", other.root)
    assert "tea@1 is here already" in str(done.exception)
    assert other.numbers("tea") == ["1"]


def test_push_and_pull(folder: Path, tmp_path: Path) -> None:
    url, other = (tmp_path / "bucket").as_uri(), tmp_path / "other"
    assert "is at file://" in ask(folder, "push", "tea@2", url).output
    ask(folder, "push", "toys", url)
    assert told(other, "pull", url) == ["tea@2", "toys@1"]
    assert told(other, "pull", url, "tea@2", "--alias", "canary")["reference"] == "tea@2"
    assert Registry(other).aliases("tea") == {"canary": "2"}


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A key pair, as the command makes it."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    done = CliRunner().invoke(app, ["registry", "keygen", str(private), str(public), "--json"])
    assert json.loads(done.output)["public"] == str(public)
    return private, public


def test_signatures(folder: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path, "release")
    assert private.stat().st_mode & 0o077 == 0
    trusting = ("--trusted-key", public, "--require-signed")
    done = ask(folder, "verify", *trusting)
    assert done.exit_code == 1
    assert done.output.count("is not signed") == 4
    for reference in ("tea@1", "tea@2", "tea@3", "toys@1"):
        assert told(folder, "sign", reference, "--key", private)["reference"] == reference
    assert ask(folder, "verify", *trusting).exit_code == 0
    assert told(folder, "verify", *trusting) == {"problems": []}
    assert ask(folder, "verify", "--require-signed").exit_code == 2

    file, other = tmp_path / "tea.peftrec", tmp_path / "other"
    told(folder, "export", "tea@2", file)
    assert told(other, "import", file, "--trusted-key", public)["reference"] == "tea@2"  # signatures travel
    assert Registry(other, trusted_keys=[public]).open("tea").version == "2"
    _, strange = keys(tmp_path, "other")
    for name in ((), ("--name", "tea-uk")):
        done = ask(tmp_path / "third", "import", file, "--trusted-key", strange, *name)
        assert "signed by unknown keys only" in str(done.exception)
    assert not (tmp_path / "third").exists()
