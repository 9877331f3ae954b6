"""SASRec, trained with cross-entropy: what a sequence of product ids says, without any text or number.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; the loss over many products in place of one negative
each, without which it is no strong baseline (Klenitskiy and Vasilev, RecSys 2023).
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name
from torch.utils.data import Dataset as TorchDataset

from peftrec import TrainConfig
from peftrec.backbone import native_precision
from peftrec.data import Dataset
from peftrec.data.histories import PURCHASE
from peftrec.evaluation.baselines import Baseline
from peftrec.evaluation.baselines.base import Scorer
from peftrec.training.trainer import run_stage

BATCH = 64
STEPS = 1000
"""At most; early stopping mostly ends it sooner."""

PATIENCE = 24
"""Looks at the held-out loss without a gain, four an epoch: it rests for an epoch or two where ids are no more than popular."""

PART = 1024
"""Places whose scores are in memory at once: what takes more than 32 MB, the system hands out anew each time, page by page."""

HELD_OUT = 0.1
"""Share of the sequences that stopping looks at."""


def sasrec(*, seed: int = 0) -> Baseline:
    """SASRec with the grid that it is tuned over."""
    return Baseline("SASRec", [SASRec(128, 0.2, seed=seed), SASRec(64, 0.5, seed=seed)])


@dataclass(frozen=True)
class SASRec:
    """One setting of it.

    Attributes:
        width: Of ids' vectors.
        dropout: Of vectors, attention and feed-forward layers.
        layers: Of self-attention.
        length: Latest purchases that are read.
        negatives: Products drawn for each step, all where there are fewer.
        epochs: At most.
        seed: Of weights and draws.
    """

    width: int = 128
    dropout: float = 0.2
    layers: int = 2
    length: int = 100
    negatives: int = 2048
    epochs: int = 100
    seed: int = 0

    def fit(self, past: Dataset) -> Scorer:
        """Trains on the purchases of all shoppers, by early stopping on the sequences of some."""
        log = past.log
        kept = np.flatnonzero(log.event == PURCHASE)
        kept = kept[np.lexsort((log.time[kept], log.user[kept]))]
        counts = np.bincount(log.item[kept], minlength=len(past.catalog))
        known = np.flatnonzero(counts)  # ids that were never sold have no vector
        number = np.zeros(len(past.catalog), np.int64)
        number[known] = np.arange(1, len(known) + 1)  # 0 is padding
        ends = np.cumsum(np.bincount(log.user[kept], minlength=len(past.users)))
        of_user = np.split(number[log.item[kept]], ends[:-1])
        pieces = [
            piece
            for one in of_user
            for start in range(len(one), 0, -self.length)
            if len(piece := one[max(0, start - self.length - 1) : start]) > 1
        ]
        torch.manual_seed(self.seed)
        stage = Stage(self, len(known))
        order = np.random.default_rng(self.seed).permutation(len(pieces))
        held = max(1, round(HELD_OUT * len(pieces)))
        train, validation = (Pieces([pieces[at] for at in some], self.length) for some in (order[held:], order[:held]))
        with tempfile.TemporaryDirectory() as folder:
            run_stage(
                stage,
                train,
                TrainConfig(seed=self.seed, weight_decay=0.01, patience=PATIENCE),
                folder=Path(folder),
                name="SASRec",
                collate=train.collate,
                epochs=min(self.epochs, STEPS / max(1, len(train) // BATCH)),
                batch_size=BATCH,
                learning_rate=1e-3,
                validation=validation,
                bf16=native_precision() == "bf16",
            )
        stage.eval()

        def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
            latest = Pieces([of_user[user][-self.length :] for user in users], self.length)
            with torch.inference_mode():
                read = stage.read(latest.padded(range(len(users))))[:, -1]
                found = read @ stage.items.weight[1:].T
            scores = np.full((len(users), len(past.catalog)), -np.inf, np.float32)
            scores[:, known] = found.float().numpy()
            return scores

        return score


class Pieces(TorchDataset[NDArray[np.int64]]):
    """Sequences of products by number, the latest last."""

    def __init__(self, pieces: Sequence[NDArray[np.int64]], length: int) -> None:
        self.pieces, self.length = pieces, length

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.pieces[index]

    def padded(self, rows: Sequence[int]) -> Tensor:
        """(B, length), zeros on the left."""
        return _padded([self.pieces[row] for row in rows], self.length)

    def collate(self, chosen: Sequence[NDArray[np.int64]]) -> dict[str, Tensor]:
        """All but the last product of each sequence, and what follows each of them."""
        whole = _padded(chosen, self.length + 1)
        return {"items": whole[:, :-1], "labels": whole[:, 1:]}


def _padded(pieces: Sequence[NDArray[np.int64]], length: int) -> Tensor:
    found = np.zeros((len(pieces), length), np.int64)
    for row, piece in enumerate(pieces):
        found[row, length - len(piece) :] = piece[-length:]
    return torch.from_numpy(found)


class Stage(nn.Module):
    """The network and its loss."""

    def __init__(self, settings: SASRec, known: int) -> None:
        super().__init__()
        self.settings, self.known = settings, known
        self.items = nn.Embedding(known + 1, settings.width, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(settings.length, settings.width))
        nn.init.normal_(self.items.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            settings.width,
            2,
            4 * settings.width,
            settings.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(settings.width)
        self.layers = nn.TransformerEncoder(layer, settings.layers, norm, enable_nested_tensor=False)

    def read(self, items: Tensor) -> Tensor:
        """(B, T) numbers -> (B, T, width)."""
        words = F.dropout(self.items(items) + self.places, self.settings.dropout, self.training)
        hidden = torch.ones(items.shape[1], items.shape[1], dtype=torch.bool).triu(1)
        return self.layers(words, mask=hidden, is_causal=True)

    def forward(self, items: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of what follows, over all products or an even sample of them."""
        real = labels > 0
        read, target = self.read(items)[real], labels[real]
        drawn = None
        if self.known > self.settings.negatives:
            drawn = torch.randint(1, self.known + 1, (self.settings.negatives,))
        parts = zip(read.split(PART), target.split(PART), strict=True)
        return {"loss": sum(self._loss(*part, drawn) for part in parts) / len(target)}

    def _loss(self, read: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        """The sum over some places."""
        if drawn is None:
            return F.cross_entropy((read @ self.items.weight[1:].T).float(), target - 1, reduction="sum")
        own = (read * self.items(target)).sum(dim=-1).float()
        others = (read @ self.items(drawn).T).float() + np.log(self.known / self.settings.negatives)
        others = others.masked_fill_(drawn[None] == target[:, None], -torch.inf).logsumexp(dim=1)
        return (torch.logaddexp(own, others) - own).sum()
