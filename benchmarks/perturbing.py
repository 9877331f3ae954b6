"""The same window where products are described otherwise: what typing errors and missing fields do to a recommender."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from peftrec.data import Catalog, Dataset


def conditions(future: Dataset, *, seed: int) -> dict[str, Dataset]:
    """The window as it is, and with every product's text perturbed; ``title only`` leaves all other texts out."""
    return {"clean": future} | {name: _perturbed(future, perturb, seed) for name, perturb in PERTURBATIONS.items()}


def _typos(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """One letter in every third word is left out or swapped with the next one."""
    return [" ".join(_typo(word, rng) for word in text.split(" ")) for text in texts]


def _typo(word: str, rng: np.random.Generator) -> str:
    if len(word) < 4 or rng.random() > 1 / 3:
        return word
    at = int(rng.integers(1, len(word) - 1))
    return word[:at] + word[at + 1 :] if rng.random() < 0.5 else word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _reordered(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.permutation(text.split(" "))) for text in texts]


PERTURBATIONS: dict[str, Callable[[Sequence[str], np.random.Generator], list[str]] | None] = {
    "typos": _typos,
    "reordered": _reordered,
    "title only": lambda texts, rng: [*texts],
}


def _perturbed(
    future: Dataset, perturb: Callable[[Sequence[str], np.random.Generator], list[str]], seed: int
) -> Dataset:
    """The same split where products are described otherwise; "title only" leaves all other texts out."""
    rng, frame = np.random.default_rng(seed), future.catalog.frame
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String and not name.endswith("_id")]
    if perturb is PERTURBATIONS["title only"]:
        frame = frame.drop(*(name for name in texts if name != "title"))
    else:
        frame = frame.with_columns(
            pl.Series(name, perturb(frame[name].fill_null("").to_list(), rng), dtype=pl.String) for name in texts
        )
    catalog = Catalog(frame)
    past = None if future.past is None else replace(future.past, catalog=catalog)
    return replace(future, catalog=catalog, past=past)
