"""From logits to what is shown: which products are ranked, and which of them come back."""

import numpy as np
from numpy.typing import NDArray

from peftrec.data.histories import PURCHASE
from peftrec.data.pairs import Pairs
from peftrec.model.candidates import Candidates, Closest, generate
from peftrec.serving.preparing import Row
from peftrec.serving.requests import Recommendation
from peftrec.serving.rules import categories_of

VARIETY = 200
"""Candidates among which rules about variety choose, or four times as many as are asked for."""


def chance(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of logits."""
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def named(row: Row, near: Closest, *, pairs: Pairs | None = None) -> Candidates:
    """The products worth ranking, as many as are asked for where retrieval has to find them alone.

    ``pairs`` are the shopper's dealings with products, where they are known already.
    """
    least = row.request.k + len(np.unique(row.history.item))  # the history may be left out of the answer
    config, allowed = row.loaded.adapter.candidates, row.allowed
    return generate(
        row.history, row.snapshot, config, nearest=lambda _: near, least=least, allowed=allowed, pairs=pairs
    )


def best(
    row: Row, items: NDArray[np.int32], logits: NDArray[np.float32], near: NDArray[np.float32]
) -> list[Recommendation]:
    """The best products by probability, of equals the nearest; ``near`` (m,) says how near the items are."""
    catalog = row.platform.dataset.catalog
    allowed = items < len(catalog)
    if row.request.exclude_bought:
        bought = row.history.item[row.history.event == PURCHASE]
        allowed &= ~np.isin(items, bought)
    items, logits, near = items[allowed], logits[allowed], near[allowed]
    order = np.lexsort((-near, -logits))
    chances = chance(logits)
    if row.request.rules is None:
        order = order[: row.request.k]
    else:
        if row.request.rules.most_of_category is None:  # else as many may be passed over
            order = order[: max(VARIETY, 4 * row.request.k)]
        vectors, categories = row.platform.items(items[order]), categories_of(catalog, items[order])
        order = order[row.request.rules.ranked(chances[order], vectors, categories, row.request.k)]
    titles = catalog.frame["title"]
    return [
        Recommendation(catalog.ids[int(items[at])], titles[int(items[at])], float(chances[at]), row.version)
        for at in order
    ]
