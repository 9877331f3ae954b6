"""What all baselines share: a grid that is searched on a validation window inside the past, and nothing else."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY, PURCHASE, first_of
from peftrec.errors import NotEnoughDataError
from peftrec.evaluation.protocol import Task
from peftrec.evaluation.run import Report, quiet, ranking_means
from peftrec.evaluation.slices import ALL

VALIDATION_SHOPPERS = 500
VALIDATION_SHARE = 0.1
"""The validation window is the last tenth of the past, at most 35 days."""


class Scorer(Protocol):
    """A fitted baseline: scores of every product for some shoppers."""

    def __call__(self, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """(B,) user indices -> (B, n_items)."""
        ...


class Method(Protocol):
    """One baseline with its settings: a frozen dataclass."""

    def fit(self, past: Dataset) -> Scorer:
        """Reads the past."""
        ...


class Baseline:
    """A method with a grid of settings, tuned on the past alone.

    Args:
        name: In tables.
        grid: Settings to choose from, the first being the default where the past is too short to choose.
        trials: Cheaper stand-ins that are tried in their place, one for each; themselves when left out.
    """

    probabilistic = False

    def __init__(self, name: str, grid: Sequence[Method], *, trials: Sequence[Method] | None = None) -> None:
        self.name, self.grid, self.trials = name, grid, trials
        self.chosen: Method | None = None
        self._past: Dataset | None = None
        self._scorer: Scorer | None = None
        self._last: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None

    def tune(self, past: Dataset, *, report: Report = quiet) -> None:
        """Tunes and fits, once for a past; ``report`` hears how far it is."""
        self._fitted(past, report)

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """Tunes and fits on first use for a past, then scores every product."""
        scorer = self._fitted(past)
        if self._last is None or self._last[0] is not users:
            self._last = users, scorer(users)
            self._last[1].flags.writeable = False
        return self._last[1]

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """The same scores, of given products; those of the catalogue are kept in case the same shoppers' come next."""
        scores = self.score_catalog(past, users)
        self._last = None
        return np.take_along_axis(scores, items, axis=1)

    def _fitted(self, past: Dataset, report: Report = quiet) -> Scorer:
        if self._scorer is None or self._past is not past:
            self.chosen = tuned(self.name, self.grid, past, trials=self.trials, report=report)
            self._scorer, self._past, self._last = self.chosen.fit(past), past, None
        return self._scorer


def tuned(
    name: str,
    grid: Sequence[Method],
    past: Dataset,
    *,
    trials: Sequence[Method] | None = None,
    report: Report = quiet,
) -> Method:
    """The settings with the best NDCG@10 on the validation window, told by their ``trials`` where there are any."""
    if len(grid) == 1:
        return grid[0]
    try:
        task = validation_task(past)
    except NotEnoughDataError:
        return grid[0]
    found: list[float] = []
    for number, method in enumerate(trials or grid, start=1):
        report(f"tuning {number} of {len(grid)}")
        found.append(ranking_means(_Trial(name, method.fit(task.past)), task)[ALL, "ndcg@10"])
    return grid[int(np.argmax(found))]


def validation_task(past: Dataset) -> Task:
    """The question that settings are chosen on: the last tenth of the past, at most 35 days, 500 shoppers.

    Raises:
        NotEnoughDataError: The past is too short.
    """
    window = min(timedelta(days=35), VALIDATION_SHARE * (past.end - past.start))
    _, late = past.split(at=past.end - window)
    return Task.from_split(late, limit=VALIDATION_SHOPPERS)


class _Trial:
    """Settings under trial, as the protocol sees them."""

    probabilistic = False

    def __init__(self, name: str, scorer: Scorer) -> None:
        self.name, self.scorer = name, scorer

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        return self.scorer(users)

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.take_along_axis(self.scorer(users), items, axis=1)


def purchases(past: Dataset, *, half_life: float | None = None, days: float | None = None) -> sparse.csr_matrix:
    """(users, n_items) purchases, one per visit, decayed by age where a half-life in days is given."""
    log = past.log
    kept = log.event == PURCHASE
    if days is not None:
        kept &= log.time > log.time[-1] - days * DAY
    n_items = len(past.catalog)
    key = log.user[kept].astype(np.int64) * n_items + log.item[kept]
    visit = first_of(key, log.session[kept])
    age = ((log.time[-1] - log.time[kept]) / DAY)[visit]
    weight = np.ones(len(visit)) if half_life is None else np.exp(age * (-np.log(2) / half_life))
    user, item = np.divmod(key[visit], n_items)
    shape = (len(past.users), n_items)
    return sparse.csr_matrix((weight.astype(np.float32), (user, item)), shape=shape)


def visits(past: Dataset, *, days: float | None = None) -> NDArray[np.float32]:
    """(users,) visits with a purchase."""
    log = past.log
    kept = log.event == PURCHASE
    if days is not None:
        kept &= log.time > log.time[-1] - days * DAY
    user = log.user[kept]
    return np.bincount(user[first_of(user, log.session[kept])], minlength=len(past.users)).astype(np.float32)


def dense(matrix: sparse.spmatrix | sparse.sparray) -> NDArray[np.float32]:
    """A sparse matrix written out."""
    return np.asarray(matrix.todense(), dtype=np.float32)
