"""Texts read without their padding, beside BERT's own way."""

import pytest
import torch
from torch import Tensor

from peftrec.adaptation.masking import Reader
from peftrec.adaptation.packed import Packing, read_packed
from peftrec.backbone import Backbone

TEXTS = ["tea", "small red kettles, tea pot", "tea pot and kettles, small, small", "red tea"] * 30


def inputs(backbone: Backbone, *, pairs: bool) -> dict[str, Tensor]:
    return Reader(backbone, max_words=32).read(TEXTS, TEXTS[::-1] if pairs else None).inputs()


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_hidden_states_and_gradients_are_those_of_bert(tiny_backbone: Backbone, *, pairs: bool, attention: str):
    bert, read = tiny_backbone.bert.requires_grad_(True), inputs(tiny_backbone, pairs=pairs)
    bert.set_attn_implementation(attention)
    real = read["attention_mask"].bool()
    found, expected = read_packed(bert, read), bert(**read).last_hidden_state
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-4)
    wanted = torch.randn(expected[real].shape, generator=torch.Generator().manual_seed(0))

    def gradients(hidden: Tensor) -> dict[str, Tensor]:
        bert.zero_grad()
        (hidden[real] * wanted).sum().backward()
        return {name: value.grad.clone() for name, value in bert.named_parameters() if value.grad is not None}

    own, theirs = gradients(found), gradients(expected)
    assert own.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(own[name], value, atol=1e-3, rtol=1e-3, msg=name)


def test_pieces_looked_at_are_those_of_the_whole(tiny_backbone: Backbone):
    bert, read = tiny_backbone.bert.requires_grad_(True), inputs(tiny_backbone, pairs=True)
    places = read["attention_mask"].flatten().nonzero()[:, 0]
    places = places[torch.randperm(len(places), generator=torch.Generator().manual_seed(0))[:50]]
    whole, some = read_packed(bert, read).flatten(0, 1)[places], read_packed(bert, read, places)
    torch.testing.assert_close(some, whole, atol=1e-5, rtol=1e-4)
    name = "encoder.layer.0.attention.self.query.weight"
    slopes = [torch.autograd.grad(x.square().sum(), bert.get_parameter(name))[0] for x in (some, whole)]
    torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-3)


def test_texts_of_one_length_need_no_mask(tiny_backbone: Backbone):
    read = Reader(tiny_backbone, max_words=32).read(["red tea", "tea pot"]).inputs()
    assert "attention_mask" not in read
    found = read_packed(tiny_backbone.bert, read)
    torch.testing.assert_close(found, tiny_backbone.bert(**read).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_padding_is_left_out_but_for_what_rounds_up(tiny_backbone: Backbone):
    read = inputs(tiny_backbone, pairs=False)
    packing, real = Packing.of(read), int(read["attention_mask"].sum())
    assert real <= len(packing.at) < real + 64
    assert len(packing.at) % 64 == 0
    assert {*read["attention_mask"].flatten().nonzero()[:, 0].tolist()} <= {*packing.at.tolist()}


def test_half_precision_stays_close(tiny_backbone: Backbone):
    read = inputs(tiny_backbone, pairs=True)
    real = read["attention_mask"].bool()
    exact = read_packed(tiny_backbone.bert, read)[real]
    with torch.autocast("cpu", torch.bfloat16):
        found = read_packed(tiny_backbone.bert, read)[real]
    assert torch.cosine_similarity(found.float(), exact, dim=1).min() > 0.999


def test_a_bert_of_one_type_reads_without_types(tiny_backbone: Backbone):
    read = {name: value for name, value in inputs(tiny_backbone, pairs=False).items() if name != "token_type_ids"}
    real = read["attention_mask"].bool()
    found, expected = read_packed(tiny_backbone.bert, read), tiny_backbone.bert(**read).last_hidden_state
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=1e-4)
