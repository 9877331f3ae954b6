"""The one candidate generator: training, evaluation and serving all rank what it hands them.

A ranker trained on other products than retrieval will hand it learns another question; so labels are natural, and the
sources are the same everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from peftrec.data.collaborative import collaborative, collaborative_at
from peftrec.data.features import pair_features
from peftrec.data.histories import Histories, Ragged
from peftrec.data.pairs import Pairs, pairs_of
from peftrec.data.snapshot import Snapshot

if TYPE_CHECKING:
    from tqdm import tqdm

CHUNK = 256
"""Shoppers whose dense catalogue scores are in memory at once: 256 x 70,000 floats are 70 MB."""


class Closest(Protocol):
    """How close a catalogue's products are to some shoppers, however that is found."""

    def top(self, row: int, count: int, allowed: NDArray[np.bool_]) -> NDArray[np.int32]:
        """The ``count`` closest of the allowed products (n_items,) to the shopper in a row, in any order."""
        ...


@dataclass(frozen=True)
class Scores:
    """Retrieval scores of every product, (b, n_items)."""

    values: NDArray[np.float32]

    def top(self, row: int, count: int, allowed: NDArray[np.bool_]) -> NDArray[np.int32]:
        """See :meth:`Closest.top`; of equals, the lower indices."""
        return best_of(self.values[row], count, allowed)


Nearest = Callable[[NDArray[np.int64]], Closest]
"""Maps rows (b,) to what is closest to them."""


@dataclass(frozen=True)
class CandidateConfig:
    """How many products each source may name for one shopper.

    Attributes:
        history: Products of the shopper's own past, the most purchased and looked at lately first.
        popular: Products with most buyers in the last four weeks.
        neighbours: Products that similar shoppers bought lately.
        together: Products bought together with those of the history.
        nearest: Products closest to the shopper vector, over the whole catalogue. It also takes the places that the three
            sources before it cannot fill, because fewer products than their number were sold in the last four weeks: all
            places in a shop that has sold nothing yet, none in one that has sold at least ``popular`` products.
        newcomers: Products that nobody has bought yet, closest to the shopper vector. Training sets it where it learns how likely
            they are to be bought, see :mod:`peftrec.model.newcomers`.
    """

    history: int = 400
    popular: int = 300
    neighbours: int = 150
    together: int = 150
    nearest: int = 100
    newcomers: int = 0

    def reach(self, snapshot: Snapshot, *, least: int = 0) -> int:
        """How many products the nearest source names: at least ``least`` where it takes the places of others."""
        sources = (self.popular, self.neighbours, self.together)
        free = sum(max(0, count - len(snapshot.popular)) for count in sources)
        return max(self.nearest + free, least if free else 0)


@dataclass(frozen=True)
class Candidates:
    """Products to be ranked for B shoppers, with all numbers about them.

    Attributes:
        items: C product indices, row by row, each row rising and without repeats unless a caller chose them.
        features: (C, len(FEATURES)) float32.
        weight: (C,) float32, how many products of its row each stands for; None where none was left out.
    """

    items: Ragged
    features: NDArray[np.float32]
    weight: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Sample:
    """How training thins candidates out: all that were bought stay, and of each row's others an even sample.

    At least half as many of the others stay as ``limit`` says, however much was bought. Each of them then stands for
    several, as its weight says, so that weighted sums over what is kept estimate those over all candidates (case-control
    sampling; King & Zeng, 2001, section 4), chances stay natural, and no purchase is lost.

    Attributes:
        limit: Candidates kept of a row; more only where more than half of them were bought.
        kept: What each shopper bought, rising.
        rng: Draws.
    """

    limit: int
    kept: Ragged
    rng: np.random.Generator


def generate(
    histories: Histories,
    snapshot: Snapshot,
    config: CandidateConfig,
    *,
    nearest: Nearest | None = None,
    least: int = 0,
    allowed: NDArray[np.bool_] | None = None,
    pairs: Pairs | None = None,
    sample: Sample | None = None,
    bar: "tqdm[NoReturn] | None" = None,
) -> Candidates:
    """Names the products worth ranking for each shopper and computes their features.

    Args:
        histories: B shoppers' pasts before the snapshot's moment.
        snapshot: The platform at that moment.
        config: Products per source.
        nearest: Finds what is closest to shoppers; that source is left out without it.
        least: Products that this source names at least where it stands in for others, see :class:`CandidateConfig`
            (serving only: as many as a request asks for), and wherever only some products are allowed.
        allowed: (n_items,) products that may be named; all when left out (serving only).
        pairs: :func:`pairs_of` the histories, where the caller has them already.
        sample: Which of them are kept (training only).
        bar: Moves on by every shopper done.
    """
    parts: list[Candidates] = []
    for rows in np.array_split(np.arange(len(histories)), max(1, -(-len(histories) // CHUNK))):
        some = histories.take(rows)
        known = pairs_of(some, snapshot.n_items) if pairs is None or len(histories) > CHUNK else pairs
        scores = collaborative(known, snapshot)
        items = _named(some, snapshot, config, rows, nearest, known, scores, least, allowed)
        weight = None
        if sample is not None:  # before numbers are computed, of which most would be thrown away
            items, weight = _sampled(items, sample, rows, snapshot.n_items)
        at = (items.rows, items.values)
        own = [score[at] for score in scores]
        parts.append(replace(_described(some, snapshot, items, known, *own), weight=weight))
        if bar is not None:
            bar.update(len(rows))
    return _joined(parts)


def describe(histories: Histories, snapshot: Snapshot, items: Ragged, *, pairs: Pairs | None = None) -> Candidates:
    """The same numbers for products that the caller names; ``pairs`` are :func:`pairs_of` the histories, where there are any."""
    parts: list[Candidates] = []
    for rows in np.array_split(np.arange(len(histories)), max(1, -(-len(histories) // CHUNK))):
        some, named = histories.take(rows), Ragged.join([items[row] for row in rows])
        known = pairs_of(some, snapshot.n_items) if pairs is None or len(histories) > CHUNK else pairs
        scores = collaborative_at(known, snapshot, named)
        parts.append(_described(some, snapshot, named, known, *scores))
    return _joined(parts)


def _joined(parts: list[Candidates]) -> Candidates:
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([np.diff(part.items.offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.concatenate([part.items.values for part in parts])
    weights = [part.weight for part in parts if part.weight is not None]
    return Candidates(
        Ragged(offsets, values),
        np.concatenate([part.features for part in parts]),
        np.concatenate(weights) if weights else None,
    )


def _described(
    histories: Histories,
    snapshot: Snapshot,
    items: Ragged,
    pairs: Pairs,
    neighbours: NDArray[np.float32],
    together: NDArray[np.float32],
) -> Candidates:
    features = pair_features(histories, items, snapshot, pairs=pairs, neighbours=neighbours, together=together)
    return Candidates(items, features)


def _named(
    histories: Histories,
    snapshot: Snapshot,
    config: CandidateConfig,
    rows: NDArray[np.int64],
    nearest: Nearest | None,
    pairs: Pairs,
    scores: tuple[NDArray[np.float32], NDArray[np.float32]],
    least: int,
    allowed: NDArray[np.bool_] | None,
) -> Ragged:
    (neighbours, together), sold = scores, snapshot.buyers > 0
    own = _own(pairs, config.history)
    popular = snapshot.popular[: config.popular]
    reach = config.reach(snapshot, least=least)
    if allowed is not None:
        own, popular = [items[allowed[items]] for items in own], snapshot.popular[allowed[snapshot.popular]]
        popular, reach = popular[: config.popular], max(reach, least)
    near = None if nearest is None or not reach + config.newcomers else nearest(rows)
    unsold = snapshot.unsold if config.newcomers else None
    chosen: list[NDArray[np.int32]] = []
    for row in range(len(histories)):
        new = np.ones(snapshot.n_items, bool) if allowed is None else allowed.copy()
        new[own[row]] = False
        sources = [
            own[row],
            popular,
            best_of(neighbours[row], config.neighbours, new & sold & (neighbours[row] > 0)),
            best_of(together[row], config.together, new & sold & (together[row] > 0)),
        ]
        if near is not None:
            if reach:
                sources.append(near.top(row, reach, new))
            if unsold is not None:
                sources.append(near.top(row, config.newcomers, new & unsold))
        chosen.append(np.unique(np.concatenate(sources)).astype(np.int32))
    return Ragged.join(chosen)


def _sampled(
    items: Ragged, sample: Sample, chosen: NDArray[np.int64], n_items: int
) -> tuple[Ragged, NDArray[np.float32]]:
    """What is kept of some shoppers' candidates, ``chosen`` being their rows among all, and what each stands for."""
    rows, shoppers = items.rows, len(items)
    bought = np.concatenate([row * n_items + sample.kept[at].astype(np.int64) for row, at in enumerate(chosen)])
    case = np.isin(rows * n_items + items.values, bought)
    cases = np.bincount(rows[case], minlength=shoppers)
    others = np.diff(items.offsets) - cases
    wanted = np.minimum(others, np.maximum(sample.limit - cases, -(-sample.limit // 2)))
    order = np.lexsort((sample.rng.random(len(rows)), ~case, rows))  # row by row, what was bought first
    kept = np.sort(order[np.arange(len(rows)) - items.offsets[rows] < (cases + wanted)[rows]])
    stands_for = (others / np.maximum(wanted, 1)).astype(np.float32)
    weight = np.where(case[kept], np.float32(1), stands_for[rows[kept]])
    offsets = np.concatenate([[0], np.cumsum(cases + wanted)]).astype(np.int64)
    return Ragged(offsets, items.values[kept]), weight


def _own(pairs: Pairs, limit: int) -> list[NDArray[np.int32]]:
    item = pairs.item[pairs.ranked]
    return [item[start : min(end, start + limit)] for start, end in pairwise(pairs.bounds)]


def best_of(score: NDArray[np.float32], count: int, allowed: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The ``count`` best of the allowed products; of equals, the lower indices."""
    at = np.flatnonzero(allowed) if count else np.empty(0, np.int64)
    if len(at) > count:
        values = score[at]
        threshold = np.partition(values, len(values) - count)[len(values) - count]
        above = at[values > threshold]
        at = np.concatenate([above, at[values == threshold][: count - len(above)]])
    return at.astype(np.int32)
