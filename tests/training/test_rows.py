"""What a batch of rows draws."""

import torch

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.model.platform import Platform
from peftrec.training import TrainConfig
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.rows import Batch


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
