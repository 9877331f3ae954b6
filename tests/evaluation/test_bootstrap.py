"""Intervals hold what they promise, and pairing sharpens them."""

import numpy as np
import pytest

from peftrec.errors import InvalidValueError
from peftrec.evaluation import bootstrap_mean, paired_bootstrap
from peftrec.evaluation.bootstrap import Interval, resampled_sums


def test_the_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        found = bootstrap_mean(rng.gamma(2, 0.1, size=200), n=500, seed=trial)
        covered += found.low <= 0.2 <= found.high
    assert 0.91 <= covered / 400 <= 0.98  # three standard errors about 0.945


def test_the_width_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(size=2000)
    found = bootstrap_mean(values)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(2000), rel=0.1)


def test_pairing_finds_a_difference_that_the_single_intervals_hide():
    rng = np.random.default_rng(2)
    ease = rng.beta(2, 2, size=1000)  # what makes a shopper easy, for both alike
    a, b = ease + 0.01 + rng.normal(0, 0.02, 1000), ease + rng.normal(0, 0.02, 1000)
    difference, low, high = paired_bootstrap(a, b)
    assert 0 < low < difference < high
    assert bootstrap_mean(a).low < bootstrap_mean(b).high


def test_equal_systems_differ_by_nothing():
    values = np.random.default_rng(3).random(50)
    assert paired_bootstrap(values, values.copy()) == (0, 0, 0)


def test_swapping_the_sides_changes_the_sign():
    rng = np.random.default_rng(4)
    a, b = rng.random(100), rng.random(100)
    there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    np.testing.assert_allclose([there.value, there.low, there.high], [-back.value, -back.high, -back.low], atol=1e-12)


def test_the_seed_decides_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(5).random((30, 2))
    whole = resampled_sums(values, n=100, seed=7)
    assert not np.array_equal(whole, resampled_sums(values, n=100, seed=8))
    monkeypatch.setattr("peftrec.evaluation.bootstrap._CELLS", 300)
    np.testing.assert_allclose(resampled_sums(values, n=100, seed=7), whole)


@pytest.mark.parametrize("values", [np.empty(0), np.array([0.5, np.nan]), np.zeros((2, 2))])
def test_values_without_a_mean_are_refused(values: np.ndarray):
    with pytest.raises(InvalidValueError, match="cannot take the mean"):
        bootstrap_mean(values)


def test_lengths_must_agree():
    with pytest.raises(InvalidValueError, match="3 values are to be compared with 2"):
        paired_bootstrap(np.zeros(3), np.zeros(2))


def test_an_interval_prints_as_one():
    assert f"{Interval(0.45312, 0.44, 0.46601):.3f}" == "0.453 [0.440, 0.466]"
