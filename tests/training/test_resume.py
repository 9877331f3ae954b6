"""A training that is killed goes on from its last checkpoint."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.errors import ConfigError
from peftrec.training import TrainConfig, train_adapter
from peftrec.training.trainer import DECODER

CUT = "2017-11-27T05:00"
CHILD = """
import sys
from dataclasses import replace
sys.path.insert(0, sys.argv[2])
from conftest import households, quick_config
from peftrec import Backbone, train_adapter
past, _ = households().split(at={cut!r})
train_adapter(past, Backbone.load("minilm-l6"), config=replace(quick_config(), epochs=8), folder=sys.argv[1], progress=False)
"""


def test_kill_and_resume(grocery: Dataset, backbone: Backbone, quick: TrainConfig, tmp_path: Path):
    folder = tmp_path / "run"
    tests = Path(__file__).parents[1]
    child = subprocess.Popen([sys.executable, "-c", CHILD.format(cut=CUT), str(folder), str(tests)])
    try:
        deadline = time.monotonic() + 600
        while not list(folder.glob(f"{DECODER}/checkpoint-*/trainer_state.json")):
            assert child.poll() is None, "training ended before it wrote a checkpoint that was seen"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    whole = sorted(folder.glob(f"{DECODER}/*/trainer_state.json"), key=lambda file: int(file.parent.name.split("-")[1]))
    marked = 0
    for file in whole:
        try:
            state = json.loads(file.read_text())
        except ValueError:
            continue  # the kill fell into its writing
        state["log_history"].insert(0, {"step": 0, "eval_loss": 123.0})
        file.write_text(json.dumps(state))
        marked += 1
    assert marked
    half = folder / DECODER / "checkpoint-1000000"
    half.mkdir()  # as a kill leaves it: weights, no state yet
    (half / "model.safetensors").write_bytes(b"half")
    past, _ = grocery.split(at=CUT)
    config = replace(quick, epochs=8)
    adapter = train_adapter(past, backbone, config=config, folder=folder, resume=True, progress=False)
    losses = [point for point in adapter.learning_curve if "eval_loss" in point]
    assert losses[0]["eval_loss"] == 123.0  # the part before the kill is remembered
    assert losses[-1]["step"] > losses[1]["step"]  # and training went on after it
    assert all(np.isfinite(point["eval_loss"]) for point in losses)
    assert not half.exists()
    with pytest.raises(ConfigError, match="another training"):
        train_adapter(past, backbone, config=replace(config, seed=1), folder=folder, resume=True, progress=False)
    assert list(folder.glob(f"{DECODER}/checkpoint-*"))  # nothing was lost
