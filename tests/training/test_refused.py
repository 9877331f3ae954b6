"""What cannot be learned from is told before hours are spent, or as soon as it shows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.data.features import FEATURES
from peftrec.data.histories import Ragged
from peftrec.data.tokens import EVENT_FEATURES, HistoryTokens
from peftrec.errors import ConfigError, TrainingError
from peftrec.model.candidates import Candidates
from peftrec.training import TrainConfig, train_adapter
from peftrec.training.callbacks import SILENT_STEPS
from peftrec.training.checks import check_candidates
from peftrec.training.rows import Rows
from peftrec.tuners import AdaLoRAConfig, LoRAConfig
from tests.training.stages import train_on


def rows(labels: list[bool], features: np.ndarray, *, event: float = 0.0) -> Rows:
    found = object.__new__(Rows)
    candidates = Candidates(Ragged.join([np.arange(len(labels), dtype=np.int32)]), features.astype(np.float16))
    object.__setattr__(found, "candidates", candidates)
    object.__setattr__(found, "labels", np.array(labels))
    words = np.zeros((1, 2, len(EVENT_FEATURES)), np.float32)
    words[0, 0, 3], words[0, 1] = event, np.nan  # the second is padding
    tokens = object.__new__(HistoryTokens)
    object.__setattr__(tokens, "features", words)
    object.__setattr__(tokens, "mask", np.array([[True, False]]))
    object.__setattr__(found, "tokens", tokens)
    return found


@pytest.mark.parametrize(("labels", "told"), [([False] * 3, "0 of 3"), ([True] * 3, "3 of 3")])
def test_one_class_only(labels: list[bool], told: str):
    with pytest.raises(TrainingError, match=f"'shop': {told} candidates were bought"):
        check_candidates([rows(labels, np.zeros((3, len(FEATURES))))], platform="shop")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none(value: float):
    features = np.zeros((3, len(FEATURES)))
    features[1, 4] = value
    parts = [rows([True, False, False], np.zeros((3, len(FEATURES)))), rows([True, False, False], features)]
    with pytest.raises(TrainingError, match=f"'shop': {FEATURES[4]} of some candidates is no finite number"):
        check_candidates(parts, platform="shop")
    check_candidates(parts[:1], platform="shop")


def test_a_number_of_an_event_that_is_none():
    part = rows([True, False, False], np.zeros((3, len(FEATURES))), event=np.inf)
    with pytest.raises(TrainingError, match=f"'shop': {EVENT_FEATURES[3]} of some events is no finite number"):
        check_candidates([part], platform="shop")


class Dead(nn.Module):
    """A stage whose weight the loss does not depend on until some step."""

    def __init__(self, wakes: int) -> None:
        super().__init__()
        self.weight, self.wakes, self.steps = nn.Parameter(torch.ones(1)), wakes, 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.steps += self.training
        return {"loss": (self.weight * x * (self.steps > self.wakes)).sum()}


def run(stage: nn.Module, folder: Path, *, steps: int) -> None:
    train_on(stage, [1.0] * steps, TrainConfig(), folder=folder, name="dead", rate=0.1)


@pytest.mark.parametrize("steps", [3, 100])
def test_nothing_but_zero_gradients(steps: int, tmp_path: Path):
    stage = Dead(1000)
    with pytest.raises(TrainingError, match="training, dead: all gradients were zero"):
        run(stage, tmp_path, steps=steps)
    assert stage.steps == min(steps, SILENT_STEPS)


def test_a_few_steps_may_have_none(tmp_path: Path):
    stage = Dead(SILENT_STEPS - 1)
    run(stage, tmp_path, steps=12)
    assert stage.steps == 12
    assert float(stage.weight.detach()) < 1


def test_settings_that_do_not_fit_are_told_before_the_first_step(
    board_shop: Dataset, tiny_backbone: Backbone, tmp_path: Path
):
    config = TrainConfig(horizon_days=7, anchors=1, epochs=0.1, precision="fp32")
    for tuner, told in ((LoRAConfig(rank=65), "at most 64"), (AdaLoRAConfig(), "a training of 1 steps")):
        with pytest.raises(ConfigError, match=told):
            train_adapter(board_shop, tiny_backbone, tuner, config, folder=tmp_path, progress=False)
        assert not list(tmp_path.glob("*/checkpoint-*"))


@pytest.mark.slow
def test_adalora_goes_on_with_what_it_knew_of_its_ranks(board_shop: Dataset, tiny_backbone: Backbone, tmp_path: Path):
    import shutil

    config = TrainConfig(
        horizon_days=7, anchors=3, epochs=4, feature_epochs=0.5, batch_size=8, precision="fp32", patience=99
    )
    tuner = replace(AdaLoRAConfig(rank=2, dropout=0.0), final_share=0.05)
    one = train_adapter(board_shop, tiny_backbone, tuner, config, folder=tmp_path, progress=False)
    kept = sorted(tmp_path.glob("decoder/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    shutil.rmtree(kept[-1])  # as if it had been killed before it was written
    again = train_adapter(board_shop, tiny_backbone, tuner, config, folder=tmp_path, resume=True, progress=False)
    assert again.changes.ranks == one.changes.ranks
    for name, pair in one.changes.low_rank.items():
        np.testing.assert_allclose(again.changes.low_rank[name].b, pair.b, atol=1e-3)
    assert {*one.changes.ranks.values()} != {2}  # ranks went where they matter
