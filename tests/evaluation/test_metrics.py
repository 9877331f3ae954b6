"""Metrics against scikit-learn, and against numbers worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from peftrec.errors import InvalidValueError
from peftrec.evaluation.metrics import (
    Calibration,
    Places,
    check_scores,
    descending_ranks,
    hit_rate,
    ndcg,
    recall,
    reciprocal_rank,
    user_auc,
    user_log_loss,
)


def placed(*ranks: list[int]) -> Places:
    """One shopper per list of ranks, 0 meaning not ranked."""
    row = np.repeat(np.arange(len(ranks)), [len(one) for one in ranks])
    return Places.of(row, np.concatenate(ranks))


def naive_ranks(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    ranks = np.zeros(scores.shape, np.int32)
    for row, values in enumerate(scores):
        order = sorted(range(len(values)), key=lambda item: (-values[item], item))
        for rank, item in enumerate(order, start=1):
            ranks[row, item] = rank if values[item] > -np.inf else 0
    return ranks


def test_ranks_equal_a_plain_sort_with_ties_signs_and_infinities():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 60)).astype(np.float32)
    scores[10:20] = rng.integers(-2, 3, size=(10, 60))  # many ties
    scores[20:30][rng.random((10, 60)) < 0.5] = -np.inf
    scores[30] *= 1e-42  # subnormal
    scores[31] *= 1e38
    np.testing.assert_array_equal(descending_ranks(scores), naive_ranks(scores))


def test_zero_and_minus_zero_tie():
    assert descending_ranks(np.array([[-0.0, 0.0, -0.0]], np.float32)).tolist() == [[1, 2, 3]]


def test_scores_are_not_changed():
    scores = np.array([[1.0, -0.0, -np.inf]], np.float32)
    before = scores.copy()
    descending_ranks(scores)
    np.testing.assert_array_equal(scores.view(np.int32), before.view(np.int32))


@pytest.mark.parametrize("k", [1, 3, 10, 50])
def test_ndcg_equals_scikit_learn(k: int):
    rng = np.random.default_rng(k)
    scores = rng.permuted(np.tile(np.arange(80), (30, 1)), axis=1).astype(np.float32)  # no ties: sklearn averages them
    truth = rng.random((30, 80)) < 0.1
    truth[:, 0] = True
    row, item = np.nonzero(truth)
    ours = ndcg(Places.of(row, descending_ranks(scores)[row, item]), k)
    theirs = [ndcg_score(truth[i : i + 1], scores[i : i + 1], k=k) for i in range(30)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_numbers_by_hand():
    places = placed([1, 3], [11], [2, 0], [0])
    log = np.log2
    np.testing.assert_allclose(
        ndcg(places, 10), [(1 + 1 / log(4)) / (1 + 1 / log(3)), 0, (1 / log(3)) / (1 + 1 / log(3)), 0]
    )
    assert hit_rate(places, 10).tolist() == [1, 0, 1, 0]
    assert recall(places, 20).tolist() == [1, 1, 0.5, 0]
    np.testing.assert_allclose(reciprocal_rank(places), [1, 1 / 11, 1 / 2, 0])


def test_the_ideal_is_cut_at_k():
    """Twelve bought, ten of them on top: that is perfect at 10."""
    assert ndcg(placed(list(range(1, 13))), 10) == pytest.approx(1)


def test_what_is_not_ranked_earns_nothing_even_alone():
    scores = np.full((1, 5), -np.inf, np.float32)
    places = Places.of(np.array([0]), descending_ranks(scores)[0, [0]])
    for value in (ndcg(places, 10), hit_rate(places, 10), recall(places, 20), reciprocal_rank(places)):
        assert value.tolist() == [0]


def test_a_system_without_opinion_gains_nothing_by_its_ties():
    """Of equal scores the lower index wins, so a constant system finds what stands first, not what was bought."""
    ranks = descending_ranks(np.zeros((1, 100), np.float32))
    assert ranks[0, [0, 50, 99]].tolist() == [1, 51, 100]


def test_auc_equals_scikit_learn_with_ties_masks_and_infinities():
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 6, size=(50, 40)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    labels, mask = rng.random(scores.shape) < 0.2, rng.random(scores.shape) < 0.8
    labels[:, 0], labels[:, 1], mask[:, :2] = True, False, True
    ours = user_auc(scores, labels, mask)
    finite = np.where(np.isneginf(scores), -1, scores)
    theirs = [roc_auc_score(labels[i, mask[i]], finite[i, mask[i]]) for i in range(50)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_auc_of_one_class_is_not_defined():
    labels = np.array([[True, True], [False, False], [True, False]])
    assert np.isnan(user_auc(np.zeros((3, 2)), labels)).tolist() == [True, True, False]


def test_log_loss_equals_scikit_learn():
    rng = np.random.default_rng(2)
    p = rng.uniform(0.01, 0.99, size=(20, 30))
    labels, mask = rng.random(p.shape) < p, rng.random(p.shape) < 0.7
    mask[:, 0] = True
    theirs = [log_loss(labels[i, mask[i]], p[i, mask[i]], labels=[False, True]) for i in range(20)]
    np.testing.assert_allclose(user_log_loss(p, labels, mask), theirs, rtol=1e-9)


def test_certainty_that_fails_costs_much_but_not_infinity():
    assert 15 < user_log_loss(np.array([[0.0]]), np.array([[True]]))[0] < 17


def test_calibration_of_true_probabilities_is_near_zero_and_of_doubled_ones_is_not():
    rng = np.random.default_rng(3)
    p = rng.beta(1, 12, size=(500, 400))
    labels = rng.random(p.shape) < p
    assert Calibration.of(p, labels).error() < 0.005
    assert Calibration.of(np.minimum(2 * p, 1), labels).error() == pytest.approx(p.mean(), rel=0.05)


def test_calibration_by_hand():
    """Two bins: 0.1 and 0.2 with nothing bought, 0.8 and 0.9 with both bought."""
    p, labels = np.array([[0.1, 0.8], [0.2, 0.9]]), np.array([[False, True], [False, True]])
    found = Calibration.of(p, labels, bins=2)
    assert found.error() == pytest.approx(0.15)
    predicted, observed, count = found.curve()
    np.testing.assert_allclose(predicted, [0.15, 0.85])
    assert observed.tolist() == [0, 1]
    assert count.tolist() == [2, 2]


def test_calibration_passes_over_what_is_masked():
    p, labels = np.array([[0.5, 0.99]]), np.array([[True, False]])
    assert Calibration.of(p, labels, np.array([[True, False]])).error() == pytest.approx(0.5)


def test_equal_predictions_share_a_bin():
    """A constant at the base rate is calibrated, however the purchases are ordered."""
    labels = np.arange(100)[None] < 25
    assert Calibration.of(np.full((1, 100), 0.25), labels).error() == pytest.approx(0)


@pytest.mark.parametrize(
    ("scores", "probabilities", "message"),
    [
        (np.zeros((2, 3)), False, r"shape \(2, 3\)"),
        (np.array([[0.0, np.nan]]), False, "'odd' scored 1 products with NaN"),
        (np.array([[0.0, np.inf]]), False, "inf"),
        (np.array([[0.0, 1.5]]), True, "1.5"),
        (np.array([[0.0, -np.inf]]), True, "-inf"),
    ],
)
def test_what_cannot_be_ranked_is_refused_by_name(scores: NDArray[np.float64], probabilities: bool, message: str):
    with pytest.raises(InvalidValueError, match=message):
        check_scores(scores, (1, 2), "odd", probabilities=probabilities)
