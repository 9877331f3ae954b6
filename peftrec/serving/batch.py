"""Reading shoppers of different platforms and adapters in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from peftrec.data.features import pairs_of
from peftrec.data.histories import Histories
from peftrec.data.snapshot import Snapshot
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.model.candidates import Candidates
from peftrec.model.extras import Shoppers
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


def shoppers_of(parts: Sequence[Part]) -> Shoppers:
    """The shopper side of a batch, as tensors."""
    tokens = [part.tokens() for part in parts]
    vectors, _ = padded([part.platform.items(words.item[0]) for words, part in zip(tokens, parts, strict=True)])
    names = [field.name for field in fields(HistoryTokens)]
    batch = HistoryTokens(**{name: padded([getattr(words, name)[0] for words in tokens])[0] for name in names})
    profiles, scenes = (np.concatenate([getattr(part, name) for part in parts]) for name in ("profile", "scene"))
    return shoppers(batch, vectors, profiles, scenes)


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
