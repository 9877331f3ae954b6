"""What a batch of rows draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.data.features import FEATURES
from peftrec.errors import ConfigError
from peftrec.model.platform import Platform
from peftrec.model.purchase import WIDTH_STEP, PurchaseModel
from peftrec.training import TrainConfig
from peftrec.training.platform_rows import PlatformRows, candidates_bar
from peftrec.training.rows import Batch, Rows
from peftrec.training.stages import DecoderStage
from peftrec.training.train import starting_extras


def test_draws_depend_on_the_rows_and_the_seed_alone(grocery: Dataset, tiny_backbone: Backbone):
    past, _ = grocery.split(at="2017-11-27T05:00")
    platform, drawn = Platform.of(past, tiny_backbone, progress=False), list[torch.Tensor]()
    for seed, rows, chance in ((0, [0, 1], 1), (0, [0, 1], 2), (0, [1, 2], 1), (1, [0, 1], 1)):
        source = PlatformRows.of(platform, TrainConfig(anchors=1, negatives=64, seed=seed))
        read = source.rows(source.parts)
        torch.manual_seed(chance)  # as a resumed training finds it
        batch = read.collate([(0, row) for row in rows])["batch"]
        assert isinstance(batch, Batch)
        drawn.append(batch.negatives)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])


def test_some_shoppers_are_read_as_by_a_shop_that_has_sold_nothing(grocery: Dataset, tiny_backbone: Backbone):
    platform, config = (
        Platform.of(grocery, tiny_backbone, progress=False),
        TrainConfig(anchors=1, sampled_candidates=32),
    )
    model = PurchaseModel(tiny_backbone.decoder(), starting_extras(tiny_backbone, seed=0))
    parts: dict[float, list[Rows]] = {}
    for share in (0.0, 0.5):
        source = PlatformRows.of(platform, replace(config, young_share=share))
        with candidates_bar(source.shoppers, show=False) as bar:
            parts[share] = source.offered(model.extras, bar)
    (alone,), (latest, young) = parts.values()
    assert len(PlatformRows.of(platform, replace(config, young_share=1e-9)).parts) == 1  # nobody is so small a share
    assert np.array_equal(alone.users, latest.users)
    assert len(young.users) == round(len(latest.users) / 2)
    assert np.isin(young.users, latest.users).all()
    assert young.labels.any()
    # The log is silent about all products, not about what the shopper brings.
    known = {
        name: young.candidates.features[:, FEATURES.index(name)] for name in ("buyers_4w", "never_sold", "times_bought")
    }
    assert (known["buyers_4w"] == 0).all()
    assert (known["never_sold"] == 1).all()
    assert known["times_bought"].any()
    assert latest.candidates.features[:, FEATURES.index("buyers_4w")].any()


def test_a_batch_holds_the_candidates_that_the_decoder_reads(grocery: Dataset, tiny_backbone: Backbone):
    source = PlatformRows.of(Platform.of(grocery, tiny_backbone, progress=False), TrainConfig(anchors=1))
    with candidates_bar(source.shoppers, show=False) as bar:
        part = source.offered(starting_extras(tiny_backbone, seed=0), bar)[0]
    rows = source.rows([part])
    found = rows.collate([rows[at] for at in range(8)])
    batch, labels = found["batch"], found["labels"]
    assert isinstance(batch, Batch)
    assert isinstance(labels, torch.Tensor)
    assert batch.weight.shape[1] % WIDTH_STEP == 0
    never = part.candidates.features[:, FEATURES.index("never_bought")] > 0
    assert not never.all()  # else this would ask for nothing
    for at in range(8):
        _, row = rows[at]
        own = np.flatnonzero((part.candidates.items.rows == row) & never)
        assert np.array_equal(batch.weight[at, : len(own)].numpy(), part.weight[own])
        assert not batch.weight[at, len(own) :].any()
        vectors = source.platform.items(part.candidates.items.values[own])
        assert np.array_equal(batch.vectors[at, : len(own)].numpy(), vectors)
        assert np.array_equal(batch.features[at, : len(own)].numpy(), part.candidates.features[own].astype(np.float32))
        assert np.array_equal(labels[at, : len(own)].numpy() > 0, part.labels[own])


def test_shoppers_who_bought_all_candidates_make_a_batch(grocery: Dataset, tiny_backbone: Backbone):
    source = PlatformRows.of(Platform.of(grocery, tiny_backbone, progress=False), TrainConfig(anchors=1))
    extras = starting_extras(tiny_backbone, seed=0)
    with candidates_bar(source.shoppers, show=False) as bar:
        part = source.offered(extras, bar)[0]
    part.candidates.features[:, FEATURES.index("never_bought")] = 0
    rows, stage = source.rows([part]), DecoderStage(PurchaseModel(tiny_backbone.decoder(), extras), source.config)
    loss = stage(**rows.collate([rows[at] for at in range(4)]))["loss"]
    assert loss.isfinite()
    loss.backward()
    gradients = [value.grad for value in stage.parameters() if value.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_young_rows_is_a_share(share: float):
    with pytest.raises(ConfigError, match="young_share"):
        TrainConfig(young_share=share)
