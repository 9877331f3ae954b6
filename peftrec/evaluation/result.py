"""What an evaluation found: every number with its interval, and every shopper's own, so that any two systems can be compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.errors import ConfigError
from peftrec.evaluation.bootstrap import SAMPLES, Interval, percentile_interval, resampled_sums
from peftrec.evaluation.metrics import COVERAGE, DIVERSITY, LOWER_IS_BETTER, METRICS, NOVELTY, UNITS, Calibration
from peftrec.evaluation.slices import ALL

MAIN = "ndcg@10"
_NAME_WIDTH = 22
_SHORT = {
    "hit_rate@10": "HR@10",
    "recall@20": "R@20",
    "mrr": "MRR",
    "auc": "AUC",
    "log_loss": "loss",
    "ece": "ECE",
    COVERAGE: "cov",
    NOVELTY: "nov",
    DIVERSITY: "div",
}


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: a calibrated system has ``observed == predicted``.

    Attributes:
        predicted: (bins,) mean predicted probability.
        observed: (bins,) share that was bought.
        count: (bins,) predictions.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    count: NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Systems × slices × metrics, with 95 % intervals over shoppers.

    Attributes:
        dataset: Name of the data set.
        period: What was predicted, in words.
        systems: Names, in the order they were given.
        users: Slice -> (S,) user indices.
        vectors: (system, slice, metric) -> (S,) numbers of each shopper; NaN where the metric is not defined for one.
        calibration: System -> sums that its calibration error is made of; systems without probabilities are absent.
        coverage: System -> share of the catalogue within somebody's ten best, where it was asked for. It has no interval: other
            shoppers would cover other products.
        samples: Bootstrap resamples.
        seed: Of the bootstrap.
    """

    dataset: str
    period: str
    systems: tuple[str, ...]
    users: Mapping[str, NDArray[np.int32]]
    vectors: Mapping[tuple[str, str, str], NDArray[np.float64]]
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    coverage: Mapping[str, float] = field(default_factory=dict)
    samples: int = SAMPLES
    seed: int = 0

    @classmethod
    def pooled(cls, windows: Sequence["Evaluation"]) -> "Evaluation":
        """Several windows of one platform as one evaluation.

        A shopper's numbers are averaged over the windows that the shopper is in, and resampling stays over shoppers: the
        windows of one shopper are no independent observations. Calibration is left out, as each window bins on its own.

        Args:
            windows: Evaluations of the same systems on parts of one data set, whose user indices mean the same shoppers.

        Raises:
            ConfigError: There are no windows, or their systems differ.
        """
        if len({window.systems for window in windows}) != 1:
            raise ConfigError(
                f"{len(windows)} windows of {len({window.systems for window in windows})} sets of systems",
                expected="at least one window, and the same systems in the same order in all of them",
                remedy="evaluate the same systems on each window",
            )
        first = windows[0]
        users = {
            slice_: np.unique(np.concatenate([window.users[slice_] for window in windows if slice_ in window.users]))
            for slice_ in dict.fromkeys(name for window in windows for name in window.slices)
        }
        vectors: dict[tuple[str, str, str], NDArray[np.float64]] = {}
        for key in dict.fromkeys(key for window in windows for key in window.vectors):
            total, count = np.zeros(len(users[key[1]])), np.zeros(len(users[key[1]]))
            for window in windows:
                values = window.vectors.get(key)
                if values is not None:
                    at = np.searchsorted(users[key[1]], window.users[key[1]])
                    total[at] += np.nan_to_num(values)
                    count[at] += np.isfinite(values)
            vectors[key] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return cls(
            dataset=first.dataset,
            period=f"{len(windows)} windows pooled: "
            + "; ".join(window.period.partition(",")[0] for window in windows),
            systems=first.systems,
            users=users,
            vectors=vectors,
            samples=first.samples,
            seed=first.seed,
        )

    @property
    def slices(self) -> tuple[str, ...]:
        """Names of the slices."""
        return tuple(self.users)

    def metrics(self, system: str, slice: str = ALL) -> tuple[str, ...]:
        """Metrics that a system has on a slice."""
        return tuple(metric for metric in METRICS if (system, slice, metric) in self._resampled)

    def value(self, system: str, metric: str = MAIN, slice: str = ALL) -> Interval:
        """One number with its interval.

        Raises:
            ConfigError: There is no such system, metric or slice.
        """
        value, resampled = self._found(system, slice, metric)
        return percentile_interval(value, resampled)

    def compare(self, a: str, b: str, metric: str = MAIN, slice: str = ALL) -> Interval:
        """``a`` less ``b`` over the same shoppers, with the paired interval of the difference.

        Raises:
            ConfigError: There is no such system, metric or slice.
        """
        (first, of_first), (second, of_second) = self._found(a, slice, metric), self._found(b, slice, metric)
        return percentile_interval(first - second, of_first - of_second)

    def reliability(self, system: str) -> Reliability:
        """The reliability curve of a system that predicts probabilities.

        Raises:
            ConfigError: There is no such system, or it gives no probabilities.
        """
        if system not in self.calibration:
            raise self._unknown("probabilistic system", system, self.calibration)
        return Reliability(*self.calibration[system].curve())

    def facts(self, system: str | None = None) -> dict[str, Any]:
        """What an adapter's manifest and card tell of a system: ``adapter.with_facts(**result.facts())`` before it is published.

        Args:
            system: The first one when left out.

        Returns:
            ``metrics``, ``protocol``, and ``reliability`` where it predicts probabilities.

        Raises:
            ConfigError: There is no such system.
        """
        system = self.systems[0] if system is None else system
        if system not in self.systems:
            raise self._unknown("system", system, self.systems)
        metrics: list[dict[str, object]] = []
        for slice_, metric, of in self._cells():
            if of == system:
                value, low, high = self.value(system, metric, slice_)
                if np.isfinite((value, low)).all():  # a slice without shoppers has no mean, and coverage no interval
                    metrics.append({"metric": metric, "slice": slice_, "value": value, "low": low, "high": high})
        found: dict[str, Any] = {"metrics": metrics, "protocol": f"Trained before, measured on {self.period}."}
        if system in self.calibration:
            curve = self.reliability(system)
            groups = zip(curve.predicted.tolist(), curve.observed.tolist(), curve.count.tolist(), strict=True)
            found["reliability"] = [
                {"predicted": predicted, "observed": observed, "count": count} for predicted, observed, count in groups
            ]
        return found

    def rows(self) -> list[dict[str, str | float]]:
        """One row per number, then one per system that the first one is compared ``against``, the paired difference."""
        rows: list[dict[str, str | float]] = []
        for slice_, metric, system in self._cells():
            rows.append(self._row(system, slice_, metric, self.value(system, metric, slice_)))
        first = self.systems[0]
        for slice_, metric, system in self._cells():
            if system != first and metric in self.metrics(first, slice_):
                found = self.compare(first, system, metric, slice_)
                rows.append(self._row(first, slice_, metric, found) | {"against": system})
        return rows

    def _cells(self) -> Iterator[tuple[str, str, str]]:
        for slice_ in self.slices:
            for metric in METRICS:
                for system in self.systems:
                    if metric in self.metrics(system, slice_):
                        yield slice_, metric, system

    def _row(self, system: str, slice_: str, metric: str, found: Interval) -> dict[str, str | float]:
        where = {"system": system, "dataset": self.dataset, "slice": slice_, "metric": metric}
        low, high = (None if metric == COVERAGE else bound for bound in found[1:])
        return {**where, "value": found.value, "low": low, "high": high, "unit": UNITS[metric]}

    @cached_property
    def _resampled(self) -> dict[tuple[str, str, str], tuple[float, NDArray[np.float64]]]:
        """(system, slice, metric) -> value and its (samples,) resamples; all of one slice share their draws."""
        found: dict[tuple[str, str, str], tuple[float, NDArray[np.float64]]] = {}
        for slice_, users in self.users.items():
            keys = [key for key in self.vectors if key[1] == slice_]
            table = np.stack([self.vectors[key] for key in keys], axis=1) if keys else np.empty((len(users), 0))
            defined = np.isfinite(table)
            for index, (total, count) in enumerate(zip(*self._sums(table, defined), strict=True)):
                if defined[:, index].any():
                    value = float(table[defined[:, index], index].mean())
                    found[keys[index]] = (value, total / np.maximum(count, 1))
        for system, share in self.coverage.items():
            found[system, ALL, COVERAGE] = share, np.full(self.samples, np.nan)
        for system, sums in self.calibration.items():
            bins = sums.predicted.shape[1]
            drawn = resampled_sums(
                np.concatenate([sums.predicted - sums.observed, sums.count], axis=1), n=self.samples, seed=self.seed
            )
            found[system, ALL, "ece"] = (
                sums.error(),
                np.abs(drawn[:, :bins]).sum(axis=1) / np.maximum(drawn[:, bins:].sum(axis=1), 1),
            )
        return found

    def _sums(
        self, table: NDArray[np.float64], defined: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(K, samples) sums, and how many shoppers each is over."""
        if not len(table):
            return np.empty((0, 0)), np.empty((0, 0))
        columns = np.concatenate([np.where(defined, table, 0), defined], axis=1)
        drawn = resampled_sums(columns, n=self.samples, seed=self.seed).T
        return drawn[: table.shape[1]], drawn[table.shape[1] :]

    def _found(self, system: str, slice_: str, metric: str) -> tuple[float, NDArray[np.float64]]:
        if system not in self.systems:
            raise self._unknown("system", system, self.systems)
        if slice_ not in self.users:
            raise self._unknown("slice", slice_, self.users)
        if (system, slice_, metric) not in self._resampled:
            raise self._unknown(f"metric of '{system}' on '{slice_}'", metric, self.metrics(system, slice_))
        return self._resampled[system, slice_, metric]

    def _unknown(self, what: str, name: str, known: Mapping[str, object] | tuple[str, ...]) -> ConfigError:
        return ConfigError(
            f"this evaluation has no {what} '{name}'",
            expected="one of " + (", ".join(map(repr, known)) or "none: there are none"),
            remedy="choose one of these, or evaluate again with what is missing",
        )

    def __repr__(self) -> str:
        """Short form; ``print`` shows the table."""
        return f"Evaluation({self.dataset}: {', '.join(self.systems)})"

    def __str__(self) -> str:
        """Tables of at most 110 columns, one per slice."""
        lines = [f"{self.dataset}: {self.period}", "Means over shoppers, in brackets their 95 % intervals."]
        for slice_ in self.slices:
            lines += ["", *self._table(slice_)]
        return "\n".join(lines)

    def _table(self, slice_: str) -> Iterator[str]:
        present = {metric for system in self.systems for metric in self.metrics(system, slice_)}
        others = [metric for metric in METRICS if metric in present and metric != MAIN]
        first = self.systems[0]
        yield f"{slice_.replace('_', ' ')}: {(count := len(self.users[slice_])):,} shopper{'s' * (count != 1)}"
        if MAIN not in present:
            return
        head = f"  {'':{_NAME_WIDTH}}  {'NDCG@10':20}"
        head += f"  {_cut('less ' + first):24}" if len(self.systems) > 1 else ""
        yield (head + "".join(f"{_SHORT[metric]:>6}" for metric in others)).rstrip()
        for system in self.systems:
            line = f"  {_cut(system):{_NAME_WIDTH}}  {self.value(system, MAIN, slice_):.3f}".ljust(_NAME_WIDTH + 24)
            if len(self.systems) > 1:
                shown = f"{self.compare(system, first, MAIN, slice_):+.3f}" if system != first else ""
                line += f"  {shown:24}"
            for metric in others:
                known = metric in self.metrics(system, slice_)
                line += f"{self.value(system, metric, slice_).value:6.3f}" if known else f"{'':6}"
            yield line.rstrip()

    def best(self, metric: str = MAIN, slice: str = ALL) -> str:
        """Name of the system with the best mean."""
        having = [system for system in self.systems if metric in self.metrics(system, slice)]
        if not having:
            raise self._unknown("metric", metric, METRICS)
        sign = 1 if metric in LOWER_IS_BETTER else -1
        return min(having, key=lambda system: sign * self.value(system, metric, slice).value)


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
