"""Two processes, as ``torchrun`` starts them, train what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from peftrec.adaptation import adapt
from peftrec.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, os, sys
from pathlib import Path
import numpy as np
from peftrec import LoRAConfig, AdaLoRAConfig, TrainConfig, train_adapter, Backbone
from peftrec.training import CrossEncoderConfig, train_cross_encoder
from tests.conftest import make_board_shop

bert, form, out, options = sys.argv[1:5]
options = json.loads(options)
folder = options.pop("folder", None)
settings = {
    "horizon_days": 7, "anchors": 2, "epochs": 4, "batch_size": 8, "sampled_candidates": 8, "precision": "fp32",
    **options,
}
if form == "decoder":
    config = TrainConfig(feature_epochs=2, negatives=64, **settings)
    adapter = train_adapter(make_board_shop(), Backbone.load(bert), AdaLoRAConfig(rank=2, dropout=0.0), config, progress=False,
                            folder=folder, resume=folder is not None)
else:
    pairs = CrossEncoderConfig(words=48, training=TrainConfig(**settings))
    adapter = train_cross_encoder(make_board_shop(), Backbone.load(bert), LoRAConfig(rank=2, dropout=0.0), pairs, progress=False)
rank = os.environ.get("RANK", "0")
told = {"curve": [dict(point) for point in adapter.learning_curve],
        "weights": {name: np.asarray(value).tolist() for name, value in adapter.extras.items()},
        "tuner": {name: [pair.a.tolist(), pair.b.tolist()] for name, pair in adapter.changes.low_rank.items()}}
Path(out, rank + ".json").write_text(json.dumps(told))
"""


def _run(out: Path, bert: Path, form: str, *launcher: str, **options: object) -> subprocess.CompletedProcess[str]:
    out.mkdir()
    (out / "run.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PEFTREC_CACHE": str(out / "cache")}
    command = [sys.executable, *launcher, str(out / "run.py"), str(bert), form, str(out), json.dumps(options)]
    return subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True, timeout=280)


def _torchrun(count: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]


def _told(out: Path, rank: int = 0) -> dict:
    return json.loads((out / f"{rank}.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["decoder", "cross_encoder"])
def test_two_processes_have_the_loss_curve_of_one(form: str, tiny_bert_folder: Path, tmp_path: Path):
    for name, launcher in (("one", []), ("two", _torchrun(2))):
        done = _run(tmp_path / name, tiny_bert_folder, form, *launcher, label_smoothing=0.1, batch_size=12)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = _told(tmp_path / "one"), _told(tmp_path / "two")
    assert _told(tmp_path / "two", 1) == two  # every process ends in the same adapter
    assert len(one["curve"]) == len(two["curve"]) > 4
    for point, same in zip(one["curve"], two["curve"], strict=True):
        assert point.keys() == same.keys()
        assert all(abs(point[name] - same[name]) <= 1e-4 * abs(point[name]) + 1e-6 for name in point)
    assert one["tuner"].keys() == two["tuner"].keys()
    for name, pair in one["tuner"].items():
        for value, same in zip(pair, two["tuner"][name], strict=True):
            np.testing.assert_allclose(same, value, atol=1e-3, rtol=1e-2, err_msg=name)
    for name, value in one["weights"].items():
        np.testing.assert_allclose(two["weights"][name], value, atol=1e-3, rtol=1e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_processes_share_what_they_can(tiny_bert_folder: Path, tmp_path: Path):
    done = _run(tmp_path / "three", tiny_bert_folder, "decoder", *_torchrun(3), batch_size=9, epochs=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert _told(tmp_path / "three", 2) == _told(tmp_path / "three")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_folder_of_another_training_is_told_of_by_the_first_process(tiny_bert_folder: Path, tmp_path: Path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "run.sha256").write_text("of something else")
    done = _run(tmp_path / "two", tiny_bert_folder, "decoder", *_torchrun(2), folder=str(kept))
    assert done.returncode != 0
    assert "holds the checkpoints of another training" in done.stderr
    assert (kept / "run.sha256").read_text() == "of something else"


def test_rows_that_cannot_be_shared_out_are_refused(tiny_bert_folder: Path, tmp_path: Path):
    done = _run(tmp_path / "three", tiny_bert_folder, "cross_encoder", *_torchrun(3))
    assert done.returncode != 0
    assert "batch_size=8 over 3 processes" in done.stderr
    assert "set batch_size=9" in done.stderr


def test_adapting_is_for_one_process(tiny_backbone, board_shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"adapt\(\) in 2 processes"):
        adapt(tiny_backbone, [board_shop])
