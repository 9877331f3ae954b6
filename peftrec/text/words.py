"""From texts to rectangular batches of word ids, sorted by length so that almost nothing is padding."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftrec.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_LENGTH = 128
"""Words of a text that are read, ``[CLS]`` and ``[SEP]`` included; the rest is cut."""

TOKEN_BUDGET, GPU_TOKEN_BUDGET = 1024, 16_384
"""Words in one batch, padding included, on a processor and on a GPU: wide enough for matrix products at full speed, and on a
processor small enough for a layer's widest matrix to stay in the cache."""

_CHARACTERS_PER_WORD = 64  # a text is cut here before it is tokenised, so that a megabyte of text costs nothing
_MAX_ROWS = 1024


@dataclass(frozen=True, slots=True)
class WordBatch:
    """A rectangle of word ids.

    Attributes:
        rows: (batch,) int64, the position of each text in the input.
        ids: (batch, words) int64, right-padded.
        lengths: (batch,) int64, words of each text before padding.
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def padded(self) -> bool:
        """Whether any text is shorter than the batch."""
        return bool(self.lengths.min() < self.ids.shape[1])

    @property
    def mask(self) -> NDArray[np.int64]:
        """(batch, words): 1 on words, 0 on padding."""
        return (np.arange(self.ids.shape[1]) < self.lengths[:, None]).astype(np.int64)


def tokenise(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast", *, max_length: int = MAX_LENGTH
) -> list[list[int]]:
    """Word ids of each text, special words included, cut to ``max_length``.

    An empty text gives the special words alone; see :func:`plain` for what is not read.

    Raises:
        ConfigError: ``max_length`` leaves no room for a word beside ``[CLS]`` and ``[SEP]``.
    """
    if max_length < 3:
        raise ConfigError(
            f"max_length={max_length}",
            expected="at least 3: [CLS], one word, [SEP]",
            remedy=f"leave it at its default, {MAX_LENGTH}",
        )
    if not texts:
        return []
    encoded = tokenizer(
        plain(texts, tokenizer, max_length=max_length),
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    return encoded["input_ids"]  # pyright: ignore[reportReturnType]  # a list of lists, since no tensors were asked for


def plain(texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast", *, max_length: int) -> list[str]:
    """Texts as a tokenizer may read them.

    Their far end is left out. Special words that a text spells out become spaces: ``<s>`` in a title is a mark of HTML, not
    the beginning of a text. Unpaired surrogates, which UTF-8 cannot hold, become ``?``.
    """
    cut, special = max_length * _CHARACTERS_PER_WORD, re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)))
    some = (text[:cut] for text in texts)
    valid = (text if text.isascii() else text.encode("utf-8", "replace").decode() for text in some)
    return [special.sub(" ", text) if special.search(text) else text for text in valid]


def batches(
    texts: Sequence[str],
    tokenizer: "PreTrainedTokenizerFast",
    *,
    max_length: int = MAX_LENGTH,
    token_budget: int = TOKEN_BUDGET,
) -> Iterator[WordBatch]:
    """Cuts texts into batches of similar length, longest first, each of at most ``token_budget`` words.

    Longest first, so that a memory limit is met at once and not after an hour. Every text comes exactly once.

    Raises:
        ConfigError: ``max_length`` below 3 or ``token_budget`` below 1.
    """
    if token_budget < 1:
        raise ConfigError(
            f"token_budget={token_budget}",
            expected="words per batch, at least 1",
            remedy=f"leave it at its default, {TOKEN_BUDGET}",
        )
    words = tokenise(texts, tokenizer, max_length=max_length)
    lengths = np.array([len(ids) for ids in words], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    padding = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        rows = order[start : start + max(1, min(_MAX_ROWS, token_budget // width))]
        yield _rectangle(rows, [words[row] for row in rows], width, padding)
        start += len(rows)


def _rectangle(rows: NDArray[np.int64], words: list[list[int]], width: int, padding: int) -> WordBatch:
    ids = np.full((len(rows), width), padding, dtype=np.int64)
    for line, word_ids in enumerate(words):
        ids[line, : len(word_ids)] = word_ids
    return WordBatch(rows=rows, ids=ids, lengths=np.array([len(word_ids) for word_ids in words], dtype=np.int64))
