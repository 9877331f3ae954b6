"""Heads and losses with known answers."""

import numpy as np
import pytest
import torch

from peftrec.adaptation.masking import Reader
from peftrec.adaptation.stage import HeadStage, LanguageStage, contrastive_loss, guessing_loss, pooled
from peftrec.backbone import Backbone
from tests.adaptation.worlds import SMALL, batches


def test_the_head_is_tied_to_the_word_embeddings(tiny_backbone: Backbone):
    stage = LanguageStage(tiny_backbone.bert.requires_grad_(True), SMALL)
    words = tiny_backbone.bert.embeddings.word_embeddings.weight
    assert [tuple(value.shape) for value in stage.state_dict().values()].count(tuple(words.shape)) == 1
    hidden = torch.randn(3, 64)
    expected = stage.masked_head.transform(hidden) @ words.T + stage.masked_head.bias
    assert torch.allclose(stage.masked_head(hidden, words), expected, atol=1e-5)
    stage.masked_head(hidden, words).sum().backward()
    assert words.grad is not None
    assert (words.grad != 0).all(dim=1).any()


def test_only_masked_places_go_through_the_head(tiny_backbone: Backbone):
    stage, seen = LanguageStage(tiny_backbone.bert, SMALL), list[int]()
    stage.masked_head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    inputs = batches(tiny_backbone)[0]
    tiny_backbone.bert.encoder.layer[-1].output.dense.register_forward_hook(lambda _, __, out: seen.append(len(out)))
    stage(joint=inputs["joint"])
    masked = len(inputs["joint"]["labels"])
    assert seen == [masked + len(inputs["joint"]["follows"]), masked]
    assert inputs["joint"]["read"]["input_ids"].numel() > 3 * masked


def test_a_place_that_is_masked_and_first_keeps_both_gradients(tiny_backbone: Backbone):
    bert = tiny_backbone.bert.requires_grad_(True)
    stage, part = LanguageStage(bert, SMALL), batches(tiny_backbone)[0]["joint"]
    part = part | {"places": torch.tensor([0, 3]), "labels": torch.tensor([7, 8])}  # what stands first is masked, too
    name = "encoder.layer.0.attention.self.query.weight"
    hidden = bert(**part["read"]).last_hidden_state
    masked = guessing_loss(stage.masked_head, bert, hidden.flatten(0, 1)[part["places"]], part["labels"])
    follows = torch.nn.functional.cross_entropy(stage.next_head(hidden), part["follows"])
    expected = torch.autograd.grad(masked + SMALL.nsp_weight * follows, bert.get_parameter(name))[0]
    found = torch.autograd.grad(stage(joint=part)["loss"], bert.get_parameter(name))[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-3)


def test_texts_without_a_word_to_guess_train_a_head_by_nothing(tiny_backbone: Backbone):
    stage, part = HeadStage(tiny_backbone.bert), batches(tiny_backbone)[0]["joint"]
    nothing = torch.empty(0, dtype=torch.long)
    loss = stage(joint=part | {"places": nothing, "labels": nothing})["loss"]
    loss.backward()
    assert loss == 0
    assert stage.masked_head.bias.grad is not None
    assert not stage.masked_head.bias.grad.any()


def test_the_gradients_of_both_passes_add_up_to_that_of_the_whole(tiny_backbone: Backbone):
    stage = LanguageStage(tiny_backbone.bert.requires_grad_(True), SMALL)
    inputs = batches(tiny_backbone)[0]

    def gradients(*parts: dict[str, dict[str, object]]) -> dict[str, torch.Tensor]:
        stage.zero_grad()
        for part in parts:
            stage(**part)["loss"].backward()
        return {name: value.grad.clone() for name, value in stage.named_parameters() if value.grad is not None}

    whole = gradients(inputs)
    apart = gradients({"joint": inputs["joint"]}, {"single": inputs["single"]})
    assert whole.keys() == apart.keys()
    for name, value in whole.items():
        torch.testing.assert_close(apart[name], value, atol=1e-5, rtol=1e-4)


def test_the_contrastive_loss_is_that_of_the_paper():
    torch.manual_seed(0)
    vectors, pairs = torch.randn(6, 8), torch.tensor([[0, 2, 4], [1, 3, 5]])
    unit = torch.nn.functional.normalize(vectors, dim=1)
    first, second = unit[pairs[0]], unit[pairs[1]]
    both = 0.0
    for one, other in ((first, second), (second, first)):
        scores = (one @ other.T / 0.1).exp()
        both += float(-(scores.diagonal() / scores.sum(dim=1)).log().mean()) / 2
    assert float(contrastive_loss(vectors, pairs, temperature=0.1)) == pytest.approx(both, rel=1e-5)


def test_a_text_met_again_in_the_batch_is_no_negative():
    torch.manual_seed(0)
    vectors = torch.randn(4, 8)
    # Neither 0 nor what it was bought with, 1 and 3, is a negative of 0.
    found = contrastive_loss(vectors, torch.tensor([[0, 2, 3], [1, 1, 0]]), temperature=0.1)
    unit = torch.nn.functional.normalize(vectors, dim=1)
    scores = (unit @ unit.T / 0.1).exp()

    def term(anchor: int, positive: int, *negatives: int) -> float:
        row = scores[anchor]
        return float(-(row[positive] / (row[positive] + row[list(negatives)].sum())).log())

    forward = term(0, 1) + term(2, 1, 0) + term(3, 0, 1, 1)
    backward = term(1, 0, 3) + term(1, 2, 3) + term(0, 3, 2)
    assert float(found) == pytest.approx((forward + backward) / 6, rel=1e-5)


def test_vectors_are_pooled_as_the_item_encoder_does(tiny_backbone: Backbone):
    texts = ["tea", "small red kettles, tea pot"]
    inputs = Reader(tiny_backbone, max_words=32).read(texts).inputs()
    found = pooled(tiny_backbone.bert(**inputs).last_hidden_state, inputs["attention_mask"])
    expected = tiny_backbone.encode(texts, precision="fp32", progress=False)
    assert np.allclose(found.numpy(), expected, atol=1e-5)
