"""From histories to ranked products, the same steps whoever asks: read the shopper, find candidates, score them."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.backbone import native_precision
from peftrec.data.dataset import Dataset
from peftrec.data.histories import Histories, Ragged
from peftrec.data.pairs import pairs_of
from peftrec.data.snapshot import Snapshot
from peftrec.data.tokens import history_tokens
from peftrec.model import extras as ops
from peftrec.model.adapter import Adapter
from peftrec.model.candidates import CandidateConfig, Candidates, Scores, describe, generate
from peftrec.model.decoder import Layer
from peftrec.model.extras import Extras, Shoppers
from peftrec.model.platform import Platform, padded, shoppers
from peftrec.model.purchase import Reading, read, score

CHUNK = 32
"""Shoppers read and scored at once."""


@dataclass(frozen=True)
class Reader:
    """A decoder with an adapter, or with one per row.

    Attributes:
        layers: Lowest first.
        extras: Matrices, or stacks of them with one per row.
        bf16: Run matrix products in bfloat16.
    """

    layers: Sequence[Layer]
    extras: Extras
    bf16: bool = False

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(iter(self.extras.values())).device

    @contextlib.contextmanager
    def _arithmetic(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            yield

    def read(
        self,
        histories: Histories,
        platform: Platform,
        snapshot: Snapshot,
        profiles: NDArray[np.float32],
        scenes: NDArray[np.float32],
        *,
        limit: int,
    ) -> Reading:
        """Reads B shoppers of one platform.

        Args:
            histories: Their pasts.
            platform: Where they shop.
            snapshot: The platform now.
            profiles: (B, H) vectors of their profiles, zero rows where there is none.
            scenes: (B, H) vectors of the scenes, zero rows where there is none.
            limit: Longest history, in distinct products.
        """
        tokens = history_tokens(histories, pairs_of(histories, snapshot.n_items), snapshot, limit=limit)
        return self.read_batch(shoppers(tokens, platform.items(tokens.item), profiles, scenes))

    def read_batch(self, batch: Shoppers) -> Reading:
        """Reads shoppers whose tensors the caller has built."""
        with self._arithmetic():
            return read(self.layers, self.extras, batch.to(self.device))

    def score(self, reading: Reading, platform: Platform, candidates: Candidates) -> list[NDArray[np.float32]]:
        """Purchase logits, one array per shopper, in the order of its candidates."""
        offsets = candidates.items.offsets
        items, mask = padded([candidates.items[row] for row in range(len(candidates.items))])
        features, _ = padded([candidates.features[a:b] for a, b in pairwise(offsets)])
        logits = self.score_batch(reading, platform.items(items), features)
        return [row[real] for row, real in zip(logits, mask, strict=True)]

    def score_batch(
        self, reading: Reading, vectors: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(B, M) purchase logits of products whose (B, M, H) vectors and (B, M, len(FEATURES)) numbers the caller has."""
        with self._arithmetic():
            products, numbers = (torch.from_numpy(value).to(self.device) for value in (vectors, features))
            return score(self.layers, self.extras, reading, products, numbers).logits.float().cpu().numpy()


def snapshot_of(platform: Platform, adapter: Adapter, moment: float) -> Snapshot:
    """What an adapter knows of a platform's products at a moment.

    A backbone without an adapter reads statistics of the platforms that it was adapted on alone. Of others it reads texts
    and what a shopper did: how many buy, and how often again, means something else in another kind of shop, and misleads
    it by far (``benchmarks/LOG.md``). So it is for an adapter that learned from a few rows alone.
    """
    trained = adapter.config is not None and not adapter.silent
    known = trained or (adapter.config is None and adapter.backbone.has_read(platform.dataset))
    return platform.snapshot(moment) if known else platform.young(moment)


def find(
    reading: Reading,
    extras: Extras,
    histories: Histories,
    platform: Platform,
    snapshot: Snapshot,
    config: CandidateConfig,
) -> Candidates:
    """Candidates of B shoppers of one platform and one adapter, the nearest to the shopper vector among them."""
    near = retrieval(reading, extras, platform, snapshot)
    return generate(histories, snapshot, config, nearest=lambda rows: Scores(near[rows]))


def retrieval(reading: Reading, extras: Extras, platform: Platform, snapshot: Snapshot) -> NDArray[np.float32]:
    """(B, n_items) how close each product is to the shopper vectors, popularity added."""
    vectors, text_of = torch.from_numpy(platform.vectors), torch.from_numpy(platform.text_of.astype(np.int64))
    popularity = torch.from_numpy(snapshot.popularity)
    own = {name: extras[name].cpu() for name in ("item_map", "sharpness", "popularity")}  # the catalogue stays there
    with torch.inference_mode():
        return ops.catalog_scores(own, reading.vector.float().cpu(), vectors, text_of, popularity).numpy()


class OnePlatform:
    """An adapter with the platform that was asked about last."""

    probabilistic = True

    def __init__(self, adapter: Adapter, name: str) -> None:
        self.adapter, self.name = adapter, name
        self._platform: Platform | None = None

    def platform(self, past: Dataset) -> Platform:
        """The dataset read through the backbone; kept while the same dataset is asked for."""
        if self._platform is None or self._platform.dataset is not past:
            self._platform = Platform.of(past, self.adapter.backbone)
        return self._platform


class AdapterRecommender(OnePlatform):
    """An adapter as the evaluation protocol sees it.

    Args:
        adapter: With its backbone.
        precision: ``bf16`` or ``fp32``; the faster one on this machine when left out.
        name: In tables of results.
    """

    def __init__(self, adapter: Adapter, *, precision: str | None = None, name: str = "peftrec") -> None:
        super().__init__(adapter, name)
        extras = {name: torch.as_tensor(value) for name, value in adapter.extras.items()}
        self.reader = Reader(adapter.layers(), extras, bf16=(precision or native_precision()) == "bf16")

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """(B, n_items) purchase logits; minus infinity for what is no candidate."""
        platform = self.platform(past)
        scores = np.full((len(users), len(platform.text_of)), -np.inf, np.float32)
        for rows, reading, histories, snapshot in self._read(platform, users):
            candidates = find(reading, self.reader.extras, histories, platform, snapshot, self.adapter.candidates)
            logits = self.reader.score(reading, platform, candidates)
            for index, row in enumerate(rows):
                scores[row, candidates.items[index]] = logits[index]
        return scores

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """(B, P) purchase probabilities of given products."""
        platform = self.platform(past)
        scores = np.empty(items.shape, np.float32)
        for rows, reading, histories, snapshot in self._read(platform, users):
            candidates = describe(histories, snapshot, Ragged.grid(items[rows]))
            scores[rows] = np.stack(self.reader.score(reading, platform, candidates))
        return 1 / (1 + np.exp(-scores))

    def _read(
        self, platform: Platform, users: NDArray[np.int32]
    ) -> Iterator[tuple[NDArray[np.int64], Reading, Histories, Snapshot]]:
        moment = platform.dataset.now
        snapshot = snapshot_of(platform, self.adapter, moment)
        for rows in np.array_split(np.arange(len(users)), max(1, -(-len(users) // CHUNK))):
            histories = Histories.of(platform.dataset, users[rows], moment=moment)
            profiles = platform.profiles[platform.profile_of[users[rows]]]
            scenes = platform.scenes(histories.channel, moment) if self.adapter.scene else np.zeros_like(profiles)
            reading = self.reader.read(histories, platform, snapshot, profiles, scenes, limit=self.adapter.history)
            yield rows, reading, histories, snapshot
