"""Retrieval before any decoder: products close to the decayed mean of what a shopper dealt with."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.data.snapshot import Snapshot
from peftrec.data.tokens import HistoryTokens
from peftrec.model import extras as ops
from peftrec.model.candidates import Scores
from peftrec.model.extras import Extras
from peftrec.model.platform import Platform


def history_means(platform: Platform, tokens: HistoryTokens) -> NDArray[np.float32]:
    """(B, H) decayed means of the histories' unit vectors, a few hundred shoppers at a time to save memory."""
    spans = np.array_split(np.arange(len(tokens.item)), max(1, len(tokens.item) // 256))
    parts = [np.einsum("bn,bnh->bh", tokens.weight[at], platform.items(tokens.item[at])) for at in spans]
    return np.concatenate(parts).astype(np.float32)


def nearest(
    extras: Extras, platform: Platform, tokens: HistoryTokens, snapshot: Snapshot
) -> Callable[[NDArray[np.int64]], Scores]:
    """Retrieval scores over the catalogue, see :func:`peftrec.model.extras.catalog_scores`, the decoder left out."""
    vectors, text_of = torch.from_numpy(platform.vectors), torch.from_numpy(platform.text_of.astype(np.int64))
    popularity = torch.from_numpy(snapshot.popularity)
    extras = {name: value.detach() for name, value in extras.items()}
    shoppers = ops.mapped(extras, torch.from_numpy(history_means(platform, tokens)))

    def scores(rows: NDArray[np.int64]) -> Scores:
        with torch.inference_mode():
            return Scores(ops.catalog_scores(extras, shoppers[rows], vectors, text_of, popularity).numpy())

    return scores
