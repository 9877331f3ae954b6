"""Intervals by resampling shoppers: what might have come out with other shoppers of the same shop."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from peftrec.errors import InvalidValueError

SAMPLES = 2000
LEVEL = 0.95
_CELLS = 4_000_000  # of the resampling matrix in memory at once: 32 MB


class Interval(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """The number and its interval, each by the format ``spec``: ``0.453 [0.441, 0.466]``."""
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def resampled_sums(values: NDArray[np.floating], *, n: int = SAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Sums over U shoppers drawn with replacement, n times.

    The draws depend on U, n and the seed alone, so that results for the same shoppers are paired.

    Args:
        values: (U, K), K numbers of each shopper.
        n: Resamples.
        seed: Of the draws.

    Returns:
        (n, K).
    """
    users = len(values)
    rng = np.random.default_rng(seed)
    step = max(1, min(n, _CELLS // users))
    values = np.asarray(values, np.float64)
    parts: list[NDArray[np.float64]] = []
    for start in range(0, n, step):
        rows = min(step, n - start)
        drawn = rng.integers(users, size=(rows, users))
        drawn += np.arange(rows)[:, None] * users
        # How often each shopper was drawn: a matrix product then sums all columns at once.
        counts = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        parts.append(counts.astype(np.float64) @ values)
    return np.concatenate(parts)


def percentile_interval(value: float, resampled: NDArray[np.floating]) -> Interval:
    """The value with the middle 95 % of its resamples."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


def bootstrap_mean(values: NDArray[np.floating], *, n: int = SAMPLES, seed: int = 0) -> Interval:
    """Mean of one number per shopper with its 95 % percentile interval (Efron, 1979).

    Raises:
        InvalidValueError: There are no values, or one is not finite.
    """
    values = _checked(values)
    return percentile_interval(values.mean(), resampled_sums(values[:, None], n=n, seed=seed)[:, 0] / len(values))


def paired_bootstrap(a: NDArray[np.floating], b: NDArray[np.floating], *, n: int = SAMPLES, seed: int = 0) -> Interval:
    """Mean of ``a - b`` with its 95 % interval; the two hold one number of each of the same shoppers.

    Pairing removes what makes a shopper easy or hard for both, so small differences can be told from none.

    Returns:
        (difference, low, high).

    Raises:
        InvalidValueError: Lengths differ, there are no values, or one is not finite.
    """
    if len(a) != len(b):
        raise InvalidValueError(
            f"{len(a)} values are to be compared with {len(b)}",
            expected="one value of each shopper on both sides, in the same order",
            remedy="compare systems on the same task and slice",
        )
    return bootstrap_mean(_checked(a) - _checked(b), n=n, seed=seed)


def _checked(values: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InvalidValueError(
            f"cannot take the mean of {values.shape} values, {np.count_nonzero(~np.isfinite(values))} of them not finite",
            expected="one finite number for each of at least one shopper",
            remedy="leave out shoppers for whom the metric is not defined",
        )
    return values
