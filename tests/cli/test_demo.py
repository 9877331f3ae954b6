"""``peftrec demo`` from start to end, on those real households that its segment is made of and some others."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from peftrec.cli.main import app
from peftrec.data import Dataset, load_dataset, register_dataset
from peftrec.registry import Registry

pytestmark = pytest.mark.timeout(1800)  # it trains two adapters, on one core where tests share the machine


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def done(out: Path, choose_households: Callable[..., Dataset]) -> Result:
    profiles = load_dataset("completejourney").profiles
    assert profiles is not None
    aged = profiles.frame.sort("user_id").group_by(pl.col("age") == "45-54", maintain_order=True).head(120)
    shop = choose_households(aged["user_id"].to_list(), products=1000)
    register_dataset("some-households", lambda *_: shop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peftrec.cli.demo.load_dataset", lambda *_: shop)
        return CliRunner().invoke(app, ["demo", "--quick", "--out", str(out)])


def test_it_ends_by_naming_the_report_and_the_next_command(done: Result, out: Path):
    assert done.exit_code == 0, done.exception
    last = done.stdout.splitlines()[-2:]
    assert last[0].split() == ["report:", str(out / "report.html")]
    assert last[1].startswith("next:   peftrec recommend grocery --user 1 --registry")
    assert "households of 45-54" in done.output
    assert "popular lately" in done.output  # beside baselines


def test_the_next_command_works(done: Result, out: Path):
    words = done.stdout.splitlines()[-1].split()[2:]
    words[words.index("--user") + 1] = load_dataset("completejourney").profiles.frame["user_id"][0]  # pyright: ignore[reportOptionalMemberAccess]
    again = CliRunner().invoke(app, [*words, "--dataset", "some-households", "--json"])
    assert again.exit_code == 0, again.exception
    assert len(json.loads(again.stdout)) == 10


def test_two_adapters_with_figures_are_in_production(done: Result, out: Path):
    registry = Registry(out / "adapters")
    for name in ("grocery", "grocery-45-54"):
        manifest = registry.open(f"{name}@production").manifest
        assert manifest.version == "2"  # the first, the canary, has no figures yet
        assert any(row["metric"] == "ndcg@10" for row in manifest.metrics)
        assert registry.open(name).size < 2e6


def test_the_report_shows_plots(done: Result, out: Path):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3  # ranking twice, reliability
    assert "household" in page
    assert "[age=45-54]: " in page  # what the segment's adapter gained
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )  # self-contained
