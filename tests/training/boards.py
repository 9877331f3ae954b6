"""A decoder that says something, and rows of the board shop for it to read."""

from pathlib import Path

import torch
from torch import Tensor

from peftrec import Backbone, LoRAConfig, TrainConfig
from peftrec.data import Dataset
from peftrec.model import Platform
from peftrec.model import extras as ops
from peftrec.model.purchase import PurchaseModel
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.rows import Batch


def loud(shop: Dataset, bert: Path, config: TrainConfig, *, rows: int) -> tuple[PurchaseModel, Batch, Tensor]:
    """A model with a loud decoder, which is asked about all candidates, and a batch with its labels."""
    backbone = Backbone.load(bert)
    source = PlatformRows.of(Platform.of(shop, backbone, progress=False), config)
    decoder, random = backbone.decoder(), torch.Generator().manual_seed(0)
    LoRAConfig(rank=4, dropout=0.0).attach(decoder, seed=0, steps=1)
    extras = ops.initial(backbone.hidden, gain=8.0, generator=random)
    for name in ("head_1", "head_2", "shopper_gate", "event_2"):
        extras[name].normal_(std=0.3, generator=random)
    parts = [
        part.offered(one, snapshot, config, nearest=None, rng=source.rng)
        for one, snapshot, part in zip(source.anchors, source.snapshots, source.parts, strict=True)
    ]
    for part in parts:
        part.candidates.features[:, ops.FEATURES.index("never_bought")] = 1
    dataset = source.rows(parts)
    found = dataset.collate([dataset[at] for at in range(rows)])
    batch, labels = found["batch"], found["labels"]
    assert isinstance(batch, Batch)
    assert isinstance(labels, Tensor)
    return PurchaseModel(decoder, extras), batch, labels
