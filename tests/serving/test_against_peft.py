"""What plain peft gets wrong when many adapters are served, shown on peft, and right here."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification, BertModel

from peftrec.backbone import Backbone
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.data import Dataset
from peftrec.errors import CorruptAdapterError, IncompatibleAdapterError
from peftrec.model import Adapter
from peftrec.model.shapes import first_layer
from peftrec.registry import Registry
from peftrec.serving import Engine
from peftrec.serving.requests import Request
from peftrec.tuners import AdaLoRAConfig, BottleneckConfig, LoRAConfig, Tuner
from tests.serving.adapters import loud

CUT = "2017-11-27T05:00"
WORDS = torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 10, 3]])


def _lora(rank: int = 4, **more: object) -> LoraConfig:
    return LoraConfig(r=rank, target_modules=["query", "value"], init_lora_weights=False, **more)  # pyright: ignore


def _out(model: torch.nn.Module, **more: object) -> Tensor:
    with torch.inference_mode():
        found = model(input_ids=WORDS, **more)
        return found.logits if hasattr(found, "logits") else found.last_hidden_state


@pytest.fixture
def bert(tiny_bert_folder: Path) -> BertModel:
    return BertModel.from_pretrained(tiny_bert_folder, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def past(grocery: Dataset) -> Dataset:
    return grocery.split(at=CUT)[0]


@pytest.fixture
def registry(trained: Adapter, tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    registry.publish("one", loud(trained, seed=1))
    registry.publish("two", loud(trained, seed=2))
    return registry


@pytest.fixture
def engine(backbone: Backbone, registry: Registry, past: Dataset) -> Engine:
    engine = Engine(backbone, registry, precision="fp32")
    for name in ("one", "two", "three"):
        engine.attach(past, adapter=name)
    return engine


def _changed(trained: Adapter, backbone: Backbone, tuner: Tuner, *, seed: int) -> Adapter:
    """An adapter with another tuner, as some training might have left it."""
    layers, random = backbone.decoder(), torch.Generator().manual_seed(seed)
    attached = tuner.attach(layers, seed=seed, steps=10)
    for name, value in layers.named_parameters():
        if value.requires_grad:
            value.data.normal_(std=0.05, generator=random).copy_(value.data.half().float())
            if "lora_E" in name and "query" in name:
                value.data.zero_()  # ranks that AdaLoRA took
    exported = attached.export(first_layer(backbone)).map(lambda one: np.asarray(one, np.float16).astype(np.float32))
    return replace(loud(trained, seed=seed), config=tuner, changes=exported)


def test_a_batch_that_raises_leaves_nothing_behind(bert: BertModel, engine: Engine, past: Dataset):
    model = get_peft_model(bert, _lora(), adapter_name="one").eval()
    model.add_adapter("two", _lora())
    model.set_adapter("two")
    before = _out(model)

    def fail(*_: object) -> None:
        raise MemoryError

    handle = model.base_model.model.encoder.layer[1].output.register_forward_pre_hook(fail)  # pyright: ignore
    with pytest.raises(MemoryError):
        _out(model, adapter_names=["one", "one"])
    handle.remove()
    assert not torch.allclose(_out(model), before), "peft answers with another adapter now"

    requests = [Request(adapter=name, user=past.users[0]) for name in ("one", "two")]
    good = engine.recommend_batch(requests)
    handle = engine._decoding.decoder[-1].output.LayerNorm.register_forward_pre_hook(fail)  # pyright: ignore
    with pytest.raises(MemoryError):
        engine.recommend_batch(requests)
    handle.remove()
    assert engine.recommend_batch(requests) == good


def test_a_swap_takes_the_whole_adapter_of_the_right_width_or_none(
    bert: BertModel, engine: Engine, registry: Registry, trained: Adapter, past: Dataset, tmp_path: Path
):
    model = get_peft_model(bert, _lora(rank=4), adapter_name="one").eval()
    model.save_pretrained(str(tmp_path / "peft"))
    file = tmp_path / "peft" / "one" / "adapter_model.safetensors"
    half = dict([*load_file(file).items()][:2])
    save_file(half, file)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        hotswap_adapter(model, str(tmp_path / "peft" / "one"), adapter_name="one")
    assert not told, "peft takes half an adapter without a word"

    user = past.users[0]
    before = engine.recommend("one", user=user)
    version = registry.publish("one", loud(trained, seed=3))
    path = version.path / "adapter_model.safetensors"
    content = load_file(path)
    save_file(dict([*content.items()][:2]), path)
    with pytest.raises(CorruptAdapterError):
        engine.recommend("one@2", user=user)
    assert engine.recommend("one", user=user) == before, "who follows the name keeps what served before"


def test_a_swap_of_another_width_is_refused(
    bert: BertModel, engine: Engine, registry: Registry, trained: Adapter, past: Dataset, tmp_path: Path
):
    model = get_peft_model(bert, _lora(), adapter_name="one").eval()
    narrow = BertModel(
        BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    )
    get_peft_model(narrow, _lora(), adapter_name="one").save_pretrained(str(tmp_path / "peft"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        hotswap_adapter(model, str(tmp_path / "peft" / "one"), adapter_name="one")
    assert not told, "peft fills the rest with what it likes"

    before = engine.recommend("one", user=past.users[0])
    half = trained.backbone.hidden // 2
    pairs = {name: pair._replace(a=pair.a[:, :half].copy()) for name, pair in trained.changes.low_rank.items()}
    narrow = replace(loud(trained, seed=3), changes=replace(trained.changes, low_rank=pairs))
    version = registry.publish("one", narrow).reference
    with pytest.raises(IncompatibleAdapterError, match="lora_A"):
        engine.recommend(version, user=past.users[0])
    assert engine.recommend("one", user=past.users[0]) == before


def test_adapters_with_heads_and_of_any_method_take_over(
    tiny_bert_folder: Path,
    tmp_path: Path,
    engine: Engine,
    registry: Registry,
    trained: Adapter,
    backbone: Backbone,
    past: Dataset,
):
    headed = BertForSequenceClassification.from_pretrained(tiny_bert_folder, num_labels=2)
    model = get_peft_model(headed, _lora(modules_to_save=["classifier"]), adapter_name="one")
    model.save_pretrained(str(tmp_path / "headed"))
    with pytest.raises(KeyError, match="classifier"):
        hotswap_adapter(model, str(tmp_path / "headed" / "one"), adapter_name="one")
    bare = BertModel.from_pretrained(tiny_bert_folder, add_pooling_layer=False)
    ada = AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=["query", "value"])
    model = get_peft_model(bare, ada, adapter_name="one")
    model.save_pretrained(str(tmp_path / "ada"))
    with pytest.raises(ValueError, match="only supports LORA"):
        hotswap_adapter(model, str(tmp_path / "ada" / "one"), adapter_name="one")

    def asked(reference: str) -> list[tuple[str, float]]:
        found = engine.recommend(reference, user=past.users[0], exclude_bought=True)
        assert {one.adapter for one in found} == {registry.resolve(reference)}
        return [(one.item_id, one.probability) for one in found]

    answers = [asked("one")]
    for seed, tuner in enumerate((AdaLoRAConfig(rank=4), BottleneckConfig(width=6), LoRAConfig(rank=3)), start=4):
        registry.publish("one", _changed(trained, backbone, tuner, seed=seed))
        answers.append(asked("one"))
    assert all(one != other for at, one in enumerate(answers) for other in answers[:at])
    assert asked("one@1") == answers[0]


def test_an_adapter_of_another_backbone_is_refused(
    bert: BertModel,
    tiny_bert: Callable[..., Path],
    registry: Registry,
    past: Dataset,
    backbone: Backbone,
    tmp_path: Path,
):
    model = get_peft_model(bert, _lora()).eval()
    model.save_pretrained(str(tmp_path / "peft"))
    other = BertModel.from_pretrained(tiny_bert(seed=7), add_pooling_layer=False).eval()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        PeftModel.from_pretrained(other, str(tmp_path / "peft"))
    assert not [one for one in told if not issubclass(one.category, FutureWarning)], "peft loads it without a word"

    stranger = Backbone.load("minilm-l6")
    with torch.no_grad():
        stranger.bert.encoder.layer[0].output.dense.bias[0] += 1  # pyright: ignore
    stranger = replace(stranger, encoder_fingerprint=weights_fingerprint(stranger.bert))
    engine = Engine(stranger, registry, precision="fp32")
    engine.attach(past, adapter="one")
    with pytest.raises(IncompatibleAdapterError, match="backbone"):
        engine.recommend("one", user=past.users[0])


def test_a_flipped_byte_is_refused(bert: BertModel, engine: Engine, registry: Registry, past: Dataset, tmp_path: Path):
    model = get_peft_model(bert, _lora()).eval()
    model.save_pretrained(str(tmp_path / "peft"))
    file = tmp_path / "peft" / "adapter_model.safetensors"
    _flip(file)
    PeftModel.from_pretrained(model.unload(), str(tmp_path / "peft"))

    _flip(registry.open("one").path / "adapter_model.safetensors")
    with pytest.raises(CorruptAdapterError, match="adapter_model"):
        engine.recommend("one", user=past.users[0])
    assert engine.recommend("two", user=past.users[0])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def test_methods_share_a_model_and_a_batch(
    bert: BertModel, engine: Engine, registry: Registry, trained: Adapter, backbone: Backbone, past: Dataset
):
    model = get_peft_model(bert, _lora(), adapter_name="one")
    ada = AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=["query", "value"], inference_mode=True)

    def mixed() -> Tensor:
        model.add_adapter("two", ada)
        return _out(model.eval(), adapter_names=["one", "two"])

    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever it is: peft cannot
        mixed()

    registry.publish("two", _changed(trained, backbone, AdaLoRAConfig(rank=4), seed=4))
    registry.publish("three", _changed(trained, backbone, BottleneckConfig(width=6), seed=5))
    registry.publish("one", _changed(trained, backbone, LoRAConfig(rank=(3, 7, 1)), seed=6))
    names = ("one", "two", "three")
    requests = [Request(adapter=name, user=user, exclude_bought=True) for user in past.users[:4] for name in names]
    together = engine.recommend_batch(requests)
    for request, answer in zip(requests, together, strict=True):
        alone = engine.recommend_batch([request])[0]
        assert [one.item_id for one in answer] == [one.item_id for one in alone]
        np.testing.assert_allclose([one.probability for one in answer], [one.probability for one in alone], atol=2e-6)
    assert len({tuple(one.probability for one in answer) for answer in together[:3]}) == 3


def test_heads_of_each_adapter_share_a_batch(tiny_bert_folder: Path, tmp_path: Path, engine: Engine, past: Dataset):
    two = BertForSequenceClassification.from_pretrained(tiny_bert_folder, num_labels=2)
    model = get_peft_model(two, _lora(modules_to_save=["classifier"]), adapter_name="one")
    model.save_pretrained(str(tmp_path / "peft"))
    three = BertForSequenceClassification.from_pretrained(tiny_bert_folder, num_labels=3)
    model = get_peft_model(three, _lora(modules_to_save=["classifier"]), adapter_name="other")
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_adapter(str(tmp_path / "peft" / "one"), adapter_name="one")

    heads = [engine.slots.get(f"{name}@1").extras["head_2"] for name in ("one", "two")]
    assert not torch.equal(*heads)
    requests = [Request(adapter=name, user=past.users[0]) for name in ("one", "two")]
    together = engine.recommend_batch(requests)
    assert together[0] != together[1]
    assert [one.item_id for one in together[1]] == [one.item_id for one in engine.recommend("two", user=past.users[0])]
