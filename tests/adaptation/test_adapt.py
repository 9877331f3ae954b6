"""Adapting a backbone to two real platforms, whole: what comes out, how it is kept, and how a killed run goes on."""

import functools
import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import peftrec
from peftrec import AdaptConfig, LanguageConfig, ShoppingConfig, TrainConfig, adapt, train_adapter
from peftrec.adaptation.shopping import PooledBatches, shares
from peftrec.backbone import Backbone
from peftrec.cli.main import app
from peftrec.data import Dataset
from peftrec.errors import BackboneWriteError, ConfigError, NotEnoughDataError, TrainingError
from peftrec.evaluation import evaluate
from peftrec.model import Adapter
from peftrec.model.shapes import first_layer
from peftrec.registry import Registry
from peftrec.training.stages import DecoderStage
from peftrec.training.train import starting_extras

CUT, PRODUCTS = "2017-11-27T05:00", 1000


def small(*, epochs: float = 1.0) -> AdaptConfig:
    """Seconds of language, seconds of shopping."""
    training = TrainConfig(anchors=2, epochs=epochs, feature_epochs=2, sampled_candidates=48, history=24, negatives=128)
    return AdaptConfig(
        language=LanguageConfig(epochs=0.2, checkpoint_steps=5), shopping=ShoppingConfig(training=training)
    )


def two_platforms(whole: Dataset) -> list[Dataset]:
    """Households of even and of odd number, as if they were two shops of the same catalogue."""
    past, _ = whole.split(at=CUT)
    codes = past.events.frame["user_id"].cast(int)
    halves = [past.events.frame.filter(codes % 2 == odd) for odd in (0, 1)]
    return [
        replace(past, name=name, events=peftrec.Events(half), index=None, past=None)
        for name, half in zip(("even", "odd"), halves, strict=True)
    ]


@pytest.fixture(scope="module")
def whole(choose_households: Callable[..., Dataset]) -> Dataset:
    """Of fewer products than elsewhere: each is read several times here, as the backbone changes."""
    return choose_households(products=PRODUCTS)


@pytest.fixture(scope="module")
def shops(whole: Dataset) -> list[Dataset]:
    return two_platforms(whole)


@pytest.fixture(scope="module")
def made(backbone: Backbone, shops: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Backbone]:
    """An adapted backbone, made once, and where it is saved."""
    place = tmp_path_factory.mktemp("backbones") / "shops"
    return place, adapt(backbone, shops, small(), folder=place, progress=False)


@pytest.fixture(scope="module")
def folder(made: tuple[Path, Backbone]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def adapted(folder: Path) -> Backbone:
    return Backbone.load(folder)


def test_shares_grow_slower_than_platforms():
    assert np.allclose(shares([900, 100], 1.0), [0.9, 0.1])
    assert np.allclose(shares([900, 100], 0.5), [0.75, 0.25])
    assert np.allclose(shares([900, 100, 0], 0.0), [0.5, 0.5, 0.0])


def test_batches_are_of_one_platform_and_drawn_with_its_share():
    def fetch(platform: int):
        return lambda rows: {"platform": platform, "rows": rows}

    pool = PooledBatches([fetch(0), fetch(1)], [900, 100], batch_size=10, sampling=0.5, rng=np.random.default_rng(0))
    drawn: list[dict[str, Any]] = [pool.__getitems__([at]) for at in range(len(pool))]
    assert Counter(one["platform"] for one in drawn) == {0: 75, 1: 25}
    rows = [Counter(row for one in drawn if one["platform"] == number for row in one["rows"]) for number in (0, 1)]
    assert len(rows[0]) == 750
    assert set(rows[0].values()) == {1}
    assert len(rows[1]) == 100
    assert set(rows[1].values()) <= {2, 3}


@pytest.mark.slow
def test_everything_is_learned_and_the_original_stays(backbone: Backbone, adapted: Backbone):
    assert backbone.fingerprint == Backbone.load("minilm-l6").fingerprint
    assert adapted.encoder_fingerprint != backbone.encoder_fingerprint
    top = replace(adapted, shopping=None).decoder().state_dict()
    moved = [name for name, value in adapted.decoder().state_dict().items() if not torch.equal(value, top[name])]
    assert len(moved) == len(top)
    assert all(not weight.requires_grad for weight in adapted.decoder().parameters())


@pytest.mark.slow
def test_the_folder_tells_where_it_comes_from(
    made: tuple[Path, Backbone], folder: Path, backbone: Backbone, shops: list[Dataset]
):
    facts = json.loads((folder / "backbone.json").read_text())
    origin = facts["origin"]
    assert origin["parents"][0]["fingerprint"] == backbone.fingerprint
    assert [one["digest"] for one in origin["data"]] == [shop.digest for shop in shops]
    assert [one["stage"] for one in origin["stages"]] == ["language", "shopping"]
    assert all(one["steps"] > 0 and one["log"] for one in origin["stages"])
    assert origin["stages"][0]["objectives"]["mask_share"] == LanguageConfig().mask_share
    assert not folder.with_name("shops.work").exists()
    texts = ["RED SOCKS", "BANANAS"]
    assert np.array_equal(made[1].encode(texts), Backbone.load(folder).encode(texts))
    assert made[1].fingerprint == Backbone.load(folder).fingerprint


@pytest.mark.slow
def test_it_serves_without_an_adapter_better_than_chance(adapted: Backbone, whole: Dataset):
    _, future = whole.split(at=CUT)

    class Random:
        name, probabilistic = "random", False

        def score_catalog(self, past: Dataset, users: np.ndarray) -> np.ndarray:
            return np.random.default_rng(0).random((len(users), len(past.catalog)), np.float32)

        def score_pool(self, past: Dataset, users: np.ndarray, items: np.ndarray) -> np.ndarray:
            return np.random.default_rng(0).random(items.shape, np.float32)

    result = evaluate([Adapter.of_backbone(adapted), Random()], future, baselines=None, progress=False)
    assert result.compare("peftrec", "random").low > 0.1


@pytest.mark.slow
def test_adapters_start_from_it_and_fit_no_other_backbone(
    adapted: Backbone, backbone: Backbone, whole: Dataset, quick: TrainConfig, tmp_path: Path
):
    past, _ = whole.split(at=CUT)
    adapter = train_adapter(past, adapted, config=replace(quick, epochs=0.1), progress=False)
    start = starting_extras(adapted, seed=0)
    assert adapted.shopping is not None
    assert all(np.array_equal(start[name].numpy(), value) for name, value in adapted.shopping.extras.items())
    Registry(tmp_path).publish("grocery", adapter)
    loaded = Adapter.load(Registry(tmp_path).open("grocery"), adapted)
    frozen = adapted.decoder().get_submodule("0.attention.self.query").weight
    assert torch.equal(loaded.layers()[0].query.base.weight, frozen)  # pyright: ignore  # a MixedLinear
    with pytest.raises(peftrec.errors.IncompatibleAdapterError, match="backbone"):
        peftrec.Engine(backbone, tmp_path).recommender("grocery")


@pytest.mark.slow
def test_peft_opens_an_adapter_on_the_adapted_decoder(
    adapted: Backbone, whole: Dataset, quick: TrainConfig, tmp_path: Path
):
    from peft import PeftModel

    past, _ = whole.split(at=CUT)
    adapter = train_adapter(past, adapted, config=replace(quick, epochs=0.1), progress=False)
    for name, content in adapter.files().items():
        (tmp_path / name).write_bytes(content)
    wrapped = PeftModel.from_pretrained(adapted.tuned_bert(), tmp_path)
    layer = wrapped.get_submodule(f"base_model.model.encoder.layer.{first_layer(adapted)}")
    ours = adapter.layers()[0]
    x = torch.randn(1, 3, adapted.hidden, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(layer.attention.self.query(x), ours.query(x), atol=1e-5, rtol=0)


def test_platforms_need_names_of_their_own(tiny_backbone: Backbone, shops: list[Dataset]):
    with pytest.raises(ConfigError, match="two platforms are named 'even'"):
        adapt(tiny_backbone, [shops[0], shops[0]])
    with pytest.raises(NotEnoughDataError, match="no platforms"):
        adapt(tiny_backbone, [])
    with pytest.raises(ConfigError, match="at least one stage"):
        AdaptConfig(language=None, shopping=None)


def test_an_occupied_folder_is_refused_before_anything_is_trained(
    tiny_backbone: Backbone, shops: list[Dataset], tmp_path: Path
):
    (tmp_path / "mine.txt").write_text("mine")
    begun = time.monotonic()
    with pytest.raises(BackboneWriteError, match="exists already"):
        adapt(tiny_backbone, shops, folder=tmp_path)
    assert time.monotonic() - begun < 5


@pytest.mark.slow
def test_a_finished_run_is_found_again_and_another_is_refused(folder: Path, backbone: Backbone, shops: list[Dataset]):
    again = adapt(backbone, shops, small(), folder=folder, resume=True, progress=False)
    assert again.fingerprint == Backbone.load(folder).fingerprint
    with pytest.raises(ConfigError, match="holds another backbone"):
        adapt(backbone, shops, small(epochs=2.0), folder=folder, resume=True, progress=False)


def test_a_platform_that_is_too_small_is_named_before_language_is_learned(
    tiny_backbone: Backbone, shops: list[Dataset], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        sys.modules["peftrec.adaptation.adapt"], "adapt_language", lambda *_, **__: pytest.fail("language began")
    )
    few = replace(shops[1], events=peftrec.Events(shops[1].events.frame.head(30)), index=None)
    with pytest.raises(NotEnoughDataError, match="'odd': "):
        adapt(tiny_backbone, [few], progress=False)


@pytest.mark.slow
def test_where_nobody_is_held_out_it_trains_to_the_end(tiny_backbone: Backbone, shops: list[Dataset]):
    training = replace(small().shopping.training, epochs=0.1, anchors=1, validation_share=1e-9)  # pyright: ignore
    config = AdaptConfig(language=None, shopping=ShoppingConfig(training=training))
    [told] = adapt(tiny_backbone, shops[:1], config, progress=False).origin["stages"]  # pyright: ignore
    assert told["steps"] > 0


@pytest.mark.slow
def test_a_loss_of_the_shopping_stage_that_is_no_number_reaches_no_weight(
    tiny_backbone: Backbone, shops: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    training = replace(small().shopping.training, anchors=1)  # pyright: ignore
    config = AdaptConfig(language=None, shopping=ShoppingConfig(training=training))
    learn, steps = DecoderStage.forward, iter(range(1, 10**6))

    @functools.wraps(learn)  # the Trainer reads which inputs there are off it
    def broken(self: DecoderStage, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        losses = learn(self, *args, **kwargs)
        return {"loss": losses["loss"] * math.nan} if self.training and next(steps) == 3 else losses

    with monkeypatch.context() as patch:
        patch.setattr(DecoderStage, "forward", broken)
        with pytest.raises(TrainingError, match=r"shopping: .* no number in step 3"):
            adapt(tiny_backbone, shops[:1], config, folder=tmp_path / "shops", progress=False)
    assert not (tmp_path / "shops").exists()
    again = adapt(tiny_backbone, shops[:1], config, folder=tmp_path / "shops", resume=True, progress=False)
    assert all(value.isfinite().all() for value in again.decoder().parameters())


CHILD = """
import sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from conftest import households
from test_adapt import PRODUCTS, small, two_platforms
from peftrec import Backbone, adapt
shops = two_platforms(households(products=PRODUCTS))
adapt(Backbone.load("minilm-l6"), shops, small(), folder=sys.argv[1], resume=True, progress=False)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_in_each_stage_resumes_to_the_same_weights(folder: Path, tmp_path: Path):
    place, work = tmp_path / "shops", tmp_path / "shops.work"
    here = Path(__file__).parent
    command = [sys.executable, "-c", CHILD, str(place), str(here.parent), str(here)]
    for stage in ("language", "shopping"):
        child = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + 600
            while not list(work.glob(f"{stage}/checkpoint-*/trainer_state.json")):
                assert child.poll() is None, f"it ended before a checkpoint of {stage} was seen"
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert not place.exists()
    subprocess.run(command, check=True)
    assert Backbone.load(place).fingerprint == Backbone.load(folder).fingerprint


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grocery: Dataset, tiny_bert_folder: Path):
    monkeypatch.setattr(peftrec, "load_dataset", lambda name, path=None: replace(grocery, name=name))
    out = tmp_path / "shops"
    platforms = ["--platform", f"grocery@{CUT}", "--platform", f"another:grocery@{CUT}"]
    told = ["adapt", str(out), *platforms, "--backbone", str(tiny_bert_folder)]
    found = CliRunner().invoke(app, [*told, "--language-epochs", "0.05", "--shopping-epochs", "0.05"])
    assert found.exit_code == 0, found.output
    assert f"peftrec train NAME --backbone {out}" in found.output
    assert Backbone.load(out).platforms == {"grocery", "another"}
    for nameless in ("=file@2017-01-01", ":grocery", "shop:=file"):
        refused = CliRunner().invoke(app, ["adapt", str(tmp_path / "x"), "--platform", nameless])
        assert isinstance(refused.exception, ConfigError)
