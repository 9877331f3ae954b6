"""A cross-encoder as the evaluation protocol sees it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.backbone import native_precision
from peftrec.data.dataset import Dataset
from peftrec.data.histories import Histories
from peftrec.data.pairs import pairs_of
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.model.adapter import Adapter
from peftrec.model.candidates import generate
from peftrec.model.cross import PairReader, PairWriter, retrieval_extras
from peftrec.model.nearest import nearest
from peftrec.model.platform import Platform
from peftrec.model.scoring import CHUNK, OnePlatform

if TYPE_CHECKING:
    from peftrec.data.snapshot import Snapshot


class CrossRecommender(OnePlatform):
    """An adapter of the form ``cross_encoder``; its candidates are named as for the decoder, by similarity unlearned.

    Args:
        adapter: With its backbone.
        precision: ``bf16`` or ``fp32``; the faster one on this machine when left out.
        name: In tables of results.
    """

    def __init__(self, adapter: Adapter, *, precision: str | None = None, name: str = "peftrec") -> None:
        super().__init__(adapter, name)
        extras = {name: torch.as_tensor(value) for name, value in adapter.extras.items()}
        bf16 = (precision or native_precision()) == "bf16"
        self.reader = PairReader(adapter.backbone.bert, adapter.layers(), extras, bf16=bf16)

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """(B, n_items) purchase logits; minus infinity for what is no candidate."""
        platform, extras = self.platform(past), retrieval_extras(self.reader.extras)
        scores = np.full((len(users), len(platform.text_of)), -np.inf, np.float32)
        writer = PairWriter(platform, words=self.adapter.words)
        for rows, histories, tokens, snapshot in self._told(platform, users):
            near = nearest(extras, platform, tokens, snapshot)
            candidates = generate(histories, snapshot, self.adapter.candidates, nearest=near)
            for index, row in enumerate(rows):
                items = candidates.items[index]
                scores[row, items] = self.reader.score(writer, writer.past(tokens, index), items)
        return scores

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """(B, P) purchase probabilities of given products."""
        platform, scores = self.platform(past), np.empty(items.shape, np.float32)
        writer = PairWriter(platform, words=self.adapter.words)
        for rows, _, tokens, _ in self._told(platform, users):
            for index, row in enumerate(rows):
                scores[row] = self.reader.score(writer, writer.past(tokens, index), items[row])
        return 1 / (1 + np.exp(-scores))

    def _told(
        self, platform: Platform, users: NDArray[np.int32]
    ) -> Iterator[tuple[NDArray[np.int64], Histories, HistoryTokens, "Snapshot"]]:
        moment = platform.dataset.now
        snapshot = platform.snapshot(moment)
        for rows in np.array_split(np.arange(len(users)), max(1, -(-len(users) // CHUNK))):
            histories = Histories.of(platform.dataset, users[rows], moment=moment)
            pairs = pairs_of(histories, snapshot.n_items)
            yield rows, histories, history_tokens(histories, pairs, snapshot, limit=self.adapter.history), snapshot
