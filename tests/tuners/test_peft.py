"""peft opens what low-rank methods export, and what peft trained comes in; what cannot is refused with all reasons."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from torch import Tensor

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.errors import ConfigError, CorruptAdapterError, IncompatibleAdapterError
from peftrec.model import Adapter
from peftrec.model.decoder import Layer, read_shopper
from peftrec.model.extras import initial
from peftrec.model.mixed import Mixture, mixed_layers
from peftrec.model.purchase import PurchaseModel
from peftrec.model.shapes import first_layer
from peftrec.training import TrainConfig, train_adapter
from peftrec.tuners import AdaLoRAConfig, Arrays, BottleneckConfig, LoRAConfig, Tuner, import_peft


@pytest.fixture(scope="module")
def deep(tiny_bert: Callable[..., Path]) -> Backbone:
    """Four layers, of which the upper two are the decoder."""
    return Backbone.load(tiny_bert(layers=4), decoder_layers=2)


def tuned(tuner: Tuner, backbone: Backbone) -> Adapter:
    """An adapter as a training might have made it."""
    random, decoder = torch.Generator().manual_seed(0), backbone.decoder()
    attached = tuner.attach(decoder, seed=0, steps=20)
    for name, value in decoder.named_parameters():
        if "lora_" in name:
            value.data.normal_(std=0.2, generator=random)
            if "lora_E" in name:
                value.data[torch.rand(len(value), generator=random) < 0.5] = 0
    extras = initial(backbone.hidden, gain=1.0, generator=random)
    changes = attached.export(first_layer(backbone))
    return Adapter.of(PurchaseModel(decoder, extras), backbone, tuner, changes)


def upper_layers(model: torch.nn.Module, backbone: Backbone, x: Tensor) -> Tensor:
    """What the decoder's layers of a whole BERT make of words."""
    for number in range(first_layer(backbone), backbone.layers):
        out = model.get_submodule(f"encoder.layer.{number}")(x)
        x = out[0] if isinstance(out, tuple) else out
    return x


def words(backbone: Backbone) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, 7, backbone.hidden, generator=torch.Generator().manual_seed(1))
    return x, torch.ones(2, 7, dtype=torch.bool)


def read(changes: Arrays, backbone: Backbone) -> Tensor:
    own = changes.map(torch.as_tensor)
    layers = mixed_layers(backbone.decoder(), Mixture.of([own]), first_layer=first_layer(backbone))
    return read_shopper(layers, *words(backbone))[0]


@torch.inference_mode()
@pytest.mark.parametrize(
    "tuner",
    [
        LoRAConfig(rank=4),
        LoRAConfig(rank=(2, 5), alpha=3.0),
        LoRAConfig(rank=4, rank_stabilised=True, alpha=6.0, targets=("key", "intermediate")),
        AdaLoRAConfig(rank=3),
        AdaLoRAConfig(rank=1, initial_rank=2, targets=("query", "output")),
    ],
    ids=["lora", "ranks of layers", "rank-stabilised", "adalora", "adalora with maps that lost all"],
)
def test_peft_opens_what_was_exported(tuner: Tuner, deep: Backbone, tmp_path: Path):
    adapter = tuned(tuner, deep)
    for name, content in adapter.files().items():
        (tmp_path / name).write_bytes(content)
    wrapped = PeftModel.from_pretrained(deep.tuned_bert(), tmp_path).eval()
    x, mask = words(deep)
    theirs = upper_layers(wrapped.base_model.model, deep, x)  # pyright: ignore
    ours, _ = read_shopper(adapter.layers(), x, mask)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    plain, _ = read_shopper([Layer.of(layer) for layer in deep.decoder()], x, mask)
    assert (ours - plain).abs().max() > 0.01


@torch.inference_mode()
def test_folding_is_exact(deep: Backbone):
    tuner, random, decoder = AdaLoRAConfig(rank=3), torch.Generator().manual_seed(0), deep.decoder()
    attached = tuner.attach(decoder, seed=0, steps=20)
    for name, value in decoder.named_parameters():
        if "lora_" in name:
            value.data.normal_(std=0.2, generator=random)
            if "lora_E" in name:
                value.data[:2] = 0
    x, mask = words(deep)
    trained, _ = read_shopper([Layer.of(layer) for layer in decoder.eval()], x, mask)
    changes = attached.export(first_layer(deep))
    torch.testing.assert_close(read(changes, deep), trained, atol=1e-5, rtol=0)
    assert {*changes.ranks.values()} == {tuner.first_rank - 2}


def test_a_bottleneck_is_refused_by_peft_itself(deep: Backbone, tmp_path: Path):
    for name, content in tuned(BottleneckConfig(width=4), deep).files().items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, KeyError)):
        PeftModel.from_pretrained(deep.tuned_bert(), tmp_path)


def of_peft(backbone: Backbone, folder: Path, **settings: Any) -> Tensor:
    """Saves an adapter that peft made for the backbone; returns what the decoder's layers do with it."""
    chosen = {"r": 4, "target_modules": r"encoder\.layer\.[23]\.attention\.self\.(query|value)"} | settings
    wrapped = get_peft_model(backbone.tuned_bert(), LoraConfig(**chosen)).eval()
    random = torch.Generator().manual_seed(2)
    for name, value in wrapped.named_parameters():
        if "lora_" in name:
            value.data.normal_(std=0.2, generator=random)
    wrapped.save_pretrained(folder)
    with torch.inference_mode():
        return upper_layers(wrapped.base_model.model, backbone, words(backbone)[0])  # pyright: ignore


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "lora_alpha": 5},
        {"rank_pattern": {"3.attention.self.value": 2}, "alpha_pattern": {"2.attention.self.query": 9}},
        {"target_modules": r"encoder\.layer\.3\..*dense"},
    ],
    ids=["plain", "rank-stabilised", "patterns", "one layer"],
)
def test_what_peft_trained_comes_in(settings: dict, deep: Backbone, tmp_path: Path):
    theirs = of_peft(deep, tmp_path, **settings)
    tuner, changes = import_peft(tmp_path, deep)
    with torch.inference_mode():
        torch.testing.assert_close(read(changes, deep), theirs, atol=1e-5, rtol=1e-4)
    decoder = deep.decoder()
    attached = tuner.attach(decoder, seed=0, steps=1)
    assert attached.load is not None
    attached.load(changes, first_layer(deep))
    with torch.inference_mode():
        again, _ = read_shopper([Layer.of(layer) for layer in decoder.eval()], *words(deep))
    torch.testing.assert_close(again, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"target_modules": r"encoder\.layer\.[13]\..*query"},
            "encoder.layer.1.attention.self.query is tuned, but .* 2 to 3",
        ),
        ({"target_modules": ["query", "word_embeddings"]}, "word_embeddings"),
        ({"use_dora": True}, "DoRA"),
        ({"bias": "lora_only"}, "trained biases"),
        ({"modules_to_save": ["LayerNorm"]}, "modules that were trained whole"),
    ],
)
def test_what_the_decoder_does_not_have_is_refused(settings: dict, reason: str, deep: Backbone, tmp_path: Path):
    of_peft(deep, tmp_path, **settings)
    with pytest.raises(IncompatibleAdapterError, match=reason):
        import_peft(tmp_path, deep)


def test_another_width_is_refused(tiny_bert: Callable[..., Path], deep: Backbone, tmp_path: Path):
    of_peft(Backbone.load(tiny_bert(layers=4, hidden=32), decoder_layers=2), tmp_path)
    with pytest.raises(IncompatibleAdapterError, match=r"is \(32, 4\) by \(4, 32\), for a map of \(64, 64\)"):
        import_peft(tmp_path, deep)


def test_files_that_are_none_are_refused(deep: Backbone, tmp_path: Path):
    with pytest.raises(CorruptAdapterError, match=r"adapter_config\.json cannot be read"):
        import_peft(tmp_path, deep)
    of_peft(deep, tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = next(iter(tensors))
    save_file(tensors | {name: np.full_like(tensors[name], np.nan)}, weights)
    with pytest.raises(CorruptAdapterError, match="no matrix of finite numbers"):
        import_peft(tmp_path, deep)
    save_file({key: value for key, value in tensors.items() if key != name}, weights)
    with pytest.raises(IncompatibleAdapterError, match="no part of LoRA"):
        import_peft(tmp_path, deep)
    weights.write_bytes(b"\x80\x04pickle")
    with pytest.raises(CorruptAdapterError, match="pickles"):
        import_peft(tmp_path, deep)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    save_file(tensors, weights)
    with pytest.raises(IncompatibleAdapterError, match="peft_type 'IA3', not LORA"):
        import_peft(tmp_path, deep)


@pytest.mark.slow
def test_training_starts_from_what_peft_trained(board_shop: Dataset, tiny_backbone: Backbone, tmp_path: Path):
    of_peft(tiny_backbone, tmp_path, target_modules=r"encoder\.layer\.1\..*(query|value)")
    tuner, start = import_peft(tmp_path, tiny_backbone)
    config = TrainConfig(horizon_days=7, anchors=1, epochs=0.1, feature_epochs=0.1, precision="fp32")
    tuner = replace(tuner, learning_rate=1e-9)
    adapter = train_adapter(board_shop, tiny_backbone, tuner, config, start=start, progress=False)
    for name, pair in start.low_rank.items():
        np.testing.assert_allclose(adapter.changes.low_rank[name].b, pair.b, atol=2e-3)
    longer = replace(config, epochs=4)
    with pytest.raises(ConfigError, match="values to start 'adalora' from"):
        train_adapter(board_shop, tiny_backbone, AdaLoRAConfig(), longer, start=start, progress=False)


def test_the_shipped_form_of_lora_is_peft_s(trained: Adapter, backbone: Backbone, tmp_path: Path):
    for name, content in trained.files().items():
        (tmp_path / name).write_bytes(content)
    tuner, changes = import_peft(tmp_path, backbone)
    assert isinstance(trained.config, LoRAConfig)
    assert tuner.rank == trained.config.rank
    for name, pair in trained.changes.low_rank.items():
        np.testing.assert_allclose(changes.low_rank[name].b, pair.b, rtol=1e-6)
        assert np.array_equal(changes.low_rank[name].a, pair.a)
