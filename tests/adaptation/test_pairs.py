"""Which texts go together, in small shops with known answers and in real baskets."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from peftrec.adaptation import CoPurchases, copurchase_auc
from peftrec.adaptation.pairs import Baskets
from peftrec.data import Catalog, Dataset, Events
from peftrec.errors import ConfigError, NotEnoughDataError
from peftrec.text import ProductTemplate

START = datetime(2024, 1, 1, tzinfo=UTC)
Lines = list[tuple[str, str, float]]


def shop(lines: Lines, titles: dict[str, str] | str, *, kind: str = "purchase") -> Dataset:
    """A shop from (shopper, product, minute) triples; a shopper's events within half an hour are one visit."""
    named = {item: item for item in titles} if isinstance(titles, str) else titles
    user, item, minute = zip(*lines, strict=True)
    table = {"user_id": list(user), "item_id": list(item), "event": [kind] * len(lines)}
    table["timestamp"] = [START + timedelta(minutes=at) for at in minute]
    return Dataset(
        "shop", Catalog.from_table({"item_id": [*named], "title": [*named.values()]}), Events.from_table(table)
    )


def baskets(dataset: Dataset, keep: Callable[[str], bool] | None = None) -> Baskets:
    return Baskets.of(dataset, ProductTemplate(), keep=keep)


def drawn(found: Baskets, anchors: list[str], seed: int = 0) -> list[tuple[str, str, str, bool]]:
    """(first, second, other, together) of each anchor."""
    index = np.array([found.texts.index(text) for text in anchors])
    pairs = found.draw(index, np.random.default_rng(seed))
    columns = (pairs.first, pairs.second, pairs.other)
    named = [[found.texts[at] if at >= 0 else "" for at in column] for column in columns]
    return list(zip(*named, pairs.together.tolist(), strict=True))


def test_what_was_bought_earlier_comes_first():
    found = baskets(shop([("u", "a", 0), ("u", "b", 5), ("v", "c", 0), ("v", "d", 0)], "abcd"))
    assert {row[:2] for row in drawn(found, ["a", "b"] * 20)} == {("a", "b")}
    assert drawn(found, ["c"])[0][:2] == ("c", "d")  # one moment: no order, so the anchor comes first
    assert drawn(found, ["d"])[0][:2] == ("d", "c")


def test_pairs_stay_within_a_visit():
    found = baskets(shop([("u", "a", 0), ("u", "b", 1), ("u", "c", 200), ("u", "d", 201), ("v", "e", 0)], "abcde"))
    assert {row[:2] for row in drawn(found, ["a", "c"] * 20)} == {("a", "b"), ("c", "d")}


def test_a_popular_product_does_not_drown_the_others():
    lines: Lines = [(f"u{row}", "a", 0) for row in range(500)] + [(f"u{row}", "b", 0) for row in range(500)]
    found = baskets(shop([*lines, ("rare", "c", 0), ("rare", "d", 0)], "abcd"))
    pairs = found.draw(np.tile(np.arange(4), 100), np.random.default_rng(0))
    assert np.bincount(pairs.first).tolist() == [100] * 4


def test_a_text_bought_alone_is_paired_with_what_does_not_follow():
    found = baskets(shop([("u", "a", 0), ("u", "b", 0), ("v", "c", 0)], "abcd"))
    rows = drawn(found, ["c", "d"] * 50)
    assert {row[3] for row in rows} == {False}
    assert all(row[0] == row[1] for row in rows)
    assert {row[2] for row in rows} <= {"a", "b", "c", "d"}
    assert all(row[2] not in ("", row[0]) for row in rows)


def test_negatives_are_not_in_the_visit():
    lines: Lines = [("u", "a", 0), ("u", "b", 0), ("u", "c", 0), ("v", "d", 0), ("v", "e", 0)]
    rows = drawn(baskets(shop(lines, "abcde")), [*"abcde"] * 40)
    assert {row[2] for row in rows if row[0] in "abc"} == {"d", "e"}
    assert {row[2] for row in rows if row[0] in "de"} == {"a", "b", "c"}


def test_where_everything_was_in_the_visit_there_is_no_negative():
    assert drawn(baskets(shop([("u", "a", 0), ("u", "b", 0)], "ab")), ["a", "b"]) == [
        ("a", "b", "", True),
        ("b", "a", "", True),
    ]


def test_negatives_are_as_popular_as_what_follows():
    rng = np.random.default_rng(0)
    lines: Lines = []
    for visit in range(400):
        lines += [(f"u{visit}", item, 0.0) for item in {"a", *rng.choice([*"bcdefghij"], 1)}]
        lines += [(f"v{visit}", item, 0.0) for item in {"k", *rng.choice([*"lmnopqrst"], 1)}]
    found = baskets(shop(lines, "abcdefghijklmnopqrst"))
    pairs = found.draw(np.tile(np.arange(20), 50), np.random.default_rng(0))
    popular = [found.texts.index(text) for text in "ak"]
    assert np.isin(pairs.second, popular).mean() == pytest.approx(0.9)
    assert np.isin(pairs.other, popular).mean() > 0.75  # 0.1 where all texts were drawn evenly


def test_one_text_bought_twice_is_one_line():
    found = baskets(shop([("u", "a", 0), ("u", "b", 1), ("u", "c", 2)], {"a": "tea", "b": "tea", "c": "pot"}))
    assert found.texts == ["pot", "tea"]
    assert len(found.line) == 2
    assert drawn(found, ["tea"] * 5)[0][:2] == ("tea", "pot")


def test_products_without_words_and_other_events_are_left_out():
    dataset = shop([("u", "a", 0), ("u", "b", 1), ("u", "c", 2)], "abc")
    frame = dataset.catalog.frame.with_columns(category=pl.Series(["tea", None, "pot"]))
    found = Baskets.of(replace(dataset, catalog=Catalog(frame)), ProductTemplate(first=("category",), skip=("title",)))
    assert found.texts == ["pot", "tea"]
    assert drawn(found, ["tea"])[0][:2] == ("tea", "pot")
    viewed = baskets(shop([("u", "a", 0), ("u", "b", 1)], "abc", kind="view"))
    assert viewed.texts == ["a", "b", "c"]
    assert not len(viewed.line)
    assert not drawn(viewed, ["a"])[0][3]


def test_in_a_log_of_single_purchases_neighbours_in_time_go_together():
    lines: Lines = [("u", item, 10_000.0 * day) for day, item in enumerate("abcda")]
    found = baskets(shop([*lines, ("v", "e", 0), ("v", "f", 10_000)], "abcdef"))
    rows = drawn(found, [*"abcdef"] * 40)
    assert {row[:2] for row in rows} == {("a", "b"), ("b", "c"), ("c", "d"), ("e", "f")}
    assert all(row[2] not in row[:2] for row in rows)


def test_texts_that_are_not_kept_appear_nowhere():
    lines: Lines = [("u", "a", 0), ("u", "b", 0), ("u", "c", 0), ("v", "a", 0), ("v", "d", 0)]
    found = baskets(shop(lines, "abcd"), keep=lambda text: text != "a")
    assert found.texts == ["b", "c", "d"]
    assert {row[:2] for row in drawn(found, ["b", "c"] * 10)} == {("b", "c"), ("c", "b")}
    assert not drawn(found, ["d"])[0][3]


def test_draws_depend_on_the_seed_alone():
    found = baskets(shop([("u", item, 0) for item in "abcdef"], "abcdef"))
    assert drawn(found, [*"abcdef"] * 5, seed=1) == drawn(found, [*"abcdef"] * 5, seed=1)
    assert drawn(found, [*"abcdef"] * 5, seed=1) != drawn(found, [*"abcdef"] * 5, seed=2)


def test_in_real_baskets_every_draw_was_bought_in_one_visit(grocery: Dataset):
    found = baskets(grocery)
    rendered = ProductTemplate().render(grocery.catalog.frame).to_list()
    visits: dict[int, set[str]] = {}
    for item, session in zip(grocery.log.item, grocery.log.session, strict=True):
        visits.setdefault(int(session), set()).add(rendered[item])
    of_text: dict[str, list[set[str]]] = {}
    for visit in visits.values():
        for text in visit:
            of_text.setdefault(text, []).append(visit)
    anchors = np.arange(len(found.texts))
    pairs = found.draw(anchors, np.random.default_rng(0))
    assert pairs.together.mean() > 0.99
    for first, second in zip(pairs.first[pairs.together], pairs.second[pairs.together], strict=True):
        assert first != second
        assert any(found.texts[second] in visit for visit in of_text[found.texts[first]])
    assert np.all((pairs.first == anchors) | (pairs.second == anchors))
    assert np.all(pairs.other != anchors)


def test_held_out_pairs_are_bought_together_as_often_as_they_are_bought():
    lines: Lines = [(f"u{row}", item, 0) for row in range(90) for item in "ab"] + [("v", "c", 0), ("v", "d", 0)]
    found = baskets(shop(lines, "abcde")).copurchases(100, seed=1)
    named = {(found.texts[a], found.texts[b]) for a, b in zip(found.first, found.second, strict=True)}
    assert named <= {("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")}
    assert len(found.first) == 100
    assert found.counts.tolist() == [90, 90, 1, 1, 0]
    assert len(baskets(shop(lines, "abcde")).copurchases(10_000).first) == 182


@pytest.fixture
def two_tastes() -> CoPurchases:
    lines: Lines = [(f"u{row}", item, 0) for row in range(20) for item in "ab"]
    lines += [(f"v{row}", item, 0) for row in range(20) for item in "cd"]
    return baskets(shop(lines, "abcd")).copurchases(100)


def test_vectors_that_know_the_tastes_are_right_always(two_tastes: CoPurchases):
    found = copurchase_auc(np.array([[1, 0], [2, 0.1], [0, 1], [0.1, 3]], np.float32), two_tastes, top=1)
    assert (found.auc, found.recall, found.reciprocal_rank) == (1, 1, 1)


def test_vectors_that_mix_the_tastes_are_wrong_always(two_tastes: CoPurchases):
    cosines = np.array([[1, -0.4, 0.4, 0], [-0.4, 1, 0, 0.4], [0.4, 0, 1, -0.4], [0, 0.4, -0.4, 1]])
    found = copurchase_auc(np.linalg.cholesky(cosines).astype(np.float32), two_tastes, top=2)
    assert (found.auc, found.recall) == (0, 0)
    assert found.reciprocal_rank == pytest.approx(1 / 3)  # the last of three


def test_vectors_that_say_nothing_are_chance(two_tastes: CoPurchases):
    assert copurchase_auc(np.ones((4, 2), np.float32), two_tastes).auc == 0.5


def test_what_cannot_be_compared_is_refused(two_tastes: CoPurchases):
    with pytest.raises(ConfigError, match="3 vectors for 4 texts"):
        copurchase_auc(np.ones((3, 2), np.float32), two_tastes)
    nothing = CoPurchases(two_tastes.texts, two_tastes.counts, np.empty(0, np.int64), np.empty(0, np.int64))
    with pytest.raises(NotEnoughDataError, match="0 pairs"):
        copurchase_auc(np.ones((4, 2), np.float32), nothing)
