"""Scoring a request's products by an adapter that reads words: a cross-encoder."""

import numpy as np
from numpy.typing import NDArray

from peftrec.data.pairs import pairs_of
from peftrec.data.tokens import HistoryTokens, history_tokens
from peftrec.model.cross import PairReader, PairWriter
from peftrec.serving.preparing import Row


def told(row: Row) -> HistoryTokens:
    """The products of the request's shopper, as many as the adapter reads."""
    pairs = pairs_of(row.history, row.snapshot.n_items)
    return history_tokens(row.history, pairs, row.snapshot, limit=row.loaded.adapter.history)


def score_pairs(reader: PairReader, row: Row, tokens: HistoryTokens, items: NDArray[np.int32]) -> NDArray[np.float32]:
    """(M,) purchase logits of products for the request's shopper."""
    writer = PairWriter(row.platform, words=row.loaded.adapter.words)
    return reader.score(writer, writer.past(tokens, 0), items)
