# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false, reportOptionalMemberAccess=false
# scipy has no types; the rest of the package is checked strictly.
"""A panel of anonymous baskets as of a moment; :mod:`peftrec.data.collaborative` says who of them buys alike."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

PANEL_LIMIT = 20_000
"""Shoppers kept for collaborative scores, the latest ones: their cost per request grows with the panel, not the platform."""

LONG = 84.0
"""Half-life, in days, of a lasting habit."""

RANK = 64
"""Strongest singular vectors of the panel's purchases that products are known by."""

DAMPING = 200.0
"""Added to the squared singular values, against chance."""


@dataclass(frozen=True)
class Panel:
    """Shoppers' pasts as sparse rows over the catalogue, for collaborative scores.

    Attributes:
        frequency: (U, n_items) share of a shopper's visits with the product; rows of unit length.
        recent: (U, n_items) decayed purchases, half-life 28 days.
        affinity: (U, n_items) log of decayed purchases (half-life 84 days), columns scaled to damp the popular.
        scale: (n_items,) that scaling.
        factors: (up to n_items, up to ``RANK``) float32, C-contiguous; products behind the last row have none. The product of two
            rows is the weight by which purchases of one product (log of decayed ones, as above) tell those of the other, or of
            itself: ridge regression on the panel, kept to the strongest singular vectors. Zeros where nobody of the panel bought.
    """

    frequency: sparse.csr_matrix
    recent: sparse.csr_matrix
    affinity: sparse.csr_matrix
    scale: NDArray[np.float32]
    factors: NDArray[np.float32]

    def widened(self, columns: int) -> "Panel":
        """The same shoppers, products behind the last one that nobody has bought; what is known by item goes along."""
        new = max(0, columns - len(self.scale))
        panel = Panel(
            *(widened(matrix, columns) for matrix in (self.frequency, self.recent, self.affinity)),
            scale=np.concatenate([self.scale, np.zeros(new, np.float32)]),
            factors=self.factors,
        )
        if "by_item" in self.__dict__:
            panel.__dict__["by_item"] = tuple(_taller(matrix, new) for matrix in self.by_item)
        return panel

    @cached_property
    def by_item(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix]:
        """``frequency``, ``recent`` and ``affinity``, (n_items, U): few products select little there."""
        return self.frequency.T.tocsr(), self.recent.T.tocsr(), self.affinity.T.tocsr()


def _taller(matrix: sparse.csr_matrix, rows: int) -> sparse.csr_matrix:
    """The same entries with empty rows behind them; the arrays of entries are shared."""
    ends = np.concatenate([matrix.indptr, np.full(rows, matrix.indptr[-1], matrix.indptr.dtype)])
    return sparse.csr_matrix((matrix.data, matrix.indices, ends), shape=(matrix.shape[0] + rows, matrix.shape[1]))


def widened(matrix: sparse.csr_matrix, columns: int) -> sparse.csr_matrix:
    """The same entries in more columns; the arrays are shared."""
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))


def matrix_of(
    values: NDArray[np.floating], rows: NDArray[np.integer], cols: NDArray[np.integer], shape: tuple[int, int]
):
    """A sparse matrix of float32 from the values of its cells; those of one cell add up."""
    return sparse.csr_matrix((values.astype(np.float32), (rows, cols)), shape=shape)


def panel_of(lines: pl.DataFrame, pairs: pl.DataFrame, n_items: int) -> Panel:
    """The latest shoppers' baskets."""
    visits = lines.group_by("user").agg(visits=pl.col("session").n_unique(), seen=pl.col("age").min())
    kept = visits.sort("seen", "user").head(PANEL_LIMIT).sort("user").with_row_index("row")
    pairs = pairs.join(kept, on="user", maintain_order="left")
    rows, cols, shape = pairs["row"].to_numpy(), pairs["item"].to_numpy(), (len(kept), n_items)
    frequency = matrix_of((pairs["times"] / pairs["visits"]).to_numpy(), rows, cols, shape)
    affinity = matrix_of(np.log1p(pairs["long"].to_numpy()), rows, cols, shape)
    weight = np.asarray(affinity.power(2).sum(axis=0)).ravel()
    scale = (weight / (weight + 2) / np.sqrt(weight + 1e-3)).astype(np.float32)
    return Panel(
        frequency=sparse.csr_matrix(sparse.diags(1 / row_norms(frequency)) @ frequency, dtype=np.float32),
        recent=matrix_of(pairs["short"].to_numpy(), rows, cols, shape),
        affinity=sparse.csr_matrix(affinity @ sparse.diags(scale), dtype=np.float32),
        scale=scale,
        factors=factors_of(affinity),
    )


def factors_of(purchases: sparse.csr_matrix) -> NDArray[np.float32]:
    """See :class:`Panel`; ``purchases`` (U, n_items) are not scaled."""
    sold = np.unique(purchases.indices)
    some = purchases[:, sold]
    if min(some.shape) > 2 * RANK:
        # Drawn with a seed: the same each time, and whatever the rank, which Lanczos' method is not sure of.
        _, strength, vectors = randomized_svd(some, RANK, n_oversamples=RANK, n_iter=7, random_state=0)
    else:
        _, strength, vectors = np.linalg.svd(some.toarray(), full_matrices=False)
        strength, vectors = strength[:RANK], vectors[:RANK]
    found = np.zeros((purchases.shape[1], len(strength)), np.float32)
    found[sold] = vectors.T * (strength / np.sqrt(strength**2 + DAMPING))
    return found


def row_norms(matrix: sparse.csr_matrix) -> NDArray[np.float32]:
    """(rows,) Euclidean lengths, never zero."""
    return np.sqrt(np.asarray(matrix.power(2).sum(axis=1)).ravel() + 1e-12).astype(np.float32)
