"""Auxiliary tasks: targets are what the log says of the horizon, and the decoder learns them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.data.histories import DAY, Ragged
from peftrec.errors import ConfigError, TrainingError
from peftrec.model.candidates import Candidates
from peftrec.training import Auxiliary, TrainConfig, train_adapter
from peftrec.training.objectives import TASKS, AuxiliaryHeads, check_tasks, known, targets_of

ALL = tuple(Auxiliary(task=task) for task in TASKS)


@pytest.fixture(scope="module")
def clicks() -> Dataset:
    """One shopper's day, and what happened a day before and after it."""
    rows = [
        ("2024-01-01", "tea", "click", None, 9.0),  # before the horizon
        ("2024-01-02T10:00", "tea", "view", None, 5.0),
        ("2024-01-02T10:01", "tea", "click", None, 15.0),
        ("2024-01-02T10:02", "pot", "cart", None, None),
        ("2024-01-02T10:03", "pot", "purchase", 2.0, None),
        ("2024-01-02T10:04", "pot", "purchase", 1.0, None),
        ("2024-01-02T10:05", "cup", "favourite", None, None),
        ("2024-01-03T12:00", "cup", "cart", None, 60.0),  # after it
    ]
    times, items, events, quantities, dwell = zip(*rows, strict=True)
    return Dataset.build(
        name="clicks",
        catalog={"item_id": ["tea", "pot", "cup"], "title": ["tea", "pot", "cup"]},
        events={
            "user_id": ["u"] * len(rows),
            "item_id": items,
            "timestamp": times,
            "event": events,
            "quantity": quantities,
            "dwell_seconds": dwell,
        },
    )


def test_targets_are_what_happens_within_the_horizon(clicks: Dataset):
    items = Ragged.join([clicks.catalog.indices(["tea", "pot", "cup"]).astype(np.int32)])
    found = targets_of(
        ALL,
        clicks.log,
        np.array([0], np.int32),
        Candidates(items, np.empty((3, 0), np.float32)),
        moment=np.datetime64("2024-01-02").astype("datetime64[s]").astype(float),
        horizon=DAY,
        n_items=3,
    )
    tea, pot, cup = ({task: float(value) for task, value in zip(TASKS, row, strict=True)} for row in found)
    assert tea == pytest.approx(
        {"click": 1, "favourite": 0, "cart": 0, "quantity": np.nan, "dwell": np.log1p(20)}, nan_ok=True
    )
    assert pot == pytest.approx(
        {"click": 0, "favourite": 0, "cart": 1, "quantity": np.log1p(3), "dwell": np.nan}, nan_ok=True
    )
    assert cup == pytest.approx(
        {"click": 0, "favourite": 1, "cart": 0, "quantity": np.nan, "dwell": np.nan}, nan_ok=True
    )


def test_tasks_that_cannot_work(board_shop: Dataset, tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match="task='rating'"):
        Auxiliary(task="rating")
    with pytest.raises(ConfigError, match="weight=0"):
        Auxiliary(task="cart", weight=0)
    with pytest.raises(ConfigError, match="each task once"):
        TrainConfig(auxiliary=(Auxiliary(task="cart"), Auxiliary(task="cart", weight=0.5)))
    with pytest.raises(ConfigError, match="fixed or uncertainty"):
        TrainConfig(auxiliary_weighting="learned")
    for one in ALL:
        with pytest.raises(TrainingError, match=f"'{one.task}' on 'board', whose log holds nothing"):
            check_tasks([one], board_shop.log, dataset="board")
    with pytest.raises(TrainingError, match="'cart' on 'board'"):
        train_adapter(
            board_shop, tiny_backbone, config=TrainConfig(auxiliary=(Auxiliary(task="cart"),)), progress=False
        )


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_heads_learn_and_spreads_become_those_of_the_noise(weighting: str):
    random = torch.Generator().manual_seed(0)
    tasks = (
        Auxiliary(task="cart", weight=1.0),
        Auxiliary(task="quantity", weight=1.0),
        Auxiliary(task="dwell", weight=1.0),
    )
    heads = AuxiliaryHeads(tasks, 8, weighting=weighting, seed=0)
    output, truth = torch.randn(64, 16, 8, generator=random), torch.randn(3, 8, generator=random)
    noise = torch.tensor([0.0, 0.1, 1.0]) * torch.randn(64, 16, 3, generator=random)
    targets = output @ truth.T + noise
    targets[..., 0] = (targets[..., 0] > 0).float()
    targets[:, :4, 1] = torch.nan
    weight = torch.ones(64, 16)
    weight[:, -1] = 0
    hidden = targets.clone()
    hidden[:, -1] = 1e6  # padding must not count
    optimiser = torch.optim.Adam([one for one in heads.parameters() if one.requires_grad], lr=0.05)
    over = known(hidden, weight)
    first = float((heads(output, hidden, weight, over=over) + heads.cost()).detach())
    for _ in range(300):
        optimiser.zero_grad()
        loss = heads(output, hidden, weight, over=over) + heads.cost()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.7 * first
    torch.testing.assert_close(heads.map.weight[1].detach(), truth[1], atol=0.05, rtol=0)
    spread = heads.log_variance.detach().exp()
    if weighting == "fixed":
        assert torch.equal(spread, torch.ones(3))
    else:
        assert spread[1] == pytest.approx(0.01, rel=0.3)
        assert spread[2] == pytest.approx(1.0, rel=0.3)


@pytest.mark.slow
def test_an_adapter_that_learned_carts_and_quantities_too(board_shop: Dataset, tiny_backbone: Backbone):
    frame = board_shop.events.frame
    carts = {"user_id": frame["user_id"], "item_id": frame["item_id"], "timestamp": frame["timestamp"]}
    size = len(frame)
    shop = Dataset.build(
        name="carts",
        catalog=board_shop.catalog.frame,
        events={
            **{name: [*column, *column] for name, column in carts.items()},
            "event": ["cart"] * size + ["purchase"] * size,
            "quantity": [1.0] * size + [float(1 + at % 3) for at in range(size)],
        },
    )
    config = TrainConfig(
        horizon_days=7, anchors=2, epochs=4, feature_epochs=0.5, batch_size=8, patience=100, precision="fp32"
    )
    # numbers know this world so well that an impatient training would stop where it began, with or without tasks
    plain = train_adapter(shop, tiny_backbone, config=config, progress=False)
    tasks = (Auxiliary(task="cart"), Auxiliary(task="quantity"))
    both = replace(config, auxiliary=tasks, auxiliary_weighting="uncertainty")
    taught = train_adapter(shop, tiny_backbone, config=both, progress=False)
    assert taught.extras.keys() == plain.extras.keys()  # heads stay behind
    assert any(
        not np.allclose(taught.changes.low_rank[name].b, pair.b, atol=1e-3)
        for name, pair in plain.changes.low_rank.items()
    )
