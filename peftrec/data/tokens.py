"""A shopper's past as a sentence: one word per product dealt with, as the decoder reads it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data.columns import PROMOTION_KINDS
from peftrec.data.features import coupon_days
from peftrec.data.histories import Histories
from peftrec.data.pairs import PAIR_FEATURES, Pairs
from peftrec.data.snapshot import ITEM_FEATURES, Snapshot

WORD_FEATURES = tuple(name for name in PAIR_FEATURES if name not in ("never_bought", "no_gap"))
ITEM_WORD_FEATURES = ("price_in_category", "discounted_4w", *(f"{kind}_next" for kind in PROMOTION_KINDS))
EVENT_FEATURES = (*WORD_FEATURES, "discount", *ITEM_WORD_FEATURES, "coupon_days")
"""Names of the columns of :func:`history_tokens`' features, in order: about the dealings with a product, then about the
product as it is now."""

_WORDS = np.array([PAIR_FEATURES.index(name) for name in WORD_FEATURES])
_ITEM_WORDS = np.array([ITEM_FEATURES.index(name) for name in ITEM_WORD_FEATURES])


@dataclass(frozen=True)
class HistoryTokens:
    """The decoder's words for B shoppers: one per product dealt with, least recent first.

    Attributes:
        item: (B, N) int32 product index, 0 where padded.
        event: (B, N) int8 the strongest kind of event with that product, as index into ``EVENT_TYPES``.
        entry: (B, N) int8 kind of the channel by which the latest visit with that product began, -1 where unknown.
        features: (B, N, len(EVENT_FEATURES)) float32, log-compressed.
        weight: (B, N) float32 share of the product in the decayed mean of the history, 0 where padded.
        mask: (B, N) bool, True where there is a word.
    """

    item: NDArray[np.int32]
    event: NDArray[np.int8]
    entry: NDArray[np.int8]
    features: NDArray[np.float32]
    weight: NDArray[np.float32]
    mask: NDArray[np.bool_]


def history_tokens(histories: Histories, pairs: Pairs, snapshot: Snapshot, *, limit: int) -> HistoryTokens:
    """Chooses the ``limit`` products that matter most to each shopper and describes the dealings with each.

    Args:
        histories: B shoppers' pasts before the snapshot's moment.
        pairs: :func:`pairs_of` them.
        snapshot: The platform at that moment.
        limit: Longest sentence.

    Repeated purchases of one product are one word whose features say how often and how regularly, so that a year of
    shopping fits a short sentence. Those with the largest decayed weight are kept, and ordered by their last event.
    """
    row, ends = pairs.row, np.append(pairs.starts, len(pairs.order))[1:]
    kept = pairs.ranked[np.arange(len(row)) - pairs.bounds[row[pairs.ranked]] < limit]
    latest = pairs.order[ends - 1]
    kept = kept[np.lexsort((pairs.key[kept], -histories.age[latest[kept]], row[kept]))]
    starts = np.searchsorted(row[kept], np.arange(len(histories)))
    where = (row[kept], np.arange(len(kept)) - starts[row[kept]])
    width = max(1, int(np.bincount(row[kept], minlength=1).max()) if len(kept) else 1)
    shape = (len(histories), width)
    tokens = HistoryTokens(
        item=np.zeros(shape, np.int32),
        event=np.zeros(shape, np.int8),
        entry=np.full(shape, -1, np.int8),
        features=np.zeros((*shape, len(EVENT_FEATURES)), np.float32),
        weight=np.zeros(shape, np.float32),
        mask=np.zeros(shape, bool),
    )
    item = pairs.item[kept]
    tokens.item[where] = item
    tokens.event[where] = np.maximum.reduceat(histories.event[pairs.order], pairs.starts)[kept]
    tokens.entry[where] = histories.entry[latest[kept]]
    discount = np.add.reduceat(histories.discount[pairs.order], pairs.starts, dtype=np.float64) / (ends - pairs.starts)
    coupon = np.log1p(coupon_days(histories, row[kept], item))
    now = snapshot.items[item[:, None], _ITEM_WORDS]
    tokens.features[where] = np.column_stack([pairs.values[kept[:, None], _WORDS], discount[kept], now, coupon])
    tokens.weight[where] = pairs.weight[kept] + 1e-6
    tokens.mask[where] = True
    tokens.weight[:] /= tokens.weight.sum(axis=1, keepdims=True) + 1e-9
    return tokens
