"""Our metrics as ``evaluate.Metric``, for those who measure with Hugging Face's library; nothing is fetched from the hub.

Importing this module imports ``evaluate`` and ``datasets``; the rest of the package does not.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from peftrec.errors import InvalidValueError
from peftrec.evaluation.metrics import (
    Calibration,
    Places,
    descending_ranks,
    hit_rate,
    ndcg,
    recall,
    reciprocal_rank,
    user_auc,
)

_INPUTS = """
Args:
    predictions: One row of scores per shopper, over all products.
    references: One row per shopper, 1 where the product was bought and 0 elsewhere.
"""


def _info(description: str, citation: str = "") -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=description,
        citation=citation,
        inputs_description=_INPUTS,
        features=datasets.Features(
            {
                "predictions": datasets.Sequence(datasets.Value("float32")),
                "references": datasets.Sequence(datasets.Value("int8")),
            }
        ),
    )


def _places(predictions: Sequence[Sequence[float]], references: Sequence[Sequence[int]]) -> Places:
    bought = np.asarray(references) > 0
    if not bought.any(axis=1).all():
        raise InvalidValueError(
            f"row {int(np.flatnonzero(~bought.any(axis=1))[0])} of the references has no product that was bought",
            expected="at least one 1 in every row",
            remedy="leave out shoppers who bought nothing",
        )
    row, item = np.nonzero(bought)
    return Places.of(row, descending_ranks(np.asarray(predictions, np.float32))[row, item])


class NDCG(evaluate.Metric):
    """``NDCG().compute(predictions=…, references=…, k=10)`` gives ``{"ndcg": …}``, see :func:`metrics.ndcg`."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Normalised discounted cumulative gain, binary gains, per shopper, then averaged.")

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[int]], k: int = 10
    ) -> dict[str, float]:
        return {"ndcg": float(ndcg(_places(predictions, references), k).mean())}


class HitRate(evaluate.Metric):
    """Share of shoppers with a bought product among the first ``k``."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Share of shoppers with at least one bought product among the first k.")

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[int]], k: int = 10
    ) -> dict[str, float]:
        return {"hit_rate": float(hit_rate(_places(predictions, references), k).mean())}


class Recall(evaluate.Metric):
    """Share of a shopper's bought products among the first ``k``, averaged over shoppers."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Share of the bought products that are among the first k, per shopper, then averaged.")

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[int]], k: int = 20
    ) -> dict[str, float]:
        return {"recall": float(recall(_places(predictions, references), k).mean())}


class MRR(evaluate.Metric):
    """One by the rank of a shopper's best placed bought product, averaged over shoppers."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Mean reciprocal rank over the full ranking.")

    def _compute(self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        return {"mrr": float(reciprocal_rank(_places(predictions, references)).mean())}


class UserAUC(evaluate.Metric):
    """Area under the ROC curve of each shopper with both classes, then averaged."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Area under the ROC curve within each shopper that has both classes, then averaged.")

    def _compute(self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[int]]) -> dict[str, float]:
        values = user_auc(np.asarray(predictions), np.asarray(references) > 0)
        if np.isnan(values).all():
            raise InvalidValueError(
                "no row of the references has both bought products and others",
                expected="at least one row with both classes",
                remedy="give scores of products that were not bought, too",
            )
        return {"auc": float(np.nanmean(values))}


class CalibrationError(evaluate.Metric):
    """Expected calibration error over all predictions, in ``bins`` of equally many."""

    def _info(self) -> evaluate.MetricInfo:
        return _info("Expected calibration error of probabilities, bins of equally many predictions.")

    def _compute(
        self, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[int]], bins: int = 20
    ) -> dict[str, float]:
        found = Calibration.of(np.asarray(predictions), np.asarray(references) > 0, bins=bins)
        return {"calibration_error": found.error()}
