"""Where an adaptation is kept: between its stages, beside another one, and after it, however it was cut off.

The stage of shopping is a stand-in here: what it learns is no matter.
"""

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peftrec.adaptation import AdaptConfig, ShoppingConfig, ShoppingResult, adapt
from peftrec.backbone import Backbone, Shopping
from peftrec.data import Dataset
from peftrec.data.augment import SynonymReplacement
from peftrec.errors import BackboneWriteError, ConfigError, NotEnoughDataError, TrainingError
from peftrec.text import ProductTemplate, Templates
from peftrec.training import Augmentation, TrainConfig
from peftrec.training.checks import check_log
from peftrec.training.workspace import LOCK_FILE, RUN_FILE, workspace
from tests.adaptation.worlds import SMALL, small_shop

HERE = sys.modules["peftrec.adaptation.adapt"]  # the package calls its function by the same name
BOTH, SHOPPING = AdaptConfig(language=SMALL), AdaptConfig(language=None)


class KilledError(Exception):
    pass


def killed(*_: object, **__: object) -> None:
    raise KilledError


class Stage:
    """Keeps the decoder, and remembers which backbones it was given."""

    def __init__(self) -> None:
        self.given: list[Backbone] = []

    def __call__(self, backbone: Backbone, datasets: Sequence[Dataset], *_: object, **__: object) -> ShoppingResult:
        self.given.append(backbone)
        names = ",".join(dataset.name for dataset in datasets)
        shopping = Shopping(backbone.decoder(), {"shopper": np.ones((1, 64), np.float32)}, {"of": names})
        return ShoppingResult(
            shopping, 3, [{"loss": 2.0}, {"eval_loss": 1.0, "eval_runtime": 9.0}, {"train_loss": 5.0}]
        )


@pytest.fixture(autouse=True)
def _all_on_one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody in the small shop buys again, which the stand-in does not mind."""
    monkeypatch.setattr(HERE, "check_shoppers", lambda dataset, _: check_log(dataset))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    monkeypatch.setattr(HERE, "adapt_shopping", stage)
    return stage


def run(backbone: Backbone, folder: Path, config: AdaptConfig = BOTH, *, resume: bool = False) -> Backbone:
    return adapt(backbone, [small_shop()], config, folder=folder, resume=resume, progress=False)


def test_shopping_alone_tells_where_it_comes_from_and_is_found_again(
    tiny_backbone: Backbone, tmp_path: Path, stage: Stage
):
    old = replace(tiny_backbone, origin={"run": "another", "data": [], "stages": [{"stage": "language"}]})
    made = run(old, tmp_path / "shops", SHOPPING)
    assert made.origin["parents"] == [
        {
            "name": old.name,
            "fingerprint": old.fingerprint,
            "tokenizer": old.tokenizer_fingerprint,
            "origin": dict(old.origin),
        }
    ]
    assert made.origin["data"][0]["digest"] == small_shop().digest  # pyright: ignore
    [told] = made.origin["stages"]  # pyright: ignore
    assert (told["stage"], told["steps"], told["log"]) == ("shopping", 3, {"loss": 2.0, "eval_loss": 1.0})
    again = run(old, tmp_path / "shops", SHOPPING, resume=True)
    assert again.fingerprint == made.fingerprint
    assert len(stage.given) == 1
    with pytest.raises(ConfigError, match="holds another backbone"):
        run(old, tmp_path / "shops", replace(SHOPPING, shopping=ShoppingConfig(sampling=1.0)), resume=True)


def test_a_kill_between_the_stages_costs_nothing(
    tiny_backbone: Backbone, tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    backbone = replace(tiny_backbone, templates=Templates(product=ProductTemplate(skip=("brand",))))
    whole = run(backbone, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(HERE, "adapt_shopping", killed)
        with pytest.raises(KilledError):
            run(backbone, tmp_path / "shops")
    monkeypatch.setattr(HERE, "adapt_language", lambda *_, **__: pytest.fail("learned language again"))
    made = run(backbone, tmp_path / "shops", resume=True)
    assert made.fingerprint == whole.fingerprint
    assert made.origin == whole.origin
    assert [one.template_fingerprint for one in stage.given] == [backbone.template_fingerprint] * 2
    assert run(backbone, tmp_path / "shops", resume=True).template_fingerprint == backbone.template_fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shops", "whole"]


def test_a_full_disk_between_the_stages_costs_nothing(
    tiny_backbone: Backbone, tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    whole = run(tiny_backbone, tmp_path / "whole")

    def full(_: Backbone, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("peftrec.backbone.saving._write", full)
        with pytest.raises(BackboneWriteError, match="No space left on device"):
            run(tiny_backbone, tmp_path / "shops")
    work = tmp_path / "shops.work"
    assert not [path for path in work.iterdir() if "encoder" in path.name]
    assert [*work.glob("language/checkpoint-*")]
    assert run(tiny_backbone, tmp_path / "shops", resume=True).fingerprint == whole.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shops", "whole"]


@pytest.mark.parametrize("resume", [False, True])
def test_the_encoder_of_another_run_is_not_taken_for_its_own(
    tiny_backbone: Backbone, tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch, *, resume: bool
):
    other = AdaptConfig(language=replace(SMALL, seed=1))
    whole = run(tiny_backbone, tmp_path / "whole", other)
    with monkeypatch.context() as patch:
        patch.setattr(HERE, "adapt_shopping", killed)
        with pytest.raises(KilledError):
            run(tiny_backbone, tmp_path / "shops")
    with pytest.raises(ConfigError, match="checkpoints of another training"):
        run(tiny_backbone, tmp_path / "shops", other, resume=True)
    if resume:  # as far as a kill while the folder was removed got
        (tmp_path / "shops.work" / RUN_FILE).unlink()
    assert run(tiny_backbone, tmp_path / "shops", other, resume=resume).fingerprint == whole.fingerprint


def test_a_kill_after_the_result_leaves_nothing_for_good(
    tiny_backbone: Backbone, tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(HERE, "discard", killed)
        with pytest.raises(KilledError):
            run(tiny_backbone, tmp_path / "shops")
    assert (tmp_path / "shops.work" / "encoder").is_dir()
    made = run(tiny_backbone, tmp_path / "shops", resume=True)
    assert made.shopping is not None
    assert [path.name for path in tmp_path.iterdir()] == ["shops"]


def test_a_kill_while_the_result_is_written_leaves_nothing_for_good(
    tiny_backbone: Backbone, tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(HERE, "adapt_shopping", killed)
        with pytest.raises(KilledError):
            run(tiny_backbone, tmp_path / "shops")
    (tmp_path / ".shops.4711.new").mkdir()
    (tmp_path / ".shops.4711.new" / "model.safetensors").write_bytes(b"half")
    run(tiny_backbone, tmp_path / "shops", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["shops"]


def test_what_somebody_else_keeps_beside_it_stays(tiny_backbone: Backbone, tmp_path: Path, stage: Stage):
    (tmp_path / "shops.work" / "notes").mkdir(parents=True)
    (tmp_path / "shops.work" / "notes" / "mine.txt").write_text("mine")
    run(tiny_backbone, tmp_path / "shops")
    assert [path.name for path in (tmp_path / "shops.work").rglob("*")] == ["notes", "mine.txt"]


def test_two_do_not_adapt_into_one_folder(tiny_backbone: Backbone, tmp_path: Path, stage: Stage):
    with workspace(tmp_path / "shops.work"), pytest.raises(TrainingError, match="another training is at work"):
        run(tiny_backbone, tmp_path / "shops", resume=True)
    assert [path.name for path in (tmp_path / "shops.work").iterdir()] == [LOCK_FILE]
    run(tiny_backbone, tmp_path / "shops", resume=True)


def test_a_folder_may_be_named_by_where_one_is(
    tiny_backbone: Backbone, tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "shops").mkdir()
    monkeypatch.chdir(tmp_path / "shops")
    assert run(tiny_backbone, Path(), SHOPPING).name == "shops"
    assert Backbone.load(tmp_path / "shops").shopping is not None


def test_an_augmentation_is_told_in_words(tiny_backbone: Backbone, tmp_path: Path, stage: Stage):
    training = TrainConfig(augmentation=Augmentation(text=SynonymReplacement(synonyms={"tea": ["brew"]})))
    made = run(
        tiny_backbone, tmp_path / "shops", AdaptConfig(language=None, shopping=ShoppingConfig(training=training))
    )
    [told] = Backbone.load(tmp_path / "shops").origin["stages"]  # pyright: ignore
    assert told["objectives"]["training"]["augmentation"] == repr(training.augmentation)
    assert made.origin["stages"] == [told]


def test_a_catalogue_alone_teaches_language_and_is_refused_for_shopping(tiny_backbone: Backbone, tmp_path: Path):
    alone = Dataset.build(name="alone", catalog=small_shop().catalog)
    made = adapt(tiny_backbone, [alone], replace(BOTH, shopping=None), folder=tmp_path / "words", progress=False)
    assert made.encoder_fingerprint != tiny_backbone.encoder_fingerprint
    assert made.origin["data"][0]["start"] is None  # pyright: ignore
    with pytest.raises(NotEnoughDataError, match="'alone' has no events"):
        adapt(tiny_backbone, [alone], BOTH, folder=tmp_path / "shops", progress=False)
    assert not (tmp_path / "shops.work").exists()
