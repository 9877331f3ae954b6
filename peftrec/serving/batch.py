"""Reading shoppers of different platforms and adapters in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from peftrec.data.features import pairs_of
from peftrec.data.histories import Histories
from peftrec.data.snapshot import Snapshot
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.model.decoder import Memory
from peftrec.model.platform import Platform, padded, shoppers
from peftrec.model.purchase import Reading
from peftrec.model.scoring import Reader


@dataclass(frozen=True)
class Part:
    """One shopper of a batch.

    Attributes:
        history: Of one shopper.
        platform: Where it shops.
        snapshot: The platform now.
        profile: (1, H) vector of the profile, zeros without one.
        scene: (1, H) vector of the scene, zeros without one.
        limit: Longest history that the adapter reads.
    """

    history: Histories
    platform: Platform
    snapshot: Snapshot
    profile: NDArray[np.float32]
    scene: NDArray[np.float32]
    limit: int

    def tokens(self) -> HistoryTokens:
        """Its words."""
        pairs = pairs_of(self.history, self.snapshot.n_items)
        return history_tokens(self.history, pairs, self.snapshot, limit=self.limit)


def read_mixed(reader: Reader, parts: Sequence[Part]) -> list[Reading]:
    """Runs the shopper side of a whole batch once and hands each row its own reading.

    Args:
        reader: With one adapter per row.
        parts: One per row.
    """
    tokens = [part.tokens() for part in parts]
    vectors, _ = padded([part.platform.items(words.item[0]) for words, part in zip(tokens, parts, strict=True)])
    names = [field.name for field in fields(HistoryTokens)]
    batch = HistoryTokens(**{name: padded([getattr(words, name)[0] for words in tokens])[0] for name in names})
    profiles, scenes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("profile", "scene"))
    whole = reader.read_batch(shoppers(batch, vectors, profiles, scenes))
    return [_row(whole, row) for row in range(len(parts))]


def _row(reading: Reading, row: int) -> Reading:
    at = slice(row, row + 1)
    memories = [Memory(memory.key[at], memory.value[at]) for memory in reading.memories]
    return Reading(reading.vector[at], reading.mean[at], reading.mask[at], memories)
