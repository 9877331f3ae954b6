"""Hiding one signal of a log, to measure what it adds."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from peftrec.data import columns as col
from peftrec.data.dataset import Dataset
from peftrec.data.events import Events
from peftrec.data.histories import PURCHASE
from peftrec.data.index import Index
from peftrec.data.log import EventLog
from peftrec.errors import ConfigError


def without(dataset: Dataset, signal: str) -> Dataset:
    """The same data as if one signal had never been recorded; shoppers and products keep their indices.

    Args:
        dataset: Any data set or part; its past loses the signal as well.
        signal: One of ``SIGNALS``.

    Raises:
        ConfigError: There is no such signal.
    """
    if signal not in SIGNALS:
        raise ConfigError(
            f"there is no signal '{signal}'", expected=f"one of {', '.join(SIGNALS)}", remedy="choose one of these"
        )
    users, past = dataset.users, dataset.past
    hidden = SIGNALS[signal](replace(dataset, past=None))
    events = hidden.events
    log = EventLog.of(events.frame, users=users, items=hidden.catalog.ids)
    index = Index(hidden.catalog, events, users, log)
    return replace(hidden, past=None if past is None else without(past, signal), index=index)


def present(dataset: Dataset) -> tuple[str, ...]:
    """The signals that a data set holds."""
    frame, log = dataset.events.frame, dataset.log
    some = {
        "events": bool((log.event != PURCHASE).any()),
        "dwell": bool(np.isfinite(log.dwell).any()),
        "path": col.CHANNEL in frame.columns or bool((log.page != 1).any()),
        "visits": col.SESSION in frame.columns,
        "prices": col.PRICE in frame.columns or col.PRICE in dataset.catalog.frame.columns,
        "discounts": col.DISCOUNT in frame.columns,
        "quantities": bool((log.quantity != 1).any()),
        "promotions": dataset.promotions is not None,
        "coupons": dataset.coupons is not None,
        "profiles": dataset.profiles is not None,
    }
    return tuple(name for name, there in some.items() if there)


def _columns(*names: str) -> Callable[[Dataset], Dataset]:
    def hide(dataset: Dataset) -> Dataset:
        return replace(dataset, events=Events(dataset.events.frame.drop(*names, strict=False)))

    return hide


def _path(dataset: Dataset) -> Dataset:
    """Every event on the first page: left out, pages would be counted within the visit."""
    frame = dataset.events.frame.drop(col.CHANNEL, strict=False).with_columns(pl.lit(1, pl.Float32).alias(col.PAGE))
    return replace(dataset, events=Events(frame))


def _prices(dataset: Dataset) -> Dataset:
    catalog = replace(dataset.catalog, frame=dataset.catalog.frame.drop(col.PRICE, strict=False))
    return replace(_columns(col.PRICE)(dataset), catalog=catalog)


def _quantities(dataset: Dataset) -> Dataset:
    one = pl.lit(1, pl.Float32).alias(col.QUANTITY)
    return replace(dataset, events=Events(dataset.events.frame.with_columns(one)))


def _purchases(dataset: Dataset) -> Dataset:
    return replace(dataset, events=Events(dataset.events.frame.filter(pl.Series(dataset.log.event == PURCHASE))))


SIGNALS: dict[str, Callable[[Dataset], Dataset]] = {
    "events": _purchases,
    "dwell": _columns(col.DWELL),
    "path": _path,
    "visits": _columns(col.SESSION),
    "prices": _prices,
    "discounts": _columns(col.DISCOUNT),
    "quantities": _quantities,
    "promotions": lambda dataset: replace(dataset, promotions=None),
    "coupons": lambda dataset: replace(dataset, coupons=None),
    "profiles": lambda dataset: replace(dataset, profiles=None),
}
"""Signal -> what hides it. "events" are all but purchases, "path" is where a visit came from and how deep in it an event lies,
"visits" are session ids: without them visits are cut where a shopper rests."""
