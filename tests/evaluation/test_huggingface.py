"""Our metrics through Hugging Face's interface give the same numbers."""

import subprocess
import sys

import numpy as np
import pytest

from peftrec.errors import InvalidValueError
from peftrec.evaluation import metrics
from peftrec.evaluation.huggingface import MRR, NDCG, CalibrationError, HitRate, Recall, UserAUC


@pytest.fixture
def rows() -> dict[str, list[list[float]]]:
    rng = np.random.default_rng(0)
    scores, bought = rng.random((12, 40)).astype(np.float32), rng.random((12, 40)) < 0.15
    bought[:, 3] = True
    return {"predictions": scores.tolist(), "references": bought.astype(int).tolist()}


def test_numbers_are_those_of_our_functions(rows: dict[str, list[list[float]]]):
    scores, bought = np.array(rows["predictions"], np.float32), np.array(rows["references"]) > 0
    row, item = np.nonzero(bought)
    places = metrics.Places.of(row, metrics.descending_ranks(scores)[row, item])
    expected = {
        "ndcg": (NDCG().compute(**rows, k=5), metrics.ndcg(places, 5).mean()),
        "hit_rate": (HitRate().compute(**rows, k=2), metrics.hit_rate(places, 2).mean()),
        "recall": (Recall().compute(**rows), metrics.recall(places, 20).mean()),
        "mrr": (MRR().compute(**rows), metrics.reciprocal_rank(places).mean()),
        "auc": (UserAUC().compute(**rows), metrics.user_auc(scores, bought).mean()),
        "calibration_error": (CalibrationError().compute(**rows), metrics.Calibration.of(scores, bought).error()),
    }
    for name, (found, value) in expected.items():
        assert found == {name: pytest.approx(value, rel=1e-6)}


def test_batches_add_up(rows: dict[str, list[list[float]]]):
    metric = NDCG()
    for start in (0, 6):
        metric.add_batch(**{key: value[start : start + 6] for key, value in rows.items()})
    assert metric.compute() == NDCG().compute(**rows)


def test_a_row_without_purchases_is_named():
    with pytest.raises(InvalidValueError, match="row 1 of the references"):
        MRR().compute(predictions=[[1, 2], [1, 2]], references=[[0, 1], [0, 0]])


def test_the_package_itself_imports_neither_evaluate_nor_datasets():
    code = "import sys, peftrec.evaluation, peftrec.evaluation.baselines as b; b.default_baselines();"
    code += "sys.exit(', '.join({'evaluate', 'datasets', 'torch', 'lightgbm', 'implicit'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
