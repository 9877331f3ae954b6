"""Texts cut into words, numbers and what stands between them, in any script, so that joining gives the text back.

A word is a run of letters and their marks, with apostrophes and hyphens inside. A number is whatever holds a digit,
together with the unit behind it: ``22 LB``, ``1080p``, ``100克``. Where a script puts no spaces between words, a Chinese
character counts as a word, as BERT reads it, as does a run of one kind of kana; dictionary words go before both.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

ROW, PIECE, WORD, NUMBER = "row", "piece", "word", "number"

_UNITS = (
    "ounces?|oz|fz|lbs?|pounds?|grams?|gr?|kg|mg|mcg|millilit(?:er|re)s?|ml|cl|dl|lit(?:er|re)s?|ltr|lt|l|gallons?|gal|ga"
    "|quarts?|qt|pints?|pt|fl(?: ?oz)?|cups?|counts?|cnt|ct|packs?|pks?|pcs?|pieces?|each|ea|dozen|doz|dz|pairs?|pr|sets?"
    "|mm|cm|m|km|inch(?:es)?|in|feet|ft|yards?|yds?|yd|sq(?: ?(?:ft|in|yd|m))?|sheets?|rolls?|watts?|w|kw|volts?|v|mah|amp"
    "|gb|tb|mb|ghz|mhz|hz|mp|px|dpi|years?|yrs?|months?|x"
)
_UNSPACED_UNITS = (
    "千克|公斤|毫克|毫升|厘米|毫米|英寸|公分|克|斤|升|米|片|包|瓶|袋|盒|支|只|个|個|枚|件|条|双|罐|粒|本|抽|卷"
)
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = r"[[\p{L}\p{M}]&&[^\p{Han}\p{Hiragana}\p{Katakana}ー]]"
SIGN = rf"(?:{_LETTER}|\p{{N}})"
"""Regular expression of one letter or digit that melts with another beside it."""

_NUMBER = (
    rf"{_LETTER}*\p{{N}}{SIGN}*(?:[.,/×'’+-]\p{{N}}{SIGN}*)*"
    rf"(?:\s*(?i:{_UNITS})\b|\s*(?:{_UNSPACED_UNITS}))?"
)
_SPACED_WORD = rf"{_LETTER}+(?:['’-]{SIGN}+)*"
_GAP = r"[^\p{L}\p{M}\p{N}]+"
_PIECES = rf"{_NUMBER}|\p{{Han}}|\p{{Hiragana}}+|[\p{{Katakana}}ー]+|{_SPACED_WORD}|{_GAP}"
_RUNS = rf"{_NUMBER}|[{_UNSPACED}]+|{_SPACED_WORD}|{_GAP}"


def cut(texts: Sequence[str], *, entries: frozenset[str] = frozenset()) -> pl.DataFrame:
    """One row per piece: its text's position, itself, and whether it is a word or a number; what is neither is a gap.

    Args:
        texts: Any texts.
        entries: Dictionary words in scripts without spaces, lower case, which are cut out where they stand; the
            longest first.
    """
    lines = pl.Series(PIECE, [_valid(text) for text in texts], pl.String)
    frame = pl.DataFrame([lines]).with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    frame = _exploded(frame, pl.col(PIECE).str.extract_all(_RUNS if entries else _PIECES))
    if entries:
        frame = _by_dictionary(frame, entries)
    number = pl.col(PIECE).str.contains(r"\p{N}")
    return frame.with_columns((pl.col(PIECE).str.contains(r"\p{L}") & ~number).alias(WORD), number.alias(NUMBER))


def is_unspaced(words: pl.Series) -> pl.Series:
    """Which of the words stand in a script without spaces."""
    return words.str.contains(rf"^[{_UNSPACED}]+$")


def is_word(words: pl.Series) -> pl.Series:
    """Which of the texts are one word as :func:`cut` knows them."""
    return (is_unspaced(words) | words.str.contains(rf"^{_SPACED_WORD}$")) & ~words.str.contains(r"\p{N}")


def rewritten(texts: Sequence[str], changed: pl.DataFrame) -> list[str]:
    """The texts, those of the rows in ``changed`` replaced."""
    out = np.array([*texts, ""], dtype=object)[:-1]  # the "" keeps an empty array one of objects
    out[changed[ROW].to_numpy()] = changed[PIECE].to_list()
    return out.tolist()


def _valid(text: str) -> str:
    """The text without unpaired surrogates, which UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _exploded(frame: pl.DataFrame, pieces: pl.Expr) -> pl.DataFrame:
    return frame.with_columns(pieces).explode(PIECE).drop_nulls(PIECE)


def _by_dictionary(frame: pl.DataFrame, entries: frozenset[str]) -> pl.DataFrame:
    """Cuts each distinct run of unspaced script once."""
    cutter = _cutter(entries)
    runs = frame.filter(is_unspaced(frame[PIECE]))[PIECE].unique()
    parts = pl.DataFrame(
        {PIECE: runs, "parts": pl.Series([list(cutter(run)) for run in runs], dtype=pl.List(pl.String))}
    )
    joined = frame.join(parts, on=PIECE, how="left", maintain_order="left")
    whole = pl.concat_list(PIECE)
    return _exploded(joined.with_columns(pl.col("parts").fill_null(whole).alias(PIECE)).drop("parts"), pl.col(PIECE))


def _cutter(entries: frozenset[str]) -> Callable[[str], Iterator[str]]:
    """Cuts a run by the longest dictionary word at each place (forward maximum matching)."""
    longest = max(map(len, entries))

    def cutter(run: str) -> Iterator[str]:
        rest, at = 0, 0
        while at < len(run):
            ends = range(min(at + longest, len(run)), at, -1)
            end = next((end for end in ends if run[at:end].lower() in entries), None)
            if end is None:
                at += 1
                continue
            if rest < at:
                yield run[rest:at]
            yield run[at:end]
            rest = at = end
        if rest < len(run):
            yield run[rest:]

    return cutter
