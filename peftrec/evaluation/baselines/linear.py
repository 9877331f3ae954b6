"""Baselines from item-item weights and factors: item-kNN, EASE, ALS, and similarity of text."""

import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from peftrec.data.dataset import Dataset
from peftrec.errors import MissingExtraError
from peftrec.evaluation.baselines.base import Scorer, dense, purchases
from peftrec.evaluation.protocol import popular_lately
from peftrec.evaluation.words import tfidf


def _damped(past: Dataset, half_life: float) -> sparse.csr_matrix:
    matrix = purchases(past, half_life=half_life)
    matrix.data = np.log1p(matrix.data)
    return matrix


@dataclass(frozen=True)
class ItemKNN:
    """Cosine of products over shoppers, shrunk, the nearest kept (Sarwar et al., 2001).

    Attributes:
        half_life: Days after which a purchase counts half.
        neighbours: Similar products kept per product.
        shrink: Added to the norms, against chance overlaps.
    """

    half_life: float = 84.0
    neighbours: int = 200
    shrink: float = 1.0

    def fit(self, past: Dataset) -> Scorer:
        """Computes similarities of products bought by at least two shoppers."""
        matrix = _damped(past, self.half_life)
        norm = np.sqrt(np.asarray(matrix.power(2).sum(axis=0)).ravel())
        several = np.asarray((matrix > 0).sum(axis=0)).ravel() > 1
        scaled = sparse.csc_matrix(
            matrix @ sparse.diags(np.where(several, 1 / (norm + self.shrink), 0)), dtype=np.float32
        )
        rows: list[sparse.csr_matrix] = []
        for start in range(0, scaled.shape[1], 2048):
            block = (scaled[:, start : start + 2048].T @ scaled).tocsr()
            rows.append(_strongest(block, self.neighbours))
        alike = sparse.vstack(rows).tocsr()
        return lambda users: dense(matrix[users] @ alike)


def _strongest(block: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """The ``count`` largest of each row; of equals, the first."""
    kept: list[NDArray[np.int64]] = []
    for start, end in pairwise(block.indptr):
        values = block.data[start:end]
        at = np.arange(len(values))
        if len(values) > count:
            least = np.partition(values, -count)[-count]
            above = np.flatnonzero(values > least)
            at = np.concatenate([above, np.flatnonzero(values == least)[: count - len(above)]])
        kept.append(start + at)
    bounds, chosen = np.cumsum([0, *map(len, kept)]), np.concatenate(kept)
    return sparse.csr_matrix((block.data[chosen], block.indices[chosen], bounds), shape=block.shape)


@dataclass(frozen=True)
class EASE:
    """Embarrassingly shallow autoencoder (Steck, 2019), on the products with most buyers, as many as memory allows.

    Attributes:
        regularisation: Added to the diagonal.
        products: How many; the inverse of 6,000 x 6,000 takes 0.15 GB and some seconds.
        half_life: Days after which a purchase counts half.
    """

    regularisation: float = 200.0
    products: int = 6000
    half_life: float = 168.0

    def fit(self, past: Dataset) -> Scorer:
        """Solves for the item-item weights."""
        matrix = _damped(past, self.half_life)
        buyers = np.asarray((matrix > 0).sum(axis=0)).ravel()
        kept = np.argsort(-buyers, kind="stable")[: self.products]
        kept = kept[buyers[kept] > 0]
        some = matrix[:, kept].tocsc()
        weights = _inverse(some, self.regularisation)
        weights /= -np.diag(weights)
        weights[np.diag_indices_from(weights)] = 0

        def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
            scores = np.full((len(users), matrix.shape[1]), -np.inf, np.float32)
            scores[:, kept] = some[users] @ weights
            return scores

        return score


def _inverse(matrix: sparse.csc_matrix, regularisation: float) -> NDArray[np.float32]:
    """(XᵀX + λ)⁻¹ in single precision and in place: one square matrix is all the memory it takes."""
    size = matrix.shape[1]
    square = np.empty((size, size), np.float32, order="F")
    for start in range(0, size, 512):  # a sparse product of the whole would take three times the dense one
        square[:, start : start + 512] = (matrix.T @ matrix[:, start : start + 512]).toarray()
    square[np.diag_indices(size)] += regularisation
    square, _ = lapack.spotrf(square, lower=True, overwrite_a=True)
    square, _ = lapack.spotri(square, lower=True, overwrite_c=True)
    for start in range(0, size, 512):  # mirror the lower triangle, which is all that LAPACK fills
        stop = min(start + 512, size)
        square[start:stop, stop:] = square[stop:, start:stop].T
        block = square[start:stop, start:stop]
        block[:] = np.tril(block) + np.tril(block, -1).T
    return square


@dataclass(frozen=True)
class ALS:
    """Matrix factorisation by alternating least squares with confidences (Hu, Koren and Volinsky, 2008), package implicit.

    Attributes:
        factors: Width.
        regularisation: L2.
        alpha: Weight of a purchase.
        seed: Of the first factors.
    """

    factors: int = 64
    regularisation: float = 0.1
    alpha: float = 1.0
    seed: int = 0

    def fit(self, past: Dataset) -> Scorer:
        """Fits the factors.

        Raises:
            MissingExtraError: implicit is not installed.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from implicit.als import AlternatingLeastSquares
        except ImportError as error:
            raise missing("implicit") from error
        # implicit runs its own threads, is slower where the matrix library runs more, and warns of it.
        with threadpool_limits(1, user_api="blas"):
            model = AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularisation,
                alpha=self.alpha,
                iterations=12,
                random_state=self.seed,
                num_threads=2,
            )
            model.fit(_damped(past, 84.0), show_progress=False)
        users_, items = np.asarray(model.user_factors), np.asarray(model.item_factors)
        return lambda users: (users_[users] @ items.T).astype(np.float32)


@dataclass(frozen=True)
class TfidfText:
    """Cosine of a product's TF-IDF text to the decayed mean of the shopper's (scikit-learn).

    Attributes:
        half_life: Days after which a purchase counts half.
        popularity: Weight of log recent popularity, which orders products of equal text.
    """

    half_life: float = 84.0
    popularity: float = 0.05

    def fit(self, past: Dataset) -> Scorer:
        """Weighs words of all products."""
        words = tfidf(past.catalog)
        own = purchases(past, half_life=self.half_life)
        rest = np.log1p(popular_lately(past)) * self.popularity

        def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
            profile = own[users] @ words
            norm = np.sqrt(np.asarray(profile.power(2).sum(axis=1)).ravel()) + 1e-9
            return dense(sparse.diags(1 / norm) @ profile @ words.T) + rest

        return score


def missing(package: str) -> MissingExtraError:
    """The error for an optional package that is not installed."""
    return MissingExtraError(
        f"the package {package} is not installed",
        expected=f"{package}, which a baseline runs on",
        remedy='pip install "peftrec[demo]", or pass baselines=None',
    )
