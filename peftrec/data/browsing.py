"""What shoppers did short of buying: views, clicks, favourites, carts, and how long and how deep in a visit they looked."""

import numpy as np
from numpy.typing import NDArray

from peftrec.data.columns import STRENGTHS
from peftrec.data.histories import PURCHASE, Histories

SHORT = 28.0
"""Half-life, in days, of a recent habit."""

FRESH = 7.0
"""Half-life, in days, of an interest that has not become a purchase."""

FAR = 400.0
"""Days or visits that stand for *never*, a little over a year."""

KINDS = ("viewed", "clicked", "favoured", "carted")
"""Names of what each kind of event short of a purchase leaves, in the order of ``EVENT_TYPES``."""

BROWSING_FEATURES = ("interest", *KINDS, "since_bought", "touched", "dwell", "page")
"""Names of the columns of :func:`browsing`, in order."""

VISIT_FEATURES = ("last_seen", "pages_last_visit", "browsed_1w")
"""Names of the columns of :func:`visits`, in order."""


def never() -> NDArray[np.float32]:
    """The values of a pair without any event."""
    return np.array([np.log1p(FAR) if name == "touched" else 0 for name in BROWSING_FEATURES], np.float32)


def browsing(histories: Histories, keys: NDArray[np.int64], key: NDArray[np.int64]) -> NDArray[np.float32]:
    """Summarises events short of a purchase for each (shopper, product).

    Args:
        histories: Shoppers' pasts, E events.
        keys: (G,) distinct pairs, rising.
        key: (E,) the pair of each event.

    Returns:
        (G, len(BROWSING_FEATURES)): all kinds weighted by ``STRENGTHS`` and decayed with the half-life of a habit; each
        kind decayed with that of an interest; those after the latest purchase of the product, likewise; days since the
        latest one; seconds spent, decayed; mean position in the path of the visits. All log-compressed.
    """
    out = np.tile(never(), (len(keys), 1))
    other = np.flatnonzero(histories.event != PURCHASE)
    if not len(other):
        return out
    pair, age, event = np.searchsorted(keys, key[other]), histories.age[other], histories.event[other]
    short, fresh = (np.exp(age * (-np.log(2) / days)) for days in (SHORT, FRESH))

    def total(weights: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(pair, weights=weights, minlength=len(keys)).astype(np.float64)

    bought = np.full(len(keys), np.inf)
    at = np.flatnonzero(histories.event == PURCHASE)
    np.minimum.at(bought, np.searchsorted(keys, key[at]), histories.age[at])
    latest = np.full(len(keys), FAR)
    np.minimum.at(latest, pair, age)
    strength = np.array(STRENGTHS)[event]
    columns = [
        total(short * strength),
        *(total(fresh * (event == kind)) for kind in range(PURCHASE)),
        total(fresh * strength * (age < bought[pair])),
        np.minimum(latest, FAR),
        total(fresh * np.nan_to_num(histories.dwell[other])),
        total(histories.page[other]) / np.maximum(total(np.ones(len(pair))), 1),
    ]
    return np.log1p(np.maximum(np.stack(columns, axis=1), 0)).astype(np.float32)


def visits(histories: Histories) -> NDArray[np.float64]:
    """(B, len(VISIT_FEATURES)) plain numbers.

    Days since the latest event of any kind; events of that visit; events short of a purchase within a week.
    """
    row, shoppers = histories.row, len(histories)
    out = np.zeros((shoppers, len(VISIT_FEATURES)))
    out[:, 0] = FAR
    np.minimum.at(out[:, 0], row, histories.age)
    last = histories.offsets[1:] - 1  # events are in time order within a row
    some = np.diff(histories.offsets) > 0
    session = np.zeros(shoppers, np.int64)
    session[some] = histories.session[last[some]]
    out[:, 1] = np.bincount(row[histories.session == session[row]], minlength=shoppers)
    out[:, 2] = np.bincount(row[(histories.event != PURCHASE) & (histories.age <= 7)], minlength=shoppers)
    return out
