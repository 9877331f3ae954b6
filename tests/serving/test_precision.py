"""The arithmetic of an engine: chosen by device, checked against fp32 before anything is served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from peftrec.backbone import Backbone
from peftrec.backbone.int8 import Int8Linear
from peftrec.backbone.shopping import Shopping
from peftrec.data import Dataset
from peftrec.errors import ConfigError
from peftrec.model import Adapter
from peftrec.registry import Registry
from peftrec.serving import Engine
from peftrec.serving.cuda import BitsAndBytesLinear
from peftrec.serving.decoding import Decoding
from peftrec.serving.loaded import Loaded
from peftrec.serving.precision import LEAST_COSINE, agreement, decoder_for
from peftrec.training import train_adapter
from peftrec.tuners import LoRAConfig
from tests.serving.adapters import loud, worded

CUT = "2017-11-27T05:00"


def _outlying(backbone: Backbone) -> Backbone:
    """The same with single weights so large that the others of their rows round to nothing."""
    twin = replace(backbone, bert=backbone.tuned_bert())
    _outweigh(twin.bert.encoder.layer[-backbone.decoder_layers :])
    return twin


def _outweigh(layers: nn.ModuleList) -> nn.ModuleList:
    with torch.no_grad():
        for module in layers.modules():
            if isinstance(module, nn.Linear):
                module.weight[:, 0] += 300 * module.weight.abs().max()
    return layers


def test_a_processor_serves_int8_and_says_so(backbone: Backbone, tmp_path: Path):
    decoder, precision = decoder_for(backbone, "auto")
    assert Engine(backbone, tmp_path).precision == precision == "int8"
    assert any(isinstance(one, Int8Linear) for one in decoder.modules())


def test_rounding_changes_outputs_and_not_much(backbone: Backbone):
    decoder, _ = decoder_for(backbone, "int8")
    assert LEAST_COSINE["int8"] < agreement(backbone, backbone.decoder(), decoder, "int8") < 1


def test_every_precision_agrees_with_fp32_on_real_weights(backbone: Backbone):
    for precision in ("int8", "bf16", "fp32"):
        decoder, chosen = decoder_for(backbone, precision)
        assert chosen == precision
        assert agreement(backbone, backbone.decoder(), decoder, precision) >= LEAST_COSINE[precision] - 1e-6


def test_weights_that_int8_cannot_hold_are_served_otherwise(backbone: Backbone, caplog: pytest.LogCaptureFixture):
    bad = _outlying(backbone)
    with pytest.raises(ConfigError, match=r"int8 gives outputs .* cosine to fp32 is 0\.\d+ on average"):
        decoder_for(bad, "int8")
    _, precision = decoder_for(bad, "auto")
    assert precision in ("bf16", "fp32")
    assert "another precision is taken" in caplog.text


def test_a_backbone_is_not_quantised_where_its_texts_or_its_decoder_would_not_survive_it(
    backbone: Backbone, trained: Adapter
):
    with pytest.raises(
        ConfigError, match=r"int8 gives vectors of texts whose cosine to those of .* is -?0\.\d+ on average"
    ):
        _outlying(backbone).quantised()
    shopping = Shopping(backbone.decoder(), trained.extras, trained.facts)
    assert replace(backbone, shopping=shopping).quantised().is_quantised
    bad = replace(backbone, shopping=replace(shopping, decoder=_outweigh(backbone.decoder())))
    with pytest.raises(ConfigError, match="int8 gives outputs of the decoder"):
        bad.quantised()


def test_a_cross_encoder_is_served_in_fp32_where_int8_would_say_something_else(
    backbone: Backbone, caplog: pytest.LogCaptureFixture
):
    bad = _outlying(backbone)
    good_decoder = replace(bad, shopping=Shopping(backbone.decoder(), {}, {}))
    decoding = Decoding(good_decoder, "int8")
    loaded = Loaded.of(worded(backbone, LoRAConfig(rank=4), 1))
    assert decoding.pair_reader(loaded).bert is bad.bert
    assert "Cross-encoders are served in fp32" in caplog.text


def test_a_backbone_of_int8_weights_takes_a_quarter_and_serves_the_same(
    backbone: Backbone, trained: Adapter, grocery: Dataset, tmp_path: Path
):
    small = backbone.quantised()
    assert small.quantised() is small
    assert small.fingerprint == backbone.fingerprint
    assert small.size <= 0.28 * backbone.size
    assert not any(isinstance(module, nn.Linear) for module in small.bert.encoder.modules())
    past, _ = grocery.split(at=CUT)
    registry = Registry(tmp_path)
    registry.publish("grocery", loud(trained))
    answers = []
    for one in (backbone, small):
        engine = Engine(one, registry)
        engine.attach(past, adapter="grocery")
        items = past.catalog.ids[:200].to_list()
        answers.append(engine.score("grocery", items, user=past.users[0]))
    assert np.corrcoef(*np.log(answers))[0, 1] > 0.99
    texts = ["black tea", "copper kettle"]
    cosine = (small.encode(texts) * backbone.encode(texts)).sum(axis=1)
    norms = np.linalg.norm(small.encode(texts), axis=1) * np.linalg.norm(backbone.encode(texts), axis=1)
    assert (cosine / norms > 0.99).all()


def test_int8_weights_are_neither_trained_nor_saved_nor_read_otherwise(
    backbone: Backbone, grocery: Dataset, tmp_path: Path
):
    small = backbone.quantised()
    with pytest.raises(ConfigError, match="int8 weights"):
        train_adapter(grocery, small)
    with pytest.raises(ConfigError, match="int8 weights"):
        small.save(tmp_path / "saved")
    with pytest.raises(ConfigError, match="whose weights are int8"):
        small.encode(["tea"], precision="fp32")
    with pytest.raises(ConfigError, match="whose weights are int8"):
        Engine(small, tmp_path, precision="bf16")
    assert not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_layer_of_a_gpu_computes_what_the_linear_did():
    linear = nn.Linear(64, 32)
    layer = BitsAndBytesLinear(linear, torch.device("cpu"))
    x = torch.randn(2, 5, 64)
    with torch.inference_mode():
        found, exact = layer(x), linear(x)
    assert found.dtype == x.dtype
    assert found.shape == exact.shape
    assert torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.999
    weights = [value for value in layer.inner.parameters() if value.ndim == 2]
    assert [value.dtype for value in weights] == [torch.int8]


@pytest.mark.gpu
def test_a_gpu_answers_what_the_processor_answers(trained: Adapter, grocery: Dataset, tmp_path: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    past, _ = grocery.split(at=CUT)
    registry = Registry(tmp_path)
    registry.publish("grocery", loud(trained))
    answers = []
    for device, precision in (("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16"), ("cuda", "int8")):
        engine = Engine(Backbone.load("minilm-l6").to(device), registry, precision=precision)
        engine.attach(past, adapter="grocery")
        answers.append(np.log(engine.score("grocery", past.catalog.ids[:200].to_list(), user=past.users[0])))
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-3)
    assert all(np.corrcoef(one, answers[0])[0, 1] > 0.99 for one in answers[2:])
