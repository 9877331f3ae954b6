"""LightGBM on the very features and candidates that the adapter ranks: what the numbers give without the text."""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score

from peftrec.data.dataset import Dataset
from peftrec.data.histories import Ragged
from peftrec.errors import ConfigError
from peftrec.evaluation.run import Report, quiet


class TrainingRows(NamedTuple):
    """Candidates of shoppers at moments of the past, latest first, row after row.

    Attributes:
        features: (C, F).
        bought: (C,) bool.
        weight: (C,) how many candidates each stands for; what was bought stands for itself.
        groups: (rows,) candidates of each row.
    """

    features: NDArray[np.float32]
    bought: NDArray[np.bool_]
    weight: NDArray[np.float32]
    groups: NDArray[np.int64]

    def part(self, rows: slice) -> "TrainingRows":
        """Some of the rows."""
        groups, ends = self.groups[rows], np.concatenate([[0], np.cumsum(self.groups)])
        first, last, _ = rows.indices(len(self.groups))
        at = slice(ends[first], ends[max(first, last)])
        return TrainingRows(self.features[at], self.bought[at], self.weight[at], groups)


class CandidateFeatures(Protocol):
    """Gives candidates and their numbers; the model package implements it."""

    def training_rows(self, past: Dataset) -> TrainingRows:
        """What trees learn from."""
        ...

    def candidates(self, past: Dataset, users: NDArray[np.int32]) -> tuple[Ragged, NDArray[np.float32]]:
        """Candidates of shoppers at the end of the past, and their (C, F) features."""
        ...

    def features(self, past: Dataset, users: NDArray[np.int32], items: Ragged) -> NDArray[np.float32]:
        """(C, F) features of given products."""
        ...


LEAVES = (31, 63)
"""Sizes of the trees that are tried, the first also with leaves that speak for many purchases."""

MOST_HESSIAN = 100.0
"""Of such a leaf, at most; a fiftieth of all purchases where that is less. Where few candidates are bought, it matters."""

ROUNDS = 400
VALIDATION_ROWS = 500

TRIAL_ROWS = 3000
"""Rows, the latest but those held out, that settings are tried on; what is chosen learns from all of them."""


class LightGBMRanker:
    """Gradient boosted trees (Ke et al., 2017); their size and number are those that rank held-out rows of the past best.

    Args:
        source: Candidates and features.
        objective: ``lambdarank`` (Burges, 2010) or ``binary``, which gives probabilities.
        name: In tables.
    """

    def __init__(
        self, source: CandidateFeatures, *, objective: str = "lambdarank", name: str = "LightGBM LambdaRank"
    ) -> None:
        if objective not in ("lambdarank", "binary"):
            raise ConfigError(
                f"objective={objective!r}", expected="lambdarank or binary", remedy="leave it out for LambdaRank"
            )
        self.source, self.objective, self.name = source, objective, name
        self.probabilistic = objective == "binary"
        self.chosen: dict[str, object] | None = None
        self._past: Dataset | None = None
        self._model: object = None

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of candidates, minus infinity for the rest."""
        model = self._fitted(past)
        items, features = self.source.candidates(past, users)
        scores = np.full((len(users), len(past.catalog)), -np.inf, np.float32)
        scores[items.rows, items.values] = model.predict(features)
        return scores

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Scores of given products."""
        features = self.source.features(past, users, Ragged.grid(items))
        return np.asarray(self._fitted(past).predict(features), np.float32).reshape(items.shape)

    def tune(self, past: Dataset, *, report: Report = quiet) -> None:
        """Chooses the settings and trains, once for a past; ``report`` hears how far it is."""
        if self._model is None or self._past is not past:
            self._model, self._past = self._fit(past, report), past

    def _fitted(self, past: Dataset):  # lightgbm is imported only when used
        self.tune(past)
        return self._model

    def _fit(self, past: Dataset, report: Report):
        import lightgbm  # slow to import

        report("reading the past")
        found = self.source.training_rows(past)
        # The latest rows come first: they choose the settings by what the next ones teach, then all rows train.
        rows = min(VALIDATION_ROWS, len(found.groups) // 5)
        held, taught = found.part(slice(rows)), found.part(slice(rows, rows + TRIAL_ROWS))

        def train(table: object, settings: dict[str, object], rounds: int, step: str):
            def tell(state: object) -> None:
                if state.iteration % 20 == 0:  # pyright: ignore[reportAttributeAccessIssue]
                    report(f"{step}, round {state.iteration} of {rounds}")  # pyright: ignore[reportAttributeAccessIssue]

            return lightgbm.train(_parameters(settings), table, rounds, callbacks=[tell])

        tried = [*map(self._settings, LEAVES), self._settings(LEAVES[0]) | _large(taught)]
        table = _dataset(lightgbm, taught, ranking=self._ranking)
        best = (-1.0, 0, ROUNDS)
        for number, settings in enumerate(tried):
            model = train(table, settings, ROUNDS, f"tuning {number + 1} of {len(tried)}")
            for rounds in (ROUNDS // 4, ROUNDS // 2, ROUNDS):
                scores = np.asarray(model.predict(held.features, num_iteration=rounds))
                best = max(best, (_ndcg(scores, held), number, rounds), key=lambda t: t[0])
        _, number, rounds = best
        settings = tried[number] | (_large(found) if number == len(LEAVES) else {})
        self.chosen = {**settings, "rounds": rounds}
        return train(_dataset(lightgbm, found, ranking=self._ranking), settings, rounds, "training")

    @property
    def _ranking(self) -> bool:
        return self.objective == "lambdarank"

    def _settings(self, leaves: int) -> dict[str, object]:
        return {"objective": self.objective, "num_leaves": leaves, "learning_rate": 0.05}


def _large(rows: TrainingRows) -> dict[str, object]:
    """Leaves that speak for many purchases."""
    return {"min_sum_hessian_in_leaf": float(min(MOST_HESSIAN, rows.bought.sum() / 50))}


def _dataset(lightgbm, rows: TrainingRows, *, ranking: bool):  # lightgbm has no types
    """Rows as an objective needs them: pairs within groups have no use for weights, chances are wrong without them."""
    told = {"group": rows.groups} if ranking else {"weight": rows.weight}
    return lightgbm.Dataset(rows.features, rows.bought.astype(np.int8), **told, free_raw_data=True)


def _parameters(settings: dict[str, object]) -> dict[str, object]:
    return {
        **settings,
        "min_data_in_leaf": 200,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambdarank_truncation_level": 20,
        "seed": 0,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 2,
        "verbose": -1,
    }


def _ndcg(scores: NDArray[np.float64], rows: TrainingRows) -> float:
    parts = np.split(np.arange(len(scores)), np.cumsum(rows.groups)[:-1])
    bought = rows.bought
    return float(np.mean([ndcg_score(bought[None, at], scores[None, at], k=10) for at in parts if bought[at].any()]))
