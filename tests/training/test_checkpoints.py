"""A training on the trainer of all stages: however it is cut off, it ends in the same weights and loses no checkpoint."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from peftrec.errors import TrainingError
from peftrec.training import TrainConfig
from peftrec.training.checkpoints import KeepingTrainer, last_checkpoint, without_gain
from peftrec.training.trainer import run_stage


class Numbers(TorchDataset[int]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


class Line(nn.Module):
    """Falls from 7 to 0 while it trains, where evaluation would have it stop; dropout asks torch's own chance."""

    def __init__(self, size: int = 1, wanted: float = 3.0) -> None:
        super().__init__()
        self.weight, self.wanted = nn.Parameter(torch.ones(4, size)), wanted

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        x = nn.functional.dropout(x, 0.3, training=self.training)
        wanted = 0.0 if self.training else self.wanted
        return {"loss": ((x @ self.weight).mean(dim=1) + labels - wanted).square().mean()}


def collate(rows: Sequence[object]) -> dict[str, Tensor]:
    x = torch.tensor(rows, dtype=torch.float32)[:, None] / 64 + torch.arange(4.0)
    return {"x": x, "labels": torch.zeros(len(rows))}


def train(folder: Path, *, patience: int = 99, epochs: float = 2.5, resume: bool = False, **line: float) -> tuple:
    """Weights, steps and losses of evaluation."""
    stage = Line(**line)  # pyright: ignore[reportArgumentType]
    trainer = run_stage(
        stage,
        Numbers(64),
        TrainConfig(patience=patience, warmup_share=0),
        folder=folder,
        name="line",
        collate=collate,  # pyright: ignore[reportArgumentType]
        epochs=epochs,
        batch_size=4,
        learning_rate=1e-2,
        validation=Numbers(8),
        resume=resume,
        progress=False,
    )
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    return stage.weight.detach().clone(), trainer.state.global_step, losses


class KilledError(Exception):
    pass


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ends trainings as soon as they have written so many checkpoints."""
    save = KeepingTrainer._save_checkpoint

    def after(count: int) -> None:
        written: list[int] = []

        def saved(self: KeepingTrainer, model: nn.Module, trial: object) -> None:
            save(self, model, trial)
            written.append(self.state.global_step)
            if len(written) == count:
                raise KilledError

        monkeypatch.setattr(KeepingTrainer, "_save_checkpoint", saved)

    return after


@pytest.mark.parametrize("count", [1, 4, 6, 10])
def test_a_resumed_training_goes_the_same_way(tmp_path: Path, kill: Callable[[int], None], count: int):
    weight, steps, losses = train(tmp_path / "whole")
    kill(count)
    with pytest.raises(KilledError):
        train(tmp_path / "killed")
    torch.manual_seed(77)
    kill(-1)
    again, steps_again, losses_again = train(tmp_path / "killed", resume=True)
    assert losses_again == losses
    assert steps_again == steps == 40
    assert torch.equal(again, weight)


@pytest.mark.parametrize("count", [2, 3])
def test_patience_outlives_a_kill(tmp_path: Path, kill: Callable[[int], None], count: int):
    weight, steps, losses = train(tmp_path / "whole", patience=2, wanted=9.0)
    assert losses == sorted(losses)  # it gets worse from the first evaluation on
    assert len(losses) == 3
    kill(count)  # 3: the training had just decided to stop
    with pytest.raises(KilledError):
        train(tmp_path / "killed", patience=2, wanted=9.0)
    kill(-1)
    again, steps_again, losses_again = train(tmp_path / "killed", patience=2, wanted=9.0, resume=True)
    assert (steps_again, losses_again) == (steps, losses)
    assert torch.equal(again, weight)


def test_a_finished_training_that_was_moved_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    weight, steps, losses = train(tmp_path / "here", epochs=0.5)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setattr(Line, "forward", lambda *_, **__: pytest.fail("trained again"))
    again, steps_again, losses_again = train(tmp_path / "there", epochs=0.5, resume=True)
    assert (steps_again, losses_again) == (steps, losses)
    assert torch.equal(again, weight)


def test_a_moved_training_goes_on_with_its_best_checkpoint(tmp_path: Path, kill: Callable[[int], None]):
    weight, _, _ = train(tmp_path / "whole")
    kill(9)
    with pytest.raises(KilledError):
        train(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    kill(-1)
    assert torch.equal(train(tmp_path / "there", resume=True)[0], weight)


def test_gain_is_counted_from_the_best():
    def log(*losses: float) -> list[dict[str, float]]:
        return [{"loss": 9.0}, *({"eval_loss": loss} for loss in losses)]

    assert [without_gain(log(*losses)) for losses in ((), (1,), (2, 1), (1, 1), (1, 2, 3))] == [0, 0, 0, 1, 2]


CHILD = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_checkpoints as here
class Full(here.Line):
    steps = 0
    def forward(self, x, labels):
        self.steps += self.training
        if self.steps == 9:  # the checkpoints of steps 4 and 8 are written
            resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))  # less than the weights need
        return super().forward(x, labels)
here.Line = Full
here.train(Path(sys.argv[1]), epochs=1, size=1_000)
"""


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path):
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    kept = last_checkpoint(tmp_path / "line")
    assert done.returncode == 1
    assert f"TrainingError: training, line: the checkpoint of step 12 cannot be written to {tmp_path}" in done.stderr
    assert f"make room and go on with resume=True; the state before is in {kept}" in done.stderr
    assert {path.name for path in (tmp_path / "line").iterdir()} == {"checkpoint-4", "checkpoint-8"}
    weight, _, _ = train(tmp_path / "whole", epochs=1, size=1_000)
    assert torch.equal(train(tmp_path, epochs=1, size=1_000, resume=True)[0], weight)


def test_a_folder_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    with pytest.raises(TrainingError, match="No space left on device") as error:
        train(tmp_path)
    assert "no checkpoint had been written yet" in str(error.value)
    assert not list((tmp_path / "line").iterdir())
