"""A platform as the model sees it: item vectors, shoppers' profiles, statistics as of a moment."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from peftrec.backbone import Backbone
from peftrec.data.catalog import Catalog
from peftrec.data.dataset import Dataset
from peftrec.data.events import Events
from peftrec.data.index import Index
from peftrec.data.log import channels_by_code
from peftrec.data.snapshot import Snapshot
from peftrec.data.source import DataSource
from peftrec.data.tokens import HistoryTokens
from peftrec.model.extras import Shoppers
from peftrec.text.words import plain

Scalar = TypeVar("Scalar", bound=np.generic)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True, eq=False)
class Platform:
    """A dataset read through a backbone.

    Many products share one text, so vectors are kept once per text.

    Attributes:
        dataset: Catalogue, log and profiles.
        vectors: (texts, H) float32 of unit length, one per distinct product text.
        text_of: (n_items,) int32 row of each product in ``vectors``.
        profiles: (profile texts + 1, H) float32 of unit length; the last row is zero, for shoppers without a profile.
        profile_of: (users,) int32 row of each shopper in ``profiles``.
        channels: Names of the log's channels, by code; empty for those that the dataset, as a part, does not hold.
        backbone: That reads it.
        described: Texts of products behind the last one of the catalogue, see :meth:`with_new`.
    """

    dataset: Dataset
    vectors: NDArray[np.float32]
    text_of: NDArray[np.int32]
    profiles: NDArray[np.float32]
    profile_of: NDArray[np.int32]
    channels: list[str]
    backbone: Backbone = field(repr=False)
    described: tuple[str, ...] = field(default=(), repr=False)
    _scenes: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _snapshots: dict[float, Snapshot] = field(default_factory=dict, repr=False)
    _young: dict[float, Snapshot] = field(default_factory=dict, repr=False)
    _words: list[list[int]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, dataset: Dataset, backbone: Backbone, *, progress: bool = True) -> "Platform":
        """Renders and encodes all products and profiles; texts already in the item table cost a look-up."""
        texts, text_of = _distinct(backbone.templates.product.render(dataset.catalog.frame))
        profiles = np.zeros((1, backbone.hidden), np.float32)
        profile_of = np.zeros(len(dataset.users), np.int32)
        if dataset.profiles is not None and len(dataset.profiles.frame):
            frame = dataset.profiles.frame
            told = backbone.templates.profile.render(frame)
            kinds, kind_of = _distinct(told)
            profiles = np.concatenate([unit(backbone.items(kinds, progress=progress)), profiles])
            profile_of[:] = len(kinds)
            # users are sorted, and so is the search
            at = np.searchsorted(dataset.users.to_numpy(), frame["user_id"].to_numpy())
            profile_of[at] = np.where(told.to_numpy() != "", kind_of, len(kinds))
        return cls(
            dataset,
            unit(backbone.items(texts, progress=progress)),
            text_of,
            profiles,
            profile_of,
            channels_by_code(dataset.events.frame, dataset.log),
            backbone,
        )

    def with_catalog(self, catalog: Catalog) -> "Platform":
        """The same shop with a catalogue that has further products behind its own, or other words for some.

        Only texts that were never read before are encoded, and statistics of the log are not computed again.
        """
        dataset = self.dataset
        index = Index(catalog, dataset.events, dataset.users, dataset.log)
        new = Platform.of(replace(dataset, catalog=catalog, index=index, past=None), self.backbone, progress=False)
        for kept, known in ((new._snapshots, self._snapshots), (new._young, self._young)):
            kept.update({moment: snapshot.with_catalog(catalog) for moment, snapshot in [*known.items()]})
        return new

    def snapshot(self, moment: float) -> Snapshot:
        """The platform's statistics of everything before ``moment``; computed once per moment.

        Without a log, that of one moment is kept: the present moves on, and those before it are not asked for again.
        """
        found = self._snapshots.get(moment)
        if found is None:
            found = Snapshot.at(self.dataset, moment)
            if not len(self.dataset.log):
                self._snapshots.clear()
            self._snapshots[moment] = found
        return found

    def young(self, moment: float) -> Snapshot:
        """What would be known of the products if none had ever been sold or looked at; computed once per moment."""
        if not len(self.dataset.log):
            return self.snapshot(moment)
        found = self._young.get(moment)
        if found is None:
            dataset = self.dataset
            silent = replace(dataset, events=Events(dataset.events.frame.clear()), index=None, past=None)
            found = self._young[moment] = Snapshot.at(silent, moment)
        return found

    def scenes(self, channel: NDArray[np.int32], moment: float) -> NDArray[np.float32]:
        """(B, H) unit vectors of what is said of the moment and of the channel each shopper mostly uses.

        Args:
            channel: (B,) code, -1 where unknown; a channel whose name holds no letter is not mentioned.
            moment: Seconds since the epoch.
        """
        source = self.dataset.source or DataSource("", "", "")
        local = datetime.fromtimestamp(moment, ZoneInfo(source.clock))
        named = [self.channels[code] if code >= 0 else None for code in channel]
        spoken = [name if name and any(map(str.isalpha, name)) else None for name in named]
        texts = self.backbone.templates.scene.many([local] * len(spoken), channels=spoken, country=source.country)
        new = sorted({*texts} - {*self._scenes})
        self._scenes.update(zip(new, unit(self.backbone.items(new, progress=False)) if new else [], strict=True))
        return np.stack([self._scenes[text] for text in texts])

    def words(self) -> list[list[int]]:
        """Word ids of each distinct product text of the catalogue, special words left out, in the order of ``vectors``."""
        if not self._words:
            texts, _ = _distinct(self.backbone.templates.product.render(self.dataset.catalog.frame))
            self._words[:] = words_of(texts, self.backbone)  # at once: others may ask meanwhile
        return self._words

    def with_new(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> "Platform":
        """The same with further products behind the last one, given by their (count, H) unit vectors and their texts."""
        rows = len(self.vectors) + np.arange(len(vectors), dtype=np.int32)
        return replace(
            self,
            vectors=np.concatenate([self.vectors, vectors]),
            text_of=np.concatenate([self.text_of, rows]),
            described=(*self.described, *texts),
        )

    def items(self, indices: NDArray[np.integer]) -> NDArray[np.float32]:
        """(…, H) unit vectors of products."""
        return self.vectors[self.text_of[indices]]


def words_of(texts: Sequence[str], backbone: Backbone) -> list[list[int]]:
    """Word ids of texts, special words left out."""
    if not texts:
        return []
    told = plain(texts, backbone.tokenizer, max_length=backbone.max_length)
    return backbone.tokenizer(
        told, add_special_tokens=False, truncation=True, max_length=backbone.max_length, return_attention_mask=False
    )["input_ids"]


def _distinct(texts: pl.Series) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct texts, sorted, and the place of each text among them."""
    distinct = texts.unique().sort()
    return distinct.to_list(), distinct.search_sorted(texts).to_numpy().astype(np.int32)


def shoppers(
    tokens: HistoryTokens,
    vectors: NDArray[np.float32],
    profile: NDArray[np.float32],
    scene: NDArray[np.float32],
) -> Shoppers:
    """Turns history words into tensors.

    Args:
        tokens: Of B shoppers.
        vectors: (B, N, H) unit vectors of ``tokens.item``.
        profile: (B, H), zero rows for shoppers without a profile.
        scene: (B, H), zero rows where nothing is said of the moment.
    """
    return Shoppers(
        vectors=torch.from_numpy(vectors),
        kind=torch.from_numpy(tokens.event.astype(np.int64)),
        entry=torch.from_numpy(tokens.entry.astype(np.int64)),
        features=torch.from_numpy(tokens.features),
        weight=torch.from_numpy(tokens.weight),
        mask=torch.from_numpy(tokens.mask),
        profile=torch.from_numpy(profile),
        scene=torch.from_numpy(scene),
    )


def padded(rows: Sequence[NDArray[Scalar]], *, step: int = 1) -> tuple[NDArray[Scalar], NDArray[np.bool_]]:
    """Stacks arrays of different length along a new axis, zeros behind, with the mask of what is real.

    The axis is as long as the longest, brought up to a multiple of ``step``.
    """
    width = -(-max(1, *(len(row) for row in rows)) // step) * step
    out = np.zeros((len(rows), width, *rows[0].shape[1:]), rows[0].dtype)
    mask = np.zeros((len(rows), width), bool)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
        mask[index, : len(row)] = True
    return out, mask
