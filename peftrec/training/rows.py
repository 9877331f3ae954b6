"""Training rows: shoppers at moments of the past, the candidates they would have been offered, and what they then bought."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from peftrec.data.features import FEATURES
from peftrec.data.histories import Ragged
from peftrec.data.pairs import pairs_of
from peftrec.data.snapshot import Snapshot
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.model.candidates import Candidates, Nearest, Sample, generate
from peftrec.model.extras import Shoppers
from peftrec.model.nearest import history_means
from peftrec.model.platform import Platform, padded, shoppers
from peftrec.model.purchase import NEVER, WIDTH_STEP
from peftrec.training.anchors import Anchor
from peftrec.training.augmenting import told_otherwise
from peftrec.training.config import TrainConfig

if TYPE_CHECKING:
    from tqdm import tqdm

FIRST_PURCHASES = 8
"""Products bought for the first time that one row gives to the retrieval loss."""


@dataclass(frozen=True)
class Rows:
    """What one anchor gives for training.

    Attributes:
        users: (B,) user indices.
        moment: Seconds since the epoch.
        channel: (B,) int32 the channel each shopper mostly uses, -1 where unknown.
        tokens: The decoder's words.
        first: Products bought for the first time, at most ``FIRST_PURCHASES`` per row.
        candidates: With features in half precision, to halve the memory; filled in by :meth:`offered`.
        labels: (C,) bool, bought within the horizon.
        targets: (C, tasks) of auxiliary tasks, see :func:`peftrec.training.objectives.targets_of`; None without any.
    """

    users: NDArray[np.int32]
    moment: float
    channel: NDArray[np.int32]
    tokens: HistoryTokens
    first: Ragged
    candidates: Candidates
    labels: NDArray[np.bool_]
    targets: NDArray[np.float32] | None = None

    @classmethod
    def begin(
        cls,
        anchor: Anchor,
        snapshot: Snapshot,
        config: TrainConfig,
        rng: np.random.Generator,
        *,
        augmented: NDArray[np.bool_] | None = None,
    ) -> "Rows":
        """The shopper side only, which is all that retrieval is fitted on; ``augmented`` (users,) may be told otherwise."""
        told = anchor.histories
        if augmented is not None:
            told = told_otherwise(told, config.augmentation, rng, of=augmented[anchor.users])
        tokens = history_tokens(told, pairs_of(told, snapshot.n_items), snapshot, limit=config.history)
        first = [rng.permutation(anchor.first[row])[:FIRST_PURCHASES] for row in range(len(anchor.users))]
        none = Ragged(np.zeros(len(anchor.users) + 1, np.int64), np.empty(0, np.int32))
        empty = Candidates(none, np.empty((0, len(FEATURES)), np.float16))
        channel = anchor.histories.channel
        return cls(anchor.users, anchor.moment, channel, tokens, Ragged.join(first), empty, np.empty(0, bool))

    def offered(
        self,
        anchor: Anchor,
        snapshot: Snapshot,
        config: TrainConfig,
        *,
        nearest: Nearest | None,
        rng: np.random.Generator,
        bar: "tqdm[NoReturn] | None" = None,
    ) -> "Rows":
        """Generates candidates as serving does, labels them naturally, and keeps a :class:`Sample`."""
        candidates = generate(
            anchor.histories,
            snapshot,
            config.candidates,
            nearest=nearest,
            sample=Sample(config.sampled_candidates, anchor.bought, rng),
            bar=bar,
        )
        bought = anchor.bought.rows * snapshot.n_items + anchor.bought.values
        labels = np.isin(candidates.items.rows * snapshot.n_items + candidates.items.values, bought)
        half = replace(candidates, features=candidates.features.astype(np.float16))
        return replace(self, candidates=half, labels=labels)

    def only(self, keep: NDArray[np.bool_]) -> "Rows":
        """The same with some of the candidates, for which ``keep`` (C,) is true."""
        items, weight = self.candidates.items, self.candidates.weight
        offsets = np.concatenate([[0], np.cumsum(keep)])[items.offsets].astype(np.int64)
        candidates = Candidates(
            Ragged(offsets, items.values[keep]),
            self.candidates.features[keep],
            None if weight is None else weight[keep],
        )
        targets = None if self.targets is None else self.targets[keep]
        return replace(self, candidates=candidates, labels=self.labels[keep], targets=targets)

    @property
    def weight(self) -> NDArray[np.float32]:
        """(C,) how many candidates each of those kept stands for."""
        weight = self.candidates.weight
        return np.ones(len(self.labels), np.float32) if weight is None else weight


class Labelled(NamedTuple):
    """Candidates of some rows, one after the other.

    Attributes:
        features: (C, len(FEATURES)).
        bought: (C,) bool.
        weight: (C,) how many candidates each stands for.
    """

    features: NDArray[np.floating]
    bought: NDArray[np.bool_]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Tensors of B rows.

    Attributes:
        shoppers: The shopper side.
        vectors: (B, M, H) unit vectors of candidates.
        features: (B, M, len(FEATURES)).
        weight: (B, M) how many candidates each stands for, 0 for padding.
        first: (B, P, H) unit vectors of first purchases.
        first_mask: (B, P) bool.
        negatives: (K, H) unit vectors of products drawn by popularity.
        targets: (B, M, tasks) of auxiliary tasks, None without any.
    """

    shoppers: Shoppers
    vectors: torch.Tensor
    features: torch.Tensor
    weight: torch.Tensor
    first: torch.Tensor
    first_mask: torch.Tensor
    negatives: torch.Tensor
    targets: torch.Tensor | None = None

    def rows(self, at: torch.Tensor) -> "Batch":
        """Those at some places, with as many words and candidates as the longest of them has, brought up to few widths."""
        width = -(-max(1, int(self.counts[at].max())) // WIDTH_STEP) * WIDTH_STEP
        cut = {name: getattr(self, name)[at, :width] for name in ("vectors", "features", "weight")}
        targets = None if self.targets is None else self.targets[at, :width]
        whole = {"first": self.first[at], "first_mask": self.first_mask[at]}
        return replace(self, shoppers=self.shoppers.rows(at), **cut, **whole, targets=targets)

    @property
    def counts(self) -> torch.Tensor:
        """(B,) candidates of each row, which stand before the padding."""
        return (self.weight > 0).sum(dim=1)


class RowDataset(TorchDataset[tuple[int, int]]):
    """All rows of some anchors; an element is (anchor, row), and :meth:`collate` makes a batch of them."""

    def __init__(
        self,
        platform: Platform,
        parts: list[Rows],
        config: TrainConfig,
        *,
        keep: NDArray[np.bool_],
        moment: float,
        variants: NDArray[np.float32] | None = None,
    ) -> None:
        """Keeps the rows of shoppers for whom ``keep`` (users,) is true.

        Args:
            platform: Theirs.
            parts: One for each anchor.
            config: Of the training.
            keep: (users,) bool.
            moment: Whose popularity draws negatives.
            variants: (V, texts, H) unit vectors of other texts, drawn in place of some products' own.
        """
        self.platform, self.parts, self.config, self.variants = platform, parts, config, variants
        self.index = [(part, row) for part, rows_ in enumerate(parts) for row in np.flatnonzero(keep[rows_.users])]
        buyers = platform.snapshot(moment).buyers
        self._popularity = torch.from_numpy(np.cumsum(buyers + 1e-3).astype(np.float64))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Which anchor and which of its rows."""
        return self.index[index]

    def collate(self, chosen: list[tuple[int, int]]) -> dict[str, Batch | torch.Tensor]:
        """Builds the tensors of some rows; ``labels`` is (B, M), 1 where bought.

        Candidates are those that the decoder reads, see :func:`peftrec.model.purchase.score`; the others have no weight in its
        losses. There are few distinct numbers M, as there are when it scores.
        """
        draws = self._draws(chosen)
        tokens = _stacked([(self.parts[part].tokens, row) for part, row in chosen])
        profiles = np.stack([self._profile(part, row) for part, row in chosen])
        scenes = np.concatenate([self._scene(part, row) for part, row in chosen])
        read = [_read(self.parts[part].candidates, row) for part, row in chosen]

        def cut(values: Callable[[Rows], NDArray[np.generic]]) -> NDArray[np.generic]:
            rows = [values(self.parts[part])[at] for (part, _), at in zip(chosen, read, strict=True)]
            return padded(rows, step=WIDTH_STEP)[0]

        items = cut(lambda rows_: rows_.candidates.items.values)
        features = cut(lambda rows_: rows_.candidates.features)
        told = all(self.parts[part].targets is not None for part, _ in chosen)
        targets = cut(lambda rows_: rows_.targets) if told else None  # pyright: ignore[reportArgumentType]
        labels, weight = cut(lambda rows_: rows_.labels), cut(lambda rows_: rows_.weight)
        first, first_mask = padded([self.parts[part].first[row] for part, row in chosen])
        return {
            "batch": Batch(
                shoppers(tokens, self._vectors(tokens.item, draws), profiles, scenes),
                torch.from_numpy(self._vectors(items, draws)),
                torch.from_numpy(features.astype(np.float32)),
                torch.from_numpy(weight),
                torch.from_numpy(self.platform.items(first)),
                torch.from_numpy(first_mask),
                torch.from_numpy(self.platform.items(self._negatives_of(chosen))),
                None if targets is None else torch.from_numpy(targets),
            ),
            "labels": torch.from_numpy(labels.astype(np.float32)),
        }

    def _draws(self, chosen: Sequence[tuple[int, int]]) -> torch.Generator:
        """Chance that depends on the seed and on some rows alone.

        The loader fetches a batch ahead: torch's own chance, as a checkpoint keeps it, has then seen the batch that a
        resumed training fetches once more.
        """
        told = repr((self.config.seed, [(part, int(row)) for part, row in chosen])).encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(told).digest()[:7]))

    def _vectors(self, items: NDArray[np.integer], draws: torch.Generator) -> NDArray[np.float32]:
        """(…, H) vectors of products, some of them of another text where there are others."""
        vectors, augmentation = self.platform.items(items), self.config.augmentation
        if self.variants is None or augmentation is None:
            return vectors
        at = (torch.rand(items.shape, generator=draws) < augmentation.share).numpy()
        which = torch.randint(len(self.variants), (int(at.sum()),), generator=draws).numpy()
        vectors[at] = self.variants[which, self.platform.text_of[items[at]]]
        return vectors

    def _profile(self, part: int, row: int) -> NDArray[np.float32]:
        return self.platform.profiles[self.platform.profile_of[self.parts[part].users[row]]]

    def _scene(self, part: int, row: int) -> NDArray[np.float32]:
        rows_ = self.parts[part]
        if not self.config.scene:
            return np.zeros((1, self.platform.vectors.shape[1]), np.float32)
        return self.platform.scenes(rows_.channel[row : row + 1], rows_.moment)

    def _negatives_of(self, chosen: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Each row brings its part, so that several processes with a part of the rows each draw what one would."""
        part = -(-self.config.negatives // self.config.batch_size)
        return np.concatenate([self._negatives(part, self._draws([one])) for one in chosen])

    def _negatives(self, count: int, draws: torch.Generator | None = None) -> NDArray[np.int64]:
        draw = torch.rand(count, dtype=torch.float64, generator=draws) * self._popularity[-1]
        return torch.searchsorted(self._popularity, draw).clamp(max=len(self._popularity) - 1).numpy()

    def means(self) -> NDArray[np.float32]:
        """(rows, H) decayed means of the histories' unit vectors."""
        parts = [history_means(self.platform, rows_.tokens) for rows_ in self.parts]
        return np.stack([parts[part][row] for part, row in self.index])

    def collate_retrieval(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        """Tensors of :class:`peftrec.training.stages.RetrievalStage` for some positions in the index."""
        first, mask = padded([self.parts[part].first[row] for part, row in (self.index[at] for at in chosen)])
        return {
            "first": torch.from_numpy(self.platform.items(first)),
            "mask": torch.from_numpy(mask),
            "negatives": torch.from_numpy(self.platform.items(self._negatives(self.config.negatives))),
        }


def _read(candidates: Candidates, row: int) -> NDArray[np.int64]:
    """Places of a row's candidates that the decoder reads: its shopper has never bought them."""
    first, end = candidates.items.offsets[row : row + 2]
    return first + np.flatnonzero(candidates.features[first:end, NEVER] > 0)


def _stacked(rows_: list[tuple[HistoryTokens, int]]) -> HistoryTokens:
    """One batch of words, cut to its longest row."""
    width = max(1, *(int(tokens.mask[row].sum()) for tokens, row in rows_))

    def stack(name: str) -> NDArray[np.generic]:
        parts = [getattr(tokens, name)[row, :width] for tokens, row in rows_]
        return padded(parts)[0] if len({len(part) for part in parts}) > 1 else np.stack(parts)

    return HistoryTokens(**{field.name: stack(field.name) for field in fields(HistoryTokens)})  # pyright: ignore
