"""What each shopper had to do with each product, in numbers, as of a moment.

Nothing that only reads tables imports this module: its machine code takes a moment to load.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from peftrec.compiled import compiled
from peftrec.data.browsing import BROWSING_FEATURES, FAR, SHORT, browsing, never
from peftrec.data.histories import PURCHASE, Histories
from peftrec.data.panel import LONG

HALF_LIVES = (7.0, 14.0, SHORT, 56.0, LONG, 168.0)
"""Days after which a purchase counts half."""

VISIT_HALF_LIVES = (5.0, 15.0, 50.0)
"""Visits after which a purchase counts half: some shop daily, some monthly."""

PURCHASE_FEATURES = (
    "times_bought",
    *(f"decayed_{int(days)}d" for days in HALF_LIVES),
    *(f"decayed_{int(visits)}v" for visits in VISIT_HALF_LIVES),
    "recency",
    "first_bought",
    "visits_since",
    "usual_gap",
    "last_gap",
    "gap_spread",
    "recency_over_gap",
    "bought_4w",
    "bought_8w",
    "weeks_bought",
    "quantity",
    "paid",
    "discounted",
    "last_quantity",
    "last_discounted",
    "never_bought",
    "no_gap",
)
PAIR_FEATURES = (*PURCHASE_FEATURES, *BROWSING_FEATURES)

_PLAIN = [PURCHASE_FEATURES.index(name) for name in ("discounted", "last_discounted", "never_bought", "no_gap")]
"""Shares and flags; of all others, the logarithm of one more is told."""

_BY_AGE, _BY_VISIT = 1, 1 + len(HALF_LIVES)
"""Columns where purchases decayed by days begin, and those decayed by visits."""

_RECENCY, _FIRST, _SINCE, _GAP, _LAST_GAP, _SPREAD, _OVER_GAP, _IN_4W, _IN_8W, _WEEKS, *_REST = range(
    _BY_VISIT + len(VISIT_HALF_LIVES), len(PURCHASE_FEATURES)
)
_QUANTITY, _PAID, _DISCOUNTED, _LAST_QUANTITY, _LAST_DISCOUNTED, _NEVER, _NO_GAP = _REST


@dataclass(frozen=True)
class Visits:
    """When shoppers came to buy.

    Attributes:
        ago: (E,) for each purchase of the histories, how many visits with a purchase came after its own.
        table: (B, 6) visits with a purchase, those of the last four weeks, those of the last one; days since the last
            purchase, ``FAR`` at most and without one, days since the first; purchases, line by line.
    """

    ago: NDArray[np.int64]
    table: NDArray[np.float64]

    @classmethod
    def of(cls, histories: Histories) -> "Visits":
        """Of visits that end at one moment, those later in the log are the later ones."""
        ago, table = np.zeros(len(histories.item), np.int64), np.empty((len(histories), 6))
        longest = int(np.diff(histories.offsets).max(initial=0))
        room = 2 << longest.bit_length()
        met = np.empty((2, room), np.int64), np.empty(longest)
        _visits(histories.offsets, histories.event, histories.age, histories.session, PURCHASE, FAR, *met, ago, table)
        return cls(ago, table)


@dataclass(frozen=True)
class Pairs:
    """Every (shopper, product) that occurs in some histories; G of them.

    Attributes:
        n_items: Products of the catalogue.
        key: (G,) int64 ``row * n_items + item``, rising.
        values: (G, len(PAIR_FEATURES)) float32, log-compressed.
        times: (G,) float64 visits in which the product was bought.
        decayed: (G,) float64 purchases decayed with the recent half-life, for choosing and weighing.
        lasting: (G,) float64 those decayed with the half-life of a lasting habit.
        order: (E,) int64 events, pair by pair, in time order within a pair.
        starts: (G,) int64 where each pair's events begin there.
        bounds: (B + 1,) int64 where each shopper's pairs begin.
        visits: Of the shoppers.
    """

    n_items: int
    key: NDArray[np.int64]
    values: NDArray[np.float32]
    times: NDArray[np.float64]
    decayed: NDArray[np.float64]
    lasting: NDArray[np.float64]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    bounds: NDArray[np.int64]
    visits: Visits

    @cached_property
    def row(self) -> NDArray[np.int64]:
        """(G,) the shopper's row of each pair."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))

    @cached_property
    def item(self) -> NDArray[np.int32]:
        """(G,) the product of each pair."""
        return (self.key % self.n_items).astype(np.int32)

    @cached_property
    def weight(self) -> NDArray[np.float64]:
        """(G,) what each matters to its shopper: a view says less than a purchase, and more than nothing."""
        return self.decayed + np.expm1(self.column("interest"))

    @cached_property
    def ranked(self) -> NDArray[np.int64]:
        """(G,) pairs, shopper by shopper, those that matter most first."""
        return np.lexsort((-self.weight, self.row))

    def column(self, name: str) -> NDArray[np.float32]:
        """(G,) one of ``PAIR_FEATURES``."""
        return self.values[:, PAIR_FEATURES.index(name)]

    def find(self, key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Positions of ``key`` and whether each is there (a position of an absent key means nothing)."""
        if not len(self.key):
            return np.zeros(len(key), np.int64), np.zeros(len(key), bool)
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return at, self.key[at] == key


def never_dealt() -> NDArray[np.float32]:
    """(len(PAIR_FEATURES),) the values of a pair without any event."""
    far = dict.fromkeys(("recency", "first_bought", "visits_since", "usual_gap", "last_gap"), np.log1p(FAR))
    missing = {**far, "never_bought": 1.0, "no_gap": 1.0}
    return np.array([*(missing.get(name, 0.0) for name in PURCHASE_FEATURES), *never()], np.float32)


def pairs_of(histories: Histories, n_items: int) -> Pairs:
    """Summarises each shopper's dealings with each product of the history."""
    key_of = histories.row * n_items + histories.item
    order = _stable_order(key_of)
    rising = key_of[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(order)), bool), rising[1:] != rising[:-1]]))
    key = rising[starts]
    visits, table = Visits.of(histories), np.empty((len(key), len(PURCHASE_FEATURES)))
    _summarise(
        np.append(starts, len(order)),
        order,
        histories.event,
        histories.age,
        histories.quantity,
        histories.price,
        histories.discount,
        PURCHASE,
        FAR,
        -np.log(2) / np.array(HALF_LIVES),
        np.exp(np.arange(int(visits.ago.max(initial=0)) + 1)[:, None] * (-np.log(2) / np.array(VISIT_HALF_LIVES))),
        visits.ago,
        table,
    )
    times, plain = table[:, 0].copy(), table[:, _PLAIN]
    decayed, lasting = (table[:, _BY_AGE + HALF_LIVES.index(days)].copy() for days in (SHORT, LONG))
    np.log1p(table, out=table)
    table[:, _PLAIN] = plain
    return Pairs(
        n_items,
        key,
        np.concatenate([table, browsing(histories, key, key_of)], axis=1, dtype=np.float32),
        times,
        decayed,
        lasting,
        order,
        starts,
        np.searchsorted(key, np.arange(len(histories) + 1) * n_items),
        visits,
    )


def _stable_order(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """What sorts keys, equal ones staying in order.

    With its place as the last digits no key equals another, so that a plain sort, which processors have instructions for, does.
    """
    size = max(1, len(key))
    if int(key.max(initial=0)) >= np.iinfo(np.int64).max // size:
        return np.argsort(key, kind="stable")
    places = key * size + np.arange(len(key))
    places.sort()
    return places % size


@compiled(
    "void(int64[::1], int8[::1], float64[::1], int64[::1], int64, float64, int64[:, ::1], float64[::1], int64[::1],"
    " float64[:, ::1])"
)
def _visits(
    offsets: NDArray[np.int64],
    event: NDArray[np.int8],
    age: NDArray[np.float64],
    session: NDArray[np.int64],
    purchase: int,
    far: float,
    met: NDArray[np.int64],
    began: NDArray[np.float64],
    ago: NDArray[np.int64],
    table: NDArray[np.float64],
) -> None:
    """Fills the arrays of :class:`Visits`.

    Visits may overlap, so those met are looked up: in an open-addressing table of their codes and numbers, whose size is a power
    of two, and of which half is taken at most. What other files say comes as an argument: kept code would not notice a change.
    """
    codes, numbers = met[0], met[1]
    for row in range(len(offsets) - 1):
        room = 4
        while room < 2 * (offsets[row + 1] - offsets[row]):
            room *= 2
        numbers[:room] = -1
        visits, lines, last, first = 0, 0, far, 0.0
        for at in range(offsets[row + 1] - 1, offsets[row] - 1, -1):
            if event[at] != purchase:
                continue
            place = (np.uint64(session[at]) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) & np.uint64(room - 1)
            while numbers[place] >= 0 and codes[place] != session[at]:
                place = (place + np.uint64(1)) & np.uint64(room - 1)
            if numbers[place] < 0:
                codes[place], numbers[place] = session[at], visits
                visits += 1
            ago[at] = numbers[place]
            began[ago[at]] = age[at]
            last, first, lines = min(last, age[at]), age[at], lines + 1
        within_4w = within_1w = 0
        for visit in range(visits):
            within_4w += began[visit] <= 28
            within_1w += began[visit] <= 7
        table[row, 0], table[row, 1], table[row, 2] = visits, within_4w, within_1w
        table[row, 3], table[row, 4], table[row, 5] = last, first, lines


_EVENTS = "int8[::1], float64[::1], float32[::1], float32[::1], float32[::1]"


@compiled(
    f"void(int64[::1], int64[::1], {_EVENTS}, int64, float64, float64[::1], float64[:, ::1], int64[::1], float64[:, ::1])"
)
def _summarise(
    ends: NDArray[np.int64],
    order: NDArray[np.int64],
    event: NDArray[np.int8],
    age: NDArray[np.float64],
    quantity: NDArray[np.float32],
    price: NDArray[np.float32],
    discount: NDArray[np.float32],
    purchase: int,
    far: float,
    rates: NDArray[np.float64],
    by_visit: NDArray[np.float64],
    ago: NDArray[np.int64],
    table: NDArray[np.float64],
) -> None:
    """Fills (G, len(PURCHASE_FEATURES)) with plain numbers, pair by pair; lines of one visit are one purchase, the first of them.

    What is left of a purchase falls by ``rates`` a day, and is ``by_visit`` (visits, len(VISIT_HALF_LIVES)) after so many visits.
    """
    met = np.full(len(by_visit), -1)
    for pair in range(len(table)):
        out = table[pair]
        out[:] = 0
        times, priced, weeks = 0, 0, 0
        first = last = since = steps = step = paid = bought = discounted = last_quantity = last_discount = 0.0
        for line in range(ends[pair], ends[pair + 1]):
            at = order[line]
            if event[at] != purchase or met[ago[at]] == pair:
                continue
            met[ago[at]] = pair
            if times:
                step = last - age[at]
                steps += step * step
                weeks += np.floor(age[at] / 7) != np.floor(last / 7)
            else:
                first, weeks = age[at], 1
            times += 1
            last, since = age[at], float(ago[at])
            for decay in range(len(rates)):
                out[_BY_AGE + decay] += np.exp(last * rates[decay])
            out[_BY_VISIT:_RECENCY] += by_visit[ago[at]]
            out[_IN_4W] += last <= 28
            out[_IN_8W] += last <= 56
            last_quantity, last_discount = float(quantity[at]), float(discount[at])
            bought += last_quantity
            discounted += last_discount > 0
            if np.isfinite(price[at]):
                paid += price[at]
                priced += 1
        if not times:
            out[_RECENCY : _LAST_GAP + 1] = far
            out[_NEVER], out[_NO_GAP] = 1, 1
            continue
        out[0] = times
        out[_RECENCY], out[_FIRST], out[_SINCE] = last, first, since
        out[_GAP], out[_LAST_GAP], out[_NO_GAP] = far, far, 1
        if times > 1:
            gap = (first - last) / (times - 1)
            out[_GAP], out[_LAST_GAP], out[_NO_GAP] = gap, step, 0
            out[_SPREAD] = np.sqrt(max(steps / (times - 1) - gap * gap, 0))
            out[_OVER_GAP] = last / max(gap, 1)
        out[_WEEKS] = weeks
        out[_QUANTITY], out[_PAID] = max(bought / times, 0), max(paid / max(priced, 1), 0)
        out[_DISCOUNTED], out[_LAST_DISCOUNTED] = discounted / times, last_discount > 0
        out[_LAST_QUANTITY] = max(last_quantity, 0)
