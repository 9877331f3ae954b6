"""Any mixture of methods, ranks and activations in one batch gives each row what it gets alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from peftrec.backbone import Backbone, native_precision
from peftrec.backbone.int8 import int8_linears, packed
from peftrec.model.decoder import read_candidates, read_shopper
from peftrec.model.mixed import Mixture, each, mixed_layers
from peftrec.model.shapes import first_layer
from peftrec.tuners import AdaLoRAConfig, BottleneckConfig, Changes, HeadOnlyConfig, LoRAConfig, Tuner

TUNERS = (
    LoRAConfig(rank=2),
    LoRAConfig(rank=(7, 3), targets=("value", "output")),
    HeadOnlyConfig(),
    BottleneckConfig(width=5, placement="houlsby", activation="relu"),
    BottleneckConfig(width=9, activation="tanh"),
    BottleneckConfig(width=3, placement="parallel", scale_by=2.0),
)


@pytest.fixture(scope="module")
def backbone(tiny_bert: Callable[..., Path]) -> Backbone:
    return Backbone.load(tiny_bert(layers=4), decoder_layers=2)


def changed(tuner: Tuner, backbone: Backbone, *, seed: int) -> Changes[Tensor]:
    """What a tuner might have become."""
    random, decoder = torch.Generator().manual_seed(seed), backbone.decoder()
    attached = tuner.attach(decoder, seed=0, steps=10)
    for value in decoder.parameters():
        if value.requires_grad:
            value.data.normal_(std=0.2, generator=random)
    return attached.export(first_layer(backbone)).map(torch.as_tensor)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_each_row_of_a_mixture_equals_the_row_alone(backbone: Backbone, precision: str):
    rows = [changed(tuner, backbone, seed=at) for at, tuner in enumerate(TUNERS)]
    rows += rows[:2]  # two rows of one adapter
    base = int8_linears(backbone.decoder()) if precision == "int8" else backbone.decoder()
    x, candidates = torch.randn(len(rows), 5, 64), torch.randn(len(rows), 7, 64)
    mask = torch.rand(len(rows), 5) < 0.8
    mask[:, -1] = True

    def run(changes: list[Changes[Tensor]], at: slice) -> Tensor:
        layers = mixed_layers(base, Mixture.of(changes), first_layer=first_layer(backbone))  # pyright: ignore
        _, memories = read_shopper(layers, x[at], mask[at])
        return read_candidates(layers, candidates[at], mask[at], memories)

    with torch.inference_mode():
        together = run(rows, slice(None))
        alone = torch.cat([run([row], slice(at, at + 1)) for at, row in enumerate(rows)])
        plain = run([Changes()], slice(None))
    torch.testing.assert_close(together, alone, atol=1e-5 if precision == "fp32" else 2e-3, rtol=0)
    difference = (alone - plain).abs().amax(dim=(1, 2))
    assert difference[TUNERS.index(HeadOnlyConfig())] < 1e-6
    assert (difference > 0.1).sum() == len(rows) - 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8", "packed"])
def test_maps_of_the_same_words_make_of_them_together_what_each_makes_alone(backbone: Backbone, precision: str):
    rows = [changed(tuner, backbone, seed=at) for at, tuner in enumerate(TUNERS[:3])]
    base = backbone.decoder()
    if precision == "bf16":
        for module in base.modules():
            if isinstance(module, torch.nn.Linear):
                module.to(torch.bfloat16)
    elif precision != "fp32":
        base = packed(int8_linears(base)) if precision == "packed" else int8_linears(base)
    x = torch.randn(len(rows), 7, 64)
    for mixture in (Mixture.of(rows), Mixture.of(rows[1:2]), Mixture.of([Changes()])):
        layer = mixed_layers(base, mixture, first_layer=first_layer(backbone))[0]  # pyright: ignore
        maps = [layer.query, layer.value, layer.key]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            for found, map_ in zip(each(maps, x), maps, strict=True):
                alone = map_(x)
                assert found.dtype == alone.dtype
                torch.testing.assert_close(found, alone, atol=1e-5 if precision != "bf16" else 0.05, rtol=0)


def test_words_in_bfloat16_say_the_same_whoever_else_is_in_the_batch(backbone: Backbone):
    if native_precision() != "bf16":
        pytest.skip("this processor does not multiply bfloat16")
    torch.manual_seed(0)
    rows = [changed(tuner, backbone, seed=at) for at, tuner in enumerate(TUNERS)]
    rows += rows[:2]  # two rows of one adapter
    base = packed(int8_linears(backbone.decoder()))
    lengths = torch.tensor((3, 31, 32, 33, 70, 9, 70, 1))
    mask = torch.arange(int(lengths.max())) >= lengths.max() - lengths[:, None]
    x, candidates = torch.randn(*mask.shape, 64), torch.randn(len(rows), 40, 64)

    def run(changes: list[Changes[Tensor]], at: slice, longest: int) -> tuple[Tensor, Tensor]:
        first, seen = first_layer(backbone), mask[at, -longest:]
        layers = mixed_layers(base, Mixture.of(changes), first_layer=first, words=torch.bfloat16)  # pyright: ignore
        shopper, memories = read_shopper(layers, x[at, -longest:], seen, asked=slice(-1, None))
        return shopper, read_candidates(layers, candidates[at], seen, memories)

    with torch.inference_mode():
        together = run(rows, slice(None), int(lengths.max()))
        alone = [run([row], slice(at, at + 1), int(lengths[at])) for at, row in enumerate(rows)]
    for mixed, own in zip(together, map(torch.cat, zip(*alone, strict=True)), strict=True):
        assert mixed.dtype == torch.bfloat16
        assert (mixed == own).float().mean() > 0.99  # a last bit may be rounded otherwise, and the next int8 with it


def test_maps_that_nobody_changes_stay_the_shared_modules(backbone: Backbone):
    decoder, first = backbone.decoder(), first_layer(backbone)
    only = changed(LoRAConfig(rank=2, targets=("query",)), backbone, seed=0)
    layer = mixed_layers(decoder, Mixture.of([only, Changes()]), first_layer=first)[0]
    assert layer.key is decoder[0].get_submodule("attention.self.key")
    assert layer.query is not decoder[0].get_submodule("attention.self.query")
    assert layer.parallel is None


def test_a_map_without_any_rank_left_is_the_backbones(backbone: Backbone):
    decoder = backbone.decoder()
    attached = AdaLoRAConfig(rank=2, targets=("query", "key")).attach(decoder, seed=0, steps=10)
    for name, value in decoder.named_parameters():
        if "lora_E" in name:
            value.data.fill_(float("query" in name))
    changes = attached.export(first_layer(backbone))
    assert {name.rpartition(".")[2] for name in changes.ranks} == {"query"}
    mixture = Mixture.of([changes.map(torch.as_tensor)])
    key = decoder[0].get_submodule("attention.self.key")
    assert mixture.linear(key, f"encoder.layer.{first_layer(backbone)}.attention.self.key") is key
