"""Reading shoppers of different platforms and adapters in one pass."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peftrec.data.features import HistoryTokens, history_tokens, pairs_of
from peftrec.data.histories import Histories
from peftrec.model.decoder import Memory
from peftrec.model.platform import Platform, padded, shoppers
from peftrec.model.purchase import Reading
from peftrec.model.scoring import Reader

Part = tuple[Histories, Platform, NDArray[np.float32], int]
"""One shopper's history, its platform, its profile's vector (1, H), and the longest history its adapter reads."""


def read_mixed(reader: Reader, parts: Sequence[Part]) -> list[Reading]:
    """Runs the shopper side of a whole batch once and hands each row its own reading.

    Args:
        reader: With one adapter per row.
        parts: One per row.
    """
    tokens = [
        history_tokens(history, pairs_of(history, len(platform.text_of)), len(platform.text_of), limit=limit)
        for history, platform, _, limit in parts
    ]
    vectors, _ = padded(
        [platform.items(words.item[0]) for words, (_, platform, _, _) in zip(tokens, parts, strict=True)]
    )
    batch = HistoryTokens(
        item=padded([words.item[0] for words in tokens])[0],
        event=padded([words.event[0] for words in tokens])[0],
        features=padded([words.features[0] for words in tokens])[0],
        weight=padded([words.weight[0] for words in tokens])[0],
        mask=padded([words.mask[0] for words in tokens])[0],
    )
    profiles = np.concatenate([profile for _, _, profile, _ in parts])
    whole = reader.read_batch(shoppers(batch, vectors, profiles))
    return [_row(whole, row) for row in range(len(parts))]


def _row(reading: Reading, row: int) -> Reading:
    at = slice(row, row + 1)
    memories = [Memory(memory.key[at], memory.value[at]) for memory in reading.memories]
    return Reading(reading.vector[at], reading.mean[at], reading.mask[at], memories)
