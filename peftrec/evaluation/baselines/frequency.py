"""Baselines that count: popularity, a shopper's own habits, and those of similar shoppers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from peftrec.data.dataset import Dataset
from peftrec.evaluation.baselines.base import Scorer, dense, purchases, visits
from peftrec.evaluation.protocol import popular_lately

TIE = 1e-6
"""Weight of recent popularity, enough to order products that a shopper never bought and no more."""


@dataclass(frozen=True)
class Popular:
    """Products by distinct buyers, over all time or the last days."""

    days: float = float("inf")

    def fit(self, past: Dataset) -> Scorer:
        """Counts buyers."""
        score = popular_lately(past, days=self.days)
        return lambda users: np.broadcast_to(score, (len(users), len(score))).copy()


@dataclass(frozen=True)
class PersonalFrequency:
    """Products by how often the shopper bought them, plain or decayed; the rest by recent popularity."""

    half_life: float | None = None

    def fit(self, past: Dataset) -> Scorer:
        """Counts purchases."""
        own = purchases(past, half_life=self.half_life)
        rest = popular_lately(past) * TIE
        return lambda users: dense(own[users]) + rest


@dataclass(frozen=True)
class UserPopularityCF:
    """UP-CF@r: a shopper's recent purchase frequencies, mixed with those of similar shoppers.

    Faggioli, Polato and Aiolli, "Recency aware collaborative filtering for next basket recommendation", UMAP 2020:
    the prediction is the similarity-weighted frequency over neighbours, the shopper itself being one, with asymmetric
    cosine similarity (``asymmetry`` alpha) raised to the power ``locality`` q.

    Attributes:
        window: Days that count as recent.
        asymmetry: Alpha, 0.5 for the plain cosine.
        locality: q.
        neighbours: Similar shoppers kept.
    """

    window: float = 180.0
    asymmetry: float = 0.5
    locality: float = 5.0
    neighbours: int = 600

    def fit(self, past: Dataset) -> Scorer:
        """Computes frequencies; similarities follow per request."""
        count = visits(past, days=self.window)
        recent = sparse.csr_matrix(
            sparse.diags(1 / np.maximum(count, 1)) @ purchases(past, days=self.window), dtype=np.float32
        )
        norm = np.asarray(recent.power(2).sum(axis=1)).ravel() + 1e-12
        rest = popular_lately(past) * TIE

        def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
            alike = dense(recent[users] @ recent.T)
            alike /= norm[users, None] ** self.asymmetry * norm[None] ** (1 - self.asymmetry)
            alike = np.maximum(alike, 0) ** self.locality
            if self.neighbours < alike.shape[1]:
                others = np.argpartition(-alike, self.neighbours, axis=1)[:, self.neighbours :]
                np.put_along_axis(alike, others, 0, axis=1)
            return dense(sparse.csr_matrix(alike) @ recent) + rest

        return score
