"""The README's code runs as it stands, on fewer households and with a shorter training."""

import re
from functools import partial
from pathlib import Path

import pytest

import peftrec
from peftrec.data import Dataset
from peftrec.evaluation.baselines import Baseline, Popular
from peftrec.training import TrainConfig

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_first_code_stands_before_line_25():
    assert README.read_text(encoding="utf-8").splitlines().index("```python") < 25


def test_the_code_blocks_run(grocery: Dataset, quick: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peftrec, "load_dataset", lambda name: grocery)
    monkeypatch.setattr(peftrec, "train_adapter", partial(peftrec.train_adapter, config=quick, progress=False))
    popular = [Baseline("popular", [Popular()])]
    monkeypatch.setattr(peftrec, "evaluate", partial(peftrec.evaluate, baselines=popular, progress=False))
    space: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), space)
    assert (tmp_path / "adapters" / "grocery" / "1" / "manifest.json").is_file()
