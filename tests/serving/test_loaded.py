"""Adapters in a few flat tensors: nothing is lost, and a batch of them is what each of them is alone."""

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from peftrec.backbone import Backbone
from peftrec.model import Adapter, PurchaseModel, forest
from peftrec.model import extras as ops
from peftrec.model.microscaling import fits
from peftrec.model.shapes import first_layer
from peftrec.registry import Registry
from peftrec.serving.decoding import HOT, Decoding
from peftrec.serving.loaded import Loaded, extras_of, mixture_of
from peftrec.tuners import BottleneckConfig, HeadOnlyConfig, LoRAConfig, Tuner

RECIPES = (
    LoRAConfig(rank=4),
    LoRAConfig(
        rank=8, rank_stabilised=True
    ),  # its scale is no power of two: what is folded with it needs single precision
    LoRAConfig(rank=3, targets=("query",)),
    BottleneckConfig(width=5, placement="houlsby", activation="relu"),
    HeadOnlyConfig(),
)


def adapter_of(backbone: Backbone, tuner: Tuner, seed: int) -> Adapter:
    """What training might have made of it."""
    random, decoder = torch.Generator().manual_seed(seed), backbone.decoder()
    attached = tuner.attach(decoder, seed=seed, steps=10)
    for value in decoder.parameters():
        if value.requires_grad:
            value.data.normal_(std=0.1, generator=random)
    changes = attached.export(first_layer(backbone))
    extras = ops.initial(backbone.hidden, gain=1.0, generator=random)
    changed = {
        name: (value + 0.01 * torch.randn(value.shape, generator=random)).numpy() for name, value in extras.items()
    }
    made = Adapter(backbone=backbone, config=tuner, changes=changes, extras=changed)
    return replace(made, extras={n: v if n in ops.EXACT else v.astype(np.float16) for n, v in made.extras.items()})


@pytest.fixture(scope="module")
def tiny(tiny_bert) -> Backbone:
    return Backbone.load(tiny_bert(layers=4), decoder_layers=2)


@pytest.mark.parametrize("tuner", RECIPES, ids=lambda tuner: tuner.method)
def test_nothing_is_lost(tiny: Backbone, tuner: Tuner):
    adapter = adapter_of(tiny, tuner, seed=0)
    loaded = Loaded.of(adapter)
    back = loaded.restored()
    for name, value in adapter.extras.items():
        np.testing.assert_array_equal(back.extras[name], value.astype(np.float32))
        np.testing.assert_array_equal(loaded.extra(name).numpy(), value.astype(np.float32))
        np.testing.assert_array_equal(loaded.extras[name].numpy(), value.astype(np.float32))
    assert [*back.changes.low_rank] == [*adapter.changes.low_rank]
    assert [*back.changes.bottlenecks] == [*adapter.changes.bottlenecks]
    for ours, theirs in zip(back.changes.arrays(), adapter.changes.arrays(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name, pair in adapter.changes.bottlenecks.items():
        assert back.changes.bottlenecks[name].activation == pair.activation


def test_values_that_half_precision_holds_take_two_bytes(tiny: Backbone):
    adapter = adapter_of(tiny, LoRAConfig(rank=4), seed=0)
    rounded = adapter.changes.map(lambda value: value.astype(np.float16).astype(np.float32))
    loaded = Loaded.of(replace(adapter, changes=rounded))
    exact = sum(value.size for name, value in adapter.extras.items() if name in ops.EXACT)
    everything = sum(value.size for value in (*adapter.extras.values(), *adapter.changes.arrays()))
    assert loaded.size == 2 * everything + 2 * exact


@pytest.mark.parametrize("tuner", RECIPES, ids=lambda tuner: tuner.method)
def test_what_training_exports_takes_a_byte_a_value(tiny: Backbone, tuner: Tuner):
    made = adapter_of(tiny, tuner, seed=0)
    model = PurchaseModel(tiny.decoder(), {name: torch.tensor(value).float() for name, value in made.extras.items()})
    adapter = Adapter.of(model, tiny, tuner, made.changes)
    loaded = Loaded.of(adapter)
    back = loaded.restored()
    for name, value in adapter.extras.items():
        np.testing.assert_array_equal(back.extras[name], value)
        np.testing.assert_array_equal(loaded.extra(name).numpy(), value)
    for ours, theirs in zip(back.changes.arrays(), adapter.changes.arrays(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name, kind in zip(loaded.layout.names, loaded.layout.of_extras.kinds, strict=True):
        assert name in (*ops.FIXED, *ops.NEAR_IDENTITY) or (kind == "byte") == fits(adapter.extras[name])
    if tuner.scale(8) in (1.0, 2.0):  # a power of two moves no digit
        kinds = loaded.layout.of_changes.kinds
        assert all((kind == "byte") == fits(value) for kind, value in zip(kinds, adapter.changes.arrays(), strict=True))


def test_an_adapter_without_large_matrices_is_held_too(tiny: Backbone):
    bare = replace(adapter_of(tiny, HeadOnlyConfig(), seed=0), extras={"popularity": np.ones((1, 1), np.float32)})
    loaded = Loaded.of(bare)
    assert (loaded.size, loaded.layout.of_extras.kinds) == (2, ("half",))
    assert loaded.extra("popularity").tolist() == [[1.0]]
    assert loaded.restored().extras["popularity"].tolist() == [[1.0]]


def test_a_batch_of_every_kind_holds_for_each_row_what_it_holds_alone(tiny: Backbone):
    kinds = [Loaded.of(adapter_of(tiny, tuner, seed=at)) for at, tuner in enumerate(RECIPES)]
    kinds.append(Loaded.of(adapter_of(tiny, RECIPES[0], seed=9)))  # the layout of the first
    assert kinds[-1].layout is kinds[0].layout
    rows = [kinds[at] for at in (5, 1, 0, 3, 4, 0, 2, 5)]
    extras, mixture = extras_of(rows), mixture_of(rows)
    assert mixture.size == len(rows)
    assert len(mixture.groups) == len(RECIPES)
    x = torch.randn(len(rows), 3, tiny.hidden)
    base = tiny.decoder()[0].attention.self.query
    mixed = mixture.linear(base, f"encoder.layer.{first_layer(tiny)}.attention.self.query")(x)
    for at, loaded in enumerate(rows):
        alone, own = extras_of([loaded]), mixture_of([loaded])
        for name, value in alone.items():
            torch.testing.assert_close(extras[name][at], value, rtol=0, atol=0)
        by_itself = own.linear(base, f"encoder.layer.{first_layer(tiny)}.attention.self.query")(x[at : at + 1])
        torch.testing.assert_close(mixed[at : at + 1], by_itself, rtol=0, atol=1e-5)


def test_an_adapter_is_a_few_objects_to_the_garbage_collector(tiny: Backbone):
    adapter = adapter_of(tiny, LoRAConfig(rank=4), seed=0)
    held = [Loaded.of(adapter)]  # what all share is there now
    gc.collect()
    before = len(gc.get_objects())
    held += [Loaded.of(adapter) for _ in range(100)]
    gc.collect()
    assert len(gc.get_objects()) - before < 100 * 12


def test_adapters_are_put_together_within_bf16_arithmetic(tiny: Backbone):
    held = [Loaded.of(adapter_of(tiny, RECIPES[0], seed)) for seed in range(2)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        within = extras_of(held)
    outside = extras_of(held)
    assert all(torch.equal(within[name], outside[name]) for name in outside)


def test_adapters_from_files_share_a_layout(tiny: Backbone, tmp_path: Path):
    registry, adapter = Registry(tmp_path), adapter_of(tiny, RECIPES[0], seed=0)
    trees = {name: value.numpy() for name, value in forest.empty().items()}
    adapter = replace(adapter, extras={**adapter.extras, **trees, "newcomer": np.ones((1, 3), np.float16)})
    telling = replace(adapter, candidates=replace(adapter.candidates, newcomers=5))
    # A file gives its tensors in any order, and leaves out what is said of products never sold where nothing is.
    versions = [registry.publish("shop", one) for one in (adapter, adapter, telling, telling)]
    held = [Loaded.of(Adapter.load(registry.open(version.reference), tiny, stored=True)) for version in versions]
    assert len({id(loaded.layout) for loaded in held}) == 1


def test_adapters_asked_alone_stay_unpacked_a_few_at_a_time(tiny: Backbone):
    decoding = Decoding(tiny, "fp32")
    several = [Loaded.of(adapter_of(tiny, RECIPES[0], seed)) for seed in range(HOT + 1)]
    first = decoding.reader(several[:1])
    assert decoding.reader([several[0]] * 3) is first
    assert decoding.reader([several[1]]) is not first
    assert decoding.reader(several[:2]) is not decoding.reader(several[:2])
    for one in several:
        decoding.reader([one])
    assert decoding.reader(several[:1]) is not first  # others took its place
    for name, value in first.extras.items():
        assert torch.equal(value, several[0].extras[name])
