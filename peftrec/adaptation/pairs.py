"""Which product texts follow each other in one visit, and draws from them that popular products do not drown."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data.dataset import Dataset
from peftrec.data.histories import PURCHASE
from peftrec.data.log import codes
from peftrec.text import ProductTemplate

SHARED = 0.1
"""Share of the purchases made together with another one below which a log's visits say nothing of what goes together."""

_ATTEMPTS = 10
_CHUNK = 2**16  # anchors whose visits are looked through at once


@dataclass(frozen=True)
class Pairs:
    """One draw for each of n anchors.

    Attributes:
        first: (n,) text, the anchor itself or what was bought before it.
        second: (n,) text that was bought with ``first`` in one visit, not before it.
        other: (n,) text of the same platform that is not in that visit; -1 where none was met.
        together: (n,) whether the anchor was ever bought together with another text; where not, ``first`` and ``second``
            are both the anchor.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    other: NDArray[np.int64]
    together: NDArray[np.bool_]


@dataclass(frozen=True)
class CoPurchases:
    """Pairs of texts as they were bought together.

    Attributes:
        texts: All distinct product texts of the platform.
        counts: (texts,) how often each was bought.
        first: (n,) index of a text.
        second: (n,) index of another text of the same visit.
    """

    texts: list[str] = field(repr=False)
    counts: NDArray[np.int64] = field(repr=False)
    first: NDArray[np.int64]
    second: NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Baskets:
    """A platform's distinct product texts and the visits in which they were bought.

    A *line* is one text in one visit, however many products or pieces of it were bought. Lines of one visit lie side by
    side, in the order in which they were bought. Where fewer than a tenth of the purchases share a visit with another
    text, as in logs of reviews, a purchase is taken to share one with the shopper's purchases just before and after it.

    Attributes:
        name: Of the platform.
        texts: T distinct texts, sorted; products without a word to say have none.
        line: (L,) text of each line.
        moment: (L,) seconds since the epoch.
        start: (L,) first line of those that were bought together with this one.
        end: (L,) the line after the last of them.
        shared: lines that are not alone, text by text.
        offsets: (T + 1,) where the lines of each text begin in ``shared``.
    """

    name: str
    texts: list[str]
    line: NDArray[np.int64]
    moment: NDArray[np.float64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    shared: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, dataset: Dataset, template: ProductTemplate, *, keep: Callable[[str], bool] | None = None) -> "Baskets":
        """Reads the purchases of a dataset.

        Args:
            dataset: One platform, or some time of it.
            template: How its products become text.
            keep: Whether a text takes part; all do if not given.
        """
        rendered = template.render(dataset.catalog.frame)
        distinct = rendered.filter(rendered != "").unique().sort()
        chosen = pl.Series([keep is None or keep(text) for text in distinct], dtype=pl.Boolean)
        bought = _purchases(dataset, codes(rendered, distinct))
        group, reach = ("visit", None) if _share_visits(bought) else ("user", 1)
        bought = bought.filter(pl.col("text").is_in(chosen.arg_true().implode()))
        lines = bought.unique([group, "text"], keep="first", maintain_order=True).sort(group, maintain_order=True)
        text = (chosen.cum_sum().cast(pl.Int64) - 1).gather(lines["text"]).to_numpy()
        start, end = _runs(lines[group].to_numpy(), reach)
        shared = np.flatnonzero(end - start > 1)
        shared = shared[np.argsort(text[shared], kind="stable")]
        texts = distinct.filter(chosen).to_list()
        offsets = np.searchsorted(text[shared], np.arange(len(texts) + 1))
        return cls(dataset.name, texts, text, lines["time"].to_numpy(), start, end, shared, offsets)

    def draw(self, anchors: NDArray[np.int64], rng: np.random.Generator) -> Pairs:
        """Draws a visit of each anchor evenly, and another text of that visit evenly.

        So every text is half of a pair as often as it is an anchor, however rarely it is bought. What was bought earlier
        comes first; what was bought at one moment has no order, and the anchor comes first.

        Negatives are what was drawn for other anchors, so that a product's popularity does not tell the label. They are
        not in the visit drawn; that they never were in another one is not asked, as of two popular products nearly every
        pair once was.

        Args:
            anchors: (n,) texts.
            rng: Where the draws come from.
        """
        count = np.diff(self.offsets)[anchors]
        together = count > 0
        drawn = self.offsets[anchors] + (rng.random(len(anchors)) * count).astype(np.int64)
        at = self.shared[drawn[together]]
        mate = self._mates(at, rng)
        earlier = self.moment[mate] < self.moment[at]
        first, second = anchors.copy(), anchors.copy()
        first[together] = self.line[np.where(earlier, mate, at)]
        second[together] = self.line[np.where(earlier, at, mate)]
        start, end = np.zeros((2, len(anchors)), np.int64)
        start[together], end[together] = self.start[at], self.end[at]
        other = self._others(anchors, start, end, second[together], rng)
        return Pairs(first, second, np.where(together | (other >= 0), other, (anchors + 1) % len(self.texts)), together)

    def copurchases(self, limit: int, *, seed: int = 0) -> CoPurchases:
        """At most ``limit`` pairs bought in one visit, as often as they are bought; for a window that training did not see."""
        rng = np.random.default_rng(seed)
        at = rng.permutation(self.shared)[:limit]
        mate = self._mates(at, rng)
        counts = np.bincount(self.line, minlength=len(self.texts))
        return CoPurchases(self.texts, counts, self.line[at], self.line[mate])

    def _mates(self, at: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """(n,) another line of each line's visit."""
        mate = self.start[at] + (rng.random(len(at)) * (self.end[at] - self.start[at] - 1)).astype(np.int64)
        return mate + (mate >= at)

    def _others(
        self,
        anchors: NDArray[np.int64],
        start: NDArray[np.int64],
        end: NDArray[np.int64],
        pool: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(n,) texts that are neither the anchor nor among the lines from ``start`` to ``end``; -1 where none was met."""
        found = np.full(len(anchors), -1, np.int64)
        for attempt in range(_ATTEMPTS):
            open_ = np.flatnonzero(found < 0)
            for rows in np.array_split(open_, max(1, -(-len(open_) // _CHUNK))):
                if 2 * attempt < _ATTEMPTS and len(pool):
                    text = rng.choice(pool, len(rows))
                else:
                    text = rng.integers(len(self.texts), size=len(rows))
                met = (text == anchors[rows]) | self._holds(start[rows], end[rows], text)
                found[rows[~met]] = text[~met]
        return found

    def _holds(self, start: NDArray[np.int64], end: NDArray[np.int64], text: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether a text is among the lines from ``start`` to ``end``."""
        lengths = end - start
        row = np.repeat(np.arange(len(text)), lengths)
        at = np.arange(len(row)) + np.repeat(start - (np.cumsum(lengths) - lengths), lengths)
        held = np.zeros(len(text), bool)
        held[row[self.line[at] == text[row]]] = True
        return held


def _purchases(dataset: Dataset, text_of: NDArray[np.int32]) -> pl.DataFrame:
    """One row per purchase of a product with a text, in time order."""
    log = dataset.log
    columns = {"user": log.user, "visit": log.session, "time": log.time, "text": text_of[log.item]}
    return pl.DataFrame(columns).filter(pl.Series(log.event == PURCHASE) & (pl.col("text") >= 0))


def _share_visits(bought: pl.DataFrame) -> bool:
    lines = bought.unique(["visit", "text"])
    alone = lines.group_by("visit").len().filter(pl.col("len") == 1).height
    return alone <= (1 - SHARED) * lines.height


def _runs(group: NDArray[np.int64], reach: int | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the run of equal values around each entry starts and ends, at most ``reach`` entries away."""
    at = np.arange(len(group))
    begins = np.r_[True, np.diff(group) != 0][: len(group)]
    first = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    start, end = first[run], np.append(first[1:], len(group))[run]
    return (start, end) if reach is None else (np.maximum(start, at - reach), np.minimum(end, at + reach + 1))
