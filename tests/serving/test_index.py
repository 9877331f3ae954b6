"""The approximate index: what it finds, what rules leave, what is new, what lies on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.model.candidates import best_of
from peftrec.model.platform import unit
from peftrec.serving import index as module
from peftrec.serving.index import ItemIndex

COUNT, HIDDEN = 30_000, 48


@pytest.fixture(scope="module")
def world() -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Vectors of texts in clusters, products that share texts, and popularity as skewed as in a shop."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(300, HIDDEN))
    vectors = unit(
        (centres[random.integers(300, size=COUNT // 2)] + 0.6 * random.normal(size=(COUNT // 2, HIDDEN))).astype(
            np.float32
        )
    )
    text_of = random.integers(len(vectors), size=COUNT).astype(np.int32)
    popularity = np.log1p(random.zipf(1.6, size=COUNT).clip(max=2000) - 1).astype(np.float32)
    return vectors, text_of, popularity


@pytest.fixture(scope="module")
def index(world: tuple, tmp_path_factory: pytest.TempPathFactory) -> ItemIndex:
    return ItemIndex.build(*world, tmp_path_factory.mktemp("index"))


def _scorer(
    world: tuple, query: NDArray[np.float32], beta: float
) -> Callable[[NDArray[np.integer]], NDArray[np.float32]]:
    vectors, text_of, popularity = world
    return lambda items: vectors[text_of[items]] @ query + beta * popularity[items]


def _queries(world: tuple, count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(1)
    vectors = world[0]
    mixed = vectors[random.integers(len(vectors), size=(count, 3))].mean(axis=1)
    return (12 * mixed).astype(np.float32)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_nearly_all_of_the_closest_are_found(index: ItemIndex, world: tuple, beta: float):
    every, found = np.ones(COUNT, bool), []
    for query in _queries(world, 50):
        score = _scorer(world, query, beta)
        exact = best_of(score(np.arange(COUNT)), 100, every)
        named = index.top(query, beta, 100, every, score)
        assert len(named) == len(set(named)) == 100
        assert (np.diff(score(named)) <= 0).all()
        found.append((score(named) >= score(exact).min() - 1e-5).mean())  # products of one text are equals
    assert np.mean(found) >= 0.96


def test_rules_that_leave_few_or_far_products_are_kept_and_lose_none(index: ItemIndex, world: tuple):
    query = _queries(world, 1)[0]
    score = _scorer(world, query, 0.3)
    order = np.argsort(score(np.arange(COUNT)))
    for left in (0, 3, 50, 4_000):  # the farthest ones, which lie in lists that are read last
        allowed = np.zeros(COUNT, bool)
        allowed[order[:left]] = True
        named = index.top(query, 0.3, 20, allowed, score)
        assert len(named) == min(left, 20)
        assert allowed[named].all()


def test_what_came_or_changed_since_is_found_at_once(index: ItemIndex, world: tuple):
    vectors, text_of, popularity = world
    query = _queries(world, 1)[0]
    vectors = np.concatenate([vectors, unit(query[None])])
    text_of, popularity = (
        np.append(text_of, len(vectors) - 1).astype(np.int32),
        np.append(popularity, 0).astype(np.float32),
    )
    changed = 17
    text_of = text_of.copy()
    text_of[changed] = len(vectors) - 1
    newer = index.with_fresh(np.array([changed, COUNT], np.int32))
    score = _scorer((vectors, text_of, popularity), query, 0.0)
    named = newer.top(query, 0.0, 5, np.ones(COUNT + 1, bool), score)
    assert set(named[:2]) == {changed, COUNT}
    allowed = np.ones(COUNT + 1, bool)
    allowed[[changed, COUNT]] = False
    assert not np.isin([changed, COUNT], newer.top(query, 0.0, 5, allowed, score)).any()
    assert not index.fresh.size
    assert newer.with_fresh(np.arange(5_000, dtype=np.int32)).is_worn
    assert not newer.is_worn


def test_it_is_built_once_and_mapped_after(world: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = ItemIndex.build(*world, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".faiss"]

    def never(*_: object) -> None:
        raise AssertionError("built again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_built", never)
        again = ItemIndex.build(*world, tmp_path)
    query, every = _queries(world, 1)[0], np.ones(COUNT, bool)
    score = _scorer(world, query, 0.3)
    assert (first.top(query, 0.3, 50, every, score) == again.top(query, 0.3, 50, every, score)).all()


def test_a_damaged_file_is_built_anew_and_old_ones_leave(
    world: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    vectors, text_of, popularity = world
    for day in range(5):
        ItemIndex.build(vectors, text_of, popularity + np.float32(day), tmp_path)
    assert len([*tmp_path.iterdir()]) == 3
    newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:1000])
    found = ItemIndex.build(vectors, text_of, popularity + np.float32(4), tmp_path)
    assert len(found) == COUNT
    assert "built anew" in caplog.text


def test_where_nothing_can_be_written_it_stays_in_memory(
    world: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("in the way")
    found = ItemIndex.build(*world, tmp_path / "file" / "index")
    assert len(found) == COUNT
    assert "stays in memory" in caplog.text
