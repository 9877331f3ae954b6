"""Signals beside purchases: what was looked at, where a visit came from, prices among their like, coupons."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from peftrec.data import Catalog, Coupons, Dataset, Events
from peftrec.data.browsing import BROWSING_FEATURES
from peftrec.data.collaborative import collaborative
from peftrec.data.columns import STRENGTHS
from peftrec.data.features import FEATURES, SHOPPER_FEATURES, pair_features
from peftrec.data.histories import Histories, Ragged
from peftrec.data.log import kind_of
from peftrec.data.pairs import PAIR_FEATURES, pairs_of
from peftrec.data.snapshot import ITEM_FEATURES, Snapshot
from peftrec.data.tokens import EVENT_FEATURES, history_tokens
from peftrec.errors import InvalidValueError, SchemaError, UnknownItemError

START = datetime(2024, 1, 1)
MOMENT = pl.Series([START + timedelta(days=100)]).dt.epoch("s")[0] * 1.0
CATALOG = {
    "item_id": list("abc"),
    "title": ["green tea", "black tea", "kettle"],
    "category": ["tea", "tea", "kitchen"],
    "price": [2.0, None, 30.0],
}


def world(rows: Sequence[dict[str, object]], coupons: Coupons | None = None) -> Dataset:
    """Events of ``user_id, item_id, day`` and anything else, over products a, b and c."""
    frame = pl.DataFrame([{"user_id": "u", **row} for row in rows], infer_schema_length=None)
    frame = frame.with_columns((pl.lit(START) + pl.duration(seconds=pl.col("day") * 86_400)).alias("timestamp"))
    return Dataset(
        "world", Catalog.from_table(CATALOG), Events.from_table(frame.drop("day").sort("timestamp")), coupons=coupons
    )


def described(dataset: Dataset, user: int = 0, moment: float = MOMENT) -> dict[str, NDArray[np.float32]]:
    """Features of all three products for one shopper."""
    histories = Histories.of(dataset, np.array([user]), moment=moment)
    snapshot = Snapshot.at(dataset, moment)
    candidates = Ragged.join([np.arange(3, dtype=np.int32)])
    pairs = pairs_of(histories, 3)
    scores = [score[candidates.rows, candidates.values] for score in collaborative(pairs, snapshot)]
    values = pair_features(histories, candidates, snapshot, pairs=pairs, neighbours=scores[0], together=scores[1])
    assert np.isfinite(values).all()
    return dict(zip(FEATURES, values.T, strict=True))


def words(dataset: Dataset) -> dict[str, NDArray[np.float32]]:
    """Features of the shopper's words, by product."""
    histories = Histories.of(dataset, np.array([0]), moment=MOMENT)
    tokens = history_tokens(histories, pairs_of(histories, 3), Snapshot.at(dataset, MOMENT), limit=8)
    order = np.argsort(tokens.item[0][tokens.mask[0]])
    return dict(zip(EVENT_FEATURES, tokens.features[0][tokens.mask[0]][order].T, strict=True))


def decay(days: float, half_life: float = 7) -> float:
    return float(2 ** (-days / half_life))


BROWSED = [
    {"item_id": "a", "day": 90, "event": "view", "dwell_seconds": 30.0},
    {"item_id": "a", "day": 93, "event": "cart", "dwell_seconds": 10.0},
    {"item_id": "b", "day": 95, "event": "click"},
    {"item_id": "b", "day": 96, "event": "purchase"},
    {"item_id": "b", "day": 98, "event": "favourite"},
]


def test_each_kind_of_event_leaves_its_own_trace():
    found = described(world(BROWSED))
    assert np.expm1(found["viewed"]) == pytest.approx([decay(10), 0, 0], rel=1e-4)
    assert np.expm1(found["clicked"]) == pytest.approx([0, decay(5), 0], rel=1e-4)
    assert np.expm1(found["favoured"]) == pytest.approx([0, decay(2), 0], rel=1e-4)
    assert np.expm1(found["carted"]) == pytest.approx([decay(7), 0, 0], rel=1e-4)
    assert np.expm1(found["touched"]) == pytest.approx([7, 2, 400], rel=1e-4)
    assert np.expm1(found["dwell"]) == pytest.approx([30 * decay(10) + 10 * decay(7), 0, 0], rel=1e-4)
    view, click, favourite, cart, _ = STRENGTHS
    interest = [view * decay(10, 28) + cart * decay(7, 28), click * decay(5, 28) + favourite * decay(2, 28), 0]
    assert np.expm1(found["interest"]) == pytest.approx(interest, rel=1e-4)
    # Of b, only what came after its purchase is still unmet.
    since = [view * decay(10) + cart * decay(7), favourite * decay(2), 0]
    assert np.expm1(found["since_bought"]) == pytest.approx(since, rel=1e-4)
    assert found["never_bought"].tolist() == [1, 0, 1]


def test_purchases_alone_leave_no_trace_of_browsing():
    found = described(world([{"item_id": "a", "day": 90}, {"item_id": "b", "day": 95}]))
    for name in (*BROWSING_FEATURES, "viewers_1w", "conversion", "browsed_1w", "coupon", "coupon_days", "coupons"):
        expected = np.log1p(400) if name == "touched" else 0
        assert found[name] == pytest.approx([expected] * 3), name


def test_the_latest_visit_tells_how_long_it_was():
    rows = [*BROWSED, {"item_id": "c", "day": 99, "event": "view"}, {"item_id": "a", "day": 99.01, "event": "view"}]
    found = described(world(rows))
    assert np.expm1(found["last_seen"][0]) == pytest.approx(0.99, rel=1e-3)
    assert np.expm1(found["pages_last_visit"][0]) == pytest.approx(2)
    assert np.expm1(found["browsed_1w"][0]) == pytest.approx(5)
    assert np.expm1(found["page"]) == pytest.approx([(1 + 1 + 2) / 3, 1, 1], rel=1e-4)


def test_lookers_and_buyers_of_a_product():
    rows = [
        *({"user_id": f"v{n}", "item_id": "a", "day": 98, "event": "view"} for n in range(3)),
        {"user_id": "v1", "item_id": "a", "day": 98.1, "event": "view"},
        {"user_id": "v1", "item_id": "a", "day": 99, "event": "purchase"},
        {"user_id": "v2", "item_id": "a", "day": 50, "event": "click"},
        {"user_id": "v9", "item_id": "b", "day": 101, "event": "view"},  # later
    ]
    found = described(world(rows))
    assert np.expm1(found["viewers_1w"]) == pytest.approx([3, 0, 0])
    assert np.exp(found["conversion"]) == pytest.approx([2 / 4, 1, 1])


def test_prices_stand_among_those_of_their_category():
    rows = [{"item_id": "a", "day": 90, "price": 4.0}, {"item_id": "b", "day": 92, "price": 1.0}]
    found = described(world(rows))["price_in_category"]
    assert np.exp(found) == pytest.approx([4 / 2.5, 1 / 2.5, 1])
    catalogue_only = described(world([{"item_id": "b", "day": 92, "price": 4.0}]))["price_in_category"]
    assert np.exp(catalogue_only) == pytest.approx([2 / 3, 4 / 3, 1])
    unknown = described(world([{"item_id": "c", "day": 92}]))["price_in_category"]
    assert np.exp(unknown) == pytest.approx([1, 1, 1])


def given(*spans: tuple[str, int, int], products: Sequence[str] = ("a",)) -> Coupons:
    """One campaign for each (shopper, first day, first day after)."""
    return Coupons.from_tables(
        {
            "campaign_id": [n for n in range(len(spans)) for _ in products],
            "item_id": [item for _ in spans for item in products],
        },
        {
            "campaign_id": list(range(len(spans))),
            "user_id": [user for user, _, _ in spans],
            "start": [START + timedelta(days=first) for _, first, _ in spans],
            "end": [START + timedelta(days=end) for _, _, end in spans],
        },
    )


def test_a_coupon_counts_for_its_shopper_its_product_and_its_days():
    rows = [{"item_id": "a", "day": 90}, {"user_id": "v", "item_id": "b", "day": 91}]
    shop = world(rows, given(("u", 95, 110), ("u", 99, 102), ("u", 80, 100), ("u", 101, 120), ("v", 80, 90)))
    mine = described(shop, 0)
    assert mine["coupon"].tolist() == [1, 0, 0]
    assert np.expm1(mine["coupon_days"]) == pytest.approx([10 + 2, 0, 0], rel=1e-4)
    assert np.expm1(mine["coupons"]) == pytest.approx([2, 2, 2], rel=1e-4)
    assert described(shop, 1)["coupon"].tolist() == [0, 0, 0]
    assert np.expm1(words(shop)["coupon_days"]) == pytest.approx([12], rel=1e-4)


def test_a_campaign_given_twice_is_one_whose_days_add_up():
    coupons = given(("u", 95, 110))
    again = coupons.recipients.with_columns(pl.col("end") - pl.duration(days=7))
    shop = world([{"item_id": "a", "day": 90}], replace(coupons, recipients=pl.concat([coupons.recipients, again])))
    held = Histories.of(shop, np.array([0]), moment=MOMENT).coupons
    assert held is not None
    assert held.count.tolist() == [1]
    assert held.days(np.array([0]), np.array([0])).tolist() == [10 + 3]


def test_rows_of_histories_keep_their_coupons():
    rows = [{"user_id": user, "item_id": "a", "day": 90} for user in "uvw"]
    shop = world(rows, given(("v", 95, 110), ("w", 95, 104)))
    histories = Histories.of(shop, np.arange(3), moment=MOMENT).take(np.array([2, 0, 1]))
    assert histories.coupons is not None
    days = histories.coupons.days(np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1]))
    assert days.tolist() == [4, 0, 10, 0]
    new_product = histories.coupons.days(np.array([2]), np.array([3]))
    assert new_product.tolist() == [0]
    joined = Histories.join([histories.take(np.array([row])) for row in range(3)])
    assert joined.coupons is not None
    np.testing.assert_array_equal(joined.coupons.days(np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1])), days)


def test_coupons_follow_a_data_set_through_its_parts():
    rows = [
        {"user_id": user, "item_id": item, "day": day}
        for day, (user, item) in enumerate(zip("uvu", "abc", strict=True))
    ]
    shop = world(rows, given(("u", 0, 5), products="ab"))
    assert replace(shop, coupons=None).digest != shop.digest
    past, future = shop.split(at=START + timedelta(days=1))
    assert past.coupons is future.coupons is shop.coupons
    tea = shop.segment(by="category")["tea"]
    assert tea.coupons is not None
    assert tea.coupons.products["item_id"].to_list() == ["a", "b"]
    assert tea.coupon_log is not None


def test_coupons_of_unknown_products_are_left_out_and_counted():
    coupons = given(("u", 0, 5), products=("a", "zz"))
    events = {"user_id": ["u"], "item_id": ["a"], "timestamp": ["2024-01-01"]}
    shop = Dataset.build(name="shop", catalog=CATALOG, events=events, coupons=coupons)
    assert shop.report is not None
    count = next(entry for entry in shop.report.counts if entry.rule == "unknown_coupon")
    assert (count.rows, count.action, count.example) == (1, "left out", "row 1: item_id 'zz'")
    with pytest.raises(UnknownItemError, match="'zz'"):
        replace(shop, coupons=coupons)


def test_broken_coupons_are_refused():
    with pytest.raises(InvalidValueError, match=r"row 0 of the coupon recipients .* end '2024-01-03"):
        given(("u", 5, 2))
    with pytest.raises(InvalidValueError, match=r"coupon products .* item_id"):
        Coupons.from_tables(
            {"campaign_id": ["1"], "item_id": [None]},
            {"campaign_id": ["1"], "user_id": ["u"], "start": ["2024-01-01"], "end": ["2024-01-02"]},
        )
    with pytest.raises(SchemaError, match="campaign_id"):
        Coupons.from_tables({"item_id": ["a"]}, {"user_id": ["u"]})
    with pytest.raises(SchemaError, match=r"from_tables|not a table"):
        Coupons(pl.DataFrame({"x": [1]}), pl.DataFrame({"x": [1]}))


def test_words_carry_what_was_done_and_what_the_product_is_now():
    found = words(world([*BROWSED, {"item_id": "a", "day": 99, "event": "purchase", "price": 3.0}]))
    assert set(found) == {*EVENT_FEATURES}
    assert np.expm1(found["carted"]) == pytest.approx([decay(7), 0], rel=1e-4)
    assert np.exp(found["price_in_category"][0]) == pytest.approx(1)


def test_words_know_the_channel_their_latest_visit_came_by():
    rows = [
        {"item_id": "a", "day": 90, "event": "view", "channel": "email"},
        {"item_id": "a", "day": 95, "event": "view", "channel": "search"},
        {"item_id": "b", "day": 95.001, "event": "view", "channel": None},
        {"item_id": "c", "day": 97, "event": "view", "channel": None},
    ]
    shop = world(rows)
    histories = Histories.of(shop, np.array([0]), moment=MOMENT)
    tokens = history_tokens(histories, pairs_of(histories, 3), Snapshot.at(shop, MOMENT), limit=8)
    entries = dict(zip(tokens.item[0].tolist(), tokens.entry[0].tolist(), strict=True))
    assert entries == {0: kind_of("search"), 1: kind_of("search"), 2: -1}


def test_nothing_after_the_moment_is_seen():
    before = [*BROWSED, {"user_id": "v", "item_id": "c", "day": 97, "event": "view"}]
    later = [
        {"item_id": "c", "day": 100.5, "event": "cart", "dwell_seconds": 99.0},
        {"user_id": "v", "item_id": "a", "day": 101, "event": "purchase"},
        {"item_id": "a", "day": 100.001, "event": "view"},
    ]
    early, late = described(world(before)), described(world([*before, *later]))
    for name in FEATURES:
        assert np.array_equal(early[name], late[name]), name


def test_names_of_features_are_in_their_places():
    assert PAIR_FEATURES[-len(BROWSING_FEATURES) :] == BROWSING_FEATURES
    assert {"coupons", "last_seen"} <= {*SHOPPER_FEATURES}
    assert {"price_in_category", "viewers_1w", "conversion"} <= {*ITEM_FEATURES}
