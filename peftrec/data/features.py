"""Numbers about a shopper and a product, as of a moment: what text cannot say.

:func:`pair_features` is the only place that computes them; training, evaluation and serving all call it.
"""

import numpy as np
from numpy.typing import NDArray

from peftrec.compiled import compiled
from peftrec.data import browsing as seen
from peftrec.data.browsing import FAR, VISIT_FEATURES
from peftrec.data.histories import Histories, Ragged
from peftrec.data.matrices import entries
from peftrec.data.pairs import PAIR_FEATURES, Pairs, never_dealt
from peftrec.data.snapshot import GROUPS, ITEM_FEATURES, Snapshot

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
    "explained",
)
FEATURES = (*PAIR_FEATURES, *GROUP_FEATURES, *SHOPPER_FEATURES, *ITEM_FEATURES, *CROSS_FEATURES)
"""Names of the columns of :func:`pair_features`, in order."""


def _shoppers(histories: Histories, pairs: Pairs) -> NDArray[np.float64]:
    """(B, len(SHOPPER_FEATURES)) plain numbers.

    Visits, of four weeks, of one; last visit; tenure; products; purchases; those of
    :func:`peftrec.data.browsing.visits`; campaigns whose coupons the shopper holds.
    """
    visits = pairs.visits.table
    products = np.bincount(pairs.row[pairs.times > 0], minlength=len(histories))
    coupons = np.zeros(len(histories)) if histories.coupons is None else histories.coupons.count
    columns = visits[:, :5], products, visits[:, 5:], seen.visits(histories), coupons
    return np.column_stack([one.astype(np.float64) for one in columns])


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
    if pairs.n_items != snapshot.n_items or len(pairs.bounds) != len(candidates.offsets):
        raise ValueError("pairs of other shoppers or of another catalogue")  # machine code looks at no bounds
    row, item = candidates.rows, candidates.values
    own, there = pairs.find(row * snapshot.n_items + item)
    pair = pairs.values[own] if len(pairs.key) else np.empty((len(row), len(PAIR_FEATURES)), np.float32)
    pair[~there] = never_dealt()
    bought = pair[:, PAIR_FEATURES.index("never_bought")] == 0
    shopper = _shoppers(histories, pairs)[row]
    items = snapshot.items[item]

    def get(name: str) -> NDArray[np.float64]:
        return np.expm1(pair[:, PAIR_FEATURES.index(name)].astype(np.float64))

    price, paid = items[:, ITEM_FEATURES.index("price")], pair[:, PAIR_FEATURES.index("paid")]
    coupon = coupon_days(histories, row, item)
    cross = [
        get("times_bought") / np.maximum(shopper[:, 0], 1),
        get("bought_4w") / (shopper[:, 1] + 1),
        np.where(bought, get("first_bought") / np.maximum(shopper[:, 4], 1), 0),
        np.where(bought, np.log1p(np.maximum(get("recency") - shopper[:, 3], 0)), np.log1p(FAR)),
        np.where(bought & (price > 0), paid - price, 0),
        *_standing(pairs, candidates, own, bought),
        *(snapshot.buyers[item] / (buyers[item] + 1) for buyers in snapshot.group_buyers),
        np.log1p(10 * entries(snapshot.channel_share, histories.channel[row], item)),
        np.log1p(100 * neighbours),
        np.log1p(100 * np.maximum(together, 0)),
        coupon > 0,
        np.log1p(coupon),
        np.arcsinh(100 * _explained(pairs, candidates, snapshot.panel.factors, own, there)),
    ]
    kin = [_kin(pairs, candidates, own, there, codes) for codes in snapshot.groups]
    return np.concatenate([pair, *kin, np.log1p(shopper), items, np.stack(cross, axis=1)], axis=1, dtype=np.float32)


def _standing(
    pairs: Pairs, candidates: Ragged, own: NDArray[np.int64], bought: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each candidate among all pairs of its shopper: log of the rank by decayed purchases, root of the share of them."""
    ahead, share = np.full(len(own), FAR), np.zeros(len(own))
    _stand(pairs.bounds, pairs.decayed, candidates.offsets, own, bought, ahead, share)
    return np.log1p(np.minimum(ahead, FAR)), np.sqrt(share)


@compiled("void(int64[::1], float64[::1], int64[::1], int64[::1], boolean[::1], float64[::1], float64[::1])")
def _stand(
    bounds: NDArray[np.int64],
    decayed: NDArray[np.float64],
    offsets: NDArray[np.int64],
    own: NDArray[np.int64],
    bought: NDArray[np.bool_],
    ahead: NDArray[np.float64],
    share: NDArray[np.float64],
) -> None:
    """Fills in, for what was bought, how many pairs of its shopper weigh more, or as much and come before it; and its share."""
    for row in range(len(offsets) - 1):
        total = max(decayed[bounds[row] : bounds[row + 1]].sum(), 1e-9)
        for at in range(offsets[row], offsets[row + 1]):
            if bought[at]:
                weight, more = decayed[own[at]], 0
                for pair in range(bounds[row], own[at]):
                    more += decayed[pair] >= weight
                for pair in range(own[at] + 1, bounds[row + 1]):
                    more += decayed[pair] > weight
                ahead[at], share[at] = more, weight / total


def _kin(
    pairs: Pairs, candidates: Ragged, own: NDArray[np.int64], there: NDArray[np.bool_], codes: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(C, 5) the shopper's habit in each candidate's group, the candidate itself left out of the sums."""
    found = np.zeros((len(own), 5), np.float32)
    found[:, 2], found[:, 4] = np.log1p(FAR), 1
    sums = np.zeros((4, int(codes.max(initial=-1)) + 1))
    of = pairs.bounds, pairs.item, pairs.times, pairs.decayed, pairs.column("recency"), codes
    _habits(*of, candidates.offsets, candidates.values, own, there, sums, found)
    for column in (0, 1, 3):
        np.log1p(found[:, column], out=found[:, column])
    return found


@compiled(
    "void(int64[::1], int32[::1], float64[::1], float64[::1], float32[:], int32[::1], int64[::1], int32[::1], int64[::1],"
    " boolean[::1], float64[:, ::1], float32[:, ::1])"
)
def _habits(
    bounds: NDArray[np.int64],
    product: NDArray[np.int32],
    times: NDArray[np.float64],
    decayed: NDArray[np.float64],
    recency: NDArray[np.float32],
    codes: NDArray[np.int32],
    offsets: NDArray[np.int64],
    item: NDArray[np.int32],
    own: NDArray[np.int64],
    there: NDArray[np.bool_],
    sums: NDArray[np.float64],
    found: NDArray[np.float32],
) -> None:
    """Fills in what :func:`_kin` tells. ``sums`` hold one shopper's habits group by group, and are zeros before and after."""
    for row in range(len(offsets) - 1):
        for pair in range(bounds[row], bounds[row + 1]):
            code = codes[product[pair]]
            if times[pair] > 0 and code >= 0:
                sums[2, code] = min(sums[2, code], recency[pair]) if sums[3, code] > 0 else recency[pair]
                sums[0, code] += decayed[pair]
                sums[1, code] += times[pair]
                sums[3, code] += 1
        for at in range(offsets[row], offsets[row + 1]):
            code = codes[item[at]]
            if code < 0 or sums[3, code] == 0:
                continue
            mine, mine_times = (decayed[own[at]], times[own[at]]) if there[at] else (0.0, 0.0)
            found[at, 0], found[at, 1] = max(sums[0, code] - mine, 0), max(sums[1, code] - mine_times, 0)
            found[at, 2], found[at, 3], found[at, 4] = sums[2, code], sums[3, code], 0
        for pair in range(bounds[row], bounds[row + 1]):
            if codes[product[pair]] >= 0:
                sums[:, codes[product[pair]]] = 0


def _explained(
    pairs: Pairs,
    candidates: Ragged,
    factors: NDArray[np.float32],
    own: NDArray[np.int64],
    there: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """(C,) each candidate's purchases as all other products of its shopper tell them, log of decayed ones.

    A regression of each product on all others (EASE; Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019),
    kept to the strongest singular vectors: what a product tells of itself is left out, and the rest scaled to make up for it.
    Shoppers of the panel, as those of training are, took part in that regression; others did not.
    """
    weight, found = np.where(pairs.times > 0, np.log1p(pairs.lasting), 0), np.zeros(len(own))
    reading = np.zeros(factors.shape[1])
    _explain(
        pairs.bounds, pairs.item, weight, factors, candidates.offsets, candidates.values, own, there, reading, found
    )
    return found


@compiled(
    "void(int64[::1], int32[::1], float64[::1], float32[:, ::1], int64[::1], int32[::1], int64[::1], boolean[::1],"
    " float64[::1], float64[::1])"
)
def _explain(
    bounds: NDArray[np.int64],
    product: NDArray[np.int32],
    weight: NDArray[np.float64],
    factors: NDArray[np.float32],
    offsets: NDArray[np.int64],
    item: NDArray[np.int32],
    own: NDArray[np.int64],
    there: NDArray[np.bool_],
    reading: NDArray[np.float64],
    found: NDArray[np.float64],
) -> None:
    """Fills in what :func:`_explained` tells; ``reading`` is room for one shopper."""
    for row in range(len(offsets) - 1):
        reading[:] = 0
        for pair in range(bounds[row], bounds[row + 1]):
            if weight[pair] > 0 and product[pair] < len(factors):
                for place in range(len(reading)):
                    reading[place] += weight[pair] * factors[product[pair], place]
        for at in range(offsets[row], offsets[row + 1]):
            if item[at] >= len(factors):
                continue
            told, itself = 0.0, 0.0
            for place in range(len(reading)):
                factor = np.float64(factors[item[at], place])
                told += reading[place] * factor
                itself += factor * factor
            mine = weight[own[at]] if there[at] else 0.0
            found[at] = (told - mine * itself) / (1 - itself)


def coupon_days(histories: Histories, row: NDArray[np.int64], item: NDArray[np.integer]) -> NDArray[np.float32]:
    """(C,) days that the shoppers' coupons for products still last, 0 without one."""
    return np.zeros(len(row), np.float32) if histories.coupons is None else histories.coupons.days(row, item)
