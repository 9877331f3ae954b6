"""Losses reach TensorBoard and Weights & Biases through transformers' own switches."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.errors import ConfigError, MissingExtraError
from peftrec.training import TrainConfig, reporting, train_adapter
from peftrec.training.reporting import check_report_to

QUICK = TrainConfig(
    horizon_days=7, anchors=1, epochs=1, feature_epochs=0.5, batch_size=8, sampled_candidates=12, precision="fp32"
)


def test_unknown_and_missing_places(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reporting, "get_available_reporting_integrations", lambda: ["tensorboard"])
    with pytest.raises(ConfigError, match="report_to='tensorbord'"):
        check_report_to(("tensorbord",), kept=True)
    with pytest.raises(MissingExtraError, match="pip install mlflow"):
        check_report_to(("mlflow",), kept=True)


def test_files_that_would_vanish_with_the_folder(board_shop: Dataset, tiny_backbone: Backbone):
    config = replace(QUICK, report_to=("tensorboard",))
    with pytest.raises(ConfigError, match="takes the files with it"):
        train_adapter(board_shop, tiny_backbone, config=config, progress=False)


@pytest.mark.slow
def test_tensorboard_sees_every_stage(board_shop: Dataset, tiny_backbone: Backbone, tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = replace(QUICK, report_to=("tensorboard",))
    adapter = train_adapter(board_shop, tiny_backbone, config=config, folder=tmp_path, progress=False)
    told = {file.relative_to(tmp_path).parts[0]: file for file in tmp_path.glob("*/runs/*/events.*")}
    assert {*told} == {"retrieval", "features", "decoder"}
    events = EventAccumulator(str(told["decoder"].parent))
    events.Reload()
    losses = [point.value for point in events.Scalars("eval/loss")]
    ours = [point["eval_loss"] for point in adapter.learning_curve if "eval_loss" in point]
    assert losses == pytest.approx(ours)
    again = train_adapter(board_shop, tiny_backbone, config=QUICK, folder=tmp_path, resume=True, progress=False)
    assert again.learning_curve  # where losses are told of makes no other training


CHILD = """
import sys
from conftest import make_board_shop
from peftrec import Backbone, train_adapter
from tests.training.test_reporting import QUICK
from dataclasses import replace
config = replace(QUICK, report_to=("wandb",), run_name="board")
train_adapter(make_board_shop(), Backbone.load(sys.argv[1]), config=config, progress=False)
"""


@pytest.mark.slow
def test_wandb_without_a_network(tiny_bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{tests.parent}")
    subprocess.run([sys.executable, "-c", CHILD, str(tiny_bert_folder)], check=True, cwd=tmp_path)
    runs = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(runs) == 3  # one for each stage
    written = b"".join(run.read_bytes() for run in runs)
    for stage in ("retrieval", "features", "decoder"):
        assert f"board, {stage}".encode() in written
