"""What benchmarks compute beside what the package does: means over segments, plans of an hour, baselines of their own."""

import importlib
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.evaluation import evaluate
from peftrec.evaluation.protocol import Task, popular_lately
from peftrec.evaluation.result import Evaluation

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Imports a benchmark as if its folder were where Python had been started."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = {*sys.modules}

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in {*sys.modules} - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).parent == FOLDER:
            del sys.modules[name]


def test_every_segment_counts_once_whatever_its_size(load):
    segments, random = load("segments"), np.random.default_rng(0)
    users = {"all": np.arange(500), "age=young": np.arange(450), "age=old": np.arange(450, 500)}
    shared = random.random(500)
    lead = np.where(np.arange(500) < 450, 0.0, 0.2) + random.normal(scale=0.01, size=500)
    vectors = {}
    for part, rows in users.items():
        vectors[segments.SHARED, part, "ndcg@10"] = shared[rows]
        vectors["per segment", part, "ndcg@10"] = (shared + lead)[rows]
    result = Evaluation("shop", "ever", (segments.SHARED, "per segment"), users, vectors)
    (row,) = segments.mean_over_segments(result, ["age=young", "age=old", "age=nobody"], "shop")
    assert row["value"] == pytest.approx(0.1, abs=0.003)  # all shoppers alike would say 0.02
    assert row["low"] < row["value"] < row["high"] < row["low"] + 0.01
    assert (row["system"], row["against"]) == ("per segment", segments.SHARED)


def test_an_hour_holds_what_fits_and_says_what_does_not(tmp_path: Path):
    def plan(minutes: float) -> str:
        command = [sys.executable, FOLDER / "hour.py", "--data", tmp_path, "--minutes", str(minutes), "--dry-run"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "to run" not in plan(0.01)
    assert "left out: registry.py" in plan(0.01)
    whole = plan(10_000)
    assert "to run: quality.py" in whole
    assert "whose data (amazon_office) is not in" in whole
    (tmp_path / "amazon_office").mkdir()
    assert f"--data {tmp_path / 'amazon_office'}" in plan(10_000)


def test_an_hour_that_is_over_stops_what_runs_and_fails(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hour = load("hour")
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    (tmp_path / "broken.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(hour, "HERE", tmp_path)
    runs = (hour.Run("broken", ("broken.py",), minutes=0.001), hour.Run("slow", ("slow.py",), minutes=0.01))
    monkeypatch.setattr(hour, "RUNS", runs)
    monkeypatch.setattr(sys, "argv", ["hour.py", "--minutes", "0.02"])
    with pytest.raises(SystemExit, match=r"no new result of broken\.py, slow\.py"):
        hour.main()


def test_the_frozen_encoder_finds_what_is_like_what_was_bought(load, grocery: Dataset, backbone: Backbone):
    quality = load("quality")
    past = grocery.split(at="2017-11-27T05:00")[0]
    users = np.arange(60, dtype=np.int32)
    found = quality.FrozenEncoder(backbone, half_life=84, popularity=0).fit(past)(users)
    assert np.isfinite(found).all()
    bought = np.zeros(found.shape, bool)
    mine = past.log.user < len(users)
    bought[past.log.user[mine], past.log.item[mine]] = True
    above = [row[own].mean() - row[~own].mean() for row, own in zip(found, bought, strict=True) if own.any()]
    assert np.mean(above) > 3 * np.std(above) / len(above) ** 0.5 > 0
    popular = quality.FrozenEncoder(backbone, half_life=84, popularity=100.0).fit(past)(users)
    assert (popular.argmax(axis=1) == popular_lately(past).argmax()).all()


class Alike:
    """Gives every product the same chance, but for two that only every other shopper is offered."""

    name, probabilistic = "alike", True

    def score_catalog(self, past: Dataset, users: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(users), len(past.catalog)), np.float32)
        scores[users % 2 == 1, :2] = -np.inf
        return scores

    def score_pool(self, past: Dataset, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.full(items.shape, 0.5, np.float32)


def test_oracles_know_what_is_bought_and_how_much_others_buy_but_not_oneself(load, board_shop: Dataset):
    ceilings = load("ceilings")
    past, future = board_shop.split(at=board_shop.end - timedelta(days=14))
    task = Task.from_split(future)
    bought = ceilings.purchases(task)
    assert sum(map(len, bought.values())) == len(task.slices[0].relevant.values)
    alike = ceilings.Remembered(Alike())
    first = ceilings.Told(alike, "first", lambda user, items, logits: logits + 1e3 * np.isin(items, bought[user]))
    result = evaluate([alike, first], future, baselines=None, progress=False)
    assert result.value("first", "auc").value == pytest.approx(1)
    assert result.value("alike").value < result.value("first").value
    user, items = int(task.users[0]), np.arange(len(past.catalog), dtype=np.int32)
    told = ceilings.demand(alike, task, bought)(user, items, np.zeros(len(items)))
    others = [one for one in task.users.tolist() if one % 10 != user % 10]
    for item in items.tolist():
        offered = [one for one in others if item > 1 or one % 2 == 0]
        sold = sum(item in bought[one] for one in offered)
        assert told[item] == pytest.approx(np.log((sold + 1) / (len(offered) / 2 + 1))), item
    without = ceilings.demand(alike, task, {**bought, user: np.empty(0, np.int32)})
    assert np.array_equal(without(user, items, np.zeros(len(items))), told)


def test_results_tell_what_they_were_called_with_and_no_paths(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    results = load("results")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["x.py", "--data", "/some/where/log.parquet", "--every", "3"])
    told = json.loads(results.write("x", [], seed=1, chosen={"EASE": "3"}).read_text())
    assert told["arguments"] == ["--data", "log.parquet", "--every", "3"]
    assert told["chosen"] == {"EASE": "3"}
    assert told["seed"] == 1


def test_rows_that_a_run_does_not_measure_keep_the_commit_of_the_run_that_did(load, tmp_path, monkeypatch):
    results = load("results")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert results.kept("new", lambda row: True) == []
    rows = [{"system": "a", "value": 1.0}, {"system": "b", "value": 2.0, "commit": "older", "machine": "another"}]
    (tmp_path / "some.json").write_text(json.dumps({"commit": "old", "machine": "this", "rows": rows}))
    assert results.kept("some", lambda row: row["system"] == "a") == [{**rows[0], "commit": "old", "machine": "this"}]
    assert results.kept("some", lambda row: row["system"] == "b") == [rows[1]]


def test_products_added_in_place_and_fused_attention_count_as_operations(load):
    found, words = torch.zeros(5, 7, requires_grad=True), torch.ones(1, 2, 3, 8, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=load("default_task").FURTHER) as counter:
        found.clone().addmm_(torch.ones(5, 2), torch.ones(2, 7))
        torch.zeros(4, 5, 7).baddbmm_(torch.ones(4, 5, 2), torch.ones(4, 2, 7))
        assert counter.get_total_flops() == 2 * 5 * 2 * 7 * (1 + 4)
        functional.scaled_dot_product_attention(words, words, words).sum().backward()
    # two products of 3 x 3 x 8 for each of two heads, forth; back, the first of them anew and four more
    assert counter.get_total_flops() == 2 * 5 * 2 * 7 * (1 + 4) + 2 * (2 + 5) * 2 * 3 * 3 * 8
