"""One backbone in one arithmetic, with whatever adapters the rows of a batch name."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertModel

from peftrec.backbone import Backbone
from peftrec.errors import ConfigError
from peftrec.model.candidates import Candidates, Closest
from peftrec.model.cross import PairReader
from peftrec.model.mixed import mixed_layers
from peftrec.model.purchase import Reading
from peftrec.model.scoring import Reader
from peftrec.model.shapes import first_layer
from peftrec.serving.answers import named
from peftrec.serving.batch import Group, score_mixed, shoppers_of
from peftrec.serving.loaded import Loaded, extras_of, mixture_of
from peftrec.serving.precision import decoder_for, words_dtype
from peftrec.serving.preparing import Row

_log = logging.getLogger(__name__)

TOGETHER = 16
"""Shoppers that go through the decoder at once: what they take in memory is handed out again, not asked of the system anew."""

HOT = 4
"""Adapters kept unpacked, some two megabytes each, for requests that ask one alone."""


class Decoding:
    """The frozen weights, resident once, and how rows go through them. No request leaves anything behind.

    Args:
        backbone: Shared by all.
        precision: See :func:`decoder_for`.
    """

    def __init__(self, backbone: Backbone, precision: str) -> None:
        self.backbone = backbone
        self.decoder, self.precision = decoder_for(backbone, precision)
        self.words = words_dtype(self.precision, backbone.device)
        self._alone = lru_cache(maxsize=HOT)(self._one)
        self._bert: BertModel | None = None
        self._lock = threading.Lock()

    def reader(self, rows: Sequence[Loaded]) -> Reader:
        """The decoder with one adapter per row of a batch, or with one for all."""
        return self._alone(rows[0]) if len({id(loaded) for loaded in rows}) == 1 else self._together(rows)

    def _one(self, loaded: Loaded) -> Reader:
        return self._together([loaded])

    def _together(self, rows: Sequence[Loaded]) -> Reader:
        mixture = mixture_of(rows, self.words or torch.half)
        layers = mixed_layers(self.decoder, mixture, first_layer=first_layer(self.backbone), words=self.words)
        return Reader(layers, extras_of(rows), bf16=self.precision == "bf16")

    def pair_reader(self, loaded: Loaded) -> PairReader:
        """A cross-encoder with an adapter; its BERT, in this arithmetic, is made when first asked for.

        Where int8 would make something else of texts, single precision serves, and a warning says so.
        """
        with self._lock:
            if self._bert is None:
                self._bert = self._whole()
        first = first_layer(self.backbone)
        layers = mixed_layers(self._bert.encoder.layer[first:], mixture_of([loaded]), first_layer=first)
        return PairReader(self._bert, layers, loaded.extras, bf16=self.precision == "bf16")

    def _whole(self) -> BertModel:
        if self.precision != "int8":
            return self.backbone.bert
        try:
            return self.backbone.quantised().bert
        except ConfigError as error:
            _log.warning(f"{error} Cross-encoders are served in fp32.")
            return self.backbone.bert

    def read(self, rows: Sequence[Row]) -> "Batch":
        """Reads all shoppers of a batch."""
        loaded, groups = [row.loaded for row in rows], Group.of(rows)
        shoppers, parts = shoppers_of(groups), list[tuple[slice, Reader, Reading]]()
        for at in parts_of(len(rows), self.backbone.device):
            same = parts and len({id(one) for one in loaded[: at.stop]}) == 1
            reader = parts[-1][1] if same else self.reader(loaded[at])
            parts.append((at, reader, reader.read_batch(shoppers.rows(at))))
        return Batch(rows, groups, parts)


def parts_of(rows: int, device: torch.device) -> list[slice]:
    """A batch in parts of :data:`TOGETHER` on a processor; a GPU takes it whole."""
    step = TOGETHER if device.type == "cpu" else rows
    return [slice(start, start + step) for start in range(0, rows, step)]


@dataclass(frozen=True)
class Batch:
    """Rows that were read, with the decoder and the adapters that they were read by.

    Attributes:
        rows: Requests.
        groups: The same, taken apart by what they look at.
        parts: Some rows each, with one adapter per row, or one for all, and what it made of them.
    """

    rows: Sequence[Row]
    groups: Sequence[Group]
    parts: Sequence[tuple[slice, Reader, Reading]]

    @property
    def vectors(self) -> Tensor:
        """(B, H) of the shoppers, in single precision."""
        return torch.cat([reading.vector for _, _, reading in self.parts]).float()

    def described(self, chosen: Sequence[NDArray[np.int32]]) -> list[Candidates]:
        """Numbers about each row's own products."""
        found = dict[int, Candidates]()
        for group in self.groups:
            found.update(zip(group.at, group.described([chosen[at] for at in group.at]), strict=True))
        return [found[at] for at in range(len(self.rows))]

    def named(self, near: Sequence[Closest]) -> list[Candidates]:
        """The products worth ranking for each row, given what is close to it."""
        found = dict[int, Candidates]()
        for group in self.groups:
            pairs = group.pairs if len(group.rows) == 1 else None  # of several together they are no use to one
            found.update((at, named(self.rows[at], near[at], pairs=pairs)) for at in group.at)
        return [found[at] for at in range(len(self.rows))]

    def score(self, found: Sequence[Candidates]) -> list[NDArray[np.float32]]:
        """Purchase logits of each row's candidates; what was read of the shoppers serves all of them."""
        logits = list[NDArray[np.float32]]()
        for at, reader, reading in self.parts:
            platforms = [row.platform for row in self.rows[at]]
            logits += score_mixed(reader, reading, platforms, found[at])
        return logits
