"""What an evaluation says: a table to read, rows to keep, differences to trust."""

import numpy as np
import pytest

from peftrec.errors import ConfigError
from peftrec.evaluation import Evaluation, paired_bootstrap
from peftrec.evaluation.metrics import Calibration


@pytest.fixture
def found() -> Evaluation:
    rng = np.random.default_rng(0)
    ease = rng.random(300)
    p = rng.random((300, 20)) * 0.2
    labels = rng.random(p.shape) < p
    auc = 0.5 + ease / 2
    auc[:30] = np.nan
    return Evaluation(
        dataset="grocery",
        period="2017-11-27 to 2018-01-01, 92,331 products, full ranking",
        systems=("peftrec", "a baseline with a name that is far too long", "popular"),
        users={"all": np.arange(300, dtype=np.int32), "never_bought": np.arange(100, dtype=np.int32)},
        vectors={
            **{(name, "all", "ndcg@10"): ease * scale for name, scale in zip(NAMES, (0.9, 0.88, 0.4), strict=True)},
            **{(name, "never_bought", "ndcg@10"): ease[:100] * 0.1 for name in NAMES},
            ("peftrec", "all", "auc"): auc,
            ("peftrec", "all", "log_loss"): 1 - ease,
        },
        calibration={"peftrec": Calibration.of(p, labels)},
    )


NAMES = ("peftrec", "a baseline with a name that is far too long", "popular")


def test_a_difference_is_that_of_the_paired_bootstrap(found: Evaluation):
    a, b = (found.vectors[name, "all", "ndcg@10"] for name in NAMES[:2])
    np.testing.assert_allclose(found.compare(*NAMES[:2]), paired_bootstrap(a, b), atol=1e-12)
    assert found.compare(*NAMES[:2]).low > 0  # found, though the single intervals overlap
    assert found.value(NAMES[0]).low < found.value(NAMES[1]).high


def test_undefined_shoppers_are_left_out(found: Evaluation):
    assert found.value("peftrec", "auc").value == pytest.approx(np.nanmean(found.vectors["peftrec", "all", "auc"]))


def test_the_table_fits_and_says_what_matters(found: Evaluation):
    table = str(found)
    assert max(len(line) for line in table.splitlines()) <= 110
    assert "all: 300 shoppers" in table
    assert "never bought: 100 shoppers" in table
    value = found.value("popular")
    assert f"{value:.3f}" in table
    assert f"{found.compare('popular', 'peftrec'):+.3f}" in table


def test_rows_hold_every_number_and_every_difference_to_the_first(found: Evaluation):
    rows = found.rows()
    keys = {"system", "dataset", "slice", "metric", "value", "low", "high", "unit"}
    plain, paired = [row for row in rows if "against" not in row], [row for row in rows if "against" in row]
    assert len(plain) == 3 + 3 + 2 + 1  # NDCG on two slices, AUC and log loss, calibration
    assert len(paired) == 2 + 2
    assert all(set(row) == keys for row in plain)
    assert all(set(row) == keys | {"against"} and row["system"] == "peftrec" for row in paired)
    assert {row["against"] for row in paired} == set(found.systems) - {"peftrec"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows if row["metric"] != "ece")
    assert {row["metric"]: row["unit"] for row in plain}["log_loss"] == "nats"


def test_the_best_is_told_by_the_metric(found: Evaluation):
    assert found.best() == "peftrec"
    assert found.best("ece") == "peftrec"


@pytest.mark.parametrize(
    "ask", [("nobody",), ("peftrec", "accuracy"), ("peftrec", "ndcg@10", "winter"), ("popular", "auc")]
)
def test_unknown_names_are_answered_with_the_known(found: Evaluation, ask: tuple[str, ...]):
    with pytest.raises(ConfigError, match="has no") as caught:
        found.value(*ask)
    assert "one of" in caught.value.expected


def _window(users: list[int], **ndcg: list[float]) -> Evaluation:
    return Evaluation(
        dataset="grocery",
        period="a week, 5 products, full ranking",
        systems=tuple(ndcg),
        users={"all": np.array(users, np.int32)},
        vectors={(name, "all", "ndcg@10"): np.array(values) for name, values in ndcg.items()},
    )


def test_pooling_counts_each_shopper_once():
    first = _window([1, 4], ours=[0.2, 0.6], theirs=[0.1, 0.6])
    second = _window([4, 7], ours=[0.8, np.nan], theirs=[0.4, 0.5])
    both = Evaluation.pooled([first, second])
    assert both.users["all"].tolist() == [1, 4, 7]
    np.testing.assert_allclose(both.vectors["ours", "all", "ndcg@10"], [0.2, 0.7, np.nan])
    np.testing.assert_allclose(both.vectors["theirs", "all", "ndcg@10"], [0.1, 0.5, 0.5])
    assert both.value("ours").value == pytest.approx(0.45)
    assert "2 windows pooled" in str(both)


def test_pooling_repeated_windows_does_not_narrow_the_interval(found: Evaluation):
    one, three = Evaluation.pooled([found]), Evaluation.pooled([found] * 3)
    assert one.value("peftrec") == found.value("peftrec")
    np.testing.assert_allclose(three.compare(*NAMES[:2]), one.compare(*NAMES[:2]), atol=1e-12)


@pytest.mark.parametrize("windows", [[], [_window([1], ours=[0.1]), _window([1], theirs=[0.1])]])
def test_pooling_needs_the_same_systems(windows: list[Evaluation]):
    with pytest.raises(ConfigError, match="sets of systems"):
        Evaluation.pooled(windows)
