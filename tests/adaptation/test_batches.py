"""Which texts a step reads."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from peftrec.backbone import Backbone
from tests.adaptation.worlds import SMALL, batches, equal, small_shop


def test_every_text_is_read_once_in_each_epoch(tiny_backbone: Backbone):
    plan = batches(tiny_backbone)
    for epoch in range(2):
        anchors = np.concatenate([rows.anchor for rows in plan._planned(epoch)])
        assert sorted(anchors) == list(range(40))
    assert len(plan) == 2 * plan.per_epoch == 20


def test_small_platforms_are_read_more_often_than_their_size(tiny_backbone: Backbone):
    shops = small_shop("large"), small_shop("small", products=10)
    assert batches(tiny_backbone, replace(SMALL, sampling=1.0), *shops).draws.tolist() == [40, 10]
    assert batches(tiny_backbone, replace(SMALL, sampling=0.5), *shops).draws.tolist() == [33, 17]
    plan = batches(tiny_backbone, replace(SMALL, sampling=0.0), *shops)
    assert plan.draws.tolist() == [25, 25]
    rows = [one for epoch in range(2) for one in plan._planned(epoch)]
    read = {name: [one.anchor for one in rows if one.baskets.name == name] for name in ("large", "small")}
    assert np.bincount(np.concatenate(read["small"])).tolist() == [5] * 10  # 50 draws from ten texts
    assert np.bincount(np.concatenate(read["large"])).max() == 2


def test_a_batch_depends_on_its_number_alone(tiny_backbone: Backbone):
    one, other = batches(tiny_backbone), batches(tiny_backbone)
    ahead = [one[index] for index in (15, 3, 0)]
    behind = [other[index] for index in (0, 3, 15)][::-1]
    for a, b in zip(ahead, behind, strict=True):
        assert equal(a["joint"]["read"], b["joint"]["read"])
        assert torch.equal(a["joint"]["places"], b["joint"]["places"])
    reseeded = batches(tiny_backbone, replace(SMALL, seed=1))[3]
    assert reseeded["joint"]["read"]["input_ids"].tolist() != ahead[1]["joint"]["read"]["input_ids"].tolist()


def test_masks_are_drawn_anew_in_each_epoch(tiny_backbone: Backbone):
    plan = batches(tiny_backbone, replace(SMALL, nsp_weight=0, batch_size=40, contrastive_weight=0))
    assert plan.per_epoch == 1
    first, second = plan[0]["joint"], plan[1]["joint"]
    assert len(first["labels"]) > 0
    assert first["places"].tolist() != second["places"].tolist()


def test_what_follows_and_what_does_not_come_equally_often(tiny_backbone: Backbone):
    plan = batches(tiny_backbone, replace(SMALL, epochs=20))
    labels = torch.cat([plan[index]["joint"]["follows"] for index in range(len(plan))])
    assert labels.float().mean() == pytest.approx(0.5, abs=0.06)


def test_inputs_of_terms_without_weight_are_not_built(tiny_backbone: Backbone):
    without = replace(SMALL, nsp_weight=0, contrastive_weight=0, distillation_weight=0)
    whole, bare = batches(tiny_backbone)[0], batches(tiny_backbone, without)[0]
    assert whole["joint"].keys() == {"read", "follows", "places", "labels"}
    assert whole["single"].keys() == {"read", "pairs", "original"}
    assert (bare.keys(), bare["joint"].keys()) == ({"joint"}, {"read", "places", "labels"})
    alone = batches(tiny_backbone, replace(without, distillation_weight=1))[0]
    assert alone["single"].keys() == {"read", "original"}
    assert len(alone["single"]["read"]["input_ids"]) == len(alone["joint"]["read"]["input_ids"]) == 4  # no partners
