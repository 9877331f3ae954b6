"""LoRA: what is trained, exported and opened by peft gives one and the same output."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from scipy.stats import binomtest

from peftrec.backbone import Backbone
from peftrec.errors import ConfigError
from peftrec.model import Adapter
from peftrec.model.adapter import first_layer
from peftrec.model.decoder import Layer, read_shopper
from peftrec.model.extras import initial
from peftrec.model.purchase import PurchaseModel
from peftrec.tuners import LoRAConfig, lora
from peftrec.tuners.neutral import LowRank


@pytest.mark.parametrize(
    "settings",
    [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": ("query", "pooler")}, {"targets": ()}],
)
def test_settings_that_cannot_work(settings: dict):
    with pytest.raises(ConfigError, match="expected"):
        LoRAConfig(**settings)


def test_rank_above_the_width(tiny_backbone: Backbone):
    with pytest.raises(ConfigError, match="at most 64"):
        lora.attach(tiny_backbone.decoder(), LoRAConfig(rank=65), seed=0)


def test_a_fresh_tuner_changes_nothing_and_only_it_is_trainable(tiny_backbone: Backbone):
    plain, tuned = tiny_backbone.decoder(), tiny_backbone.decoder()
    lora.attach(tuned, LoRAConfig(rank=4), seed=0)
    tuned.eval()
    x, mask = torch.randn(2, 5, 64), torch.ones(2, 5, dtype=torch.bool)
    before, _ = read_shopper([Layer.of(layer) for layer in plain], x, mask)
    after, _ = read_shopper([Layer.of(layer) for layer in tuned], x, mask)
    torch.testing.assert_close(before, after)
    assert {name for name, value in tuned.named_parameters() if value.requires_grad} == {
        name for name, _ in tuned.named_parameters() if "lora_" in name
    }


def test_all_words_of_a_row_lose_the_same_inputs(tiny_backbone: Backbone):
    decoder = tiny_backbone.decoder()
    lora.attach(decoder, LoRAConfig(rank=4, dropout=0.25), seed=0)
    dropouts = [module for module in decoder.modules() if isinstance(module, lora.RowDropout)]
    assert len(dropouts) == len(lora.TARGETS) * len(decoder)
    x = torch.rand(200, 7, 64) + 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = dropouts[0](x)
    lost = kept == 0
    assert (lost == lost[:, :1]).all()
    assert binomtest(int(lost[:, 0].sum()), lost[:, 0].numel(), 0.25).pvalue > 0.01
    torch.testing.assert_close(kept[~lost], x[~lost] / 0.75)
    assert dropouts[0].eval()(x) is x


def test_what_was_trained_is_what_is_exported(tiny_backbone: Backbone):
    random = torch.Generator().manual_seed(0)
    decoder, config = tiny_backbone.decoder(), LoRAConfig(rank=4)
    lora.attach(decoder, config, seed=0)
    for name, value in decoder.named_parameters():
        if "lora_" in name:
            value.data.normal_(std=0.1, generator=random)  # as if it had been trained for long
    extras = initial(tiny_backbone.hidden, gain=5.0, generator=random)
    for name in ("head_1", "head_2", "candidate_in", "shopper_gate"):
        extras[name].normal_(generator=random)
    model = PurchaseModel(decoder, extras).eval()
    exported = Adapter.of(model, tiny_backbone, config).model()
    x, mask = torch.randn(2, 5, 64, generator=random), torch.ones(2, 5, dtype=torch.bool)
    with torch.inference_mode():
        ours, theirs = (read_shopper(one.layers(), x, mask)[0] for one in (model, exported))
        plain, _ = read_shopper([Layer.of(layer) for layer in tiny_backbone.decoder()], x, mask)
    torch.testing.assert_close(theirs, ours, atol=5e-3, rtol=0)  # weights are rounded to half precision
    assert (plain - ours).abs().max() > 0.1
    for name, value in exported.extras.items():
        torch.testing.assert_close(value, model.extras[name], atol=2e-3, rtol=1e-3)


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


def test_trained_equals_exported_equals_peft(trained: Adapter, backbone: Backbone, tmp_path: Path):
    for name, content in trained.files().items():
        (tmp_path / name).write_bytes(content)
    wrapped = PeftModel.from_pretrained(type(backbone.bert)(backbone.bert.config, add_pooling_layer=False), tmp_path)
    wrapped.base_model.model.load_state_dict(
        {_peft_name(key, wrapped): value for key, value in backbone.bert.state_dict().items()}, strict=False
    )
    wrapped.eval()
    x, mask = torch.randn(2, 7, backbone.hidden) * 0.5, torch.ones(2, 7, dtype=torch.bool)
    with torch.inference_mode():
        ours, _ = read_shopper(trained.model().layers(), x, mask)
        theirs = x
        layers = list(wrapped.base_model.model.encoder.layer)  # pyright: ignore
        for layer in layers[first_layer(backbone) :]:
            out = layer(theirs)
            theirs = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    plain, _ = read_shopper([Layer.of(layer) for layer in backbone.decoder()], x, mask)
    assert not torch.allclose(ours, plain, atol=1e-3)  # the adapter does change something


def _peft_name(key: str, wrapped: PeftModel) -> str:
    """peft moves a tuned linear map's weight under ``base_layer``."""
    stem, _, leaf = key.rpartition(".")
    moved = f"{stem}.base_layer.{leaf}"
    return moved if moved in wrapped.base_model.model.state_dict() else key


def test_neutral_form_goes_to_peft_and_back(trained: Adapter):
    assert trained.config is not None
    again = LowRank.from_peft(trained.low_rank.to_peft(trained.config.scale), trained.config.scale)
    assert again.ranks == trained.low_rank.ranks
    for name, pair in trained.low_rank.pairs.items():
        assert (again.pairs[name].a == pair.a).all()
        assert (again.pairs[name].b == pair.b).all()
