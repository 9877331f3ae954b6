# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false
# scipy has no types; the rest of the package is checked strictly.
"""Numbers about a shopper and a product, as of a moment: what text cannot say.

:func:`pair_features` is the only place that computes them; training, evaluation and serving all call it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data import browsing as seen
from peftrec.data.browsing import BROWSING_FEATURES, FAR, SHORT, VISIT_FEATURES
from peftrec.data.histories import PURCHASE, Histories, Ragged, first_of
from peftrec.data.snapshot import GROUPS, ITEM_FEATURES, Snapshot

HALF_LIVES = (7.0, 14.0, SHORT, 56.0, 84.0, 168.0)
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
GROUP_FEATURES = tuple(
    f"{group}_{name}" for group in GROUPS for name in ("decayed", "times", "recency", "products", "never")
)
SHOPPER_FEATURES = (
    "visits",
    "visits_4w",
    "visits_1w",
    "last_visit",
    "tenure",
    "products",
    "purchases",
    *VISIT_FEATURES,
    "coupons",
)
CROSS_FEATURES = (
    "share_of_visits",
    "share_of_visits_4w",
    "known_for",
    "recency_over_last_visit",
    "paid_over_price",
    "rank",
    "share_of_purchases",
    "share_of_title",
    "share_of_variant",
    "channel_share",
    "neighbours",
    "together",
    "coupon",
    "coupon_days",
)
FEATURES = (*PAIR_FEATURES, *GROUP_FEATURES, *SHOPPER_FEATURES, *ITEM_FEATURES, *CROSS_FEATURES)
"""Names of the columns of :func:`pair_features`, in order."""


@dataclass(frozen=True)
class Pairs:
    """Every (shopper, product) that occurs in some histories.

    Attributes:
        key: (G,) int64 ``row * n_items + item``, rising.
        values: (G, len(PAIR_FEATURES)) float32, log-compressed.
        decayed: (G,) float64 purchases decayed with the recent half-life, for choosing and weighing.
    """

    key: NDArray[np.int64]
    values: NDArray[np.float32]
    decayed: NDArray[np.float64]

    def find(self, key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Positions of ``key`` and whether each is there (a position of an absent key means nothing)."""
        if not len(self.key):
            return np.zeros(len(key), np.int64), np.zeros(len(key), bool)
        at = np.minimum(np.searchsorted(self.key, key), len(self.key) - 1)
        return at, self.key[at] == key


def _never() -> NDArray[np.float32]:
    """The values of a pair without a purchase."""
    far = np.log1p(FAR)
    missing = dict.fromkeys(("recency", "first_bought", "visits_since", "usual_gap", "last_gap"), far)
    missing |= {"never_bought": 1.0, "no_gap": 1.0}
    return np.array([*(missing.get(name, 0.0) for name in PURCHASE_FEATURES), *seen.never()], np.float32)


def pairs_of(histories: Histories, n_items: int) -> Pairs:
    """Summarises each shopper's dealings with each product of the history."""
    key_of = histories.row * n_items + histories.item
    keys = np.unique(key_of)
    values = np.tile(_never(), (len(keys), 1))
    values[:, len(PURCHASE_FEATURES) :] = seen.browsing(histories, keys, key_of)
    bought = np.flatnonzero(histories.event == PURCHASE)
    decayed = np.zeros(len(keys))
    if len(bought):
        own, summary, recent = _purchases(histories, bought, key_of[bought])
        at = np.searchsorted(keys, own)
        values[at, : len(PURCHASE_FEATURES)] = summary
        decayed[at] = recent
    return Pairs(keys, values, decayed)


def _visit_positions(histories: Histories, bought: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many visits ago each purchase was, 0 being the shopper's latest visit with a purchase."""
    row, age, session = histories.row[bought], histories.age[bought], histories.session[bought]
    order = np.lexsort((age, session, row))
    new = np.r_[True, (row[order][1:] != row[order][:-1]) | (session[order][1:] != session[order][:-1])]
    visit = np.empty(len(bought), np.int64)
    visit[order] = np.cumsum(new) - 1
    first = order[new]
    ranked = np.lexsort((session[first], age[first], row[first]))
    starts = np.searchsorted(row[first][ranked], np.arange(len(histories)))
    position = np.empty(len(first), np.int64)
    position[ranked] = np.arange(len(first)) - starts[row[first][ranked]]
    return position[visit]


def _purchases(
    histories: Histories, bought: NDArray[np.int64], key: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float64]]:
    visits_ago = _visit_positions(histories, bought)
    order = np.lexsort((visits_ago, -histories.age[bought], key))
    key, session = key[order], histories.session[bought][order]
    # Two lines of one product in one visit are one purchase.
    keep = np.r_[True, (key[1:] != key[:-1]) | (session[1:] != session[:-1])]
    order, key = order[keep], key[keep]
    age, ago = histories.age[bought][order], visits_ago[order].astype(np.float64)
    at = bought[order]
    start = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    end = np.r_[start[1:], len(key)]
    times = (end - start).astype(np.float64)

    def total(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.add.reduceat(values.astype(np.float64), start)

    decayed = [total(np.exp(age * (-np.log(2) / days))) for days in HALF_LIVES]
    by_visit = [total(np.exp(ago * (-np.log(2) / visits))) for visits in VISIT_HALF_LIVES]
    last, first, since = age[end - 1], age[start], ago[end - 1]
    again = times > 1
    gap = np.where(again, (first - last) / np.maximum(times - 1, 1), FAR)
    step = np.r_[0.0, age[:-1] - age[1:]]
    step[start] = 0
    spread = np.sqrt(np.maximum(total(step**2) / np.maximum(times - 1, 1) - np.where(again, gap, 0) ** 2, 0))
    last_gap = np.where(again, step[end - 1], FAR)
    week = np.floor(age / 7)
    weeks = total(np.r_[True, (week[1:] != week[:-1]) | (key[1:] != key[:-1])])
    price = histories.price[at].astype(np.float64)
    priced = np.isfinite(price)
    paid = total(np.where(priced, price, 0)) / np.maximum(total(priced), 1)
    table = np.stack(
        [
            np.log1p(times),
            *(np.log1p(value) for value in decayed),
            *(np.log1p(value) for value in by_visit),
            np.log1p(last),
            np.log1p(first),
            np.log1p(since),
            np.log1p(gap),
            np.log1p(last_gap),
            np.log1p(np.where(again, spread, 0)),
            np.where(again, np.log1p(last / np.maximum(gap, 1)), 0),
            np.log1p(total(age <= 28)),
            np.log1p(total(age <= 56)),
            np.log1p(weeks),
            np.log1p(np.maximum(total(histories.quantity[at]) / times, 0)),
            np.log1p(np.maximum(paid, 0)),
            total(histories.discount[at] > 0) / times,
            np.log1p(np.maximum(histories.quantity[at][end - 1], 0)),
            histories.discount[at][end - 1] > 0,
            np.zeros(len(start)),
            1.0 - again,
        ],
        axis=1,
    )
    return key[start], table.astype(np.float32), decayed[HALF_LIVES.index(SHORT)]


def _shoppers(histories: Histories, pairs: Pairs, n_items: int) -> NDArray[np.float64]:
    """(B, len(SHOPPER_FEATURES)) plain numbers.

    Visits, of four weeks, of one; last visit; tenure; products; purchases; those of
    :func:`peftrec.data.browsing.visits`; campaigns whose coupons the shopper holds.
    """
    bought = np.flatnonzero(histories.event == PURCHASE)
    row, age, session, shoppers = (
        histories.row[bought],
        histories.age[bought],
        histories.session[bought],
        len(histories),
    )
    visit = first_of(row, session)
    table = np.zeros((shoppers, len(SHOPPER_FEATURES)))
    for column, days in enumerate((np.inf, 28, 7)):
        table[:, column] = np.bincount(row[visit][age[visit] <= days], minlength=shoppers)
    last, tenure = np.full(shoppers, FAR), np.zeros(shoppers)
    np.minimum.at(last, row, age)
    np.maximum.at(tenure, row, age)
    mine = pairs.values[:, PAIR_FEATURES.index("never_bought")] == 0
    table[:, 3], table[:, 4] = last, tenure
    table[:, 5] = np.bincount(pairs.key[mine] // n_items, minlength=shoppers)
    table[:, 6] = np.bincount(row, minlength=shoppers)
    table[:, 7:-1] = seen.visits(histories)
    table[:, -1] = 0 if histories.coupons is None else histories.coupons.count
    return table


def _standing(pairs: Pairs, n_items: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each pair among all pairs of its shopper: log of the rank by decayed purchases, root of the share of them."""
    row = pairs.key // n_items
    order = np.lexsort((-pairs.decayed, row))
    starts = np.searchsorted(row[order], np.arange(int(row.max(initial=-1)) + 1))
    rank = np.empty(len(row))
    rank[order] = np.arange(len(row)) - starts[row[order]]
    total = np.bincount(row, weights=pairs.decayed)
    return np.minimum(np.log1p(rank), np.log1p(FAR)), np.sqrt(pairs.decayed / np.maximum(total[row], 1e-9))


def _kin(pairs: Pairs, row: NDArray[np.int64], item: NDArray[np.int32], codes: NDArray[np.int32], n_items: int):
    """(C, 5) the shopper's habit in the product's group, the product itself left out of the sums."""
    out = np.zeros((len(row), 5), np.float32)
    out[:, 2], out[:, 4] = np.log1p(FAR), 1
    code = codes[pairs.key % n_items] if len(pairs.key) else np.empty(0, np.int32)
    times_column, recency_column = PAIR_FEATURES.index("times_bought"), PAIR_FEATURES.index("recency")
    used = np.flatnonzero((code >= 0) & (pairs.values[:, PAIR_FEATURES.index("never_bought")] == 0))
    if not len(used):
        return out
    width = int(codes.max()) + 1
    group, inverse = np.unique(pairs.key[used] // n_items * width + code[used], return_inverse=True)
    decayed = np.bincount(inverse, weights=pairs.decayed[used])
    times = np.bincount(inverse, weights=np.expm1(pairs.values[used, times_column]))
    products = np.bincount(inverse)
    recency = np.full(len(group), np.inf)
    np.minimum.at(recency, inverse, pairs.values[used, recency_column])
    wanted = row * width + codes[item]
    at = np.minimum(np.searchsorted(group, wanted), len(group) - 1)
    hit = (group[at] == wanted) & (codes[item] >= 0)
    own, there = pairs.find(row * n_items + item)
    own_decayed = np.where(there, pairs.decayed[own], 0)
    own_times = np.where(there, np.expm1(pairs.values[own, times_column]), 0)
    at, own_decayed, own_times = at[hit], own_decayed[hit], own_times[hit]
    out[hit, 0] = np.log1p(np.maximum(decayed[at] - own_decayed, 0))
    out[hit, 1] = np.log1p(np.maximum(times[at] - own_times, 0))
    out[hit, 2] = recency[at]
    out[hit, 3] = np.log1p(products[at])
    out[hit, 4] = 0
    return out


def pair_features(
    histories: Histories,
    candidates: Ragged,
    snapshot: Snapshot,
    *,
    pairs: Pairs,
    neighbours: NDArray[np.float32],
    together: NDArray[np.float32],
) -> NDArray[np.float32]:
    """All numbers about each candidate of each shopper.

    Args:
        histories: B shoppers' pasts before the snapshot's moment.
        candidates: Product indices per shopper, C in all.
        snapshot: The platform at that moment.
        pairs: :func:`pairs_of` the same histories.
        neighbours: (C,) collaborative score of each candidate, see :func:`peftrec.data.collaborative.collaborative`.
        together: (C,) the other collaborative score.

    Returns:
        (C, len(FEATURES)) float32, finite, compressed by logarithms, not yet standardised.
    """
    n_items, row, item = snapshot.n_items, candidates.rows, candidates.values
    own, there = pairs.find(row * n_items + item)
    pair = np.where(there[:, None], pairs.values[own], _never()) if len(pairs.key) else np.tile(_never(), (len(row), 1))
    shopper = _shoppers(histories, pairs, n_items)[row]
    kin = [_kin(pairs, row, item, codes, n_items) for codes in snapshot.groups]
    items = snapshot.items[item]

    def get(name: str) -> NDArray[np.float64]:
        return np.expm1(pair[:, PAIR_FEATURES.index(name)].astype(np.float64))

    bought = pair[:, PAIR_FEATURES.index("never_bought")] == 0
    price = items[:, ITEM_FEATURES.index("price")]
    paid = pair[:, PAIR_FEATURES.index("paid")]
    rank, share = _standing(pairs, n_items)
    coupon = coupon_days(histories, row, item)
    cross = np.stack(
        [
            get("times_bought") / np.maximum(shopper[:, 0], 1),
            get("bought_4w") / (shopper[:, 1] + 1),
            np.where(bought, get("first_bought") / np.maximum(shopper[:, 4], 1), 0),
            np.where(bought, np.log1p(np.maximum(get("recency") - shopper[:, 3], 0)), np.log1p(FAR)),
            np.where(bought & (price > 0), paid - price, 0),
            np.where(bought, rank[own], np.log1p(FAR)) if len(rank) else np.full(len(row), np.log1p(FAR)),
            np.where(bought, share[own], 0) if len(share) else np.zeros(len(row)),
            *(snapshot.buyers[item] / (buyers[item] + 1) for buyers in snapshot.group_buyers),
            _channel(histories, row, item, snapshot),
            np.log1p(100 * neighbours),
            np.log1p(100 * np.maximum(together, 0)),
            coupon > 0,
            np.log1p(coupon),
        ],
        axis=1,
    )
    return np.concatenate([pair, *kin, np.log1p(shopper), items, cross], axis=1, dtype=np.float32)


def coupon_days(histories: Histories, row: NDArray[np.int64], item: NDArray[np.integer]) -> NDArray[np.float32]:
    """(C,) days that the shoppers' coupons for products still last, 0 without one."""
    return np.zeros(len(row), np.float32) if histories.coupons is None else histories.coupons.days(row, item)


def _channel(
    histories: Histories, row: NDArray[np.int64], item: NDArray[np.int32], snapshot: Snapshot
) -> NDArray[np.float32]:
    share, channel = snapshot.channel_share, histories.channel[row]
    out = np.zeros(len(row), np.float32)
    known = np.flatnonzero((channel >= 0) & (channel < share.shape[0]))
    if len(known):
        out[known] = np.asarray(share[channel[known], item[known]]).ravel()
    return np.log1p(10 * out)
