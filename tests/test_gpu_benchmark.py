"""The GPU benchmark's logic, on a processor: what it would write, and that it invents nothing without a GPU."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from peftrec.backbone import Backbone

FILE = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FILE.parent)
    spec = importlib.util.spec_from_file_location("gpu_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_it_measures_every_number_of_adapters(gpu: ModuleType, tiny_backbone: Backbone, precision: str):
    rows = gpu.measured(
        tiny_backbone, "tiny", precision, adapters=(1, 4), batch=3, history=5, candidates=7, turns=2, seed=0
    )
    found = {(row["adapters"], row["metric"]): row["value"] for row in rows}
    assert {adapters for adapters, _ in found} == {0, 1, 4}
    for count in (1, 4):
        assert found[count, "scores_per_second"] > 0
        assert found[count, "request_p99_ms"] >= found[count, "request_p50_ms"] > 0
    assert all(row["system"] == f"peftrec {precision}" for row in rows)


def test_its_adapters_change_every_map(gpu: ModuleType, tiny_backbone: Backbone):
    held = gpu._adapter(tiny_backbone, 0, torch.device("cpu"))
    assert len(held.restored().changes.low_rank) == 6 * tiny_backbone.decoder_layers
    assert (held.half.dtype, held.single.numel()) == (torch.float16, 0)


def test_without_a_gpu_nothing_is_written():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = FILE.parent / "results" / "gpu.json"
    before = result.stat().st_mtime if result.is_file() else None
    done = subprocess.run([sys.executable, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no CUDA device" in done.stderr
    assert (result.stat().st_mtime if result.is_file() else None) == before
