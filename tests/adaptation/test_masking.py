"""Words of any tokenizer, masked wholly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from peftrec.adaptation.masking import Reader
from peftrec.adaptation.stage import LanguageStage
from peftrec.backbone import Backbone
from tests.adaptation.worlds import SMALL, pieces_bert


@pytest.fixture(scope="module")
def pieces_backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.load(pieces_bert(tmp_path_factory.mktemp("pieces")))


def words_of(reader: Reader, first: str, second: str | None = None) -> list[list[str]]:
    """The pieces of each word of a text, or of a pair."""
    pieces = reader.read([first], None if second is None else [second])
    names = np.array(reader.tokenizer.convert_ids_to_tokens(pieces.ids[0]))
    return [names[pieces.word[0] == number].tolist() for number in range(int(pieces.word.max()) + 1)]


def test_words_are_what_the_tokenizer_splits(tiny_backbone: Backbone, pieces_backbone: Backbone):
    wordpiece = Reader(tiny_backbone, max_words=32)
    assert words_of(wordpiece, "kettles, teas", "tea") == [["kettle", "##s"], [","], ["tea", "##s"], ["tea"]]
    assert words_of(wordpiece, "\u4e00 tea \ud800") == [["tea"]]  # unknown words are not guessed
    sentencepiece = Reader(pieces_backbone, max_words=32)
    assert words_of(sentencepiece, "tea kettles", "kettle") == [["▁te", "a"], ["▁ket", "tle", "s"], ["▁ket", "tle"]]
    assert words_of(sentencepiece, "茶壶 red") == [["▁", "茶"], ["壶"], ["▁red"]]


def test_a_chinese_character_is_a_word(tmp_path: Path):
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "茶", "壶", "tea", "##s"])
    )
    tokenizer = BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    assert words_of(Reader(Backbone.load(tmp_path), max_words=32), "茶壶teas") == [["茶"], ["壶"], ["tea", "##s"]]


def test_pairs_are_built_as_the_tokenizer_builds_them(tiny_backbone: Backbone, pieces_backbone: Backbone):
    pieces = Reader(tiny_backbone, max_words=32).read(["tea", "red"], ["blue box", "pot"])
    assert tiny_backbone.tokenizer.convert_ids_to_tokens(pieces.ids[0]) == [
        *("[CLS]", "tea", "[SEP]", "blue", "box", "[SEP]")
    ]
    assert pieces.types is not None
    assert pieces.types.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]]
    assert pieces.real.tolist() == [[True] * 6, [True] * 5 + [False]]
    assert pieces.inputs().keys() == {"input_ids", "token_type_ids", "attention_mask"}
    other = Reader(pieces_backbone, max_words=32).read(["red"], ["red"])
    names = pieces_backbone.tokenizer.convert_ids_to_tokens(other.ids[0])
    assert names == ["<s>", "▁red", "</s>", "</s>", "▁red", "</s>"]
    assert other.inputs().keys() == {"input_ids"}  # one type, no padding


def test_long_texts_are_cut_and_keep_both_parts(tiny_backbone: Backbone):
    reader = Reader(tiny_backbone, max_words=8)
    assert reader.read(["tea " * 500]).ids.shape == (1, 8)
    pair = reader.read(["tea " * 500], ["pot " * 500])
    assert pair.ids.shape == (1, 16)
    assert pair.types is not None
    assert 6 <= pair.types.sum() <= 8


@pytest.mark.parametrize("which", ["tiny_backbone", "pieces_backbone"])
def test_chosen_words_are_masked_wholly(which: str, request: pytest.FixtureRequest):
    reader = Reader(request.getfixturevalue(which), max_words=32)
    pieces = reader.read(["red kettles, tea", "kettles", "tea"], ["green socks", "tea pot milk", "kettles"])
    for seed in range(20):
        masked = reader.mask(pieces, share=0.4, rng=np.random.default_rng(seed))
        hidden = np.zeros(pieces.ids.size, bool)
        hidden[masked.places] = True
        hidden = hidden.reshape(pieces.ids.shape)
        assert not hidden[pieces.word < 0].any()
        assert np.array_equal(masked.ids[~hidden], pieces.ids[~hidden])
        assert np.array_equal(masked.labels, pieces.ids[hidden])
        for row, word in enumerate(pieces.word):
            chosen = [number for number in range(word.max() + 1) if hidden[row][word == number].any()]
            assert all(hidden[row][word == number].all() for number in chosen)
            assert len(chosen) == max(1, round(0.4 * (word.max() + 1)))


def test_masked_words_become_the_mask_a_random_piece_or_stay(tiny_backbone: Backbone):
    reader = Reader(tiny_backbone, max_words=32)
    pieces = reader.read(["tea kettle pot socks milk bread"] * 2000)
    masked = reader.mask(pieces, share=0.5, rng=np.random.default_rng(0))
    now = masked.ids.reshape(-1)[masked.places]
    assert len(now) == 6000
    assert np.mean(now == reader.tokenizer.mask_token_id) == pytest.approx(0.8, abs=0.02)
    assert np.mean(now == masked.labels) == pytest.approx(0.1, abs=0.02)
    assert not np.isin(now[now != reader.tokenizer.mask_token_id], reader.tokenizer.all_special_ids).any()


def test_texts_of_unknown_words_are_read_and_not_masked(tiny_backbone: Backbone):
    reader = Reader(tiny_backbone, max_words=32)
    pieces = reader.read(["\u4e00", ""])
    masked = reader.mask(pieces, share=0.5, rng=np.random.default_rng(0))
    assert not len(masked.places)
    stage = LanguageStage(tiny_backbone.bert.requires_grad_(True), SMALL)
    places, labels = torch.from_numpy(masked.places), torch.from_numpy(masked.labels)
    loss = stage(joint={"read": pieces.inputs(masked.ids), "places": places, "labels": labels})
    loss["loss"].backward()
    assert float(loss["loss"].detach()) == 0
