"""Numbers as of a moment: known answers, and nothing from later."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from peftrec.data import Catalog, Dataset, Events
from peftrec.data.collaborative import collaborative
from peftrec.data.features import FEATURES, pair_features
from peftrec.data.histories import Histories, Ragged
from peftrec.data.pairs import PAIR_FEATURES, pairs_of
from peftrec.data.panel import DAMPING, RANK, factors_of
from peftrec.data.snapshot import ITEM_FEATURES, Snapshot
from peftrec.data.tokens import EVENT_FEATURES, history_tokens

START = datetime(2024, 1, 1)
MOMENT = pl.Series([START + timedelta(days=100)]).dt.epoch("s")[0] * 1.0


def world(*lines: tuple[str, str, float, str]) -> Dataset:
    """Purchases of (user, item, day, visit), over products a, b and c."""
    frame = pl.DataFrame(
        {
            "user_id": [line[0] for line in lines],
            "item_id": [line[1] for line in lines],
            "timestamp": [START + timedelta(days=line[2]) for line in lines],
            "session_id": [line[3] for line in lines],
        }
    )
    catalog = Catalog.from_table({"item_id": list("abc"), "title": ["tea", "tea", "kettle"]})
    return Dataset("world", catalog, Events.from_table(frame))


def described(dataset: Dataset, user: int, items: list[int]) -> dict[str, np.ndarray]:
    histories = Histories.of(dataset, np.array([user]), moment=MOMENT)
    snapshot = Snapshot.at(dataset, MOMENT)
    candidates = Ragged.join([np.array(items, np.int32)])
    pairs = pairs_of(histories, 3)
    neighbours, together = collaborative(pairs, snapshot)
    at = (candidates.rows, candidates.values)
    values = pair_features(
        histories,
        candidates,
        snapshot,
        pairs=pairs,
        neighbours=neighbours[at],
        together=together[at],
    )
    assert values.shape == (len(items), len(FEATURES))
    assert np.isfinite(values).all()
    return dict(zip(FEATURES, values.T, strict=True))


def test_names_of_features_are_distinct():
    assert len(set(FEATURES)) == len(FEATURES)
    assert len(set(EVENT_FEATURES)) == len(EVENT_FEATURES)


def test_known_answers():
    shop = world(
        ("u", "a", 80, "1"), ("u", "a", 80, "1"), ("u", "a", 90, "2"), ("u", "c", 95, "3"), ("v", "b", 99, "4")
    )
    found = described(shop, 0, [0, 1, 2])
    assert found["times_bought"] == pytest.approx(np.log1p([2, 0, 1]))  # two lines of one visit count once
    assert np.expm1(found["recency"][0]) == pytest.approx(10, rel=1e-4)
    assert np.expm1(found["first_bought"][0]) == pytest.approx(20, rel=1e-4)
    assert np.expm1(found["usual_gap"][0]) == pytest.approx(10, rel=1e-4)
    assert np.expm1(found["visits_since"]) == pytest.approx([1, 400, 0], rel=1e-4)
    assert np.expm1(found["decayed_28d"][0]) == pytest.approx(2 ** (-10 / 28) + 2 ** (-20 / 28), rel=1e-4)
    assert found["never_bought"].tolist() == [0, 1, 0]
    assert found["no_gap"].tolist() == [0, 1, 1]
    assert found["share_of_visits"][0] == pytest.approx(2 / 3)
    assert found["title_never"].tolist() == [0, 0, 0]  # b is tea as well, and u buys tea
    assert found["title_times"] == pytest.approx(np.log1p([0, 2, 0]))  # the product itself is left out
    assert found["buyers_4w"] == pytest.approx(np.log1p([1, 1, 1]))
    assert np.expm1(found["visits"][0]) == pytest.approx(3, rel=1e-5)


def test_known_answers_of_the_last_purchase_and_of_standing():
    moments = [START + timedelta(days=day) for day in (80, 90, 95, 99)]
    events = {"user_id": list("uuuv"), "item_id": list("aacb"), "timestamp": moments, "session_id": list("1234")}
    catalog = {"item_id": list("abc"), "title": ["tea", "tea", "kettle"], "brand": ["x", "y", "x"]}
    details = {"quantity": [1.0, 3.0, 2.0, 1.0], "discount": [0.5, 0.0, 0.2, 0.0]}
    shop = Dataset("world", Catalog.from_table(catalog), Events.from_table({**events, **details}))
    found = described(shop, 0, [0, 1, 2])
    assert found["last_quantity"] == pytest.approx(np.log1p([3, 0, 2]))
    assert found["last_discounted"].tolist() == [0, 0, 1]
    assert found["discounted"] == pytest.approx([0.5, 0, 1])
    a, c = 2 ** (-10 / 28) + 2 ** (-20 / 28), 2 ** (-5 / 28)
    assert found["rank"] == pytest.approx(np.log1p([0, 400, 1]))
    assert found["share_of_purchases"] == pytest.approx(np.sqrt([a / (a + c), 0, c / (a + c)]))
    assert found["share_of_title"] == pytest.approx([1 / 3, 1 / 3, 1 / 2])
    assert found["share_of_variant"] == pytest.approx([1 / 2, 1 / 2, 1 / 2])  # of one brand each
    assert np.expm1(found["title_times"][1]) == pytest.approx(2)
    assert found["variant_never"].tolist() == [0, 1, 0]  # b is of another brand


def test_nothing_after_the_moment_is_seen():
    lines = [("u", "a", 50, "1"), ("u", "b", 60, "2"), ("v", "a", 70, "3"), ("v", "c", 90, "4"), ("u", "a", 99, "5")]
    before = described(world(*lines), 0, [0, 1, 2])
    later = [("u", "c", 100, "6"), ("v", "a", 101, "7"), ("w", "b", 130, "8"), ("u", "b", 140, "9")]
    after = described(world(*lines, *later), 0, [0, 1, 2])
    for name in FEATURES:
        assert np.array_equal(before[name], after[name]), name


def test_nothing_after_the_moment_is_seen_on_real_data(grocery: Dataset):
    past, _ = grocery.split(at="2017-06-01")
    moment = float(past.log.time[-1]) + 1
    users = np.unique(past.log.user)
    for whole, cut in ((grocery, past),):
        assert np.array_equal(Snapshot.at(whole, moment).items, Snapshot.at(cut, moment).items)
        assert np.array_equal(
            Histories.of(whole, users, moment=moment).age, Histories.of(cut, users, moment=moment).age
        )


def test_empty_history_has_documented_values():
    shop = world(("u", "a", 50, "1"))
    histories = replace(Histories.of(shop, np.array([0]), moment=MOMENT - 60 * 86400))
    assert len(histories.item) == 0
    tokens = history_tokens(histories, pairs_of(histories, 3), Snapshot.at(shop, MOMENT), limit=8)
    assert tokens.item.shape == (1, 1)
    assert not tokens.mask.any()
    assert tokens.weight.sum() == 0


def test_history_keeps_what_weighs_most_and_orders_it_by_time():
    shop = world(("u", "a", 10, "1"), ("u", "b", 98, "2"), ("u", "c", 97, "3"), ("u", "c", 99, "4"))
    histories = Histories.of(shop, np.array([0]), moment=MOMENT)
    tokens = history_tokens(histories, pairs_of(histories, 3), Snapshot.at(shop, MOMENT), limit=2)
    assert tokens.item[0].tolist() == [1, 2]
    assert tokens.weight.sum() == pytest.approx(1)
    times = tokens.features[0, :, EVENT_FEATURES.index("times_bought")]
    assert times == pytest.approx(np.log1p([1, 2]))


def test_order_of_pair_features_is_that_of_their_names():
    shop = world(("u", "a", 99, "1"))
    values = pairs_of(Histories.of(shop, np.array([0]), moment=MOMENT), 3).values
    assert values.shape == (1, len(PAIR_FEATURES))
    assert values[0, PAIR_FEATURES.index("bought_4w")] == pytest.approx(np.log(2))


def test_a_new_product_has_no_past():
    shop = world(("u", "a", 99, "1"))
    wider = Snapshot.at(shop, MOMENT).with_new(2)
    assert wider.n_items == 5
    assert wider.items[3:, ITEM_FEATURES.index("never_sold")].tolist() == [1, 1]
    assert wider.buyers[3:].tolist() == [0, 0]


def test_a_shopper_is_no_neighbour_of_itself():
    visits = [
        ("u", "a", 90, "1"),
        ("u", "a", 91, "2"),
        ("u", "a", 92, "1"),
        ("u", "b", 95, "2"),
    ]  # the first two overlap
    shop = world(*visits, ("v", "c", 99, "3"))
    histories = Histories.of(shop, np.array([0]), moment=MOMENT)
    neighbours, together = collaborative(pairs_of(histories, 3), Snapshot.at(shop, MOMENT))
    assert neighbours.sum() == 0  # nobody else is like u
    assert together[0, 2] == 0


def test_explained_is_what_a_regression_on_all_other_products_says():
    random = np.random.default_rng(0)
    lines = [
        (f"u{user:02}", "abc"[item], float(random.integers(1, 99)), f"{user}{at}")
        for user in range(30)
        for at, item in enumerate(random.integers(0, 3, 6))
    ]
    shop, decayed = world(*lines), np.zeros((30, 3))
    for user, item, day, _ in dict.fromkeys(lines):
        decayed[int(user[1:]), "abc".index(item)] += 2 ** (-(100 - day) / 84)
    weights = np.log1p(decayed)
    inverse = np.linalg.inv(weights.T @ weights + DAMPING * np.eye(3))
    between = -inverse / np.diag(inverse)
    np.fill_diagonal(between, 0)
    for user in (0, 7):
        assert np.sinh(described(shop, user, [0, 1, 2])["explained"]) / 100 == pytest.approx(
            weights[user] @ between, rel=1e-4
        )


def test_new_products_and_an_empty_panel_explain_nothing():
    shop = world(("u", "a", 80, "1"), ("u", "b", 90, "2"), ("v", "a", 70, "3"))
    histories, snapshot = Histories.of(shop, np.array([0]), moment=MOMENT), Snapshot.at(shop, MOMENT).with_new(2)
    histories = replace(histories, item=np.array([0, 4], np.int32))  # the second is new as well
    for known in (snapshot, replace(snapshot, panel=replace(snapshot.panel, factors=np.zeros((5, 0), np.float32)))):
        every, none = Ragged.join([np.arange(5, dtype=np.int32)]), np.zeros(5, np.float32)
        values = pair_features(histories, every, known, pairs=pairs_of(histories, 5), neighbours=none, together=none)
        explained = values[:, FEATURES.index("explained")]
        assert explained[[0, 2, 3, 4]] == pytest.approx(0, abs=1e-9)  # a tells nothing of itself
        assert (explained[1] > 1e-6) == (known is snapshot)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_panel_of_few_habits_gives_finite_factors_and_the_same_each_time(rank: int):
    random = np.random.default_rng(0)
    alike = sparse.csr_matrix((random.random((200, rank)) @ random.random((rank, 300))).astype(np.float32))
    single = sparse.csr_matrix(np.eye(300, dtype=np.float32))  # one purchase a shopper: all singular values equal
    for purchases in (alike, single):
        found = factors_of(purchases)
        assert np.isfinite(found).all()
        assert np.array_equal(found, factors_of(purchases))
    _, strength, vectors = np.linalg.svd(alike.toarray(), full_matrices=False)
    damped = strength**2 / (strength**2 + DAMPING)
    found = factors_of(alike)
    np.testing.assert_allclose(found @ found.T, (vectors.T * damped) @ vectors, atol=1e-4)


def test_strongest_vectors_of_a_large_panel_are_those_of_all():
    random = np.random.default_rng(0)
    loud = random.random((200, RANK)) @ random.random((RANK, 300)) + 0.01 * random.random((200, 300))
    _, strength, vectors = np.linalg.svd(loud, full_matrices=False)
    damped = strength**2 / (strength**2 + DAMPING)
    expected = (vectors[:RANK].T * damped[:RANK]) @ vectors[:RANK]
    found = factors_of(sparse.csr_matrix(loud.astype(np.float32)))
    assert found.shape == (300, RANK)
    np.testing.assert_allclose(found @ found.T, expected, atol=2e-4)
    assert np.array_equal(found, factors_of(sparse.csr_matrix(loud.astype(np.float32))))
