"""Texts in other words by translating them there and back (Sennrich et al. 2016), through any two local models."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from peftrec.errors import ConfigError, MissingExtraError
from peftrec.text.translations import Translations

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

Model: TypeAlias = "str | Path | tuple[PreTrainedModel, PreTrainedTokenizerBase]"
"""A folder, a hub id, or a model that is in memory already with its tokenizer."""

_SLOW_AFTER_S = 2.0
_MEND = "give a folder with config.json, model.safetensors and a tokenizer, a hub id, or a pair (model, tokenizer)"


@dataclass(frozen=True, eq=False)
class Translator:
    """One direction of translation: any sequence-to-sequence model of transformers, such as Marian, NLLB or T5.

    Args:
        model: See :data:`Model`; read on first use. Code from the hub is never run.
        prefix: Put before each text, as ``translate English to German:`` for T5, ``>>fra<<`` for a Marian of many languages.
        languages: From and to, for tokenizers that must be told, as ``("eng_Latn", "fra_Latn")`` for NLLB.
    """

    model: Model
    prefix: str = ""
    languages: tuple[str, str] | None = None

    @cached_property
    def pair(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """The model and its tokenizer.

        Raises:
            ConfigError: They cannot be read, or are no sequence-to-sequence model.
            MissingExtraError: The tokenizer needs a package that is not installed.
        """
        model, tokenizer = self.model if isinstance(self.model, tuple) else _load(str(self.model))
        if not model.config.is_encoder_decoder:
            raise ConfigError(
                f"{type(model).__name__} does not translate",
                expected="a sequence-to-sequence model, such as Marian",
                remedy=_MEND,
            )
        return model, tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of everything that decides a translation but the options of the search, in hex."""
        import torch

        model, tokenizer = self.pair
        defaults = {**model.generation_config.to_dict(), "transformers_version": None}
        facts = (type(model).__name__, defaults, self.prefix, self.languages, sorted(tokenizer.get_vocab().items()))
        digest = hashlib.sha256(repr(facts).encode("utf-8", "replace"))
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def translate(self, texts: Sequence[str], *, search: dict[str, Any], max_words: int) -> list[str]:
        """The translations of each text, as many as ``search`` asks for, one text's after another's.

        Args:
            texts: One batch.
            search: Options of ``GenerationConfig``.
            max_words: Words of a text that are read, and of a translation that are written.
        """
        import torch

        model, tokenizer = self.pair
        if self.languages is not None:
            tokenizer.src_lang = self.languages[0]
        limit = min(max_words, getattr(model.config, "max_position_embeddings", max_words + 1) - 1)
        words = tokenizer(
            [(self.prefix + text).encode("utf-8", "replace").decode() for text in texts],  # no unpaired surrogates
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=limit,
            return_token_type_ids=False,
        ).to(model.device)
        config = self._config(search, max_new_tokens=limit)
        with torch.inference_mode(), _still(model), _quiet():
            ids = model.generate(**words, generation_config=config)
        return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _config(self, search: dict[str, Any], *, max_new_tokens: int) -> "GenerationConfig":
        model, tokenizer = self.pair
        config = copy.deepcopy(model.generation_config)
        config.update(max_length=None, max_new_tokens=max_new_tokens, **search)
        if self.languages is not None:
            config.forced_bos_token_id = tokenizer.convert_tokens_to_ids(self.languages[1])
        return config


@dataclass(frozen=True, eq=False)
class BackTranslation:
    """A text augmentation: translates into another language and back (Sennrich et al. 2016).

    Each distinct text is translated once, on first sight; the generator only chooses among its variants. Sampling varies
    more than beam search (Edunov et al. 2018) and strays further. Short titles full of abbreviations translate badly:
    look at some before training on them.

    Args:
        there: Into the other language: a :class:`Translator`, or the model of one.
        back: From there.
        variants: Different texts to have of each text; equal ones count once, so there may be fewer.
        beams: Width of the beam search; 1 follows a single line of words.
        temperature: Draws words at this temperature instead of taking the likeliest; free sampling with ``beams=1``.
        max_words: Words of a text that are read and written, as the tokenizers count them; the rest is lost.
        batch_size: Texts translated at once.
        device: Where models that are read from disk go; a model from memory stays where it is.
        cache: A file that keeps all translations from run to run; it is made where it is not there.
        progress: Show a bar when translating takes longer than two seconds.

    Raises:
        ConfigError: An option is out of range, or options contradict each other.
    """

    there: "Translator | Model"
    back: "Translator | Model"
    variants: int = 1
    beams: int = 4
    temperature: float | None = None
    max_words: int = 128
    batch_size: int = 32
    device: str | None = None
    cache: str | Path | None = None
    progress: bool = True
    _known: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("variants", "beams", "max_words", "batch_size"):
            if getattr(self, name) < 1:
                raise _refused(name, getattr(self, name), "a whole number from 1 on")
        if self.temperature is not None and not self.temperature > 0:
            raise _refused("temperature", self.temperature, "more than 0, or None for a beam search")
        if self.variants > self.beams and (self.temperature is None or self.beams > 1):
            raise _refused("variants", self.variants, f"at most the {self.beams} beams, or beams=1 with a temperature")

    def __call__(self, texts: Sequence[str], *, rng: np.random.Generator) -> list[str]:
        """One text for each of ``texts``, in their order; blank ones stay, as does one whose translations are blank.

        Raises:
            ConfigError: A model cannot be read, does not translate, or the cache cannot be read or written.
            MissingExtraError: A tokenizer needs a package that is not installed.
        """
        wanted = dict.fromkeys(text for text in texts if text.strip() and text not in self._known)
        if wanted:
            self._learn(list(wanted))
        draws = rng.random(len(texts))
        known = [self._known.get(text, [text]) for text in texts]
        return [some[int(draw * len(some))] for some, draw in zip(known, draws, strict=True)]

    def _learn(self, texts: list[str]) -> None:
        """Translates the texts that the cache lacks, the longest first, so that little is padding."""
        there, back = self._translators
        store = None if self.cache is None else Translations(Path(self.cache), self._fingerprint(there, back))
        self._known.update({} if store is None else store.read(texts))
        missing = sorted((text for text in texts if text not in self._known), key=len, reverse=True)
        with _bar(len(missing), show=self.progress) as bar:
            for start in range(0, len(missing), self.batch_size):
                batch = missing[start : start + self.batch_size]
                found = self._translated(batch, there, back)
                if store is not None:
                    store.add(found)
                self._known.update(found)
                bar.update(len(batch))

    def _translated(self, texts: list[str], there: Translator, back: Translator) -> dict[str, list[str]]:
        with _seeded(texts, [there.pair[0], back.pair[0]]):
            abroad = there.translate(texts, search=self._search(1), max_words=self.max_words)
            home = back.translate(abroad, search=self._search(self.variants), max_words=self.max_words)
        rows = [home[row * self.variants :][: self.variants] if abroad[row] else [] for row in range(len(texts))]
        return {text: [*dict.fromkeys(filter(None, some))] or [text] for text, some in zip(texts, rows, strict=True)}

    def _search(self, variants: int) -> dict[str, Any]:
        search = {"do_sample": False, "num_beams": self.beams, "num_return_sequences": variants}
        if self.temperature is not None:
            search |= {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        return search

    @cached_property
    def _translators(self) -> tuple[Translator, Translator]:
        there, back = (way if isinstance(way, Translator) else Translator(way) for way in (self.there, self.back))
        for way in (there, back):
            if self.device is not None and not isinstance(way.model, tuple):
                way.pair[0].to(self.device)  # pyright: ignore[reportArgumentType]  # transformers narrows nn.Module.to
        return there, back

    def _fingerprint(self, there: Translator, back: Translator) -> str:
        facts = (there.fingerprint, back.fingerprint, self._search(self.variants), self.max_words)
        return hashlib.sha256(repr(facts).encode()).hexdigest()


def _refused(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{name}={value!r}", expected=expected, remedy="leave it at its default")


def _load(source: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model = AutoModelForSeq2SeqLM.from_pretrained(source, trust_remote_code=False, use_safetensors=True)
    except ImportError as error:
        raise MissingExtraError(
            f"the tokenizer of {source} needs a package that is not installed: {_first_line(error)}",
            expected="the packages of its tokenizer, sentencepiece for Marian",
            remedy='pip install "peftrec[augment]"',
        ) from error
    except Exception as error:  # whatever a damaged file makes of safetensors, tokenizers and json
        raise ConfigError(
            f"the translation model {source} cannot be read: {_first_line(error)}",
            expected="a sequence-to-sequence model with safetensors and its tokenizer",
            remedy=f"{_MEND}; weights in pytorch_model.bin must be converted with save_pretrained() first",
        ) from error
    return model.eval(), tokenizer


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _bar(total: int, *, show: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit="text", desc="translating", delay=_SLOW_AFTER_S, disable=not show, leave=False)


@contextmanager
def _seeded(texts: list[str], models: "list[PreTrainedModel]") -> Iterator[None]:
    """Makes sampling depend on the texts alone, and gives the process its random state back."""
    import torch

    seed = int.from_bytes(hashlib.sha256("\n".join(texts).encode("utf-8", "replace")).digest()[:7])
    with torch.random.fork_rng({model.device for model in models if model.device.type == "cuda"}):
        torch.manual_seed(seed)
        yield


@contextmanager
def _still(model: "PreTrainedModel") -> Iterator[None]:
    """No dropout while translating; a model that is being trained goes on being so."""
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()


@contextmanager
def _quiet() -> Iterator[None]:
    """Holds back transformers' bars and advice: what matters in them is checked and raised by the caller."""
    import warnings

    from transformers.utils import logging as chatter

    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Recommended: pip install sacremoses")
            yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()
