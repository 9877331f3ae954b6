from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from peftrec.backbone import Backbone, ItemTable
from peftrec.errors import ConfigError
from peftrec.text import Templates


def test_minilm(backbone: Backbone):
    assert (backbone.name, backbone.layers, backbone.hidden, backbone.decoder_layers) == ("minilm-l6", 6, 384, 3)
    assert backbone.max_length == 128
    assert backbone.device.type == "cpu"
    assert backbone.template_fingerprint == Templates().fingerprint


def test_nothing_in_it_can_be_trained(backbone: Backbone):
    assert not backbone.bert.training
    assert not any(weight.requires_grad for weight in backbone.bert.parameters())
    assert {weight.dtype for weight in backbone.bert.parameters()} == {torch.float32}


def test_the_decoder_is_a_copy_of_the_top_layers(tiny_bert: Callable[..., Path]):
    backbone = Backbone.load(tiny_bert(layers=4), decoder_layers=3)
    decoder = backbone.decoder()
    assert len(decoder) == 3
    for copied, layer in zip(decoder, backbone.bert.encoder.layer[1:], strict=True):
        for name, weight in copied.named_parameters():
            assert weight.equal(layer.get_parameter(name))
            assert not weight.requires_grad
    assert not any(module.training for module in decoder.modules())


def test_a_changed_decoder_leaves_backbone_and_other_decoders_alone(tiny_backbone: Backbone):
    first, second = tiny_backbone.decoder(), tiny_backbone.decoder()
    before = tiny_backbone.encode(["tea"], precision="fp32")
    with torch.no_grad():
        for weight in first.parameters():
            weight.zero_()
    assert (tiny_backbone.encode(["tea"], precision="fp32") == before).all()
    assert any(weight.any() for weight in second.parameters())


@pytest.mark.parametrize("depth", [0, 3, -1, True, 1.0, "2"])
def test_an_impossible_depth_is_refused(tiny_bert_folder: Path, depth: object):
    with pytest.raises(ConfigError, match="decoder_layers") as caught:
        Backbone.load(tiny_bert_folder, decoder_layers=depth)  # pyright: ignore[reportArgumentType]
    assert "1 to 2" in caught.value.expected


@pytest.mark.parametrize(("layers", "depth"), [(1, 1), (2, 1), (3, 1), (5, 2)])
def test_half_of_the_layers_is_the_default(tiny_bert: Callable[..., Path], layers: int, depth: int):
    assert Backbone.load(tiny_bert(layers=layers)).decoder_layers == depth


def test_a_short_bert_reads_as_many_words_as_it_has_positions(tiny_bert: Callable[..., Path]):
    backbone = Backbone.load(tiny_bert(max_positions=16))
    assert backbone.max_length == 16
    assert np.isfinite(backbone.encode(["tea " * 500])).all()


def test_items_are_what_encode_gives(backbone: Backbone, tmp_path: Path):
    texts = ["kettle", "teapot", "kettle", ""]
    items = backbone.items(texts, table=ItemTable(backbone, tmp_path))
    exact = backbone.encode(texts)
    cosine = (items * exact).sum(1) / np.linalg.norm(items, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.9998


def test_items_go_to_the_cache_of_the_environment(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PEFTREC_CACHE", str(tmp_path))
    tiny_backbone.items(["tea"])
    assert len(list(tmp_path.glob("items/*/seg-*/vectors.npy"))) == 1


@pytest.mark.gpu
def test_a_gpu_gives_what_the_processor_gives(tiny_bert_folder: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    backbone = Backbone.load(tiny_bert_folder)
    texts = ["tea", "red socks and kettle", ""]
    expected = backbone.encode(texts, precision="fp32")
    backbone.to("cuda")
    np.testing.assert_allclose(backbone.encode(texts, precision="fp32"), expected, atol=1e-4)
    assert np.abs(backbone.encode(texts, precision="int8") - expected).max() < 0.2
