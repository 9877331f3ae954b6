"""The one candidate generator."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from peftrec.data import Dataset, Events
from peftrec.data.features import FEATURES
from peftrec.data.histories import Histories, Ragged
from peftrec.data.snapshot import Snapshot
from peftrec.model.candidates import CandidateConfig, Sample, Scores, generate

CONFIG = CandidateConfig(history=50, popular=20, neighbours=10, together=10, nearest=5)


def made(grocery: Dataset, **settings: object):
    moment = float(grocery.log.time[-1]) + 1
    users = np.unique(grocery.log.user)
    histories = Histories.of(grocery, users, moment=moment)
    return histories, Snapshot.at(grocery, moment), users


def test_every_source_contributes_and_nothing_twice(grocery: Dataset):
    histories, snapshot, users = made(grocery)
    near = np.zeros((len(users), snapshot.n_items), np.float32)
    near[:, -3:] = 1  # three products that no other source would name first
    found = generate(histories, snapshot, CONFIG, nearest=lambda rows: Scores(near[rows]))
    for row in range(len(users)):
        items = found.items[row]
        assert len(np.unique(items)) == len(items)
        assert set(snapshot.popular[:20]) <= set(items)
        own = np.unique(histories.item[histories.offsets[row] : histories.offsets[row + 1]])
        assert len(np.intersect1d(items, own)) >= min(50, len(own))
        assert {snapshot.n_items - 3, snapshot.n_items - 2, snapshot.n_items - 1} <= set(items) | set(own)
    assert found.features.shape == (len(found.items.values), len(FEATURES))


@pytest.mark.parametrize("source", ["history", "popular", "neighbours", "together"])
def test_a_source_can_be_left_out(grocery: Dataset, source: str):
    histories, snapshot, _ = made(grocery)
    whole, less = (generate(histories, snapshot, config) for config in (CONFIG, replace(CONFIG, **{source: 0})))
    assert len(less.items.values) < len(whole.items.values)
    assert (np.diff(less.items.offsets) > 0).all()


def test_one_shopper_alone_gets_the_same_as_in_a_crowd(grocery: Dataset):
    histories, snapshot, _ = made(grocery)
    whole = generate(histories, snapshot, CONFIG)
    alone = generate(histories.take(np.array([7])), snapshot, CONFIG)
    assert np.array_equal(whole.items[7], alone.items[0])
    span = slice(whole.items.offsets[7], whole.items.offsets[8])
    np.testing.assert_allclose(whole.features[span], alone.features, atol=1e-5)


def test_a_sample_keeps_what_was_bought_and_stands_for_all_candidates(
    grocery: Dataset, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("peftrec.model.candidates.CHUNK", 16)  # rows of a later chunk know what they bought too
    histories, snapshot, _ = made(grocery)
    whole = generate(histories, snapshot, CONFIG)
    random = np.random.default_rng(1)
    sizes = [min(row % 40, len(items)) for row, items in enumerate(whole.items)]
    bought = [
        np.sort(random.choice(items, size, replace=False)) for items, size in zip(whole.items, sizes, strict=True)
    ]
    bought[3] = np.array([0], np.int32) if 0 not in whole.items[3] else np.empty(0, np.int32)  # no candidate: not kept
    sample = generate(histories, snapshot, CONFIG, sample=Sample(30, Ragged.join(bought), np.random.default_rng(0)))
    assert sample.weight is not None
    assert whole.weight is None
    for row, kept in enumerate(sample.items):
        weight = sample.weight[sample.items.offsets[row] : sample.items.offsets[row + 1]]
        case = np.isin(kept, bought[row])
        assert np.isin(kept, whole.items[row]).all()
        assert case.sum() == np.isin(bought[row], whole.items[row]).sum()
        assert len(kept) == min(len(whole.items[row]), max(30, case.sum() + 15))
        assert (weight[case] == 1).all()
        assert weight.sum() == pytest.approx(len(whole.items[row]), rel=1e-5)
    never = FEATURES.index("never_bought")
    estimated = np.average(sample.features[:, never], weights=sample.weight)
    assert estimated == pytest.approx(whole.features[:, never].mean(), abs=0.02)


def test_nothing_is_left_out_of_few_candidates(grocery: Dataset):
    histories, snapshot, _ = made(grocery)
    none = Ragged.join([np.empty(0, np.int32)] * len(histories))
    whole = generate(histories, snapshot, CONFIG)
    sample = generate(histories, snapshot, CONFIG, sample=Sample(100_000, none, np.random.default_rng(0)))
    assert np.array_equal(sample.items.values, whole.items.values)
    assert sample.weight is not None
    assert (sample.weight == 1).all()


def test_what_was_looked_at_lately_is_named_before_what_nobody_touched(grocery: Dataset):
    ids, day = grocery.catalog.ids, datetime(2024, 1, 1)
    seen = [(str(ids[at]), day + timedelta(days=10), "view") for at in range(30)]
    carted = (str(ids[len(ids) - 1]), day + timedelta(days=99), "cart")
    frame = pl.DataFrame([*seen, carted], schema=["item_id", "timestamp", "event"], orient="row")
    shop = Dataset("browsed", grocery.catalog, Events.from_table(frame.with_columns(pl.lit("u").alias("user_id"))))
    moment = float(shop.log.time[-1]) + 1
    histories = Histories.of(shop, np.array([0]), moment=moment)
    found = generate(histories, Snapshot.at(shop, moment), CandidateConfig(history=5))
    assert len(ids) - 1 in found.items[0]
    assert len(found.items[0]) == 5
