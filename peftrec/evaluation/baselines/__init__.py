"""Strong, tuned baselines: no result of peftrec is shown without them."""

from importlib.util import find_spec

from peftrec.evaluation.baselines.base import Baseline
from peftrec.evaluation.baselines.boosting import CandidateFeatures, LightGBMRanker
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
                UserPopularityCF(window, asymmetry, locality)
                for window in (400, 120, 250)
                for asymmetry in (0.5, 0.25)
                for locality in (5, 1, 10)
            ],
        ),
        Baseline("item-kNN", [ItemKNN(shrink=shrink) for shrink in (1.0, 10.0)]),
        Baseline("EASE", [EASE(regularisation) for regularisation in (200.0, 50.0, 1000.0)]),
        Baseline("TF-IDF of text", [TfidfText(popularity=weight) for weight in (0.05, 0.01, 0.2)]),
    ]
    if find_spec("implicit"):
        baselines.insert(
            -1, Baseline("ALS", [ALS(128, seed=seed), ALS(64, seed=seed), ALS(128, alpha=40.0, seed=seed)])
        )
    return baselines
