"""Shoppers' pasts with events left out or in another order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from peftrec.data.augment.shares import check_share, check_steps
from peftrec.data.histories import EVENT_ARRAYS, Histories
from peftrec.errors import ConfigError

Unit = Literal["visits", "events"]

_OF_MOMENTS = ("age", "page")  # stay where they are when the events of a visit trade places


class SequenceAugmentation(Protocol):
    """Tells a shopper's past in another way."""

    def __call__(self, histories: Histories, *, rng: np.random.Generator) -> Histories:
        """The same shoppers; one with events keeps at least one. Ages count to the same moment as before."""
        ...


@dataclass(frozen=True)
class EventDrop:
    """Leaves single events out, but never all of a shopper's.

    Args:
        share: Chance of each event.

    Raises:
        ConfigError: ``share`` is not within 0..1.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check_share(self.share)

    def __call__(self, histories: Histories, *, rng: np.random.Generator) -> Histories:
        """See :class:`SequenceAugmentation`."""
        row, draw = histories.row, rng.random(len(histories.item))
        largest = np.zeros(len(histories))
        np.maximum.at(largest, row, draw)
        return _chosen(histories, (draw >= self.share) | (draw == largest[row]))


@dataclass(frozen=True)
class Crop:
    """Keeps a run of a shopper's visits and leaves out what comes before and after (item crop of CL4SRec, Xie et al. 2022).

    Of n visits, n - floor(share n) remain, at least one; where the run begins is chance. The paper's eta is 1 - share.
    Ages stay true: a run that ends a month ago is a month old.

    Args:
        share: Of the visits that are left out.
        by: What is counted, ``visits`` or ``events``. A run of events may begin and end within a visit.

    Raises:
        ConfigError: ``share`` is not within 0..1, or ``by`` is something else.
    """

    share: float = 0.2
    by: Unit = "visits"

    def __post_init__(self) -> None:
        check_share(self.share)
        if self.by not in get_args(Unit):
            raise ConfigError(f"by={self.by!r}", expected="'visits' or 'events'", remedy="leave it out for visits")

    def __call__(self, histories: Histories, *, rng: np.random.Generator) -> Histories:
        """See :class:`SequenceAugmentation`."""
        row = histories.row
        number = _visits(histories) if self.by == "visits" else np.arange(len(row)) - histories.offsets[row]
        count = np.zeros(len(histories), np.int64)
        np.maximum.at(count, row, number + 1)
        left = np.maximum(count - np.floor(self.share * count + 1e-9).astype(np.int64), 1)
        start = np.floor(rng.random(len(histories)) * (count - left + 1)).astype(np.int64)
        return _chosen(histories, (number >= start[row]) & (number < (start + left)[row]))


@dataclass(frozen=True)
class ReorderWithinBasket:
    """Lets the events of one kind in one visit trade places: the order within a basket is chance (cf. CL4SRec's reorder).

    Moments stay, so a visit is neither older nor newer, and views still come before the purchases that they led to.
    """

    def __call__(self, histories: Histories, *, rng: np.random.Generator) -> Histories:
        """See :class:`SequenceAugmentation`."""
        group = (histories.event, histories.session, histories.row)
        source = np.empty(len(histories.item), np.int64)
        source[np.lexsort(group)] = np.lexsort((rng.random(len(source)), *group))
        return _with_events(histories, lambda name, values: values if name in _OF_MOMENTS else values[source])


@dataclass(frozen=True)
class SequenceChain:
    """One augmentation after the other, each of them on the shoppers that chance picks for it.

    Args:
        steps: Pairs of an augmentation and its chance for each shopper: ``((Crop(), 0.5), (EventDrop(), 0.5))``.

    Raises:
        ConfigError: There is no step, or one is no such pair.
    """

    steps: tuple[tuple[SequenceAugmentation, float], ...]

    def __post_init__(self) -> None:
        check_steps(self.steps, "SequenceChain(((Crop(), 0.5), (EventDrop(), 0.5)))")

    def __call__(self, histories: Histories, *, rng: np.random.Generator) -> Histories:
        """See :class:`SequenceAugmentation`."""
        for augment, chance in self.steps:
            rows = np.flatnonzero(rng.random(len(histories)) < chance)
            histories = histories.with_pasts(rows, augment(histories.take(rows), rng=rng))
        return histories


def _chosen(histories: Histories, kept: NDArray[np.bool_]) -> Histories:
    """The events where ``kept`` is true."""
    counts = np.bincount(histories.row[kept], minlength=len(histories))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return replace(_with_events(histories, lambda _, values: values[kept]), offsets=offsets)


def _with_events(histories: Histories, change: Callable[[str, NDArray[Any]], NDArray[Any]]) -> Histories:
    """Changes every array that has an entry per event."""
    return replace(histories, **{name: change(name, getattr(histories, name)) for name in EVENT_ARRAYS})


def _visits(histories: Histories) -> NDArray[np.int64]:
    """(E,) the number of each event's visit among its shopper's visits, which are counted as they begin, from 0."""
    row, session = histories.row, histories.session
    order = np.lexsort((session, row))  # stable: the first of a visit is its earliest event
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(row[order]) != 0) | (np.diff(session[order]) != 0)
    begins = np.sort(order[new])  # rows lie end to end, so this sorts by shopper first
    begin = np.empty(len(order), np.int64)
    begin[order] = order[new][np.cumsum(new) - 1]
    before = np.searchsorted(begins, histories.offsets[:-1])  # visits of the shoppers before each
    return np.searchsorted(begins, begin) - before[row]
