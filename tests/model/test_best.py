"""The best of a catalogue are those of a sort, whatever the order they come in."""

import numpy as np
import pytest

from peftrec.model.candidates import best_of


def expected(score: np.ndarray, count: int, allowed: np.ndarray) -> list[int]:
    items = [at for at in range(len(score)) if allowed[at]]
    return sorted(sorted(items, key=lambda at: (-score[at], at))[:count])


@pytest.mark.parametrize("count", [0, 1, 7, 50, 400])
@pytest.mark.parametrize("order", ["drawn", "rising", "falling", "alike"])
def test_the_best_are_those_of_a_sort_and_of_equals_the_first(count: int, order: str):
    random = np.random.default_rng(count)
    score = random.integers(-9, 10, 300).astype(np.float32)  # many equals
    score = {"drawn": score, "rising": np.sort(score), "falling": -np.sort(-score), "alike": score * 0 + 1}[order]
    allowed = random.random(300) < 0.8
    found = best_of(score, count, allowed)
    assert found.dtype == np.int32
    assert sorted(found.tolist()) == expected(score, count, allowed)


def test_nothing_allowed_and_nothing_there_are_nothing():
    assert not len(best_of(np.ones(5, np.float32), 3, np.zeros(5, bool)))
    assert not len(best_of(np.empty(0, np.float32), 3, np.empty(0, bool)))
