"""Batches of the language stage: which texts are read together in which step, the same however often a run is resumed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from peftrec.adaptation.config import LanguageConfig
from peftrec.adaptation.masking import Reader
from peftrec.adaptation.pairs import Baskets

_SORTED = 50  # batches within which texts are sorted by length: little padding, and still many possible neighbours

Part = dict[str, "Tensor | dict[str, Tensor]"]
Inputs = dict[str, Part]
"""``joint`` and, where vectors are looked at, ``single``: see :class:`peftrec.adaptation.stage.LanguageStage`."""

Vectors = dict[str, NDArray[np.float32]]
"""Text -> the vector it had before adaptation."""


@dataclass(frozen=True)
class _Rows:
    """Rows of one batch, all of one platform: positions in its texts, see :class:`peftrec.adaptation.pairs.Pairs`."""

    baskets: Baskets
    anchor: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    other: NDArray[np.int64]
    together: NDArray[np.bool_]


class Batches(TorchDataset[Inputs]):
    """All batches of a training in order, built when they are asked for.

    Each batch holds texts of one platform, of similar length. What is in batch i depends on the seed and on i alone: pairs
    and masks are drawn anew in each epoch, and a resumed training goes on with the very batches of an unbroken one.

    Args:
        platforms: Those with at least two texts.
        reader: Cuts texts into pieces.
        config: Tells which inputs are needed: none is built for a term whose weight is 0.
        vectors: Where the distillation loss is to keep each text; only looked at where its weight is above 0.
        epochs: Passes over the texts.
        sampling: See :class:`LanguageConfig`.
    """

    def __init__(
        self,
        platforms: Sequence[Baskets],
        reader: Reader,
        config: LanguageConfig,
        *,
        vectors: Vectors,
        epochs: float,
        sampling: float,
    ) -> None:
        self.platforms, self.reader, self.config, self.vectors = platforms, reader, config, vectors
        sizes = np.array([len(one.texts) for one in platforms], float)
        chances = sizes**sampling / (sizes**sampling).sum()
        self.draws = np.maximum(1, np.rint(sizes.sum() * chances)).astype(int)
        """Texts that each platform gives to an epoch."""
        self.per_epoch = int((-(-self.draws // config.batch_size)).sum())
        self.total = max(1, round(epochs * self.per_epoch))
        self._epoch, self._plan = -1, list[_Rows]()

    def __len__(self) -> int:
        """Batches of the whole training."""
        return self.total

    def __getitem__(self, index: int) -> Inputs:
        epoch, at = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._planned(epoch)
        return self._built(self._plan[at], np.random.default_rng([self.config.seed, 1, index]))

    def _planned(self, epoch: int) -> list[_Rows]:
        rng = np.random.default_rng([self.config.seed, 0, epoch])
        plan = list[_Rows]()
        for number, (baskets, draws) in enumerate(zip(self.platforms, self.draws, strict=True)):
            anchors = self._anchors(number, range(epoch * int(draws), (epoch + 1) * int(draws)))
            pairs = baskets.draw(anchors, rng)
            lengths = np.array([len(text) for text in baskets.texts])
            lengths = lengths[pairs.first] + lengths[pairs.second]
            size = self.config.batch_size
            blocks = np.array_split(np.arange(len(anchors)), range(_SORTED * size, len(anchors), _SORTED * size))
            order = np.concatenate([block[np.argsort(lengths[block], kind="stable")] for block in blocks])
            for rows in np.array_split(order, range(size, len(order), size)):
                drawn = (pairs.first[rows], pairs.second[rows], pairs.other[rows], pairs.together[rows])
                plan.append(_Rows(baskets, anchors[rows], *drawn))
        return [plan[at] for at in rng.permutation(len(plan))]

    def _anchors(self, platform: int, places: range) -> NDArray[np.int64]:
        """Texts at some places of an endless row of permutations, so that none is read twice before all were read once."""
        texts = len(self.platforms[platform].texts)
        cycles = range(places.start // texts, (places.stop - 1) // texts + 1)
        seed = self.config.seed
        row = np.concatenate([np.random.default_rng([seed, 2, platform, cycle]).permutation(texts) for cycle in cycles])
        start = places.start - cycles.start * texts
        return row[start : start + len(places)]

    def _built(self, rows: _Rows, rng: np.random.Generator) -> Inputs:
        single = self._single(rows)
        return {"joint": self._joint(rows, rng)} | ({"single": single} if single else {})

    def _joint(self, rows: _Rows, rng: np.random.Generator) -> Part:
        """Texts read alone or behind another one, with words to guess."""
        config, texts, part = self.config, rows.baskets.texts, Part()
        first, second = rows.anchor, None
        if config.nsp_weight:
            follows = rows.together & ((rng.random(len(first)) < 0.5) | (rows.other < 0))
            first = np.where(follows, rows.first, rows.anchor)
            second = np.where(follows, rows.second, rows.other)
            part["follows"] = torch.from_numpy(follows.astype(np.int64))
        pieces = self.reader.read(_named(texts, first), None if second is None else _named(texts, second))
        masked = self.reader.mask(pieces, share=config.mask_share, rng=rng)
        places, labels = torch.from_numpy(masked.places), torch.from_numpy(masked.labels)
        return part | {"read": pieces.inputs(masked.ids), "places": places, "labels": labels}

    def _single(self, rows: _Rows) -> Part:
        """Texts read one by one, those of one batch once each; nothing where no term looks at them."""
        config, texts, part = self.config, rows.baskets.texts, Part()
        pairs = np.stack([rows.first[rows.together], rows.second[rows.together]])
        contrasted = config.contrastive_weight > 0 and pairs.shape[1] > 1  # a pair alone has nothing to be told from
        if not contrasted and not config.distillation_weight:
            return part
        read = np.unique(np.concatenate([rows.anchor, pairs.ravel()]) if contrasted else rows.anchor)
        if contrasted:
            part["pairs"] = torch.from_numpy(np.searchsorted(read, pairs))
        if config.distillation_weight:
            part["original"] = torch.from_numpy(np.stack([self.vectors[text] for text in _named(texts, read)]))
        return part | {"read": self.reader.read(_named(texts, read)).inputs()}


def _named(texts: Sequence[str], at: NDArray[np.int64]) -> list[str]:
    return [texts[index] for index in at]


def only(batch: Sequence[Inputs]) -> Inputs:
    """For datasets whose entries are whole batches: there is nothing left to collate."""
    return batch[0]
