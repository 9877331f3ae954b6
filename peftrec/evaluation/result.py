"""Evaluating systems side by side, and what comes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from peftrec.data.dataset import Dataset
from peftrec.data.histories import Ragged
from peftrec.errors import ConfigError
from peftrec.evaluation import metrics
from peftrec.evaluation.bootstrap import mean_interval, paired_bootstrap
from peftrec.evaluation.protocol import K_NDCG, K_RECALL, HasRecommender, Recommender, Task

CHUNK = 128
"""Shoppers scored at once: 128 x 100,000 products x 4 bytes are 50 MB."""

RANKING = ("ndcg@10", "hit_rate@10", "recall@20", "mrr")
SLICES = ("all", "never_bought")


@dataclass(frozen=True)
class SystemResult:
    """One system's values per shopper.

    Attributes:
        name: The system's.
        values: (metric, slice) -> (U,) float64, NaN for shoppers outside the slice.
        ece: Calibration error over the pool, None for a system that gives no probabilities.
        curve: (bins, 3) reliability curve, likewise.
    """

    name: str
    values: dict[tuple[str, str], NDArray[np.float64]] = field(repr=False)
    ece: float | None = None
    curve: NDArray[np.float64] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Evaluation:
    """Several systems on the same question; the first is the one the others are compared with.

    Attributes:
        dataset: Name of the platform.
        systems: Results per system.
        shoppers: How many were evaluated.
        seed: Of the bootstrap.
    """

    dataset: str
    systems: tuple[SystemResult, ...]
    shoppers: int
    seed: int = 0

    def __getitem__(self, name: str) -> SystemResult:
        """The result of a system by name."""
        for system in self.systems:
            if system.name == name:
                return system
        raise ConfigError(
            f"system {name!r}",
            expected=f"one of {', '.join(system.name for system in self.systems)}",
            remedy="name one of them",
        )

    def compare(self, a: str, b: str, metric: str, slice_: str = "all") -> tuple[float, float, float]:
        """Difference a - b with its paired 95 % interval."""
        return paired_bootstrap(self[a].values[metric, slice_], self[b].values[metric, slice_], seed=self.seed)

    def rows(self) -> list[dict[str, object]]:
        """Rows for ``benchmarks/results``: every value with its interval, then every paired difference to the first system."""
        rows: list[dict[str, object]] = []
        first = self.systems[0]
        for system in self.systems:
            for (metric, slice_), values in system.values.items():
                value, low, high = mean_interval(values, seed=self.seed)
                rows.append(self._row(system.name, slice_, metric, value, low, high))
            if system.ece is not None:
                rows.append(self._row(system.name, "all", "ece", system.ece, None, None))
        for system in self.systems[1:]:
            for (metric, slice_), values in first.values.items():
                if (metric, slice_) in system.values:
                    change = paired_bootstrap(values, system.values[metric, slice_], seed=self.seed)
                    rows.append({**self._row(first.name, slice_, metric, *change), "against": system.name})
        return rows

    def _row(
        self, system: str, slice_: str, metric: str, value: float, low: float | None, high: float | None
    ) -> dict[str, object]:
        return {
            "system": system,
            "dataset": self.dataset,
            "slice": slice_,
            "metric": metric,
            "value": value,
            "low": low,
            "high": high,
            "unit": "share",
        }

    def __str__(self) -> str:
        shown = (("ndcg@10", "all"), ("ndcg@10", "never_bought"), ("recall@20", "all"), ("auc", "pool"))
        heads = ("NDCG@10", "NDCG@10 new", "Recall@20", "AUC")
        first = self.systems[0]
        lines = [
            f"{self.dataset}: {self.shoppers:,} shoppers, full catalogue, 95 % intervals; +/- is {first.name} minus the system",
            f"{'system':<26}" + "".join(f"{head:>13}" for head in heads) + f"{'ECE':>8}  +/- NDCG@10",
        ]
        for system in self.systems:
            cells = [np.nanmean(system.values[key]) if key in system.values else np.nan for key in shown]
            line = f"{system.name:<26}" + "".join(f"{cell:>13.4f}" if np.isfinite(cell) else f"{'':>13}" for cell in cells)
            line += f"{system.ece:>8.4f}" if system.ece is not None else " " * 8
            if system is not first:
                change, low, high = paired_bootstrap(first.values[shown[0]], system.values[shown[0]], seed=self.seed)
                line += f"  {change:+.4f} [{low:+.4f}, {high:+.4f}]"
            lines.append(line)
        return "\n".join(lines)


def evaluate(
    systems: Recommender | HasRecommender | Sequence[Recommender | HasRecommender],
    future: Dataset,
    *,
    baselines: str | Sequence[Recommender] | None = "default",
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Evaluates systems, and strong tuned baselines beside them, on what shoppers buy after a cut.

    Args:
        systems: An :class:`peftrec.Adapter`, anything with the :class:`Recommender` methods, or several of them.
        future: The later part of :meth:`Dataset.split`; systems see its past only.
        baselines: ``"default"`` for all that fit and whose packages are there, a sequence of your own, or None.
        seed: Of the bootstrap.
        progress: Show a bar.

    Raises:
        NotEnoughDataError: No shopper is in both parts of the split.
        ConfigError: ``baselines`` is another word.
    """
    from peftrec.evaluation.baselines import default_baselines  # it imports this package's protocol

    task = Task.from_split(future)
    asked = list(systems) if isinstance(systems, Sequence) else [systems]
    running = [system.recommender() if isinstance(system, HasRecommender) else system for system in asked]
    if isinstance(baselines, str):
        if baselines != "default":
            raise ConfigError(
                f"baselines={baselines!r}", expected="'default', a sequence of recommenders, or None", remedy="leave it out"
            )
        running += default_baselines()
    else:
        running += list(baselines or ())
    results = [_run(system, task, show=progress) for system in running]
    return Evaluation(future.name, tuple(results), len(task.users), seed)


def _run(system: Recommender, task: Task, *, show: bool) -> SystemResult:
    values = {(metric, slice_): np.full(len(task.users), np.nan) for slice_ in SLICES for metric in RANKING}
    pool = np.full(task.pool.shape, np.nan, np.float32)
    chunks = np.array_split(np.arange(len(task.users)), max(1, -(-len(task.users) // CHUNK)))
    for rows in tqdm(chunks, desc=f"evaluating {system.name}", disable=not show, leave=False, delay=2):
        users = task.users[rows]
        scores = system.score_catalog(task.past, users)
        _rank(scores, rows, task.relevant, values, "all")
        for index, row in enumerate(rows):
            scores[index, task.bought[row]] = -np.inf
        _rank(scores, rows, task.new, values, "never_bought")
        items = task.pool[rows]
        pool[rows] = np.where(items >= 0, system.score_pool(task.past, users, np.maximum(items, 0)), np.nan)
    values["auc", "pool"] = metrics.user_auc(pool, task.pool_labels)
    if not system.probabilistic:
        return SystemResult(system.name, values)
    values["log_loss", "pool"] = metrics.log_loss(pool, task.pool_labels)
    real = task.pool >= 0
    chance, happened = pool[real], task.pool_labels[real]
    return SystemResult(
        system.name, values, metrics.calibration_error(chance, happened), metrics.reliability(chance, happened)
    )


def _rank(
    scores: NDArray[np.float32],
    rows: NDArray[np.int64],
    relevant: Ragged,
    values: dict[tuple[str, str], NDArray[np.float64]],
    slice_: str,
) -> None:
    """Fills in the ranking metrics of some shoppers. Equal scores are ranked by item index, so no order helps the truth."""
    width = min(max(K_NDCG, K_RECALL), scores.shape[1])
    for index, row in enumerate(rows):
        wanted = relevant[row]
        if not len(wanted):
            continue
        score = scores[index]
        top = _top(score, width)
        hits = np.zeros((1, max(K_NDCG, K_RECALL)), bool)
        hits[0, : len(top)] = np.isin(top, wanted) & np.isfinite(score[top])
        count = np.array([len(wanted)])
        values["ndcg@10", slice_][row] = metrics.ndcg_at(hits, count, K_NDCG)[0]
        values["hit_rate@10", slice_][row] = metrics.hit_rate_at(hits, K_NDCG)[0]
        values["recall@20", slice_][row] = metrics.recall_at(hits, count, K_RECALL)[0]
        values["mrr", slice_][row] = metrics.reciprocal_rank(_first_place(score, wanted))[0]


def _top(score: NDArray[np.float32], width: int) -> NDArray[np.int64]:
    if width >= len(score):
        return np.argsort(-score, kind="stable")
    threshold = np.partition(score, len(score) - width)[len(score) - width]
    above = np.flatnonzero(score > threshold)
    above = above[np.argsort(-score[above], kind="stable")]
    return np.concatenate([above, np.flatnonzero(score == threshold)[: width - len(above)]])


def _first_place(score: NDArray[np.float32], wanted: NDArray[np.int32]) -> NDArray[np.int64]:
    best = wanted[np.lexsort((wanted, -score[wanted]))[0]]
    if not np.isfinite(score[best]):
        return np.array([0])
    ahead = np.count_nonzero(score > score[best]) + np.count_nonzero(score[:best] == score[best])
    return np.array([ahead + 1])
