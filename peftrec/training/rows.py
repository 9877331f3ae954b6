"""Training rows: shoppers at moments of the past, the candidates they would have been offered, and what they then bought."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset as TorchDataset

from peftrec.data.dataset import Dataset
from peftrec.data.features import FEATURES, pairs_of
from peftrec.data.histories import DAY, PURCHASE, Histories, Ragged
from peftrec.data.snapshot import Snapshot
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.errors import ConfigError, NotEnoughDataError, TrainingError
from peftrec.model.candidates import Candidates, Nearest, Sample, generate
from peftrec.model.extras import Shoppers
from peftrec.model.platform import Platform, padded, shoppers
from peftrec.training.augmenting import told_otherwise
from peftrec.training.config import TrainConfig

if TYPE_CHECKING:
    from tqdm import tqdm

HOUR = 3600.0
FIRST_PURCHASES = 8
"""Products bought for the first time that one row gives to the retrieval loss."""


@dataclass(frozen=True)
class Anchor:
    """All shoppers who had a history at one moment and bought something within the horizon after it.

    Attributes:
        moment: Seconds since the epoch.
        users: (B,) user indices.
        histories: Of the users, before the moment.
        bought: The distinct products each then bought, rising.
        first: Those among them that the shopper had not bought before.
    """

    moment: float
    users: NDArray[np.int32]
    histories: Histories
    bought: Ragged
    first: Ragged

    def take(self, rows: NDArray[np.int64]) -> "Anchor":
        """Some of the shoppers."""
        bought, first = (Ragged.join([values[row] for row in rows]) for values in (self.bought, self.first))
        return Anchor(self.moment, self.users[rows], self.histories.take(rows), bought, first)


def moments(end: float, start: float, config: TrainConfig) -> list[float]:
    """Anchors, latest first, each at least one horizon after the first event and one before the end of the log."""
    last = end - config.horizon
    # A scene names weekday and part of the day: each anchor lies on others, or they would say nothing.
    stride = config.stride + (DAY + 5 * HOUR if config.scene else 0)
    wanted = [last - step * stride for step in range(config.anchors)]
    early = start + config.horizon
    return [moment for moment in wanted if moment >= early] or ([last] if last > start else [])


def anchor(dataset: Dataset, moment: float, config: TrainConfig) -> Anchor:
    """Reads one moment: who had a history, and what they bought within the horizon."""
    log, n_items = dataset.log, len(dataset.catalog)
    begin, end = np.searchsorted(log.time, [moment, moment + config.horizon])
    purchase = log.event[begin:end] == PURCHASE
    keys = np.unique(log.user[begin:end][purchase].astype(np.int64) * n_items + log.item[begin:end][purchase])
    known = np.unique(log.user[:begin])
    users = np.intersect1d(keys // n_items, known).astype(np.int32)
    histories = Histories.of(dataset, users, moment=moment)
    old_item = histories.item[histories.event == PURCHASE]
    old_row = histories.row[histories.event == PURCHASE]
    keys = keys[np.isin(keys // n_items, users)]
    new = keys[~np.isin(keys, users[old_row].astype(np.int64) * n_items + old_item)]
    return Anchor(moment, users, histories, _by_user(keys, users, n_items), _by_user(new, users, n_items))


def _by_user(keys: NDArray[np.int64], users: NDArray[np.int32], n_items: int) -> Ragged:
    offsets = np.searchsorted(keys, np.append(users.astype(np.int64), np.iinfo(np.int32).max) * n_items)
    return Ragged(offsets.astype(np.int64), (keys % n_items).astype(np.int32))


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


def history_means(platform: Platform, tokens: HistoryTokens) -> NDArray[np.float32]:
    """(B, H) decayed means of the histories' unit vectors, a few hundred shoppers at a time to save memory."""
    spans = np.array_split(np.arange(len(tokens.item)), max(1, len(tokens.item) // 256))
    parts = [np.einsum("bn,bnh->bh", tokens.weight[at], platform.items(tokens.item[at])) for at in spans]
    return np.concatenate(parts).astype(np.float32)


def check_candidates(parts: Sequence[Rows], *, platform: str) -> None:
    """Refuses candidates that nothing can be learned from.

    Args:
        parts: With their candidates.
        platform: Its name, for messages.

    Raises:
        TrainingError: None of them was bought or all were, or a number about them is none.
    """
    bought, all_of_them = sum(int(part.labels.sum()) for part in parts), sum(len(part.labels) for part in parts)
    if bought in (0, all_of_them):
        raise TrainingError(
            f"'{platform}': {bought:,} of {all_of_them:,} candidates were bought within the horizon",
            expected="some that were and some that were not",
            remedy="use a longer horizon_days or log, or more products per source in CandidateConfig"
            if not bought
            else "raise sampled_candidates, or use a larger catalogue",
        )
    finite = np.all([np.isfinite(part.candidates.features).all(axis=0) for part in parts], axis=0)
    if not finite.all():
        wrong = [name for name, good in zip(FEATURES, finite, strict=True) if not good]
        raise TrainingError(
            f"'{platform}': {', '.join(wrong)} of some candidates {'is' if len(wrong) == 1 else 'are'} no finite number",
            expected=f"numbers up to {np.finfo(np.float16).max:,.0f}, which half precision can hold",
            remedy="look for extreme prices, quantities or times with peftrec data audit",
        )


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
        """Builds the tensors of some rows; ``labels`` is (B, M), 1 where bought."""
        draws = self._draws(chosen)
        tokens = _stacked([(self.parts[part].tokens, row) for part, row in chosen])
        profiles = np.stack([self._profile(part, row) for part, row in chosen])
        scenes = np.concatenate([self._scene(part, row) for part, row in chosen])
        spans = [_span(self.parts[part].candidates.items, row) for part, row in chosen]

        def cut(values: Callable[[Rows], NDArray[np.generic]]) -> NDArray[np.generic]:
            return padded([values(self.parts[part])[span] for (part, _), span in zip(chosen, spans, strict=True)])[0]

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
                torch.from_numpy(self.platform.items(self._negatives(draws))),
                None if targets is None else torch.from_numpy(targets),
            ),
            "labels": torch.from_numpy(labels.astype(np.float32)),
        }

    def _draws(self, chosen: list[tuple[int, int]]) -> torch.Generator:
        """Chance that depends on the seed and on a batch's rows alone.

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

    def _negatives(self, draws: torch.Generator | None = None) -> NDArray[np.int64]:
        draw = torch.rand(self.config.negatives, dtype=torch.float64, generator=draws) * self._popularity[-1]
        return torch.searchsorted(self._popularity, draw).clamp(max=len(self._popularity) - 1).numpy()

    def means(self) -> NDArray[np.float32]:
        """(rows, H) decayed means of the histories' unit vectors."""
        parts = [history_means(self.platform, rows_.tokens) for rows_ in self.parts]
        return np.stack([parts[part][row] for part, row in self.index])

    def collate_retrieval(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        """Tensors of :class:`peftrec.training.trainer.RetrievalStage` for some positions in the index."""
        first, mask = padded([self.parts[part].first[row] for part, row in (self.index[at] for at in chosen)])
        return {
            "first": torch.from_numpy(self.platform.items(first)),
            "mask": torch.from_numpy(mask),
            "negatives": torch.from_numpy(self.platform.items(self._negatives())),
        }


def _span(items: Ragged, row: int) -> slice:
    return slice(int(items.offsets[row]), int(items.offsets[row + 1]))


def _stacked(rows_: list[tuple[HistoryTokens, int]]) -> HistoryTokens:
    """One batch of words, cut to its longest row."""
    width = max(1, *(int(tokens.mask[row].sum()) for tokens, row in rows_))

    def stack(name: str) -> NDArray[np.generic]:
        parts = [getattr(tokens, name)[row, :width] for tokens, row in rows_]
        return padded(parts)[0] if len({len(part) for part in parts}) > 1 else np.stack(parts)

    return HistoryTokens(**{field.name: stack(field.name) for field in fields(HistoryTokens)})  # pyright: ignore


def anchors_of(dataset: Dataset, config: TrainConfig) -> list[Anchor]:
    """The moments of a log that training looks at, latest first; ``config`` as :meth:`TrainConfig.on` made it.

    Raises:
        NotEnoughDataError: The log is too short, or too few shoppers buy again.
    """
    log = dataset.log
    times = moments(float(log.time[-1]) + 1, float(log.time[0]), config) if len(log) else []
    if not times:
        raise NotEnoughDataError(
            f"{dataset!r} covers less than one horizon of {config.horizon / DAY:g} days and a history before it",
            expected=f"events over more than {config.horizon / DAY:g} days",
            remedy="use a longer log or a shorter TrainConfig.horizon_days, or serve it with an adapted backbone alone",
        )
    anchors = [anchor(dataset, moment, config) for moment in times]
    check_enough(anchors)
    return [one for one in anchors if len(one.users)]


def check_enough(anchors: list[Anchor], *, shoppers_needed: int = 20) -> None:
    """Refuses to train on too few shoppers.

    Raises:
        NotEnoughDataError: With the counts found.
    """
    most = max((len(one.users) for one in anchors), default=0)
    if most < shoppers_needed:
        raise NotEnoughDataError(
            f"{most} shoppers with a history and a purchase within the horizon after it",
            expected=f"at least {shoppers_needed}",
            remedy="train on a longer log, shorten TrainConfig.horizon_days, or serve this platform with another's adapter",
        )


def check_log(dataset: Dataset) -> None:
    """Refuses to train on a catalogue alone, before it is encoded.

    Raises:
        NotEnoughDataError: There are no events.
    """
    if not len(dataset.events):
        raise NotEnoughDataError(
            f"'{dataset.name}' has no events to train on",
            expected="a log of purchases",
            remedy="serve it without an adapter: a backbone that was adapted with peftrec.adapt reads its catalogue alone",
        )


def check_rows(train: RowDataset, config: TrainConfig) -> None:
    """Refuses to train when all shoppers are held out.

    Raises:
        ConfigError: With the share that was held out.
    """
    if not len(train):
        raise ConfigError(
            f"validation_share={config.validation_share!r} leaves no shopper to train on",
            expected="a share small enough for the platform",
            remedy="the default is validation_share=0.1",
        )
