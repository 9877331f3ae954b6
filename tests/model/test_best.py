"""The best of a catalogue are found in one pass, whatever the order they come in."""

import numpy as np
import pytest

from peftrec.model.best import best_of


def expected(score: np.ndarray, count: int, allowed: np.ndarray, above: float) -> list[int]:
    items = [at for at in range(len(score)) if allowed[at] and score[at] > above]
    return sorted(sorted(items, key=lambda at: (-score[at], at))[:count])


@pytest.mark.parametrize("count", [0, 1, 7, 50, 400])
@pytest.mark.parametrize("above", [-np.inf, 0.0])
@pytest.mark.parametrize("order", ["drawn", "rising", "falling", "alike"])
def test_the_best_are_those_of_a_sort_and_of_equals_the_first(count: int, above: float, order: str):
    random = np.random.default_rng(count)
    score = random.integers(-9, 10, 300).astype(np.float32)  # many equals
    score = {"drawn": score, "rising": np.sort(score), "falling": -np.sort(-score), "alike": score * 0 + 1}[order]
    allowed = random.random(300) < 0.8
    found = best_of(score, count, allowed, above=above)
    assert found.dtype == np.int32
    assert found.tolist() == expected(score, count, allowed, above)


def test_nothing_allowed_and_nothing_there_are_nothing():
    assert not len(best_of(np.ones(5, np.float32), 3, np.zeros(5, bool)))
    assert not len(best_of(np.empty(0, np.float32), 3, np.empty(0, bool)))
    assert not len(best_of(np.full(5, -np.inf, np.float32), 3, np.ones(5, bool)))


def test_every_other_score_of_an_array_can_be_asked():
    score = np.arange(20, dtype=np.float32)[::2]
    assert best_of(score, 2, np.ones(20, bool)[::2]).tolist() == [8, 9]
