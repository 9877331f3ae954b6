"""Texts of products in other words: synonyms, and words left out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

from peftrec.data.augment.shares import check_share, check_steps
from peftrec.data.augment.synonyms import KEY, SYNONYMS, Synonyms, Thesaurus, thesaurus
from peftrec.data.augment.words import NUMBER, PIECE, ROW, SIGN, WORD, cut, rewritten

_CHOSEN, _DRAW, _KEPT, _SLOT, _RANK = "chosen", "draw", "kept", "slot", "rank"
_COMMAS, _BRACKETS = "[,;，、；]", r"[()\[\]{}<>（）【】\"“”«»]"


class TextAugmentation(Protocol):
    """Says the same in other words."""

    def __call__(self, texts: Sequence[str], *, rng: np.random.Generator) -> list[str]:
        """One text for each of ``texts``, in their order; none becomes empty that was not."""
        ...


@dataclass(frozen=True)
class SynonymReplacement:
    """Replaces words by synonyms, in the case of the word they replace; numbers and units stay (EDA, Wei & Zou 2019).

    Args:
        share: Chance of each word that has a synonym.
        synonyms: A dictionary or the path of one, see :data:`peftrec.data.augment.synonyms.Synonyms`; WordNet, which is
            English, if not given.

    Raises:
        ConfigError: ``share`` is not within 0..1.
        MissingExtraError: No dictionary is given, and nltk or its WordNet data is not installed.
        SchemaError: The dictionary cannot be read.
        InvalidValueError: The dictionary holds an entry that is no word, or a blank synonym.
    """

    share: float = 0.2
    synonyms: Synonyms | None = field(default=None, repr=False)
    _thesaurus: Thesaurus = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_share(self.share)
        object.__setattr__(self, "_thesaurus", thesaurus(self.synonyms))

    def __call__(self, texts: Sequence[str], *, rng: np.random.Generator) -> list[str]:
        """See :class:`TextAugmentation`."""
        pieces = cut(texts, entries=self._thesaurus.entries).with_columns(pl.col(PIECE).str.to_lowercase().alias(KEY))
        known = self._thesaurus.table(pieces.filter(WORD)[KEY].unique(maintain_order=True))
        pieces = pieces.join(known, on=KEY, how="left", maintain_order="left")
        chance, which = pl.Series(rng.random(len(pieces))), pl.Series(_DRAW, rng.random(len(pieces)))
        chosen = pl.col(SYNONYMS).is_not_null() & (chance < self.share)
        pieces = pieces.with_columns(chosen.alias(_CHOSEN), which).filter(pl.col(_CHOSEN).any().over(ROW))
        at = (pl.col(_DRAW) * pl.col(SYNONYMS).list.len()).floor().cast(pl.Int64)
        synonym = _in_case_of(pl.col(PIECE), pl.col(SYNONYMS).list.get(at))
        changed = pieces.with_columns(pl.when(_CHOSEN).then(synonym).otherwise(PIECE).alias(PIECE))
        return rewritten(texts, _joined(changed))


@dataclass(frozen=True)
class WordDrop:
    """Leaves words out, but never all of a text's; numbers and units stay (random deletion of EDA, Wei & Zou 2019).

    Of the marks around a word that is left out, one stays: ``tea, green / mint`` becomes ``tea, mint``.

    Args:
        share: Chance of each word.

    Raises:
        ConfigError: ``share`` is not within 0..1.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_share(self.share)

    def __call__(self, texts: Sequence[str], *, rng: np.random.Generator) -> list[str]:
        """See :class:`TextAugmentation`."""
        pieces = cut(texts)
        draw = pl.when(WORD).then(pl.Series(rng.random(len(pieces))))
        pieces = pieces.with_columns(draw.alias(_DRAW))
        spared = pl.col(_DRAW) == pl.col(_DRAW).max().over(ROW)
        kept = pl.col(NUMBER) | (pl.col(WORD) & ((pl.col(_DRAW) >= self.share) | spared))
        pieces = pieces.with_columns(kept.alias(_KEPT), (pl.col(WORD) & ~kept).alias(_CHOSEN))
        return rewritten(texts, _closed(pieces.filter(pl.col(_CHOSEN).any().over(ROW))))


@dataclass(frozen=True)
class TextChain:
    """One augmentation after the other, each of them on the texts that chance picks for it.

    Args:
        steps: Pairs of an augmentation and its chance for each text: ``((WordDrop(), 0.5), (SynonymReplacement(), 1))``.

    Raises:
        ConfigError: There is no step, or one is no such pair.
    """

    steps: tuple[tuple[TextAugmentation, float], ...]

    def __post_init__(self) -> None:
        check_steps(self.steps, "TextChain(((WordDrop(), 0.5), (SynonymReplacement(), 1.0)))")

    def __call__(self, texts: Sequence[str], *, rng: np.random.Generator) -> list[str]:
        """See :class:`TextAugmentation`."""
        out = list(texts)
        for augment, chance in self.steps:
            rows = np.flatnonzero(rng.random(len(out)) < chance)
            some = augment([out[row] for row in rows], rng=rng)
            out = rewritten(out, pl.DataFrame({ROW: rows, PIECE: pl.Series(some, dtype=pl.Object)}))
        return out


def _joined(pieces: pl.DataFrame) -> pl.DataFrame:
    return pieces.group_by(ROW, maintain_order=True).agg(pl.col(PIECE).str.join(""))


def _in_case_of(word: pl.Expr, other: pl.Expr) -> pl.Expr:
    """COLA gives POP, Cola gives Pop; any other style leaves the dictionary's."""
    upper, lower = word.str.to_uppercase(), word.str.to_lowercase()
    first, rest = word.str.slice(0, 1), word.str.slice(1)
    shouted = (word == upper) & (word != lower) & (word.str.len_chars() > 1)
    titled = (first != first.str.to_lowercase()) & (rest == rest.str.to_lowercase())
    return (
        pl.when(shouted)
        .then(other.str.to_uppercase())
        .when(titled)
        .then(other.str.slice(0, 1).str.to_uppercase() + other.str.slice(1))
        .otherwise(other)
    )


def _closed(pieces: pl.DataFrame) -> pl.DataFrame:
    """Joins the kept pieces of each text; where something was left out, the best of the gaps around it stays.

    A slot is a kept piece and all up to the next one. A comma tells more than a blank, half a pair of brackets nothing.
    """
    gap = ~pl.col(WORD) & ~pl.col(NUMBER)
    text = pl.col(PIECE)
    comma, bracket = text.str.contains(_COMMAS), text.str.contains(_BRACKETS)
    rank = comma.cast(pl.Int64) * 1000 - bracket.cast(pl.Int64) * 100 + text.str.len_chars().clip(0, 99)
    slots = (
        pieces.with_columns(pl.col(_KEPT).cast(pl.Int64).cum_sum().over(ROW).alias(_SLOT), rank.alias(_RANK))
        .sort(ROW, _SLOT, _RANK, maintain_order=True)
        .group_by(ROW, _SLOT, maintain_order=True)
        .agg(
            text.filter(_KEPT).first().fill_null("").alias("head"),
            text.filter(gap).last().fill_null("").alias("gap"),
            pl.col(_CHOSEN).any(),
        )
    )
    outer = (pl.col(_SLOT) == 0) | (pl.col(_SLOT) == pl.col(_SLOT).max().over(ROW))
    half = pl.col("gap").str.contains(_BRACKETS)
    head, after = pl.col("head"), pl.col("head").shift(-1).over(ROW)
    melts = (pl.col("gap") == "") & head.str.contains(f"{SIGN}$") & after.str.contains(f"^{SIGN}")
    tail = pl.when(pl.col(_CHOSEN) & outer).then(pl.lit("")).when(pl.col(_CHOSEN) & (half | melts)).then(pl.lit(" "))
    return _joined(slots.with_columns((head + tail.otherwise("gap")).alias(PIECE)))
