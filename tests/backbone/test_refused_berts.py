"""What is no BERT, is damaged or does not belong together is refused, in three parts; it never half loads."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors
from transformers import (
    BertGenerationConfig,
    BertGenerationEncoder,
    BertLMHeadModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.utils.import_utils import is_protobuf_available

from peftrec.backbone import Backbone
from peftrec.errors import BackboneError, BackboneNotFoundError, UnsupportedBackboneError
from tests.backbone import berts

SMALL = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
OTHERS = {
    "roberta": lambda: RobertaModel(RobertaConfig(**SMALL)),
    "xlm-roberta": lambda: XLMRobertaModel(XLMRobertaConfig(**SMALL)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(vocab_size=60, dim=24, n_layers=2, n_heads=3, hidden_dim=48)
    ),
    "electra": lambda: ElectraModel(ElectraConfig(**SMALL)),
    "bert-generation": lambda: BertGenerationEncoder(BertGenerationConfig(**SMALL)),
    "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=60, n_embd=24, n_layer=2, n_head=3)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT of three layers in good order."""
    return berts.save(tmp_path / "bert", berts.wordpiece(), num_hidden_layers=3)


def refused(folder: Path, kind: type[BackboneError], match: str) -> BackboneError:
    """Loads, and checks that the error has its three parts."""
    with pytest.raises(kind, match=match) as caught:
        Backbone.load(folder)
    assert caught.value.found
    assert caught.value.expected
    assert caught.value.remedy
    return caught.value


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


# ---------------------------------------------------------------------------------------------------- architectures


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_are_refused(tmp_path: Path, name: str):
    OTHERS[name]().save_pretrained(tmp_path)
    berts.wordpiece().save_pretrained(tmp_path)
    error = refused(tmp_path, UnsupportedBackboneError, f'model_type "{name}"')
    assert '"bert"' in error.expected


def test_a_roberta_under_the_name_of_a_bert_has_none_of_its_tensors(tmp_path: Path):
    """Roberta counts positions from 2: read as a BERT it would be wrong everywhere, and silently."""
    RobertaForMaskedLM(RobertaConfig(**SMALL)).save_pretrained(tmp_path)
    berts.wordpiece().save_pretrained(tmp_path)
    edit(tmp_path / "config.json", lambda content: content.update(model_type="bert"))
    refused(tmp_path, BackboneNotFoundError, "lack")


def test_decoders_are_refused(tmp_path: Path):
    berts.save(tmp_path, berts.wordpiece(), kind=BertLMHeadModel, is_decoder=True)
    refused(tmp_path, UnsupportedBackboneError, "is_decoder true")


def test_quantised_weights_are_refused(folder: Path):
    quantised = {"load_in_8bit": True, "quant_method": "bitsandbytes"}
    edit(folder / "config.json", lambda content: content.update(quantization_config=quantised))
    refused(folder, UnsupportedBackboneError, "quantization_config")


# ----------------------------------------------------------------------------------------------- config against weights


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_hidden_layers": 2}, r"too many, 16 tensors, encoder\.layer\.2\."),
        ({"num_hidden_layers": 4}, r"lack 16 tensors, encoder\.layer\.3\."),
        ({"hidden_size": 72}, r"of shape \(36,\) where config.json has \(72,\)"),
        ({"intermediate_size": 96}, r"encoder\.layer\.0\.intermediate\.dense\.bias of shape \(72,\)"),
        ({"vocab_size": 1000}, r"word_embeddings\.weight of shape \(\d+, 36\) where config.json has \(1000, 36\)"),
        ({"max_position_embeddings": 63}, r"position_embeddings\.weight of shape \(64, 36\)"),
        ({"max_position_embeddings": 512}, r"position_embeddings\.weight of shape \(64, 36\)"),
        ({"type_vocab_size": 1}, r"token_type_embeddings\.weight of shape \(2, 36\)"),
    ],
)
def test_sizes_that_contradict_the_tensors_are_named(folder: Path, changes: dict[str, int], match: str):
    edit(folder / "config.json", lambda content: content.update(changes))
    refused(folder, BackboneNotFoundError, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers -1"),
        ({"num_hidden_layers": True}, "num_hidden_layers.* expected int, got bool"),
        ({"num_attention_heads": 0}, "num_attention_heads 0"),
        ({"num_attention_heads": -3}, "num_attention_heads -3"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"hidden_size": 0}, "hidden_size 0"),
        ({"hidden_size": 37}, "not a multiple"),
        ({"hidden_size": "wide"}, "hidden_size.* expected int, got str"),
        ({"hidden_size": None}, "hidden_size.* expected int, got None"),
        ({"intermediate_size": 0}, "intermediate_size 0"),
        ({"vocab_size": 0}, "vocab_size 0"),
        ({"max_position_embeddings": 2}, "max_position_embeddings 2"),
        ({"type_vocab_size": 0}, "type_vocab_size 0"),
        ({"hidden_act": "swishy"}, "hidden_act swishy"),
        ({"hidden_act": None}, "hidden_act.* expected str, got None"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps nan"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps 0"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps.* expected float, got str"),
        ({"pad_token_id": 1000}, "pad_token_id 1000"),
        ({"hidden_dropout_prob": 7.0}, "dropout probability"),
        ({"dtype": "nonsense"}, "nonsense"),
        ({"id2label": 3}, "cannot be understood"),
    ],
)
def test_values_that_make_no_bert_are_refused(folder: Path, changes: dict[str, object], match: str):
    edit(folder / "config.json", lambda content: content.update(changes))
    refused(folder, BackboneNotFoundError, match)


# ------------------------------------------------------------------------------------------------------ damaged weights


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(folder: Path, value: float):
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["encoder.layer.1.output.dense.weight"][3, 5] = value

    edit_weights(folder, spoil)
    refused(folder, BackboneNotFoundError, r"NaN or infinity in 1 tensors, encoder\.layer\.1\.output\.dense\.weight")


def test_a_tensor_that_no_bert_has_is_named(folder: Path):
    edit_weights(folder, lambda weights: weights.update({"encoder.layer.0.adapter.down": torch.zeros(2, 36)}))
    refused(folder, BackboneNotFoundError, r"too many, 1 tensors, encoder\.layer\.0\.adapter\.down")


def test_old_buffers_are_no_reason_to_refuse(folder: Path):
    edit_weights(folder, lambda weights: weights.update({"embeddings.position_ids": torch.arange(64)[None]}))
    assert Backbone.load(folder).layers == 3


def test_a_file_cut_anywhere_is_refused(folder: Path):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 500, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(folder, BackboneNotFoundError, "cannot be read")


def test_a_missing_shard_is_refused(folder: Path):
    backbone = Backbone.load(folder)
    (folder / "model.safetensors").unlink()
    backbone.bert.save_pretrained(folder, max_shard_size="50KB")
    Backbone.load(folder)
    sorted(folder.glob("*.safetensors"))[1].unlink()
    refused(folder, BackboneNotFoundError, "weights")


def test_a_flipped_bit_is_refused_or_another_backbone(folder: Path):
    """Safetensors has no checksum: a changed number is only seen by its fingerprint, which adapters ask for."""
    Backbone.load(folder).bert.save_pretrained(folder)  # without the pooler, which is never read
    known, path = Backbone.load(folder).fingerprint, folder / "model.safetensors"
    whole, rng, errors = path.read_bytes(), random.Random(0), 0
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in [rng.randrange(header) for _ in range(60)] + [rng.randrange(header, len(whole)) for _ in range(40)]:
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            assert Backbone.load(folder).fingerprint != known
        except BackboneError:
            errors += 1
    assert errors > 40


# ----------------------------------------------------------------------------------------------------------- tokenizers


def test_far_fewer_words_than_rows_are_another_models(tmp_path: Path):
    words = berts.wordpiece()
    error = refused(
        berts.save(tmp_path, words, vocab_size=3 * len(words)), BackboneNotFoundError, f"{len(words)} words"
    )
    assert str(3 * len(words)) in error.expected


def test_an_id_beyond_the_table_is_found_however_few_words_there_are(folder: Path):
    edit(folder / "tokenizer.json", lambda content: content["model"]["vocab"].update(tea=500))
    refused(folder, BackboneNotFoundError, "the id 500")


@pytest.mark.parametrize("role", ["cls_token", "sep_token", "pad_token", "unk_token", "mask_token"])
@pytest.mark.parametrize("name_it", [True, False])
def test_a_missing_special_word_is_named(tmp_path: Path, role: str, name_it: bool):
    """With its name in tokenizer_config.json, transformers would add the word at the end, where nothing was trained."""
    folder = berts.save(tmp_path, berts.wordpiece(), vocab_size=60)
    word = json.loads((folder / "tokenizer_config.json").read_text())[role]

    def rename(content: dict) -> None:
        content["model"]["vocab"] = {f"x{w}" if w == word else w: row for w, row in content["model"]["vocab"].items()}
        content["added_tokens"] = [added for added in content["added_tokens"] if added["content"] != word]
        content["post_processor"] = None

    edit(folder / "tokenizer.json", rename)
    if not name_it:
        (folder / "tokenizer_config.json").unlink()
    error = refused(folder, BackboneNotFoundError, role)
    assert "[CLS]" in error.expected


def test_a_special_word_that_was_added_to_the_file_is_there(tmp_path: Path):
    words = berts.wordpiece()
    folder = berts.save(tmp_path, words, vocab_size=len(words) + 1)

    def move(content: dict) -> None:
        content["model"]["vocab"]["spare"] = content["model"]["vocab"].pop("[MASK]")
        added = next(added for added in content["added_tokens"] if added["content"] == "[MASK]")
        added["id"] = len(words)

    edit(folder / "tokenizer.json", move)
    assert Backbone.load(folder).tokenizer.mask_token_id == len(words)


def test_a_file_that_puts_no_special_words_around_a_text_is_refused(folder: Path):
    edit(folder / "tokenizer.json", lambda content: content.update(post_processor=None))
    refused(folder, BackboneNotFoundError, "reads 'tea")


def test_special_words_of_another_family_are_refused(folder: Path):
    rules = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rules.post_processor = processors.TemplateProcessing(
        single="[MASK] $A [UNK]", special_tokens=[("[MASK]", 4), ("[UNK]", 1)]
    )
    rules.save(str(folder / "tokenizer.json"))
    refused(folder, BackboneNotFoundError, r"as \[MASK\]")


def test_a_sentencepiece_without_a_word_for_the_unknown_is_refused(tmp_path: Path):
    folder = berts.save(tmp_path, berts.sentencepiece())
    edit(folder / "tokenizer.json", lambda content: content["model"].update(unk_id=None))
    refused(folder, BackboneNotFoundError, "cannot read a text")


def test_a_tokenizer_of_another_script_is_refused_by_its_size(tmp_path: Path):
    folder = berts.save(tmp_path, berts.wordpiece())
    wider = berts.wordpiece(" ".join(map(chr, range(0x4E00, 0x4E00 + 500))))
    for path in folder.glob("tokenizer*"):
        path.unlink()
    wider.save_pretrained(folder)
    refused(folder, BackboneNotFoundError, "505 words")


def test_a_sentencepiece_model_alone_is_refused_or_read_right(tmp_path: Path):
    """Reading one needs packages that peftrec does without; the ids of XLM-R come one later than the file's."""
    spm = pytest.importorskip("sentencepiece", reason="the extra `augment` is not installed")
    (tmp_path / "text").write_text("tea kettle pot\nred tea green kettle\n茶壶 tea\n" * 20, encoding="utf-8")
    folder = berts.save(tmp_path / "bert", berts.sentencepiece(), vocab_size=30)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=20, minloglevel=2
    )
    refused(folder, BackboneNotFoundError, "tokenizer")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    if not is_protobuf_available():
        error = refused(folder, BackboneNotFoundError, "tokenizer")
        assert "save_pretrained" in error.remedy
        return
    file = spm.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    ids = Backbone.load(folder).tokenizer("tea")["input_ids"]
    assert ids[1:-1] == [row + 1 for row in file.encode("tea")]


def test_an_error_leaves_nothing_behind(folder: Path):
    """What is refused once loads again when it is mended, and is the same."""
    known = Backbone.load(folder).fingerprint
    config = (folder / "config.json").read_text()
    edit(folder / "config.json", lambda content: content.update(num_hidden_layers=2))
    refused(folder, BackboneNotFoundError, "too many")
    (folder / "config.json").write_text(config)
    assert Backbone.load(folder).fingerprint == known
