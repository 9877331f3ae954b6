"""Whether vectors still say what goes together: products bought in one visit, in a time that training did not see."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.adaptation.pairs import CoPurchases
from peftrec.errors import ConfigError, NotEnoughDataError
from peftrec.model.platform import unit

_CHUNK = 256  # pairs whose cosines to all texts are in memory at once


@dataclass(frozen=True)
class Similarity:
    """How well cosines tell what was bought together.

    Attributes:
        auc: Share of pairs (a, b) whose cosine is above that of (a, c), c drawn by how often it is bought; 0.5 is chance.
            Equal cosines count half.
        recall: Share of pairs with b among the ``top`` texts closest to a.
        reciprocal_rank: Mean of 1 / the rank of b among all texts, by cosine to a.
        top: Length of the list that ``recall`` looks at.
    """

    auc: float
    recall: float
    reciprocal_rank: float
    top: int


def copurchase_auc(
    vectors: NDArray[np.float32], pairs: CoPurchases, *, top: int = 20, draws: int = 10, seed: int = 0
) -> Similarity:
    """Compares the cosine of products bought together with that of others.

    Args:
        vectors: (T, H), one for each of ``pairs.texts``.
        pairs: From :meth:`peftrec.adaptation.pairs.Baskets.copurchases`, best of a later window.
        top: Length of the list that recall looks at.
        draws: Products drawn beside each pair.
        seed: Of these draws.

    Raises:
        ConfigError: There are not as many vectors as texts.
        NotEnoughDataError: There are no pairs, or too few texts were bought to draw others.
    """
    if len(vectors) != len(pairs.texts):
        raise ConfigError(
            f"{len(vectors)} vectors for {len(pairs.texts)} texts",
            expected="one vector for each of the pairs' texts",
            remedy="encode pairs.texts",
        )
    if not len(pairs.first) or np.count_nonzero(pairs.counts) < 3:
        raise NotEnoughDataError(
            f"{len(pairs.first)} pairs of {np.count_nonzero(pairs.counts)} texts that were bought",
            expected="at least one pair bought in one visit, and three texts that were bought",
            remedy="choose a longer window",
        )
    vectors, first, second = unit(vectors), pairs.first, pairs.second
    close = np.einsum("nh,nh->n", vectors[first], vectors[second])  # (n,)
    others = _others(pairs, draws, np.random.default_rng(seed))
    far = np.einsum("nh,ndh->nd", vectors[first], vectors[others])
    ranks = _ranks(vectors, first, second)
    return Similarity(
        auc=float(np.mean((close[:, None] > far) + 0.5 * (close[:, None] == far))),
        recall=float(np.mean(ranks <= top)),
        reciprocal_rank=float(np.mean(1 / ranks)),
        top=top,
    )


def _others(pairs: CoPurchases, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n, draws) texts drawn by how often they were bought, none of them of the pair."""
    chances = pairs.counts / pairs.counts.sum()
    others = rng.choice(len(chances), (len(pairs.first), draws), p=chances)
    while True:
        met = (others == pairs.first[:, None]) | (others == pairs.second[:, None])
        if not met.any():
            return others
        others[met] = rng.choice(len(chances), int(met.sum()), p=chances)


def _ranks(vectors: NDArray[np.float32], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) rank of each second text by cosine to the first, which is left out; from 1 on, the best of equals."""
    ranks = np.empty(len(first), np.int64)
    for rows in np.array_split(np.arange(len(first)), max(1, -(-len(first) // _CHUNK))):
        cosines = vectors[first[rows]] @ vectors.T  # (chunk, T)
        reached = np.take_along_axis(cosines, second[rows, None], axis=1)
        cosines[np.arange(len(rows)), first[rows]] = -np.inf
        ranks[rows] = 1 + (cosines > reached).sum(axis=1)
    return ranks
