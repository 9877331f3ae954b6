"""Reading and scoring shoppers of different platforms and adapters in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.data.histories import Histories, Ragged
from peftrec.data.pairs import Pairs, pairs_of
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.model.candidates import Candidates, describe
from peftrec.model.extras import Shoppers
from peftrec.model.platform import Platform, padded, shoppers
from peftrec.model.purchase import Reading
from peftrec.model.scoring import Reader
from peftrec.serving.preparing import Row


@dataclass(frozen=True)
class Group:
    """Rows of a batch that look at the same products at the same moment: numbers about them are computed at once.

    Attributes:
        at: Their places in the batch.
        rows: They themselves.
    """

    at: list[int]
    rows: Sequence[Row]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "list[Group]":
        """A batch, taken apart."""
        places: dict[tuple[int, int, bool], list[int]] = {}
        for at, row in enumerate(rows):
            alike = id(row.snapshot), row.loaded.adapter.history, row.history.coupons is None
            places.setdefault(alike, []).append(at)
        return [cls(at, [rows[one] for one in at]) for at in places.values()]

    @cached_property
    def histories(self) -> Histories:
        """Of all of them."""
        return Histories.join([row.history for row in self.rows])

    @cached_property
    def pairs(self) -> Pairs:
        """Their dealings with products."""
        return pairs_of(self.histories, self.rows[0].snapshot.n_items)

    def tokens(self) -> HistoryTokens:
        """The decoder's words."""
        first = self.rows[0]
        return history_tokens(self.histories, self.pairs, first.snapshot, limit=first.loaded.adapter.history)

    def described(self, chosen: Sequence[NDArray[np.int32]]) -> list[Candidates]:
        """Numbers about each row's own products."""
        asked = Ragged.join(chosen)
        features = describe(self.histories, self.rows[0].snapshot, asked, pairs=self.pairs).features
        return [
            Candidates(Ragged.join([items]), features[start : start + len(items)])
            for items, start in zip(chosen, asked.offsets, strict=False)
        ]


def shoppers_of(groups: Sequence[Group]) -> Shoppers:
    """The shopper side of a batch, as tensors."""
    tokens = [group.tokens() for group in groups]
    batch = HistoryTokens(
        **{field.name: _spread(groups, [getattr(one, field.name) for one in tokens]) for field in fields(HistoryTokens)}
    )
    items = [group.rows[0].platform.items(one.item) for group, one in zip(groups, tokens, strict=True)]
    profiles, scenes = (
        [np.concatenate([getattr(row, name) for row in group.rows]) for group in groups]
        for name in ("profile", "scene")
    )
    return shoppers(batch, *(_spread(groups, parts) for parts in (items, profiles, scenes)))


def _spread(groups: Sequence[Group], parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of the groups' rows as one of the batch's, zeros behind those that are narrower."""
    if len(parts) == 1:
        return parts[0]
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    found = np.zeros((sum(map(len, parts)), *shape), parts[0].dtype)
    for group, part in zip(groups, parts, strict=True):
        found[(group.at, *map(slice, part.shape[1:]))] = part
    return found


def score_mixed(
    reader: Reader, reading: Reading, platforms: Sequence[Platform], candidates: Sequence[Candidates]
) -> list[NDArray[np.float32]]:
    """Purchase logits of each row's own candidates, all rows at once.

    Args:
        reader: With one adapter per row, or one for all.
        reading: Of the rows.
        platforms: Of each row.
        candidates: Of each row, for one shopper.
    """
    products = [platform.items(one.items.values) for platform, one in zip(platforms, candidates, strict=True)]
    vectors, mask = padded(products)
    features, _ = padded([one.features for one in candidates])
    logits = reader.score_batch(reading, vectors, features)
    return [row[real] for row, real in zip(logits, mask, strict=True)]
