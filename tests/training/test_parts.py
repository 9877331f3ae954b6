"""Learning from a batch part by part: the gradients of the whole batch, for the memory of a part."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from peftrec import TrainConfig
from peftrec.data import Dataset
from peftrec.data.browsing import FAR
from peftrec.model import losses
from peftrec.model.newcomers import NEVER_SOLD, TOUCHED
from peftrec.model.purchase import NEVER, PurchaseModel
from peftrec.training import Adversarial, parts
from peftrec.training.objectives import Auxiliary
from peftrec.training.rows import Batch
from peftrec.training.stages import DecoderStage
from tests.training.boards import loud

PLAIN = TrainConfig(horizon_days=7, anchors=1, sampled_candidates=40, batch_size=11, precision="fp32")
TASKS = (Auxiliary(task="quantity", weight=0.5), Auxiliary(task="cart", weight=0.3))


@pytest.fixture(scope="module")
def ragged(board_shop: Dataset, tiny_bert_folder) -> tuple[PurchaseModel, Batch, Tensor]:
    """A loud decoder, and eleven rows of different lengths, one of them with nothing to read, some candidates never sold."""
    model, batch, labels = loud(board_shop, tiny_bert_folder, PLAIN, rows=11)
    random = torch.Generator().manual_seed(0)
    for name, value in model.decoder.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.2, generator=random)
    model.extras["newcomer"].data = torch.tensor([[-3.0, 2.0, 1.0]])
    size, most = batch.weight.shape
    there = torch.arange(most) < torch.randint(1, most + 1, (size, 1), generator=random)
    there[3] = False
    features = batch.features.clone()
    features[:, ::3, NEVER_SOLD], features[:, ::3, TOUCHED] = 1, np.log1p(FAR)  # the decoder does not read these
    history = batch.shoppers.mask.shape[1]
    words = batch.shoppers.mask & (torch.arange(history) < torch.randint(1, history + 1, (size, 1), generator=random))
    targets = torch.rand(size, most, 2, generator=random)
    targets[..., 1] = (targets[..., 1] > 0.5).float()
    targets[targets < 0.1] = torch.nan
    weight = batch.weight.clamp(min=1) * (1 + torch.rand(size, most, generator=random)) * there
    labels = (torch.rand(size, most, generator=random) < 0.2).float() * there
    told = replace(batch.shoppers, mask=words)
    return (
        model,
        replace(batch, shoppers=told, weight=weight, features=features * there[..., None], targets=targets),
        labels,
    )


def learned(
    model: PurchaseModel,
    batch: Batch,
    labels: Tensor,
    *,
    size: int,
    patch: pytest.MonkeyPatch,
    bf16: bool = False,
    **settings: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients with so many rows in a part."""
    patch.setattr(parts, "SIZE", size)
    stage = DecoderStage(model, replace(PLAIN, **settings)).train()
    stage.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = stage(batch, labels)["loss"]
    (3 * loss).backward()
    return loss.detach(), {
        name: value.grad.clone() for name, value in stage.named_parameters() if value.grad is not None
    }


def plainly(model: PurchaseModel, batch: Batch, labels: Tensor, **settings: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The same of all rows at once, by autograd alone."""
    stage = DecoderStage(model, replace(PLAIN, **settings)).train()
    stage.zero_grad()
    told = losses.smoothed(
        labels, batch.weight * (batch.features[..., NEVER] > 0), share=stage.settings.label_smoothing
    )
    loss = stage._trained(batch, labels, told, stage._over(batch, labels))
    if stage.auxiliary is not None:
        adversarial = stage.settings.adversarial
        passes = 1 if adversarial is None else 1 + adversarial.weight  # each bears the variances' cost
        weights = torch.tensor([one.weight for one in TASKS])
        loss = loss + passes * 0.5 * (weights * stage.auxiliary.log_variance).sum()
    (3 * loss).backward()
    return loss.detach(), {name: x.grad.clone() for name, x in stage.named_parameters() if x.grad is not None}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"label_smoothing": 0.2, "listwise_weight": 0.7, "retrieval_weight": 0.0},
        {"auxiliary": TASKS},
        {"auxiliary": TASKS, "auxiliary_weighting": "uncertainty"},
        {"adversarial": Adversarial(radius=0.2)},
        {"auxiliary": TASKS, "auxiliary_weighting": "uncertainty", "adversarial": Adversarial(weight=0.5)},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [1, 4])
def test_gradients_are_those_of_the_whole_batch(
    ragged: tuple[PurchaseModel, Batch, Tensor],
    settings: dict[str, Any],
    size: int,
    monkeypatch: pytest.MonkeyPatch,
):
    whole, expected = plainly(*ragged, **settings)
    loss, found = learned(*ragged, size=size, patch=monkeypatch, **settings)
    torch.testing.assert_close(loss, whole)
    assert found.keys() == expected.keys()
    assert any("lora_A" in name for name in found)
    assert sum(gradient.abs().max() > 0 for gradient in expected.values()) > 20
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5 * float(gradient.abs().max()) + 1e-9, rtol=1e-3)


def test_an_encoder_below_learns_as_well(ragged: tuple[PurchaseModel, Batch, Tensor], monkeypatch: pytest.MonkeyPatch):
    model, batch, labels = ragged
    of: dict[int | None, list[Tensor]] = {}
    for size in (None, 4):
        told = {name: getattr(batch, name).clone().requires_grad_() for name in ("vectors", "first", "negatives")}
        own = {name: getattr(batch.shoppers, name) + 0.1 for name in ("vectors", "profile", "scene")}
        own = {name: value.requires_grad_() for name, value in own.items()}
        made = replace(batch, shoppers=replace(batch.shoppers, **own), **told)
        if size is None:
            plainly(model, made, labels)
        else:
            learned(model, made, labels, size=size, patch=monkeypatch)
        of[size] = [one.grad for one in (*own.values(), *told.values()) if one.grad is not None]
    assert len(of[4]) == len(of[None]) == 6
    for found, expected in zip(of[4], of[None], strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-3)


def test_in_bfloat16_parts_differ_no_more_than_bfloat16_does(
    ragged: tuple[PurchaseModel, Batch, Tensor], monkeypatch: pytest.MonkeyPatch
):
    _, exact = plainly(*ragged)
    _, found = learned(*ragged, size=4, patch=monkeypatch, bf16=True)
    assert found.keys() == exact.keys()
    for name, gradient in exact.items():
        if gradient.abs().max() > 1e-6:
            assert torch.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0) > 0.99, name


def test_auxiliary_tasks_do_not_ask_about_what_the_decoder_does_not_read(ragged: tuple[PurchaseModel, Batch, Tensor]):
    model, batch, labels = ragged
    stage = DecoderStage(model, replace(PLAIN, auxiliary=TASKS)).train()
    assert batch.targets is not None
    never_sold = batch.features[..., NEVER_SOLD, None] > 0
    asked = {
        name: stage(replace(batch, targets=batch.targets.masked_fill(mask, torch.nan)), labels)["loss"].detach()
        for name, mask in (("as it is", torch.tensor(False)), ("never sold", never_sold), ("sold", ~never_sold))
    }
    assert asked["never sold"] == asked["as it is"] != asked["sold"]


def test_inputs_whose_gradients_are_one_tensor_each_get_their_own():
    a, b = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    parts.summed([lambda: (a + b).sum(), lambda: (2 * (a + b)).sum()], [a, b]).backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.tolist() == b.grad.tolist() == [3.0] * 3


def test_what_waits_for_the_backward_pass_is_a_part(
    ragged: tuple[PurchaseModel, Batch, Tensor], monkeypatch: pytest.MonkeyPatch
):
    most = {size: most_waiting(ragged, size, monkeypatch) for size in (100, 4, 1)}
    assert most[4] < 0.6 * most[100]
    assert most[1] < 0.8 * most[4]


def most_waiting(ragged: tuple[PurchaseModel, Batch, Tensor], size: int, patch: pytest.MonkeyPatch) -> int:
    """Bytes at most that are kept for a backward pass at the same time, what several steps keep counted once each."""
    alive, most = [0], [0]

    class Kept:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    def gone(count: int) -> None:
        alive[0] -= count

    def keep(value: Tensor) -> Kept:
        kept, count = Kept(value), value.nbytes
        alive[0] += count
        most[0] = max(most[0], alive[0])
        weakref.finalize(kept, gone, count)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.value):
        learned(*ragged, size=size, patch=patch)
    return most[0]


def test_parts_hold_like_rows(ragged: tuple[PurchaseModel, Batch, Tensor], monkeypatch: pytest.MonkeyPatch):
    _, batch, _ = ragged
    monkeypatch.setattr(parts, "SIZE", 4)
    found = parts.alike(batch)
    assert sorted(torch.cat(list(found)).tolist()) == list(range(11))
    assert [len(at) for at in found] == [4, 4, 3]
    words = batch.shoppers.mask.sum(dim=1)

    def area(of: Sequence[Tensor]) -> int:
        return sum(len(at) * int(words[at].max() + batch.counts[at].max()) for at in of)

    assert area(found) < 0.95 * area(torch.arange(11).split(4))
    cut = batch.rows(found[0])
    assert cut.weight.shape[1] >= int(batch.counts[found[0]].max())
    torch.testing.assert_close(cut.weight.sum(dim=1), batch.weight[found[0]].sum(dim=1))
    torch.testing.assert_close(cut.shoppers.mask.sum(dim=1), words[found[0]])
