"""Dealings of shoppers with products: what machine code tells is what plain Python counts."""

import itertools
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from peftrec.data.browsing import FAR
from peftrec.data.features import _kin, _standing, pair_features
from peftrec.data.histories import PURCHASE, Histories, Ragged
from peftrec.data.pairs import (
    HALF_LIVES,
    PAIR_FEATURES,
    PURCHASE_FEATURES,
    VISIT_HALF_LIVES,
    _stable_order,
    never_dealt,
    pairs_of,
)

ITEMS = 12


def drawn(seed: int, shoppers: int = 7) -> Histories:
    """Pasts of up to sixty events, some of nothing, with visits that overlap and moments that recur."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 60, shoppers) * (random.random(shoppers) < 0.8)
    events = int(lengths.sum())
    row = np.repeat(np.arange(shoppers), lengths)
    age = random.integers(0, 90, events) / 2
    order = np.lexsort((-age, row))
    return Histories(
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        item=random.integers(0, ITEMS, events).astype(np.int32),
        age=age[order],
        event=np.where(random.random(events) < 0.7, PURCHASE, 0).astype(np.int8),
        quantity=random.integers(1, 4, events).astype(np.float32),
        price=np.where(random.random(events) < 0.8, random.random(events) * 9, np.nan).astype(np.float32),
        discount=(random.random(events) * (random.random(events) < 0.4)).astype(np.float32),
        session=random.integers(-3, 2**40, 9)[random.integers(0, 9, events)],
        dwell=np.full(events, np.nan, np.float32),
        page=np.ones(events, np.float32),
        entry=np.full(events, -1, np.int8),
        channel=np.zeros(shoppers, np.int32),
    )


def purchases(histories: Histories) -> dict[tuple[int, int], list[int]]:
    """Events of each (shopper, product) that was bought: the first line of each visit, oldest first."""
    found: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for at, (row, item) in enumerate(zip(histories.row, histories.item, strict=True)):
        if histories.event[at] == PURCHASE:
            found[int(row), int(item)].setdefault(int(histories.session[at]), at)
    return {key: [*lines.values()] for key, lines in found.items()}


def visits_ago(histories: Histories) -> dict[int, int]:
    """For each purchase, how many of the shopper's visits are later."""
    found = dict[int, int]()
    for first, last in zip(histories.offsets, histories.offsets[1:], strict=False):
        known: list[int] = []
        for at in reversed(range(first, last)):
            if histories.event[at] == PURCHASE:
                if histories.session[at] not in known:
                    known.append(histories.session[at])
                found[at] = known.index(histories.session[at])
    return found


@pytest.mark.parametrize("seed", range(8))
def test_purchases_are_summed_up_as_counted_one_by_one(seed: int):
    histories = drawn(seed)
    pairs, ago = pairs_of(histories, ITEMS), visits_ago(histories)
    lines = purchases(histories)
    keys = sorted({int(row) * ITEMS + int(item) for row, item in zip(histories.row, histories.item, strict=True)})
    assert pairs.key.tolist() == keys
    for place, key in enumerate(keys):
        told = dict(zip(PAIR_FEATURES, pairs.values[place], strict=True))
        own = lines.get(divmod(key, ITEMS))
        if own is None:
            assert pairs.times[place] == pairs.decayed[place] == pairs.lasting[place] == 0
            assert np.array_equal(
                pairs.values[place, : len(PURCHASE_FEATURES)], never_dealt()[: len(PURCHASE_FEATURES)]
            )
            continue
        age, times = histories.age[own], len(own)
        gaps = -np.diff(age)
        prices = histories.price[own][np.isfinite(histories.price[own])]
        expected = {
            "times_bought": times,
            **{f"decayed_{int(days)}d": (0.5 ** (age / days)).sum() for days in HALF_LIVES},
            **{f"decayed_{int(n)}v": sum(0.5 ** (ago[at] / n) for at in own) for n in VISIT_HALF_LIVES},
            "recency": age[-1],
            "first_bought": age[0],
            "visits_since": ago[own[-1]],
            "usual_gap": gaps.mean() if times > 1 else FAR,
            "last_gap": gaps[-1] if times > 1 else FAR,
            "gap_spread": gaps.std() if times > 1 else 0,
            "recency_over_gap": age[-1] / max(gaps.mean(), 1) if times > 1 else 0,
            "bought_4w": (age <= 28).sum(),
            "bought_8w": (age <= 56).sum(),
            "weeks_bought": len({*np.floor(age / 7)}),
            "quantity": histories.quantity[own].mean(),
            "paid": prices.mean() if len(prices) else 0,
            "last_quantity": histories.quantity[own[-1]],
        }
        for name, value in expected.items():
            assert told[name] == pytest.approx(np.log1p(value), abs=2e-4), name
        assert told["discounted"] == pytest.approx((histories.discount[own] > 0).mean())
        assert told["last_discounted"] == (histories.discount[own[-1]] > 0)
        assert told["never_bought"] == 0
        assert told["no_gap"] == (times == 1)
        assert pairs.times[place] == times
        assert pairs.decayed[place] == pytest.approx(expected["decayed_28d"])
        assert pairs.lasting[place] == pytest.approx(expected["decayed_84d"])


@pytest.mark.parametrize("seed", range(4))
def test_visits_are_counted_once_however_they_overlap(seed: int):
    histories = drawn(seed)
    table = pairs_of(histories, ITEMS).visits.table
    for row, (first, last) in enumerate(zip(histories.offsets, histories.offsets[1:], strict=False)):
        bought = [at for at in range(first, last) if histories.event[at] == PURCHASE]
        began = {histories.session[at]: histories.age[at] for at in reversed(bought)}
        within = [sum(age <= days for age in began.values()) for days in (28, 7)]
        edges = [histories.age[bought[-1]], histories.age[bought[0]]] if bought else [FAR, 0]
        assert table[row].tolist() == [len(began), *within, *edges, len(bought)]


def test_events_lie_pair_by_pair_in_time_order():
    histories = drawn(1)
    pairs = pairs_of(histories, ITEMS)
    ends = np.append(pairs.starts, len(pairs.order))
    for place, (first, last) in enumerate(itertools.pairwise(ends)):
        events = pairs.order[first:last]
        assert (np.diff(events) > 0).all()
        assert {*(histories.row[events] * ITEMS + histories.item[events])} == {pairs.key[place]}
    assert [pairs.bounds[row + 1] - pairs.bounds[row] for row in range(len(histories))] == [
        len({*histories.item[histories.row == row]}) for row in range(len(histories))
    ]


def candidates_of(shoppers: int) -> tuple[Ragged, np.ndarray]:
    every = Ragged.grid(np.tile(np.arange(ITEMS, dtype=np.int32), (shoppers, 1)))
    return every, every.rows * ITEMS + every.values


@pytest.mark.parametrize("seed", range(4))
def test_habits_in_a_group_leave_the_candidate_out(seed: int):
    histories = drawn(seed)
    pairs = pairs_of(histories, ITEMS)
    every, key = candidates_of(len(histories))
    codes = (np.arange(ITEMS, dtype=np.int32) % 4) - 1  # a quarter is of no group
    found = _kin(pairs, every, *pairs.find(key), codes)
    for at, (row, item) in enumerate(zip(every.rows, every.values, strict=True)):
        kin = np.flatnonzero((pairs.row == row) & (codes[pairs.item] == codes[item]) & (pairs.times > 0))
        if codes[item] < 0 or not len(kin):
            assert found[at] == pytest.approx([0, 0, np.log1p(FAR), 0, 1])
            continue
        others = kin[pairs.item[kin] != item]
        decayed, times = pairs.decayed[others].sum(), pairs.times[others].sum()
        recency = pairs.column("recency")[kin].min()
        assert found[at] == pytest.approx(
            [np.log1p(decayed), np.log1p(times), recency, np.log1p(len(kin)), 0], abs=1e-5
        )


@pytest.mark.parametrize("seed", range(4))
def test_standing_is_the_place_among_all_that_a_shopper_dealt_with(seed: int):
    histories = drawn(seed)
    pairs = pairs_of(histories, ITEMS)
    every, key = candidates_of(len(histories))
    own, there = pairs.find(key)
    bought = there & (pairs.times[own] > 0)
    rank, share = _standing(pairs, every, own, bought)
    for at, row in enumerate(every.rows):
        weights = pairs.decayed[pairs.row == row]
        if not bought[at]:
            assert (rank[at], share[at]) == (np.log1p(FAR), 0)
            continue
        place = int(own[at] - pairs.bounds[row])
        order = np.argsort(-weights, kind="stable").tolist()
        assert rank[at] == pytest.approx(np.log1p(order.index(place)))
        assert share[at] == pytest.approx(np.sqrt(weights[place] / weights.sum()))


def test_pairs_of_others_are_refused():
    """Machine code looks at no bounds, so this must not reach it."""
    every, _ = candidates_of(3)
    zeros, snapshot = np.zeros(3 * ITEMS, np.float32), SimpleNamespace(n_items=ITEMS)
    for pairs in (pairs_of(drawn(0, shoppers=2), ITEMS), pairs_of(drawn(0, shoppers=3), ITEMS + 1)):
        with pytest.raises(ValueError, match="other shoppers or of another catalogue"):
            pair_features(drawn(0, shoppers=3), every, snapshot, pairs=pairs, neighbours=zeros, together=zeros)  # pyright: ignore[reportArgumentType]


def test_nobody_and_nothing_have_no_pairs():
    nobody = drawn(0).take(np.empty(0, np.int64))
    some = drawn(0)
    silent = some.take(np.flatnonzero(np.diff(some.offsets) == 0))
    assert len(silent)
    for histories in (nobody, silent):
        pairs = pairs_of(histories, ITEMS)
        assert pairs.values.shape == (0, len(PAIR_FEATURES))
        assert pairs.bounds.tolist() == [0] * (len(histories) + 1)


@pytest.mark.parametrize("scale", [1, 2**55])
def test_equal_keys_stay_in_order_however_large_they_are(scale: int):
    key = np.random.default_rng(0).integers(0, 50, 2000) * scale
    assert np.array_equal(_stable_order(key), np.argsort(key, kind="stable"))
