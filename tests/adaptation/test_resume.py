"""A language training that is killed, or meets a full disk or a number that is none, loses nothing."""

import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from peftrec.adaptation import adapt_language
from peftrec.adaptation.batches import Batches
from peftrec.adaptation.stage import LanguageStage
from peftrec.backbone import Backbone
from peftrec.errors import ConfigError, TrainingError
from peftrec.training.checkpoints import last_checkpoint
from tests.adaptation.worlds import LONG, SMALL, equal, small_shop, weights

CHILD = """
import json, resource, sys
sys.path.insert(0, sys.argv[2])
from tests.adaptation import worlds as here
from peftrec.adaptation import adapt_language
from peftrec.adaptation.batches import Batches
from peftrec.backbone import Backbone
folder, bert = sys.argv[1], sys.argv[3]
{patch}
adapt_language(Backbone.load(bert), [here.small_shop()], here.LONG, folder=folder, progress=False)
"""


def child(folder: Path, bert: Path, patch: str = "") -> list[str]:
    return [sys.executable, "-c", CHILD.format(patch=patch), str(folder), str(Path(__file__).parents[2]), str(bert)]


def checkpoints(folder: Path) -> list[Path]:
    found = folder.glob("language/checkpoint-*/trainer_state.json")
    return sorted((file.parent for file in found), key=lambda path: int(path.name.split("-")[1]))


def test_a_killed_training_resumes_to_the_same_bits(tiny_bert_folder: Path, tiny_backbone: Backbone, tmp_path: Path):
    run = subprocess.Popen(child(tmp_path / "killed", tiny_bert_folder))
    try:
        deadline = time.monotonic() + 300
        while len(checkpoints(tmp_path / "killed")) < 2:  # the kill may fall into the writing of the second
            assert run.poll() is None, "training ended before it wrote a checkpoint that was seen"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    kept = last_checkpoint(tmp_path / "killed" / "language")
    assert kept is not None
    half = tmp_path / "killed" / "language" / "checkpoint-1000000"
    half.mkdir()  # as a kill leaves it: weights, no state yet
    (half / "model.safetensors").write_bytes(b"half")
    shop = [small_shop()]
    resumed = adapt_language(tiny_backbone, shop, LONG, folder=tmp_path / "killed", resume=True, progress=False)
    whole = adapt_language(tiny_backbone, shop, LONG, folder=tmp_path / "whole", progress=False)
    assert 0 < int(kept.rpartition("-")[2]) < whole.steps
    assert equal(weights(resumed.bert), weights(whole.bert))
    assert equal(resumed.head.state_dict(), whole.head.state_dict())
    assert [entry["step"] for entry in resumed.history] == [entry["step"] for entry in whole.history]
    assert not half.exists()


def test_a_finished_training_is_read_from_its_last_checkpoint(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done = adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, progress=False)
    monkeypatch.setattr(LanguageStage, "forward", lambda *_, **__: pytest.fail("trained again"))
    again = adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, resume=True, progress=False)
    assert equal(weights(done.bert), weights(again.bert))
    assert again.history == done.history


def test_without_resume_old_checkpoints_are_removed(tiny_backbone: Backbone, tmp_path: Path):
    adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, progress=False)
    old = checkpoints(tmp_path)
    shorter = replace(SMALL, epochs=1)
    adapt_language(tiny_backbone, [small_shop()], shorter, folder=tmp_path, progress=False)
    assert not {*old} & {*checkpoints(tmp_path)}


def test_checkpoints_of_another_training_are_not_taken_for_its_own(tiny_backbone: Backbone, tmp_path: Path):
    adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, progress=False)
    kept = checkpoints(tmp_path)
    with pytest.raises(ConfigError, match="checkpoints of another training"):
        adapt_language(
            tiny_backbone, [small_shop()], replace(SMALL, seed=5), folder=tmp_path, resume=True, progress=False
        )
    assert checkpoints(tmp_path) == kept


def test_a_number_that_is_none_stops_training_before_it_reaches_the_weights(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    get = Batches.__getitem__

    def broken(self: Batches, index: int) -> dict[str, object]:
        inputs = get(self, index)
        if index == 7 and len(self) > 8:  # the eighth of training, not of the texts held out
            single = inputs["single"]
            single["original"] = torch.full_like(single["original"], math.nan)
        return inputs

    monkeypatch.setattr(Batches, "__getitem__", broken)
    with pytest.raises(TrainingError, match=r"language: a gradient that is no number in step 8") as error:
        adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, progress=False)
    assert str(tmp_path / "language" / "checkpoint-6") in str(error.value)
    monkeypatch.undo()
    again = adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, resume=True, progress=False)
    assert all(torch.isfinite(value).all() for value in again.bert.parameters())


FULL = """
get = Batches.__getitem__
def limited(self, index):
    if index == 7:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # less than the weights need
    return get(self, index)
Batches.__getitem__ = limited
"""


def test_a_full_disk_leaves_the_checkpoint_before(tiny_bert_folder: Path, tiny_backbone: Backbone, tmp_path: Path):
    done = subprocess.run(child(tmp_path, tiny_bert_folder, FULL), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the checkpoint of step 9 cannot be written to {tmp_path / 'language'}" in done.stderr
    assert "TrainingError" in done.stderr
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-6"]
    assert not (tmp_path / "language" / "checkpoint-9").exists()
    resumed = adapt_language(tiny_backbone, [small_shop()], LONG, folder=tmp_path, resume=True, progress=False)
    whole = adapt_language(tiny_backbone, [small_shop()], LONG, folder=tmp_path / "whole", progress=False)
    assert equal(weights(resumed.bert), weights(whole.bert))


def test_a_folder_that_cannot_be_written_is_named(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    with pytest.raises(TrainingError, match="No space left on device") as error:
        adapt_language(tiny_backbone, [small_shop()], SMALL, folder=tmp_path, progress=False)
    assert str(tmp_path / "language") in str(error.value)
    assert "no checkpoint had been written yet" in str(error.value)
