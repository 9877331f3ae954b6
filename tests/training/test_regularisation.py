"""What regularises the training of network and decoder does what it says, and nothing when it is off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.errors import ConfigError
from peftrec.model import losses
from peftrec.model.purchase import PurchaseModel
from peftrec.training import Adversarial, TrainConfig, train_adapter
from peftrec.training.adversarial import worst
from peftrec.training.rows import Batch
from peftrec.training.stages import DecoderStage, FeatureStage
from tests.training.boards import loud
from tests.training.stages import train_on

PLAIN = TrainConfig(horizon_days=7, anchors=1, sampled_candidates=12, negatives=8, precision="fp32")


@pytest.mark.parametrize(
    "settings", [{"method": "sgd"}, {"radius": 0.0}, {"radius": float("nan")}, {"steps": 0}, {"weight": -1.0}]
)
def test_adversarial_settings_that_cannot_work(settings: dict):
    with pytest.raises(ConfigError, match="expected"):
        Adversarial(**settings)


@pytest.mark.parametrize("settings", [{"label_smoothing": 1.0}, {"feature_drop": -0.1}, {"clip_norm": -1.0}])
def test_settings_that_cannot_work(settings: dict):
    with pytest.raises(ConfigError, match="the default is"):
        TrainConfig(**settings)


def test_fgm_goes_along_the_gradient_and_pgd_finds_worse():
    random = torch.Generator().manual_seed(0)
    x, unused = torch.randn(3, 5, 8, generator=random), torch.zeros(2, 4)
    target = torch.randn(8, generator=random)

    def loss(inputs) -> Tensor:
        return torch.sin(4 * (inputs[0] @ target)).sum()

    radius = 0.3
    once, (changed, same) = loss([x, unused]), worst(loss, [x, unused], Adversarial(radius=radius))
    gradient = torch.autograd.functional.jacobian(lambda y: loss([y]), x)
    torch.testing.assert_close(changed - x, radius * gradient / gradient.norm(dim=-1, keepdim=True))
    assert torch.equal(same, unused)
    many, _ = worst(loss, [x, unused], Adversarial(method="pgd", radius=radius, steps=8))
    assert (many - x).norm(dim=-1).max() <= radius + 1e-6
    assert loss([many]) > loss([changed])
    assert loss([many]) > once


@pytest.fixture(scope="module")
def board(board_shop: Dataset, tiny_bert_folder) -> tuple[PurchaseModel, Batch, Tensor]:
    """A model with a loud decoder, and a batch of the board shop's rows."""
    return loud(board_shop, tiny_bert_folder, PLAIN, rows=8)


def loss_of(board: tuple[PurchaseModel, Batch, Tensor], *, training: bool = True, **settings: object) -> Tensor:
    model, batch, labels = board
    stage = DecoderStage(model, replace(PLAIN, **settings)).train(training)  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return stage(batch, labels)["loss"]


def test_off_is_off_and_evaluation_knows_none_of_it(board: tuple[PurchaseModel, Batch, Tensor]):
    on = {"label_smoothing": 0.2, "feature_drop": 0.5, "adversarial": Adversarial()}
    plain = loss_of(board)
    for name, value in on.items():
        assert not torch.equal(loss_of(board, **{name: value}), plain), name
    assert torch.equal(loss_of(board, training=False, **on), loss_of(board, training=False))


def test_adversarial_loss_is_at_least_twice_the_clean_one_and_leaves_no_gradient_behind(
    board: tuple[PurchaseModel, Batch, Tensor],
):
    model = board[0]
    model.zero_grad()
    clean = loss_of(board)
    fgm, pgd = (loss_of(board, adversarial=Adversarial(method=method, radius=0.3)) for method in ("fgm", "pgd"))
    assert all(value.grad is None for value in model.parameters())
    assert fgm > 2 * clean
    assert pgd > 2 * clean
    fgm.backward()
    tuned = [value.grad for name, value in model.named_parameters() if "lora_B" in name]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in tuned)
    model.zero_grad()


def test_smoothed_labels_keep_their_mean(board: tuple[PurchaseModel, Batch, Tensor]):
    model, batch, labels = board
    smoothed = losses.smoothed(labels, batch.weight, share=0.3)
    assert (smoothed * batch.weight).sum() == pytest.approx(float((labels * batch.weight).sum()), rel=1e-5)
    assert smoothed.max() < 1
    assert smoothed.min() > 0
    stages = [DecoderStage(model, replace(PLAIN, label_smoothing=share)) for share in (0.0, 0.3)]
    hard, soft = (float(stage.eval()(batch, labels)["loss"].detach()) for stage in stages)
    assert hard == soft  # what decides on stopping stays
    hard, soft = (float(stage.train()(batch, labels)["loss"].detach()) for stage in stages)
    assert hard != soft


def test_a_dropped_number_is_an_average_one(board: tuple[PurchaseModel, Batch, Tensor]):
    model, batch, _ = board
    stage = DecoderStage(model, replace(PLAIN, feature_drop=0.5)).train()
    hidden = stage._with_numbers_hidden(batch).shoppers.features
    average = model.extras["event_mean"]
    same = (hidden == batch.shoppers.features).all(dim=1)
    gone = (hidden == average).all(dim=1)
    assert (same | gone).all()
    assert 0.3 < gone.float().mean() < 0.9
    network = FeatureStage(model, replace(PLAIN, feature_drop=0.999)).train()
    width = model.extras["features_1"].shape[0]
    ones, labels = torch.ones(64, width), torch.zeros(64)
    almost_all, none = (network(x, torch.ones(64), labels)["loss"] for x in (ones, torch.zeros(64, width)))
    torch.testing.assert_close(almost_all, none, atol=0.05, rtol=0)
    network.eval()
    assert not torch.isclose(network(ones, torch.ones(64), labels)["loss"], none, atol=0.05)


@pytest.mark.slow
def test_training_with_all_of_it(board_shop: Dataset, tiny_backbone: Backbone):
    config = replace(
        PLAIN,
        anchors=2,
        epochs=2,
        batch_size=8,
        label_smoothing=0.05,
        feature_drop=0.1,
        clip_norm=0.5,
        adversarial=Adversarial(method="pgd", steps=2),
    )
    adapter = train_adapter(board_shop, tiny_backbone, config=config, progress=False)
    assert all(np.isfinite(value).all() for value in adapter.extras.values())


class Rows(nn.Module):
    """Two rows of weights, of which the loss sees one; its gradient is what the data says."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.weight[0] * x).sum()}


def trained(gradients: list[float], folder: Path, **settings: float) -> Tensor:
    stage, config = Rows(), TrainConfig(warmup_share=0.0, **settings)  # pyright: ignore[reportArgumentType]
    train_on(stage, gradients, config, folder=folder, name="rows", rate=0.01)
    return stage.weight.detach()


def test_weights_decay_where_nothing_speaks_for_them(tmp_path: Path):
    kept, less = (trained([1.0] * 20, tmp_path / str(decay), weight_decay=decay) for decay in (0.0, 1.0))
    assert torch.equal(kept[1], torch.ones(2))
    assert (less[1] < 0.95).all()


def test_wild_steps_do_not_outweigh_the_others_where_they_are_clipped(tmp_path: Path):
    wild = [1.0] * 26 + [-1e4] * 4
    moved = [
        (1 - trained(wild, tmp_path / str(norm), weight_decay=0.0, clip_norm=norm)[0]).mean() for norm in (0.0, 1.0)
    ]
    assert moved[1] > 0 > moved[0]  # four of thirty, which outweigh all others
