"""Sentences of pairs, and how a cross-encoder reads them."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load, save

from peftrec.backbone import Backbone
from peftrec.data import Dataset
from peftrec.data.histories import Histories
from peftrec.data.pairs import pairs_of
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.errors import CorruptAdapterError, IncompatibleAdapterError
from peftrec.model import Adapter, Platform, cross
from peftrec.model.adapter import DECODER_FILE
from peftrec.model.cross import CrossEncoder, PairReader, PairWriter, read_pairs
from peftrec.model.decoder import Layer
from peftrec.model.shapes import first_layer
from peftrec.tuners import LoRAConfig


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return Dataset.build(
        name="shop",
        catalog={
            "item_id": ["a", "b", "c", "long"],
            "title": ["red tea", "green kettle", "socks", "milk " * 40],
        },
        events={
            "user_id": ["u", "u", "u", "v"],
            "item_id": ["a", "b", "c", "long"],
            "timestamp": ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-03"],
        },
    )


def _told(shop: Dataset, platform: Platform, users: list[int]) -> HistoryTokens:
    snapshot = platform.snapshot(shop.now)
    histories = Histories.of(shop, np.array(users), moment=shop.now)
    return history_tokens(histories, pairs_of(histories, snapshot.n_items), snapshot, limit=8)


def _read(backbone: Backbone, writer: PairWriter, past: list[int], item: int) -> str:
    pairs = writer.write([(past, item)])
    return backbone.tokenizer.decode(pairs.ids[0])


def test_a_sentence_tells_the_past_latest_first_then_the_product(shop: Dataset, tiny_backbone: Backbone):
    platform = Platform.of(shop, tiny_backbone, progress=False)
    writer = PairWriter(platform, words=32)
    past = writer.past(_told(shop, platform, [0]), 0)
    assert _read(tiny_backbone, writer, past, 0) == "[CLS] socks, green kettle, red tea [SEP] red tea [SEP]"
    pairs = writer.write([(past, 0)])
    assert pairs.types[0].tolist() == [0] * len(past) + [1] * 3


def test_nobody_s_past_is_an_empty_one(shop: Dataset, tiny_backbone: Backbone):
    platform = Platform.of(shop, tiny_backbone, progress=False)
    writer = PairWriter(platform, words=32)
    before = float(shop.log.time[0])
    none = Histories.of(shop, np.array([0]), moment=before)
    snapshot = platform.snapshot(before)
    tokens = history_tokens(none, pairs_of(none, snapshot.n_items), snapshot, limit=8)
    assert _read(tiny_backbone, writer, writer.past(tokens, 0), 2) == "[CLS] [SEP] socks [SEP]"


def test_long_pasts_and_products_are_cut(shop: Dataset, tiny_backbone: Backbone):
    platform = Platform.of(shop, tiny_backbone, progress=False)
    writer = PairWriter(platform, words=16)
    past, product = writer.past(_told(shop, platform, [1]), 0), writer.product(3)
    assert len(past) == 12
    assert len(product) == 4
    assert past[-1] == product[-1] == tiny_backbone.tokenizer.sep_token_id


def test_described_products_stand_behind_the_catalogue(shop: Dataset, tiny_backbone: Backbone):
    platform = Platform.of(shop, tiny_backbone, progress=False)
    vectors = tiny_backbone.encode(["blue pot"], progress=False)
    wider = platform.with_new(vectors, ["blue pot"])
    assert tiny_backbone.tokenizer.decode(PairWriter(wider, words=32).product(4)) == "blue pot [SEP]"
    assert PairWriter(platform, words=32).product(0) == PairWriter(wider, words=32).product(0)


@pytest.mark.parametrize("whole", [False, True])
def test_a_pair_reads_the_same_whatever_stands_beside_it(shop: Dataset, tiny_backbone: Backbone, whole: bool):
    platform = Platform.of(shop, tiny_backbone, progress=False)
    depth = tiny_backbone.bert.config.num_hidden_layers if whole else tiny_backbone.decoder_layers
    writer, reader = PairWriter(platform, words=32), _reader(replace(tiny_backbone, decoder_layers=depth))
    past = writer.past(_told(shop, platform, [0]), 0)
    together = reader.score(writer, past, np.arange(4, dtype=np.int32))
    alone = [reader.score(writer, past, np.array([item], np.int32))[0] for item in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len({*np.round(together, 4)}) == 4
    assert reader.score(writer, past, np.empty(0, np.int32)).shape == (0,)


def test_the_past_is_read(shop: Dataset, tiny_backbone: Backbone):
    platform = Platform.of(shop, tiny_backbone, progress=False)
    writer, reader = PairWriter(platform, words=32), _reader(tiny_backbone)
    tokens = _told(shop, platform, [0, 1])
    item = np.array([2], np.int32)
    one, other = (reader.score(writer, writer.past(tokens, row), item)[0] for row in (0, 1))
    assert abs(one - other) > 1e-3


def test_peft_opens_an_adapter_of_this_form(backbone: Backbone, tmp_path):
    layers, first = backbone.upper_layers(), first_layer(backbone)
    tuner = LoRAConfig(rank=4)
    attached = tuner.attach(layers, seed=0, steps=10)
    for name, value in layers.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    model = CrossEncoder(backbone, layers, _random_extras(backbone.hidden))
    adapter = Adapter.of(model, backbone, tuner, attached.export(first), form="cross_encoder")
    for name, content in adapter.files().items():
        (tmp_path / name).write_bytes(content)
    ids = torch.tensor([[101, 5572, 102, 20545, 102]])
    pairs = cross.Pairs(ids, torch.tensor([[0, 0, 0, 1, 1]]), torch.ones_like(ids, dtype=torch.bool))
    extras = {name: torch.as_tensor(value) for name, value in adapter.extras.items()}
    with torch.inference_mode():
        ours = read_pairs(backbone.bert, adapter.layers(), extras, pairs)
        bert = PeftModel.from_pretrained(replace(backbone).tuned_bert(), tmp_path).eval()
        hidden = bert(input_ids=ids, token_type_ids=pairs.types).last_hidden_state[:, 0]
        classes = torch.tanh(hidden @ extras["pooler"] + extras["pooler_bias"]) @ extras["classifier"]
        theirs = (classes + extras["classifier_bias"]).diff(dim=1)[:, 0]
        plain = read_pairs(backbone.bert, [Layer.of(layer) for layer in backbone.upper_layers()], extras, pairs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (ours - plain).abs().item() > 1e-3


def _random_extras(hidden: int) -> dict[str, torch.Tensor]:
    extras, random = cross.initial(hidden), torch.Generator().manual_seed(0)
    extras["classifier"].normal_(std=0.3, generator=random)
    return extras


def _reader(backbone: Backbone) -> PairReader:
    layers = [Layer.of(layer) for layer in backbone.upper_layers()]
    return PairReader(backbone.bert, layers, _random_extras(backbone.hidden))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"words": 0}, "sentences of 0 words"),
        ({"words": 10**6}, "sentences of 1000000 words"),
        ({"words": -5}, "sentences of -5 words"),
        ({"words": math.inf}, "OverflowError"),
        ({"form": "something"}, "form 'something'"),
        ({"form": "decoder"}, "tensors do not fit"),
    ],
)
def test_files_that_say_what_cannot_be_are_refused(tiny_backbone: Backbone, settings: dict, says: str):
    tuner = LoRAConfig(rank=2)
    layers = tiny_backbone.upper_layers()
    changes = tuner.attach(layers, seed=0, steps=10).export(first_layer(tiny_backbone))
    model = CrossEncoder(tiny_backbone, layers, cross.initial(tiny_backbone.hidden))
    adapter = Adapter.of(model, tiny_backbone, tuner, changes, form="cross_encoder", words=32)
    files = adapter.files()
    header, tensors = _header(files[DECODER_FILE]), load(files[DECODER_FILE])
    told = json.dumps({**json.loads(header["peftrec"]), **settings})
    with pytest.raises((CorruptAdapterError, IncompatibleAdapterError), match=says):
        Adapter.load(Files({**files, DECODER_FILE: save(tensors, {**header, "peftrec": told})}), tiny_backbone)
    assert Adapter.load(Files(files), tiny_backbone).words == 32


def _header(content: bytes) -> dict:
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


@dataclass(frozen=True)
class Files:
    """A version as plain bytes."""

    content: dict[str, bytes]

    @property
    def facts(self) -> dict[str, object]:
        return {}

    def read(self, file: str) -> bytes:
        return self.content[file]
