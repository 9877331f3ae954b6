"""LoRA: settings, ranks of layers, scales, dropout, and peft opens what was trained."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest

from peftrec.backbone import Backbone
from peftrec.errors import ConfigError
from peftrec.model.adapter import first_layer
from peftrec.model.decoder import Layer, read_shopper
from peftrec.tuners import LoRAConfig
from peftrec.tuners.maps import TARGETS, RowDropout


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
    LoRAConfig(rank=4, dropout=0.25).attach(decoder, seed=0, steps=1)
    dropouts = [module for module in decoder.modules() if isinstance(module, RowDropout)]
    assert len(dropouts) == len(TARGETS) * len(decoder)
    x = torch.rand(200, 7, 64) + 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = dropouts[0](x)
    lost = kept == 0
    assert (lost == lost[:, :1]).all()
    assert binomtest(int(lost[:, 0].sum()), lost[:, 0].numel(), 0.25).pvalue > 0.01
    torch.testing.assert_close(kept[~lost], x[~lost] / 0.75)
    assert dropouts[0].eval()(x) is x


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
