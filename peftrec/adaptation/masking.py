"""Texts and pairs of texts as rectangles of word pieces, and whole-word masking of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.backbone import Backbone
from peftrec.errors import ConfigError
from peftrec.model.platform import padded
from peftrec.text.words import plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MASKED, RANDOM = 0.8, 0.1
"""Shares of the chosen words that become the mask word and a random one; the rest stays (Devlin et al., 2019)."""

_SPACE = "▁"  # what SentencePiece writes for a space
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Pieces:
    """B texts, or pairs of texts, W pieces wide.

    Attributes:
        ids: (B, W) int64, right-padded.
        types: (B, W) int64, 1 on the second text; None where the backbone has one type only.
        real: (B, W) whether a piece is no padding.
        word: (B, W) int64 number of the word within its row, -1 on special pieces and padding.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64] | None
    real: NDArray[np.bool_]
    word: NDArray[np.int64]

    def inputs(self, ids: NDArray[np.int64] | None = None) -> dict[str, Tensor]:
        """What BERT reads; other ``ids`` in place of its own where given."""
        found = {"input_ids": torch.from_numpy(self.ids if ids is None else ids)}
        if self.types is not None:
            found["token_type_ids"] = torch.from_numpy(self.types)
        if not self.real.all():  # without a mask, attention takes its fastest path
            found["attention_mask"] = torch.from_numpy(self.real.astype(np.int64))
        return found


@dataclass(frozen=True)
class Masked:
    """What masking made of some texts.

    Attributes:
        ids: (B, W) int64 with masked words.
        places: (m,) int64 places of the pieces to be guessed among all B * W.
        labels: (m,) int64 their ids before.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.int64]
    labels: NDArray[np.int64]


class Reader:
    """Cuts texts into pieces and groups the pieces into words, for any fast tokenizer.

    A word is what the tokenizer splits at spaces and punctuation before it looks pieces up: BERT's splits Chinese at every
    character, so a word is a character there. SentencePiece begins a word where a piece begins with a space; in scripts
    without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each of its pieces is a word.

    Args:
        backbone: Its tokenizer is used as it is, its special pieces around one text and between two included.
        max_words: Pieces read of a text, special ones included; two texts read together may have twice as many.

    Raises:
        ConfigError: The tokenizer has no mask word.
    """

    def __init__(self, backbone: Backbone, *, max_words: int) -> None:
        tokenizer = backbone.tokenizer
        if tokenizer.mask_token_id is None:
            raise ConfigError(
                f"the tokenizer of {backbone.name} has no mask word",
                expected="a tokenizer that was made for masked-language modelling",
                remedy="choose a BERT whose tokenizer knows [MASK] or <mask>",
            )
        self.tokenizer: PreTrainedTokenizerFast = tokenizer
        self.longest = min(max_words, backbone.max_length)
        self.longest_pair = min(2 * max_words, backbone.bert.config.max_position_embeddings)
        self.typed = backbone.bert.config.type_vocab_size > 1
        pieces = tokenizer.convert_ids_to_tokens(range(backbone.bert.config.vocab_size))
        pieces = [piece or "" for piece in pieces]  # embedding tables are often longer than vocabularies
        self.special = np.isin(np.arange(len(pieces)), tokenizer.all_special_ids)
        self.space = np.array([piece == _SPACE for piece in pieces])
        self.spaced = np.array([piece.startswith(_SPACE) for piece in pieces])
        self.unspaced = np.array([bool(_UNSPACED.search(piece)) for piece in pieces]) & self.spaced.any()
        self.ordinary = np.flatnonzero(~self.special & (np.array(pieces) != ""))

    def read(self, first: Sequence[str], second: Sequence[str] | None = None) -> Pieces:
        """Reads texts, or pairs of texts of which the longer one is cut first."""
        encoding = self.tokenizer(
            plain(first, self.tokenizer, max_length=self.longest),
            None if second is None else plain(second, self.tokenizer, max_length=self.longest),
            truncation="longest_first",
            max_length=self.longest if second is None else self.longest_pair,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        ids, real = padded([np.array(row, np.int64) for row in encoding["input_ids"]])
        rows = range(len(ids))
        part, _ = padded([_numbers(encoding.sequence_ids(row)) for row in rows])
        word, _ = padded([_numbers(encoding.word_ids(row)) for row in rows])
        types = padded([np.array(row, np.int64) for row in encoding["token_type_ids"]])[0] if self.typed else None
        word = self._words(ids, part, word)
        return Pieces(np.where(real, ids, self._padding), types, real, word)

    def mask(self, pieces: Pieces, *, share: float, rng: np.random.Generator) -> Masked:
        """Chooses whole words of each row, ``share`` of them and at least one, and hides them.

        Of the words chosen, 80 % become the mask word, 10 % random pieces, and 10 % stay as they are.
        """
        words = pieces.word.max(axis=1, initial=-1) + 1  # (B,)
        lot = rng.random((len(words), max(1, int(words.max(initial=0)))))
        lot[np.arange(lot.shape[1]) >= words[:, None]] = 2  # behind all real words
        rank = lot.argsort(axis=1).argsort(axis=1)
        chosen = rank < np.where(words > 0, np.maximum(1, np.rint(share * words)), 0)[:, None]
        hidden = np.take_along_axis(chosen, np.maximum(pieces.word, 0), axis=1) & (pieces.word >= 0)
        fate = np.take_along_axis(rng.random(lot.shape), np.maximum(pieces.word, 0), axis=1)
        ids = pieces.ids.copy()
        ids[hidden & (fate < MASKED)] = self.tokenizer.mask_token_id
        replaced = hidden & (fate >= MASKED) & (fate < MASKED + RANDOM)
        ids[replaced] = rng.choice(self.ordinary, int(replaced.sum()))
        return Masked(ids, np.flatnonzero(hidden), pieces.ids[hidden])

    @property
    def _padding(self) -> int:
        return self.tokenizer.pad_token_id if isinstance(self.tokenizer.pad_token_id, int) else 0

    def _words(self, ids: NDArray[np.int64], part: NDArray[np.int64], word: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers the words of each row; ``part`` is 1 and 2 on the texts, ``word`` what the tokenizer calls a word."""
        real = (part > 0) & ~self.special[ids]
        kind = self.unspaced[ids]
        one_word = [_shifted(array) == array for array in (part, word)]
        begins = ~(one_word[0] & one_word[1] & _shifted(real)) | self.spaced[ids]
        begins |= (kind & ~_shifted(self.space[ids])) | _shifted(kind)
        return np.where(real, np.cumsum(begins & real, axis=1) - 1, -1)


def _numbers(values: Sequence[int | None]) -> NDArray[np.int64]:
    """Numbers from 1 on, 0 for None."""
    return np.array([0 if value is None else value + 1 for value in values], np.int64)


def _shifted(array: NDArray[Any]) -> NDArray[Any]:
    """(B, W) what stands before each piece; 0 before the first."""
    return np.pad(array, ((0, 0), (1, 0)))[:, :-1]
