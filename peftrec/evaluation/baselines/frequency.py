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
        own, buyers = purchases(past, half_life=self.half_life), popular_lately(past)
        # Plain counts leave room for up to half a purchase, which a float still holds beside a count of thousands.
        rest = buyers * (TIE if self.half_life else 0.5 / (buyers.max() + 1))
        return lambda users: dense(own[users]) + rest


@dataclass(frozen=True)
class UserPopularityCF:
    """UP-CF: a shopper's recent purchase frequencies, mixed with those of similar shoppers.

    Faggioli, Polato and Aiolli, "Recency aware collaborative filtering for next basket recommendation", UMAP 2020:
    the prediction is the similarity-weighted frequency over neighbours, with asymmetric cosine similarity
    (``asymmetry`` alpha) raised to the power ``locality`` q. Recency is a half-life here, which is smoother than their
    window and better on a grocery log. In the paper the shopper is one of the neighbours; where purchases repeat, its
    own similarity of 1 then outweighs all others and little but personal frequency is left. ``own`` sets that weight apart.

    Attributes:
        half_life: Days after which a purchase counts half; None for plain frequencies.
        own: Share of the shopper's own frequencies, the rest being that of the neighbours; None as in the paper.
        asymmetry: Alpha, 0.5 for the plain cosine.
        locality: q.
        neighbours: Similar shoppers kept.
    """

    half_life: float | None = 168.0
    own: float | None = 0.7
    asymmetry: float = 0.5
    locality: float = 3.0
    neighbours: int = 100

    def fit(self, past: Dataset) -> Scorer:
        """Computes frequencies; similarities follow per request."""
        per_visit = sparse.diags(1 / np.maximum(visits(past), 1))
        plain = sparse.csr_matrix(per_visit @ purchases(past), dtype=np.float32)
        recent = sparse.csr_matrix(per_visit @ purchases(past, half_life=self.half_life), dtype=np.float32)
        norm = np.asarray(plain.power(2).sum(axis=1)).ravel() + 1e-12
        rest = popular_lately(past) * (TIE * 1e-3)  # frequencies are far smaller than counts

        def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
            alike = dense(plain[users] @ plain.T)
            alike /= norm[users, None] ** self.asymmetry * norm[None] ** (1 - self.asymmetry)
            # The best neighbour counts 1: with a large q the powers would otherwise vanish.
            alike = (alike / (alike.max(axis=1, keepdims=True) + 1e-12)) ** self.locality
            if self.own is not None:
                alike[np.arange(len(users)), users] = 0
            if self.neighbours < alike.shape[1]:
                others = np.argpartition(-alike, self.neighbours, axis=1)[:, self.neighbours :]
                np.put_along_axis(alike, others, 0, axis=1)
            alike /= alike.sum(axis=1, keepdims=True) + 1e-12
            near = dense(sparse.csr_matrix(alike) @ recent)
            if self.own is not None:
                near = self.own * dense(recent[users]) + (1 - self.own) * near
            return near + rest

        return score
