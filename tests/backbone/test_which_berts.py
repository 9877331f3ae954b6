"""Any BERT will do: deep or shallow, of any width, with words of any script. The weights here are random."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from peftrec.backbone import Backbone, ItemTable
from peftrec.backbone.encoder import Precision, encode
from peftrec.model.decoder import Layer, read_shopper
from peftrec.text import tokenise
from tests.backbone import berts

TEXTS = [
    "tea",
    "red kettle with small pot",
    "茶壶很好用，屏幕清晰。",
    "牛奶 milk 茶 tea",
    "",
    "   ",
    "𒀀 🫖 \ud83d",
    "green socks, " * 40,
    "手机" * 90,
]
SHAPES = [
    {"num_hidden_layers": 2},
    {"num_hidden_layers": 3, "hidden_act": "relu"},
    {"num_hidden_layers": 4, "hidden_size": 312, "num_attention_heads": 12, "intermediate_size": 1200},
    {"num_hidden_layers": 12, "type_vocab_size": 1},
    {"num_hidden_layers": 24, "hidden_size": 40, "num_attention_heads": 5, "max_position_embeddings": 16},
]


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(
    scope="module",
    params=[(words, shape) for words in berts.TOKENIZERS for shape in SHAPES],
    ids=lambda made: f"{made[0]}-{made[1]['num_hidden_layers']}",
)
def any_backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    words, shape = request.param
    return Backbone.load(berts.save(tmp_path_factory.mktemp("bert"), berts.TOKENIZERS[words](), **shape))


def test_a_vector_does_not_depend_on_its_company_nor_on_padding(any_backbone: Backbone):
    together = any_backbone.encode(TEXTS, precision="fp32")
    assert together.shape == (len(TEXTS), any_backbone.hidden)
    assert np.isfinite(together).all()
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(any_backbone.encode([text], precision="fp32")[0], vector, atol=2e-5)
    alone = encode(TEXTS, any_backbone.bert, any_backbone.tokenizer, max_length=any_backbone.max_length, token_budget=1)
    np.testing.assert_allclose(alone, together, atol=2e-5)


def test_a_vector_is_the_mean_of_what_transformers_gives(any_backbone: Backbone):
    words = any_backbone.tokenizer("red tea 茶壶", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        expected = any_backbone.bert(**words).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(any_backbone.encode(["red tea 茶壶"], precision="fp32")[0], expected, atol=1e-5)


@pytest.mark.parametrize(("precision", "floor"), [("bf16", 0.999), ("int8", 0.99)])
def test_fast_arithmetic_stays_close(any_backbone: Backbone, precision: Precision, floor: float):
    exact = any_backbone.encode(TEXTS, precision="fp32")
    assert cosines(any_backbone.encode(TEXTS, precision=precision), exact).min() > floor


def test_the_decoder_is_the_upper_half(any_backbone: Backbone):
    words = any_backbone.tokenizer("red tea 茶壶", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        known = any_backbone.bert(**words, output_hidden_states=True).hidden_states
        lower = known[any_backbone.layers - any_backbone.decoder_layers]
        layers = [Layer.of(layer) for layer in any_backbone.decoder()]
        read, _ = read_shopper(layers, lower, torch.ones(lower.shape[:2], dtype=torch.bool))
    assert len(layers) == any_backbone.layers // 2
    torch.testing.assert_close(read, known[-1], atol=2e-5, rtol=0)


def test_the_item_table_gives_what_encode_gives(any_backbone: Backbone, tmp_path: Path):
    exact = any_backbone.encode(TEXTS)
    for _ in range(2):  # written, then read
        items = any_backbone.items(TEXTS, table=ItemTable(any_backbone, tmp_path))
        assert cosines(items, exact).min() > 0.9998


def test_no_more_words_are_read_than_there_are_positions(any_backbone: Backbone):
    positions = any_backbone.bert.config.max_position_embeddings
    assert any_backbone.max_length == min(128, positions)
    text = "tea 茶 " * positions
    same = any_backbone.encode([text, text + "green socks"], precision="fp32")
    np.testing.assert_array_equal(same[0], same[1])


@pytest.mark.parametrize("words", berts.TOKENIZERS)
def test_special_words_in_a_text_are_skipped(words: str):
    tokenizer = berts.TOKENIZERS[words]()
    clean, spelt = tokenise(["red tea", "".join(tokenizer.all_special_tokens) + "red tea"], tokenizer)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert (spelt[0], spelt[-1]) == (clean[0], clean[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert special.isdisjoint(spelt[1:-1])
    assert not special.isdisjoint(tokenizer("".join(tokenizer.all_special_tokens) + "red tea")["input_ids"][1:-1])


def test_chinese_is_read_by_characters_or_by_parts():
    by_character, by_part = (berts.TOKENIZERS[name]() for name in ("chinese", "sentencepiece"))
    assert by_character.convert_ids_to_tokens(tokenise(["茶壶很好"], by_character)[0])[1:-1] == list("茶壶很好")
    assert by_part.convert_ids_to_tokens(tokenise(["茶壶很好"], by_part)[0])[1:-1] == ["▁", "茶壶", "很好"]


def test_rules_are_those_of_the_file_even_where_no_class_is_named(tmp_path: Path):
    words = berts.wordpiece("Tea tea é e", do_lower_case=False)
    folder = berts.save(tmp_path, words)
    expected = Backbone.load(folder)
    assert expected.tokenizer.tokenize("Tea é") == ["Tea", "é"]
    path = folder / "tokenizer_config.json"
    for content in (
        None,
        "{}",
        '{"tokenizer_class": "BertTokenizer"}',
        '{"tokenizer_class": "PreTrainedTokenizerFast"}',
    ):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        again = Backbone.load(folder)
        assert again.tokenizer_fingerprint == expected.tokenizer_fingerprint
        assert again.tokenizer.special_tokens_map == expected.tokenizer.special_tokens_map


@pytest.mark.parametrize(("words", "types"), [("wordpiece", {0, 1}), ("sentencepiece", {0})])
def test_pairs_keep_the_types_that_the_file_gives_them(tmp_path: Path, words: str, types: set[int]):
    tokenizer = Backbone.load(berts.save(tmp_path, berts.TOKENIZERS[words]())).tokenizer
    assert set(tokenizer("tea", "kettle")["token_type_ids"]) == types


def test_a_vocabulary_without_rules_is_enough(tmp_path: Path):
    words = berts.wordpiece()
    folder = berts.save(tmp_path, words)
    expected = Backbone.load(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    lines = sorted(words.get_vocab(), key=words.get_vocab().__getitem__)
    (folder / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    np.testing.assert_array_equal(Backbone.load(folder).encode(TEXTS), expected.encode(TEXTS))


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForPreTraining, BertForSequenceClassification])
def test_a_larger_model_is_read_through_its_bert(tmp_path: Path, kind: type):
    larger = berts.save(tmp_path / "larger", berts.wordpiece(), kind=kind, num_labels=1)
    inside = kind.from_pretrained(larger).bert
    bare = tmp_path / "bare"
    BertModel.save_pretrained(inside, bare)
    for path in larger.glob("tokenizer*"):
        shutil.copy(path, bare)
    first, second = Backbone.load(larger), Backbone.load(bare)
    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.encode(TEXTS), second.encode(TEXTS))


def test_a_table_may_be_longer_than_the_vocabulary(tmp_path: Path):
    words = berts.sentencepiece()
    backbone = Backbone.load(berts.save(tmp_path, words, vocab_size=len(words) + 35))
    assert np.isfinite(backbone.encode(TEXTS)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_float_are_read_as_float32(tmp_path: Path, dtype: torch.dtype):
    folder = berts.save(tmp_path, berts.wordpiece())
    path = folder / "model.safetensors"
    save_file({name: weight.to(dtype) for name, weight in load_file(path).items()}, path, {"format": "pt"})
    backbone = Backbone.load(folder)
    assert {weight.dtype for weight in backbone.bert.parameters()} == {torch.float32}
    assert np.isfinite(backbone.encode(TEXTS)).all()


def test_shards_are_one_model(tmp_path: Path):
    whole = Backbone.load(berts.save(tmp_path / "whole", berts.wordpiece()))
    whole.bert.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    whole.tokenizer.save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert Backbone.load(tmp_path / "shards").fingerprint == whole.fingerprint


def test_a_tokenizer_survives_being_saved(tmp_path: Path):
    for name, make in berts.TOKENIZERS.items():
        first = Backbone.load(berts.save(tmp_path / name, make()))
        first.tokenizer.save_pretrained(tmp_path / f"{name} again")
        first.bert.save_pretrained(tmp_path / f"{name} again")
        again = Backbone.load(tmp_path / f"{name} again")
        assert isinstance(again.tokenizer, PreTrainedTokenizerFast)
        assert (again.fingerprint, again.tokenizer_fingerprint) == (first.fingerprint, first.tokenizer_fingerprint)
