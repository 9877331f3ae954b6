"""SASRec, trained with cross-entropy: what a sequence of product ids says, without any text or number.

Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; the loss over many products in place of one negative
each, without which it is no strong baseline (Klenitskiy and Vasilev, RecSys 2023).
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset as TorchDataset

from peftrec import TrainConfig
from peftrec.backbone import native_precision
from peftrec.data import Dataset
from peftrec.data.histories import PURCHASE
from peftrec.evaluation.baselines import Baseline
from peftrec.evaluation.baselines.base import Scorer
from peftrec.training.trainer import run_stage

BATCH = 64
STEPS, TRIAL = 1000, 300
"""At most, and for a setting that is tried; early stopping mostly ends it sooner."""

PATIENCE = 24
"""Looks at the held-out loss without a gain, four an epoch: it rests for an epoch or two where ids are no more than popular."""

PART = 1024
"""Places whose scores are in memory at once: what takes more than 32 MB, the system hands out anew each time, page by page."""

HEADS = 2
"""Of attention."""

HELD_OUT = 0.1
"""Share of the sequences that stopping looks at."""


def sasrec(*, seed: int = 0) -> Baseline:
    """SASRec with the grid that it is tuned over, in shorter trainings than the one that counts."""
    grid = [SASRec(128, 0.2, seed=seed), SASRec(64, 0.5, seed=seed)]
    return Baseline("SASRec", grid, trials=[replace(one, steps=TRIAL) for one in grid])


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
        steps: At most.
        seed: Of weights and draws.
    """

    width: int = 128
    dropout: float = 0.2
    layers: int = 2
    length: int = 100
    negatives: int = 2048
    epochs: int = 100
    steps: int = STEPS
    seed: int = 0

    def fit(self, past: Dataset) -> Scorer:
        """Trains on the purchases of all shoppers, by early stopping on the sequences of some."""
        log = past.log
        kept = np.flatnonzero(log.event == PURCHASE)
        kept = kept[np.lexsort((log.time[kept], log.user[kept]))]
        sold = np.bincount(log.item[kept], minlength=len(past.catalog))
        known = np.flatnonzero(sold)  # ids that were never sold have no vector
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
        train, validation = (Pieces([pieces[at] for at in some]) for some in (order[held:], order[:held]))
        with tempfile.TemporaryDirectory() as folder:
            run_stage(
                stage,
                train,
                TrainConfig(seed=self.seed, weight_decay=0.01, patience=PATIENCE),
                folder=Path(folder),
                name="SASRec",
                collate=train.collate,
                epochs=min(self.epochs, self.steps / max(1, len(train) // BATCH)),
                batch_size=BATCH,
                learning_rate=1e-3,
                validation=validation,
                bf16=native_precision() == "bf16",
            )
        stage.eval()

        def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
            items = _padded([of_user[user][-self.length :] for user in users])
            counts = (items > 0).sum(dim=1)
            with torch.inference_mode():
                read = stage.read(items)[counts.cumsum(dim=0)[counts > 0] - 1]
                found = read @ stage.items.weight[1:].T
            scores = np.full((len(users), len(past.catalog)), -np.inf, np.float32)
            scores[:, known] = sold[known]  # for who has looked, but bought nothing yet
            scores[np.ix_(counts.numpy() > 0, known)] = found.float().numpy()
            return scores

        return score


class Pieces(TorchDataset[NDArray[np.int64]]):
    """Sequences of products by number, the latest last."""

    def __init__(self, pieces: Sequence[NDArray[np.int64]]) -> None:
        self.pieces = pieces

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        return self.pieces[index]

    def collate(self, chosen: Sequence[NDArray[np.int64]]) -> dict[str, Tensor]:
        """All but the last product of each sequence, and what follows each of them."""
        return {"items": _padded([one[:-1] for one in chosen]), "labels": _padded([one[1:] for one in chosen])}


def _padded(pieces: Sequence[NDArray[np.int64]]) -> Tensor:
    """(B, T), zeros on the right."""
    return pad_sequence([torch.from_numpy(piece) for piece in pieces], batch_first=True)


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """As torch's, the share in 256ths: a byte of chance a value takes a fifth of the time."""
    dropped = round(256 * share)
    if not training or not dropped:
        return x
    chance = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
    return x * (chance[: x.numel()].view(x.shape) >= dropped).to(x.dtype).mul_(256 / (256 - dropped))


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each behind a norm, for words without padding: only attention spreads them."""

    def __init__(self, settings: SASRec) -> None:
        super().__init__()
        width, self.dropout = settings.width, settings.dropout
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, real: Tensor, at: Tensor) -> Tensor:
        """(W, width) words, which of (B, T) places are words, and which of B * T each of them has."""
        words = self.attention(self.attention_norm(x))
        spread = words.new_zeros(real.numel(), words.shape[1]).index_copy(0, at, words)
        query, key, value = spread.view(*real.shape, 3, HEADS, x.shape[1] // HEADS).permute(
            2, 0, 3, 1, 4
        )  # each (B, HEADS, T, ...)
        later = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool).triu(1)  # padding comes last: later as well
        alike = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
        weight = alike.masked_fill(later, -torch.inf).softmax(dim=-1)
        seen = dropout(weight, self.dropout, self.training).to(value.dtype) @ value
        seen = self.out(seen.transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, at))
        x = x + dropout(seen, self.dropout, self.training)
        inner = dropout(F.gelu(self.up(self.norm(x))), self.dropout, self.training)
        return x + dropout(self.down(inner), self.dropout, self.training)


class Stage(nn.Module):
    """The network and its loss."""

    def __init__(self, settings: SASRec, known: int) -> None:
        super().__init__()
        self.settings, self.known = settings, known
        self.items = nn.Embedding(known + 1, settings.width, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(settings.length, settings.width))
        nn.init.normal_(self.items.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)

    def read(self, items: Tensor) -> Tensor:
        """(B, T) numbers -> (W, width) of the words alone, row after row."""
        real = items > 0
        at, counts = real.flatten().nonzero()[:, 0], real.sum(dim=1)
        place = torch.arange(items.shape[1]) + self.settings.length - counts[:, None]  # the latest has the last place
        x = self.items(items[real]) + self.places[place[real]]
        x = dropout(x, self.settings.dropout, self.training)
        for block in self.blocks:
            x = block(x, real, at)
        return self.norm(x)

    def forward(self, items: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of what follows, over all products or an even sample of them."""
        read, target = self.read(items), labels[items > 0]
        weight, drawn = self.items.weight[1:], None
        if self.known > self.settings.negatives:
            drawn = torch.randint(1, self.known + 1, (self.settings.negatives,))
            weight = self.items(drawn)
        own = self.items(target) if drawn is not None else read
        parts = zip(read.split(PART), target.split(PART), own.split(PART), strict=True)
        return {"loss": sum(self._loss(*part, weight, drawn) for part in parts) / len(target)}

    def _loss(self, read: Tensor, target: Tensor, own: Tensor, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """The sum over some places; ``own`` are the vectors of their targets, where ``weight`` are those ``drawn``."""
        others = (read @ weight.T).float()
        if drawn is None:
            return F.cross_entropy(others, target - 1, reduction="sum")
        bought = (read * own).sum(dim=-1).float()
        others = others + np.log(self.known / self.settings.negatives)
        others = others.masked_fill_(drawn[None] == target[:, None], -torch.inf).logsumexp(dim=1)
        return (torch.logaddexp(bought, others) - bought).sum()
