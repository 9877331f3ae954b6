"""Where synonyms come from: a shop's own dictionary, or WordNet where it is installed."""

import importlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import polars as pl

from peftrec.data.augment.words import is_unspaced, is_word
from peftrec.data.reading.mapping import rename_columns
from peftrec.data.reading.tables import read_table
from peftrec.errors import InvalidValueError, MissingExtraError, SchemaError

KEY, SYNONYMS = "key", "synonyms"

Synonyms: TypeAlias = Mapping[str, Sequence[str]] | str | Path
"""Word -> its synonyms; or a file of that: .json, or a table (.csv, .tsv, .parquet) with columns word and synonym."""

_SCHEMA = {KEY: pl.String, SYNONYMS: pl.List(pl.String)}
_FORM = '{"soda": ["pop", "soft drink"], ...}'

_GOODS = ("noun.artifact", "noun.food", "noun.substance")
"""WordNet's names for what shops sell."""


class Thesaurus(Protocol):
    """Anything that knows synonyms of words."""

    @property
    def entries(self) -> frozenset[str]:
        """Its words in scripts without spaces, by which a text must be cut to find them."""
        ...

    def table(self, words: pl.Series) -> pl.DataFrame:
        """Columns ``key`` and ``synonyms``, one row for each of the lower-case ``words`` that has any."""
        ...


class Dictionary:
    """Synonyms from a mapping or a file, whatever their case.

    Args:
        synonyms: See :data:`Synonyms`.

    Raises:
        SchemaError: The file cannot be read, or does not hold words and lists of synonyms.
        InvalidValueError: A word is no single word, or a synonym is blank.
    """

    def __init__(self, synonyms: Synonyms) -> None:
        pairs = _pairs(synonyms).with_columns(pl.col(KEY).str.to_lowercase(), pl.col(SYNONYMS).str.strip_chars())
        _check(pairs)
        other = pairs.filter(pl.col(SYNONYMS).str.to_lowercase() != pl.col(KEY)).unique(maintain_order=True)
        self._table = other.group_by(KEY, maintain_order=True).agg(SYNONYMS)
        self.entries = frozenset(self._table.filter(is_unspaced(self._table[KEY]))[KEY])

    def table(self, words: pl.Series) -> pl.DataFrame:
        """See :class:`Thesaurus`."""
        return self._table.filter(pl.col(KEY).is_in(words.implode()))


class WordNet:
    """Synonyms of English names of goods, through nltk and its data on disk: "cookie" is a biscuit, a carpet a rug.

    WordNet knows far more, most of which leads astray in a shop: "chicken" as a coward, "private" as a soldier. So a word
    counts only if its most frequent sense is a food, a thing or a substance, and a synonym only if it occurs with that
    sense in the texts that WordNet's authors tagged.

    Raises:
        MissingExtraError: nltk or its WordNet data is not installed. Nothing is ever downloaded.
    """

    entries: frozenset[str] = frozenset()

    def __init__(self) -> None:
        _reader()

    def table(self, words: pl.Series) -> pl.DataFrame:
        """See :class:`Thesaurus`."""
        # Words of two letters are symbols there ("in": indium).
        found = {word: list(_in_wordnet(word)) for word in words if len(word) > 2 and word.isascii()}
        some = {word: synonyms for word, synonyms in found.items() if synonyms}
        return pl.DataFrame({KEY: [*some], SYNONYMS: [*some.values()]}, schema=_SCHEMA)


def thesaurus(synonyms: Synonyms | None) -> Thesaurus:
    """The shop's dictionary, or WordNet where there is none."""
    return WordNet() if synonyms is None else Dictionary(synonyms)


def _pairs(synonyms: Synonyms) -> pl.DataFrame:
    """One row per word and synonym."""
    if isinstance(synonyms, Mapping):
        return _of_mapping(synonyms, "the synonyms")
    path = Path(synonyms)
    if path.suffix.lower() == ".json":
        return _of_mapping(_json(path), str(path))
    frame = read_table(path, what="synonyms")
    frame = rename_columns(frame, None, required=("word", "synonym"), optional=(), what="synonyms")
    return frame.select(pl.col("word").cast(pl.String).alias(KEY), pl.col("synonym").cast(pl.String).alias(SYNONYMS))


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SchemaError(
            f"the synonyms file {path} cannot be read: {error}",
            expected=f"JSON in UTF-8: {_FORM}",
            remedy="check that it exists and is complete",
        ) from error


def _of_mapping(content: object, what: str) -> pl.DataFrame:
    if not isinstance(content, Mapping):
        raise _no_lists(what, f"is a {type(content).__name__}")
    pairs = list[tuple[str, str]]()
    for word, others in cast("Mapping[object, object]", content).items():
        if not isinstance(word, str) or isinstance(others, str) or not isinstance(others, Sequence):
            raise _no_lists(what, f"has {others!r} for {word!r}")
        for other in cast("Sequence[object]", others):
            if not isinstance(other, str):
                raise _no_lists(what, f"has the synonym {other!r} for {word!r}")
            pairs.append((word, other))
    return pl.DataFrame(pairs, schema={KEY: pl.String, SYNONYMS: pl.String}, orient="row")


def _no_lists(what: str, found: str) -> SchemaError:
    return SchemaError(f"{what} {found}", expected=f"a list of texts for each word: {_FORM}", remedy="correct it")


def _check(pairs: pl.DataFrame) -> None:
    strange = pairs.filter(~is_word(pairs[KEY]).fill_null(False))[KEY].unique(maintain_order=True)
    if len(strange):
        shown = ", ".join(map(repr, strange.head(3)))
        raise InvalidValueError(
            f"{len(strange):,} entries of the synonyms are no single word: {shown}",
            expected="words of letters, with apostrophes and hyphens inside: texts are read word by word",
            remedy="leave phrases and numbers out; a synonym may be a phrase",
        )
    blank = pairs.filter(pl.col(SYNONYMS).fill_null("") == "")[KEY]
    if len(blank):
        raise InvalidValueError(
            f"{len(blank):,} synonyms are blank, of {blank[0]!r} first",
            expected="a word or a phrase",
            remedy="take them out",
        )


@lru_cache(maxsize=1)
def _reader() -> Any:
    try:
        wordnet: Any = importlib.import_module("nltk.corpus").wordnet
        wordnet.ensure_loaded()
    except (ImportError, LookupError, OSError) as error:  # nltk without the data, or with a part of it
        what = "nltk" if isinstance(error, ImportError) else "nltk's WordNet data"
        raise MissingExtraError(
            f"synonyms come from WordNet unless given, and {what} is not installed",
            expected="nltk with its WordNet data, or a dictionary of synonyms",
            remedy='pip install "peftrec[augment]", then python -m nltk.downloader wordnet;'
            " or SynonymReplacement(synonyms={word: [synonym, ...]})",
        ) from error
    return wordnet


@lru_cache(maxsize=200_000)
def _in_wordnet(word: str) -> tuple[str, ...]:
    wordnet = _reader()
    senses = wordnet.synsets(word, "n")[:1]
    if not senses or senses[0].lexname() not in _GOODS:
        return ()
    names = [lemma.name() for lemma in senses[0].lemmas() if lemma.count() > 0]
    own = (word, wordnet.morphy(word, "n"))  # "cookies" is no synonym of "cookie"
    return tuple(name.replace("_", " ") for name in names if name.islower() and name not in own)
