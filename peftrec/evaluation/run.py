"""Asks systems a task's questions and collects what each shopper got."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from peftrec.data.dataset import Dataset
from peftrec.errors import ConfigError
from peftrec.evaluation.metrics import (
    DIVERSITY,
    NOVELTY,
    RANKING,
    Calibration,
    Places,
    check_scores,
    descending_ranks,
    diversity,
    novelty,
    user_auc,
    user_log_loss,
)
from peftrec.evaluation.protocol import Recommender, RecommenderFactory, Task, popular_lately
from peftrec.evaluation.result import Evaluation
from peftrec.evaluation.slices import ALL, Slice
from peftrec.evaluation.words import tfidf

CELLS = 16_000_000
"""Scores in memory at once: 64 MB, and some 300 MB while they are ranked."""

SHOPPERS = 512
"""Shoppers asked about at once, at most."""


TOP = 10
"""Products of a list whose kind is told."""

Report = Callable[[str], object]
"""Hears in a few words how far a long piece of work is."""


def quiet(_: str) -> None:
    """A report that nobody hears."""


@runtime_checkable
class Tunable(Protocol):
    """A system that is fitted to a past before it scores."""

    def tune(self, past: Dataset, *, report: Report) -> None:
        """Fits, once for a past."""
        ...


def evaluate(
    recommender: Recommender | RecommenderFactory | Sequence[Recommender | RecommenderFactory],
    future: Dataset,
    *,
    baselines: str | Sequence[Recommender] | None = "default",
    parts: Sequence[str] = (),
    lists: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measures systems on what shoppers bought after the cut, beside baselines tuned before it.

    Args:
        recommender: One system or several. An adapter counts as one.
        future: The second part of ``shop.split(at=...)``; systems see nothing but ``future.past``.
        baselines: ``"default"`` (see :func:`peftrec.evaluation.baselines.default_baselines`), others, or None.
        parts: Of all purchases that are measured by themselves as well: ``repeat``, ``head``, ``tail``, ``cold_products``,
            ``light_shoppers``, ``heavy_shoppers``, ``cold_shoppers``, or a column of the profiles, whose values give one
            part each; see :mod:`peftrec.evaluation.slices`.
        lists: Also tell coverage, novelty and diversity of the ten best.
        seed: Of the bootstrap and of baselines that draw.
        progress: Show a bar.

    Returns:
        A result to print, compare or turn into rows. The first system is what the others are compared with.

    Raises:
        ConfigError: Two systems share a name, something is no system, there is none, or there is no part of a name.
        InvalidValueError: ``future`` has no past, or a system returned NaN.
        NotEnoughDataError: No shopper can be evaluated.
        MissingExtraError: A baseline needs a package that is not installed.
    """
    systems = [*_systems(recommender), *_baselines(baselines, seed)]
    _check_names(systems)
    task = Task.from_split(future, parts=parts)
    kinds = Lists.of(task) if lists else None
    vectors: dict[tuple[str, str, str], NDArray[np.float64]] = {}
    calibration: dict[str, Calibration] = {}
    coverage: dict[str, float] = {}
    with tqdm(total=len(systems) * len(task.users), disable=not progress, unit="shopper") as bar:
        for system in systems:
            if isinstance(system, Tunable):
                system.tune(task.past, report=lambda step, name=system.name: bar.set_description(f"{name}: {step}"))
            bar.set_description(system.name)
            tops: list[NDArray[np.int64]] = []
            measured, curve = measure(system, task, bar=bar, tops=tops if lists else None)
            if kinds is not None:
                measured |= kinds.measure(tops)
                coverage[system.name] = kinds.coverage(tops)
            vectors |= {(system.name, *key): values for key, values in measured.items()}
            if curve is not None:
                calibration[system.name] = curve
    return Evaluation(
        dataset=future.name,
        period=f"{future.start:%Y-%m-%d} to {future.end:%Y-%m-%d}, {len(future.catalog):,} products, full ranking",
        systems=tuple(system.name for system in systems),
        users={part.name: task.users[part.rows] for part in (*task.slices, *task.parts)},
        vectors=vectors,
        calibration=calibration,
        coverage=coverage,
        seed=seed,
    )


@dataclass(frozen=True)
class Lists:
    """What lists of products are like.

    Attributes:
        buyers: (n_items,) shoppers who bought each product before.
        users: Shoppers there are.
        words: (n_items, terms) see :func:`peftrec.evaluation.words.tfidf`.
    """

    buyers: NDArray[np.float32]
    users: int
    words: sparse.csr_matrix

    @classmethod
    def of(cls, task: Task) -> "Lists":
        """Of a task's products."""
        past = task.past
        return cls(popular_lately(past, days=float("inf")), len(np.unique(past.log.user)), tfidf(past.catalog))

    def measure(self, tops: Sequence[NDArray[np.int64]]) -> dict[tuple[str, str], NDArray[np.float64]]:
        """(slice, metric) -> (B,) numbers of B shoppers' lists."""
        return {
            (ALL, NOVELTY): novelty(tops, self.buyers, self.users),
            (ALL, DIVERSITY): diversity(tops, self.words),
        }

    def coverage(self, tops: Sequence[NDArray[np.int64]]) -> float:
        """Share of the catalogue that is in somebody's list."""
        return len(np.unique(np.concatenate(tops))) / len(self.buyers)


def measure(
    system: Recommender,
    task: Task,
    *,
    bar: "tqdm[object] | None" = None,
    tops: list[NDArray[np.int64]] | None = None,
) -> tuple[dict[tuple[str, str], NDArray[np.float64]], Calibration | None]:
    """One system's numbers for each shopper: (slice, metric) -> (S,), and its calibration if it gives probabilities.

    ``tops`` is filled with the ten best products of each shopper.
    """
    n_items, pool = len(task.past.catalog), task.pool
    ranks = {part.name: np.zeros(len(part.relevant.values), np.int32) for part in task.slices}
    pooled = np.empty(pool.items.shape, np.float32)
    for rows in chunks(len(task.users), n_items):
        users = task.users[rows]
        scores = check_scores(system.score_catalog(task.past, users), (len(rows), n_items), system.name)
        ranked = descending_ranks(scores)
        if tops is not None:
            tops += [np.flatnonzero((of_one > 0) & (of_one <= TOP)) for of_one in ranked]
        for part in task.slices:
            _place(ranked, rows, part, ranks[part.name])
        answer = system.score_pool(task.past, users, pool.items[rows])
        pooled[rows] = check_scores(
            answer, (len(rows), pool.items.shape[1]), system.name, probabilities=system.probabilistic
        )
        if bar is not None:
            bar.update(len(rows))
    found: dict[tuple[str, str], NDArray[np.float64]] = {}
    for part in task.slices:
        if len(part):
            places = Places.of(part.relevant.rows, ranks[part.name])
            found |= {(part.name, name): metric(places) for name, metric in RANKING.items()}
    for part in task.parts:
        row = np.unique(part.of.relevant.rows[part.at], return_inverse=True)[1]
        places = Places.of(row, ranks[part.of.name][part.at])
        found |= {(part.name, name): metric(places) for name, metric in RANKING.items()}
    found[ALL, "auc"] = user_auc(pooled, pool.labels, pool.mask)
    if not system.probabilistic:
        return found, None
    found[ALL, "log_loss"] = user_log_loss(pooled, pool.labels, pool.mask)
    return found, Calibration.of(pooled, pool.labels, pool.mask)


def ranking_means(system: Recommender, task: Task) -> dict[tuple[str, str], float]:
    """(slice, metric) -> mean over shoppers of the ranking metrics alone: what tuning needs."""
    n_items = len(task.past.catalog)
    ranks = {part.name: np.zeros(len(part.relevant.values), np.int32) for part in task.slices}
    for rows in chunks(len(task.users), n_items):
        scores = system.score_catalog(task.past, task.users[rows])
        ranked = descending_ranks(check_scores(scores, (len(rows), n_items), system.name))
        for part in task.slices:
            _place(ranked, rows, part, ranks[part.name])
    return {
        (part.name, name): float(metric(Places.of(part.relevant.rows, ranks[part.name])).mean())
        for part in task.slices
        if len(part)
        for name, metric in RANKING.items()
    }


def chunks(users: int, n_items: int) -> Iterable[NDArray[np.int64]]:
    """Rows of shoppers that fit into memory together, and are few enough for a bar to move."""
    step = max(1, min(SHOPPERS, CELLS // max(n_items, 1)))
    return (np.arange(start, min(start + step, users)) for start in range(0, users, step))


def _place(ranked: NDArray[np.int32], rows: NDArray[np.int64], part: Slice, out: NDArray[np.int32]) -> None:
    """Writes the ranks of a slice's bought products, for those of its shoppers that are in this chunk.

    Whatever leaves the ranking moves up all that stands behind it: one sort of the catalogue serves every slice.
    """
    first, last = np.searchsorted(part.rows, [rows[0], rows[-1] + 1])
    if first == last:
        return
    shopper = part.rows[first:last] - rows[0]
    at = slice(part.relevant.offsets[first], part.relevant.offsets[last])
    out_of = slice(part.excluded.offsets[first], part.excluded.offsets[last])
    own, others = part.relevant.rows[at] - first, part.excluded.rows[out_of] - first
    rank = ranked[shopper[own], part.relevant.values[at]]
    gone = ranked[shopper[others], part.excluded.values[out_of]]
    width = ranked.shape[1] + 1
    places = np.sort((others * width + gone)[gone > 0])  # by shopper, then by rank
    before = np.searchsorted(places, own * width + rank) - np.searchsorted(places, own * width)
    out[at] = np.where(rank > 0, rank - before, 0)


def _systems(given: object) -> list[Recommender]:
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [system for one in given for system in _systems(one)]
    if isinstance(given, Recommender):
        return [given]
    if isinstance(given, RecommenderFactory):
        return [given.recommender()]
    raise ConfigError(
        f"{given!r} is not a system that can be evaluated",
        expected="an adapter, or an object with name, probabilistic, score_catalog and score_pool",
        remedy="see peftrec.evaluation.Recommender",
    )


def _baselines(given: str | Sequence[Recommender] | None, seed: int) -> list[Recommender]:
    if given is None:
        return []
    if not isinstance(given, str):
        return _systems(given)
    if given != "default":
        raise ConfigError(
            f"there are no baselines called '{given}'",
            expected='"default", a sequence of recommenders, or None',
            remedy='pass baselines="default"',
        )
    from peftrec.evaluation.baselines import default_baselines

    return list(default_baselines(seed=seed))


def _check_names(systems: Sequence[Recommender]) -> None:
    names = [system.name for system in systems]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ConfigError(
            f"two systems are called '{twice[0]}'" if twice else "there is no system to evaluate",
            expected="at least one system, each with a name of its own",
            remedy="give one of them another name" if twice else "pass a recommender or baselines",
        )
