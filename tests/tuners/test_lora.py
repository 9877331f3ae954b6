"""LoRA: settings, ranks of layers, scales, dropout, and peft opens what was trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import binomtest

from peftrec.backbone import Backbone
from peftrec.errors import ConfigError
from peftrec.model.decoder import Layer, read_shopper
from peftrec.model.shapes import first_layer
from peftrec.tuners import LoRAConfig
from peftrec.tuners.low_rank import TunedLinear
from peftrec.tuners.maps import TARGETS


@pytest.mark.parametrize(
    "settings",
    [
        {"rank": 0},
        {"rank": 2.0},
        {"rank": ()},
        {"rank": (4, 0)},
        {"alpha": 0},
        {"alpha": float("nan")},
        {"dropout": 1.0},
        {"targets": ("query", "pooler")},
        {"targets": ()},
        {"targets": ("query", "query")},
        {"learning_rate": 0.0},
    ],
)
def test_settings_that_cannot_work(settings: dict):
    with pytest.raises(ConfigError, match="expected"):
        LoRAConfig(**settings)


def test_rank_above_the_width(tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match="at most 64"):
        LoRAConfig(rank=65).attach(tiny_backbone.decoder(), seed=0, steps=1)


def test_as_many_ranks_as_layers(tiny_backbone: Backbone):
    decoder = tiny_backbone.decoder()
    with pytest.raises(ConfigError, match=f"each of the decoder's {len(decoder)} layers"):
        LoRAConfig(rank=(4,) * (len(decoder) + 1)).attach(decoder, seed=0, steps=1)


def test_each_layer_has_its_rank(tiny_bert: Callable[..., Path]):
    backbone = Backbone.load(tiny_bert(layers=4), decoder_layers=2)
    config, decoder = LoRAConfig(rank=(2, 5)), backbone.decoder()
    changes = config.attach(decoder, seed=0, steps=1).export(first_layer(backbone))
    of_layers = {int(name.split(".")[2]): rank for name, rank in changes.ranks.items()}
    assert of_layers == {2: 2, 3: 5}
    assert len(changes.ranks) == 2 * len(TARGETS)


def test_scales():
    assert LoRAConfig(rank=8).scale(8) == 2
    assert LoRAConfig(rank=8, alpha=4).scale(8) == 0.5
    stable = LoRAConfig(rank=64, alpha=16, rank_stabilised=True)
    assert stable.scale(64) == 2  # alpha / sqrt(rank); without it 0.25
    assert LoRAConfig(rank_stabilised=True).scale(16) == 2


def test_all_words_of_a_row_lose_the_same_inputs(tiny_backbone: Backbone):
    decoder = tiny_backbone.decoder()
    LoRAConfig(rank=64, alpha=64, dropout=0.25).attach(decoder, seed=0, steps=1)
    tuned: Any = decoder.train()[0].attention.self.query
    with torch.no_grad():
        for part in (tuned.lora_A, tuned.lora_B):  # the change is then what is left of the inputs
            part["default"].weight.copy_(torch.eye(64))
    x = torch.rand(200, 7, 64) + 1
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        kept = tuned(x) - tuned.get_base_layer()(x)
    lost = kept.abs() < 1e-4
    assert (lost == lost[:, :1]).all()
    assert binomtest(int(lost[:, 0].sum()), lost[:, 0].numel(), 0.25).pvalue > 0.01
    torch.testing.assert_close(kept[~lost], x[~lost] / 0.75, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(tuned.eval()(x) - tuned.get_base_layer()(x), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_our_layer_is_pefts(tiny_backbone: Backbone, bf16: bool, share: float):
    decoder = tiny_backbone.decoder()
    LoRAConfig(rank=4, dropout=share).attach(decoder, seed=0, steps=1)
    tuned: Any = decoder.train()[0].intermediate.dense
    assert type(tuned) is TunedLinear
    torch.nn.init.normal_(tuned.lora_B["default"].weight)
    x, gradient = torch.randn(3, 5, 64, requires_grad=True), torch.randn(3, 5, 128)
    trained = [x, tuned.lora_A["default"].weight, tuned.lora_B["default"].weight]
    results: list[list[torch.Tensor]] = []
    for forward in (tuned.forward, super(TunedLinear, tuned).forward):
        with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            torch.manual_seed(1)
            found = forward(x)
        results.append([found, *torch.autograd.grad(found, trained, gradient.to(found.dtype))])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).abs().max() <= (0.02 if bf16 else 1e-5) * theirs.abs().max()


def test_who_listens_to_the_parts_hears_them(tiny_backbone: Backbone):
    decoder = tiny_backbone.decoder()
    LoRAConfig(rank=4, dropout=0.3).attach(decoder, seed=0, steps=1)
    tuned: Any = decoder.train()[0].intermediate.dense
    x, heard, found = torch.randn(3, 2, 64), list[torch.Tensor](), list[torch.Tensor]()
    torch.nn.init.normal_(tuned.lora_B["default"].weight)
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found.append(tuned(x))
        tuned.lora_A["default"].register_forward_hook(lambda module, inputs, output: heard.append(output))
    torch.testing.assert_close(*found)
    assert [one.shape for one in heard] == [(3, 2, 4)]


def test_who_scored_first_can_train(tiny_backbone: Backbone):
    decoder = tiny_backbone.decoder()
    LoRAConfig(rank=4).attach(decoder, seed=0, steps=1)
    tuned: Any = decoder[0].intermediate.dense
    x = torch.randn(1, 2, 64)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.inference_mode():
            tuned(x)
        tuned(x).sum().backward()
    assert tuned.lora_B["default"].weight.grad.any()


def test_a_base_that_has_changed_is_read_anew(tiny_backbone: Backbone):
    decoder = tiny_backbone.decoder()
    LoRAConfig(rank=4).attach(decoder, seed=0, steps=1)
    tuned, x = decoder.eval()[0].intermediate.dense, torch.randn(1, 2, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = tuned(x)
        for part in (tuned.get_base_layer().weight, tuned.get_base_layer().bias):
            part.add_(1)
            assert not torch.equal(tuned(x), before)
            before = tuned(x)
            assert torch.equal(before, tuned.get_base_layer()(x))  # B is zero


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_new"])
def test_the_decoder_is_the_berts_own_layers(tiny_bert: Callable[..., Path], activation: str):
    backbone = Backbone.load(tiny_bert(activation=activation))
    x, mask = torch.randn(2, 5, 64), torch.ones(2, 5, dtype=torch.bool)
    with torch.inference_mode():
        ours, _ = read_shopper([Layer.of(layer) for layer in backbone.decoder()], x, mask)
        theirs = x
        for layer in backbone.bert.encoder.layer[first_layer(backbone) :]:
            out = layer(theirs)
            theirs = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
