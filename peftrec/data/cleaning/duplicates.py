"""Products that are one product written twice: found by their words, then linked or merged."""

import numpy as np
import polars as pl
from scipy.sparse import coo_matrix  # pyright: ignore[reportMissingTypeStubs]
from scipy.sparse.csgraph import connected_components  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

from peftrec.data import columns as col

LETTERS = 5
"""Words at least this long may differ by a typing error; in shorter ones a letter makes another word."""

_ROW, _TEXT, _REST, _WORD, _SHORT = "__row", "__text", "__rest", "__word", "__short"
_PROSE = (col.DESCRIPTION, col.TAGS)


def near_duplicates(catalog: pl.DataFrame) -> pl.DataFrame:
    """Pairs of a product and the first product of the catalogue that it repeats.

    Two products are one if all their columns but ids, prices, images, tags and descriptions say the same, but for
    capitals, punctuation other than plus, minus and #, the order of words, blanks between a number and its unit ("12OZ",
    "12 oz."), and at most one typing error in the title: one letter too many, missing, swapped or wrong in a word of five
    letters or more that no other title has, not in its first letter. Numbers must be equal, so a size never meets another
    one. Two rare words that differ by a letter ("grade", "grape") are taken for one all the same: look at the pairs before
    merging.

    Args:
        catalog: A typed product table.

    Returns:
        ``item_id`` and ``canonical_id``, one row for each product that repeats an earlier one, in catalogue order.
    """
    same = [name for name in catalog.columns if name not in (col.ITEM, col.PRICE, col.IMAGE, col.CANONICAL, *_PROSE)]
    texts = [name for name in same if catalog.schema[name] == pl.String and not name.endswith("_id")]
    written = catalog.select(_ordered_words(name) if name in texts else pl.col(name) for name in same)
    group = written.select(pl.struct(same).rank("dense"))[same[0]].cast(pl.Int64).to_numpy() - 1
    distinct = written.with_columns(pl.Series(_ROW, group)).unique(_ROW).sort(_ROW)
    label = _joined(_typing_errors(distinct, [name for name in same if name != col.TITLE]), len(distinct))[group]
    first = pl.DataFrame({_ROW: label, col.ITEM: catalog[col.ITEM]}).with_columns(
        pl.col(col.ITEM).first().over(_ROW).alias(col.CANONICAL)
    )
    return first.filter(pl.col(col.ITEM) != pl.col(col.CANONICAL)).select(col.ITEM, col.CANONICAL)


def _ordered_words(name: str) -> pl.Expr:
    text = pl.col(name).str.normalize("NFKC").str.to_lowercase().str.replace_all(r"(^|[^\p{L}\p{N}])-(\p{N})", "$1−$2")
    text = text.str.replace_all(r"[^\p{L}\p{M}\p{N}.+#−]+", " ")
    text = text.str.replace_all(r"\.(\D|$)", " $1")  # a full stop stays only where it is a decimal point
    text = text.str.replace_all(r"(\p{N})(\p{L})", "$1 $2").str.replace_all(r"(\p{L})(\p{N})", "$1 $2")
    words = text.str.split(" ").list.eval(pl.element().filter(pl.element() != "")).list.sort()
    return words.list.join(" ").alias(name)


def _typing_errors(distinct: pl.DataFrame, others: list[str]) -> pl.DataFrame:
    """Pairs (left, right) of distinct rows whose titles differ in one word by one letter."""
    words = (
        distinct.lazy()
        .select(_ROW, _hashed(others), pl.col(col.TITLE).str.split(" ").alias(_WORD))
        .with_columns(pl.col(_WORD).list.len().alias("__words"))
        .explode(_WORD)
        .with_columns(pl.col(_WORD).hash(seed=0).alias("__hash"))
        # Sums wrap around: a text without one of its words is named by the sum of the other words' hashes.
        .with_columns((pl.col("__hash").sum().over(_ROW) - pl.col("__hash")).alias(_REST))
        .with_columns(pl.col(_ROW).n_unique().over(_WORD).alias("__titles"))
        .filter(pl.col(_WORD).str.contains(rf"^\p{{L}}{{{LETTERS},}}$"))
        .filter(pl.col(_ROW).n_unique().over(_TEXT, "__words", _REST) > 1)
        .select(_ROW, _WORD, _TEXT, "__words", _REST, "__titles")
        .collect()
    )
    shortened = _shortened(words[_WORD].unique().sort())
    words = words.join(shortened, on=_WORD)
    pairs = words.join(words, on=[_TEXT, "__words", _REST, _SHORT], suffix="_right").filter(
        pl.col(_ROW) < pl.col(f"{_ROW}_right"), pl.min_horizontal("__titles", "__titles_right") == 1
    )
    return pairs.select(pl.col(_ROW).alias("left"), pl.col(f"{_ROW}_right").alias("right")).unique()


def _hashed(others: list[str]) -> pl.Expr:
    return (pl.struct(others).hash(seed=0) if others else pl.lit(0, pl.UInt64)).alias(_TEXT)


def _shortened(words: pl.Series) -> pl.DataFrame:
    """Each word with itself and all its forms that lack one letter, the first excepted.

    Two words share such a form exactly if one of them has a letter too many, or one letter differs or two are swapped
    (Garbe's symmetric delete); the first letter stays, so that no word meets one shifted by a letter.
    """
    forms = [
        (word, short) for word in words for short in {word, *(word[:at] + word[at + 1 :] for at in range(1, len(word)))}
    ]
    return pl.DataFrame(forms, schema={_WORD: pl.String, _SHORT: pl.String}, orient="row")


def _joined(pairs: pl.DataFrame, count: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """(count,) label of the group that each row belongs to."""
    left, right = pairs["left"].to_numpy(), pairs["right"].to_numpy()
    graph = coo_matrix((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)  # pyright: ignore[reportUnknownArgumentType]
