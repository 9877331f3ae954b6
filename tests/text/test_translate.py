"""There and back through tiny random models: the path, not the language."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from peftrec.data.augment import TextAugmentation, TextChain
from peftrec.errors import ConfigError, MissingExtraError
from peftrec.text.translate import BackTranslation, Translator

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Pair = tuple[PreTrainedModel, PreTrainedTokenizerBase]

WORDS = "tea kettle pot milk bread red green thé bouilloire lait pain rouge vert".split()  # noqa: SIM905
TEXTS = ["red tea", "green kettle pot", "milk bread milk bread", "", "  ", "red tea"]


def make_pair(seed: int) -> "Pair":
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *WORDS]
    rules = Tokenizer(models.WordLevel({word: code for code, word in enumerate(words)}, unk_token="<unk>"))
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    rules.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = MarianConfig(
        vocab_size=len(words),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=14,
        init_std=1.0,
        pad_token_id=0,
        eos_token_id=1,
        forced_eos_token_id=1,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MarianMTModel(config).eval(), tokenizer


@pytest.fixture(scope="module")
def pairs() -> "Iterator[tuple[Pair, Pair]]":
    """Two models that make something else of each text."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # models as small as these only wait for more
    yield make_pair(3), make_pair(7)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(pairs: "tuple[Pair, Pair]", tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("back")
    for folder, pair in zip(made, pairs, strict=True):
        for part in pair:
            part.save_pretrained(folder)
    return made


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """The sizes of the batches that have been translated since the last call, both ways."""
    seen: list[int] = []
    translate = Translator.translate

    def counted(self: Translator, texts: list[str], **options: object) -> list[str]:
        seen.append(len(texts))
        return translate(self, texts, **options)

    monkeypatch.setattr(Translator, "translate", counted)

    def since() -> list[int]:
        sizes = seen.copy()
        seen.clear()
        return sizes

    return since


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_texts_come_back_in_other_words(pairs: "tuple[Pair, Pair]"):
    augment: TextAugmentation = BackTranslation(*pairs)
    found = augment(TEXTS, rng=rng())
    assert len(found) == len(TEXTS)
    assert found[3:5] == ["", "  "]  # blank texts stay
    assert found[0] == found[5]
    assert len({*found[:3]}) == 3
    assert all(text.strip() for text in found[:3])
    assert found[:3] != TEXTS[:3]
    assert set(" ".join(found).split()) <= {*WORDS}  # no special words
    assert BackTranslation(*pairs)(TEXTS, rng=rng(7)) == found  # a beam search leaves nothing to chance


def test_folders_give_what_models_in_memory_give(pairs: "tuple[Pair, Pair]", folders: tuple[Path, Path]):
    expected = BackTranslation(*pairs)(TEXTS, rng=rng())
    assert BackTranslation(*folders, device="cpu")(TEXTS, rng=rng()) == expected
    assert BackTranslation(str(folders[0]), Translator(folders[1]))(TEXTS, rng=rng()) == expected


def test_batches_change_nothing_and_hold_each_text_once(pairs: "tuple[Pair, Pair]", count: Callable[[], list[int]]):
    whole = BackTranslation(*pairs)(TEXTS, rng=rng())
    assert count() == [3, 3]
    assert BackTranslation(*pairs, batch_size=1)(TEXTS, rng=rng()) == whole
    assert count() == [1] * 6


def test_results_are_kept(pairs: "tuple[Pair, Pair]", count: Callable[[], list[int]]):
    augment = BackTranslation(*pairs)
    first = augment(TEXTS, rng=rng())
    count()
    assert augment(TEXTS, rng=rng(1)) == first
    assert count() == []
    augment([*TEXTS, "pot"], rng=rng())
    assert count() == [1, 1]


def test_results_are_kept_on_disk(pairs: "tuple[Pair, Pair]", tmp_path: Path, count: Callable[[], list[int]]):
    cache = tmp_path / "new" / "translations.jsonl"
    first = BackTranslation(*pairs, cache=cache)(TEXTS, rng=rng())
    count()
    assert BackTranslation(*pairs, cache=cache)(TEXTS, rng=rng()) == first
    assert count() == []
    BackTranslation(*pairs, cache=cache, beams=2)(TEXTS, rng=rng())
    BackTranslation(pairs[1], pairs[0], cache=cache)(TEXTS, rng=rng())
    BackTranslation(Translator(pairs[0], prefix="red"), pairs[1], cache=cache)(TEXTS, rng=rng())
    assert count() == [3] * 6  # other options and other models are other translations


def test_a_line_that_was_cut_short_costs_its_text_alone(
    pairs: "tuple[Pair, Pair]", tmp_path: Path, count: Callable[[], list[int]]
):
    cache = tmp_path / "translations.jsonl"
    first = BackTranslation(*pairs, cache=cache)(TEXTS, rng=rng())
    cache.write_bytes(cache.read_bytes()[:-10])
    count()
    assert BackTranslation(*pairs, cache=cache)(TEXTS, rng=rng()) == first
    assert count() == [1, 1]
    assert BackTranslation(*pairs, cache=cache)(TEXTS, rng=rng()) == first
    assert count() == []
    lines = [line for line in cache.read_text().splitlines() if line]
    assert len(lines) == 4
    assert json.loads(lines[0])["texts"] == [first[2]]  # the longest first


def test_a_cache_that_is_a_folder_is_refused(pairs: "tuple[Pair, Pair]", tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        BackTranslation(*pairs, cache=tmp_path)(TEXTS, rng=rng())


def test_chance_chooses_among_variants(pairs: "tuple[Pair, Pair]", count: Callable[[], list[int]]):
    augment = BackTranslation(*pairs, variants=4)
    found = {augment(["pot"], rng=rng(seed))[0] for seed in range(40)}
    assert len(found) == 4
    assert count() == [1, 1]
    assert augment(TEXTS, rng=rng(3)) == augment(TEXTS, rng=rng(3))


def test_sampling_depends_on_texts_and_generator_alone(pairs: "tuple[Pair, Pair]"):
    import torch

    free = {"beams": 1, "temperature": 2.0, "variants": 5}
    before = torch.get_rng_state()
    first = BackTranslation(*pairs, **free)(TEXTS, rng=rng())
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert BackTranslation(*pairs, **free)(TEXTS, rng=rng()) == first
    cold = BackTranslation(*pairs, beams=1, temperature=1e-4)(TEXTS, rng=rng())
    assert cold == BackTranslation(*pairs, beams=1)(TEXTS, rng=rng())  # frozen, the likeliest word wins every draw
    hot = BackTranslation(*pairs, beams=1, temperature=50.0)(TEXTS, rng=rng())
    assert hot != cold


def test_a_model_in_training_is_still_while_it_translates(pairs: "tuple[Pair, Pair]"):
    expected = BackTranslation(*pairs)(TEXTS, rng=rng())
    model, tokenizer = make_pair(3)
    model.train()
    assert BackTranslation((model, tokenizer), pairs[1])(TEXTS, rng=rng()) == expected
    assert model.training


def test_what_cannot_be_translated_stays(pairs: "tuple[Pair, Pair]", monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Translator, "translate", lambda self, texts, **_: [""] * len(texts))
    assert BackTranslation(*pairs)(TEXTS, rng=rng()) == TEXTS


def test_long_texts_and_strange_letters_pass(pairs: "tuple[Pair, Pair]"):
    texts = ["red tea " * 500, "绿茶 礼盒", "\ud800 tea", "\x00"]
    assert all(BackTranslation(*pairs)(texts, rng=rng()))


def test_it_is_a_step_of_a_chain(pairs: "tuple[Pair, Pair]", count: Callable[[], list[int]]):
    texts = [f"{word} {other}" for word in WORDS for other in WORDS]
    chain = TextChain(((BackTranslation(*pairs, progress=False), 0.1),))
    found = chain(texts, rng=rng())
    assert 0 < sum(new != old for new, old in zip(found, texts, strict=True)) < 40
    assert sum(count()) < 80  # only what chance picks is translated


def test_languages_are_told():
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    letters = ["<s>", "<pad>", "</s>", "<unk>", *"▁abcdefghijklmnopqrstuvwxyz"]
    tokenizer = NllbTokenizer(vocab={letter: code for code, letter in enumerate(letters)}, merges=[])
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = M2M100ForConditionalGeneration(config).eval()
    seen: list[tuple[int, int]] = []
    generate = model.generate

    def watched(**options: "torch.Tensor") -> "torch.Tensor":
        ids = generate(**options)
        seen.append((int(options["input_ids"][0, 0]), int(ids[0, 1])))
        return ids

    model.generate = watched
    both = (model, tokenizer)
    there = Translator(both, languages=("eng_Latn", "fra_Latn"))
    BackTranslation(there, Translator(both, languages=("fra_Latn", "eng_Latn")))(["tea"], rng=rng())
    english, french = map(tokenizer.convert_tokens_to_ids, ("eng_Latn", "fra_Latn"))
    assert seen == [(english, french), (french, english)]


def test_marian_with_its_own_tokenizer(pairs: "tuple[Pair, Pair]", tmp_path: Path):
    sentencepiece = pytest.importorskip("sentencepiece")
    from transformers import MarianTokenizer

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS),
        model_prefix=str(tmp_path / "both"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "both.model"))
    known = ["<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS), *map(pieces.id_to_piece, range(3, len(pieces)))]
    vocabulary = {piece: code for code, piece in enumerate(dict.fromkeys(known))}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    model = str(tmp_path / "both.model")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
        tokenizer = MarianTokenizer(source_spm=model, target_spm=model, vocab=str(tmp_path / "vocab.json"))
    translator, _ = make_pair(0)
    translator.resize_token_embeddings(len(vocabulary))
    for part in (translator, tokenizer):
        part.save_pretrained(tmp_path / "marian")
    found = BackTranslation(tmp_path / "marian", tmp_path / "marian")(["red tea"], rng=rng())
    assert found[0].strip()


@pytest.mark.parametrize(
    "options",
    [{"variants": 0}, {"beams": 0}, {"batch_size": 0}, {"max_words": 0}, {"temperature": 0.0}, {"variants": 5}],
)
def test_options_out_of_range_are_refused(options: dict[str, int], pairs: "tuple[Pair, Pair]"):
    with pytest.raises(ConfigError, match=next(iter(options))):
        BackTranslation(*pairs, **options)


def test_models_that_do_not_translate_are_refused(tiny_bert_folder: Path, pairs: "tuple[Pair, Pair]", tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        BackTranslation(tiny_bert_folder, pairs[1])(["tea"], rng=rng())
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        BackTranslation(pairs[0], tmp_path / "nothing")(["tea"], rng=rng())
    assert "safetensors" in caught.value.remedy
    from transformers import BertModel

    bert = BertModel.from_pretrained(tiny_bert_folder)
    with pytest.raises(ConfigError, match="BertModel does not translate"):
        BackTranslation((bert, pairs[0][1]), pairs[1])(["tea"], rng=rng())


def test_a_missing_package_is_named(
    folders: tuple[Path, Path], pairs: "tuple[Pair, Pair]", monkeypatch: pytest.MonkeyPatch
):
    import transformers

    def fail(*_: object, **__: object) -> None:
        raise ImportError("MarianTokenizer requires the SentencePiece library\nand more")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(MissingExtraError, match="requires the SentencePiece library") as caught:
        BackTranslation(folders[0], pairs[1])(["tea"], rng=rng())
    assert caught.value.remedy == 'pip install "peftrec[augment]"'
