"""Strong, tuned baselines: no result of peftrec is shown without them."""

from importlib.util import find_spec

from peftrec.evaluation.baselines.base import Baseline
from peftrec.evaluation.baselines.boosting import CandidateFeatures, LightGBMRanker, TrainingRows
from peftrec.evaluation.baselines.frequency import PersonalFrequency, Popular, UserPopularityCF
from peftrec.evaluation.baselines.linear import ALS, EASE, ItemKNN, TfidfText

__all__ = [
    "ALS",
    "EASE",
    "Baseline",
    "CandidateFeatures",
    "ItemKNN",
    "LightGBMRanker",
    "PersonalFrequency",
    "Popular",
    "TfidfText",
    "TrainingRows",
    "UserPopularityCF",
    "default_baselines",
]


def default_baselines(*, seed: int = 0) -> list[Baseline]:
    """All baselines that need no features of the model, each with the grid it is tuned over.

    ALS is left out where implicit is not installed. LightGBM needs candidates and features: see
    :class:`LightGBMRanker`.
    """
    baselines = [
        Baseline("popular", [Popular()]),
        Baseline("popular lately", [Popular(days) for days in (28, 7, 14, 56)]),
        Baseline("personal frequency", [PersonalFrequency()]),
        Baseline("personal, decayed", [PersonalFrequency(half_life) for half_life in (84, 28, 56, 168)]),
        Baseline(
            "UP-CF",
            [
                UserPopularityCF(half_life, own, locality=locality, neighbours=neighbours)
                for half_life in (168, 84)
                for own in (0.7, 0.5, 0.85, None)
                for locality, neighbours in ((3, 100), (3, 30), (1, 30))
            ],
        ),
        Baseline("item-kNN", [ItemKNN(shrink=shrink) for shrink in (1.0, 0.1)]),
        Baseline("EASE", [EASE(regularisation) for regularisation in (50.0, 200.0, 10.0, 3.0)]),
        Baseline("TF-IDF of text", [TfidfText(popularity=weight) for weight in (0.05, 0.2, 0.5)]),
    ]
    if find_spec("implicit"):
        baselines.insert(
            -1,
            Baseline(
                "ALS", [ALS(width, alpha=alpha, seed=seed) for width in (64, 32, 128) for alpha in (1.0, 0.3, 5.0)]
            ),
        )
    return baselines
