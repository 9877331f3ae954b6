"""The decoder's attention of candidates, whichever way it is computed."""

import pytest
import torch

from peftrec.backbone import Backbone
from peftrec.model.decoder import Layer, read_candidates, read_shopper


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_candidates_read_without_gradients_say_the_same(tiny_backbone: Backbone, precision: str):
    layers = [Layer.of(layer) for layer in tiny_backbone.decoder()]
    x, candidates = torch.randn(3, 9, 64), torch.randn(3, 40, 64)
    mask = torch.rand(3, 9) < 0.6
    mask[:, -1] = True

    def outputs() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            _, memories = read_shopper(layers, x, mask)
            return read_candidates(layers, candidates, mask, memories)

    with torch.inference_mode():
        fused = outputs()
    torch.testing.assert_close(fused, outputs(), atol=1e-5 if precision == "fp32" else 0.1, rtol=0)


@pytest.mark.parametrize("asked", [slice(None), slice(0, 1), slice(-1, None)])
def test_words_that_are_asked_for_read_what_all_of_them_would(tiny_backbone: Backbone, asked: slice):
    layers = [Layer.of(layer) for layer in tiny_backbone.decoder()]
    x, mask = torch.randn(3, 9, 64), torch.rand(3, 9) < 0.6
    mask[:, -1] = True
    with torch.inference_mode():
        whole, memories = read_shopper(layers, x, mask)
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            found, remembered = read_shopper(layers, x, mask, asked=asked)
        torch.testing.assert_close(found, whole[:, asked], atol=1e-5, rtol=0)
        for mine, full in zip(remembered, memories, strict=True):
            torch.testing.assert_close(mine.key[:, :, :9], full.key[:, :, :9], atol=1e-5, rtol=0)


def test_a_candidate_sees_no_other(tiny_backbone: Backbone):
    layers = [Layer.of(layer) for layer in tiny_backbone.decoder()]
    x, mask, candidates = torch.randn(1, 4, 64), torch.ones(1, 4, dtype=torch.bool), torch.randn(1, 6, 64)
    with torch.inference_mode():
        _, memories = read_shopper(layers, x, mask)
        whole = read_candidates(layers, candidates, mask, memories)
        alone = torch.cat([read_candidates(layers, one, mask, memories) for one in candidates.split(1, dim=1)], dim=1)
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)


def test_words_travel_in_the_type_that_the_layers_say(tiny_backbone: Backbone):
    torch.manual_seed(0)
    x, mask, candidates = torch.randn(1, 4, 64), torch.ones(1, 4, dtype=torch.bool), torch.randn(1, 6, 64)
    outputs = list[torch.Tensor]()
    for words in (torch.float32, torch.bfloat16):
        decoder = tiny_backbone.decoder()
        for module in decoder.modules():
            if isinstance(module, torch.nn.Linear):
                module.to(words)
        layers = [Layer.of(layer, words=words) for layer in decoder]
        with torch.inference_mode():
            output, memories = read_shopper(layers, x, mask)
            outputs.append(read_candidates(layers, candidates, mask, memories))
        assert {output.dtype, memories[0].key.dtype, outputs[-1].dtype} == {words}
    assert torch.cosine_similarity(outputs[1].float(), outputs[0], dim=-1).min() > 0.999
