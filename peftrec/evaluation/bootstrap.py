"""Intervals by resampling shoppers (Efron 1979): percentile bootstrap, paired where two systems are compared.

A resample draws as many shoppers as there are, with replacement. The same seed draws the same shoppers, so two systems
measured on the same shoppers are compared resample by resample and what they have in common cancels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from peftrec.errors import InvalidValueError, NotEnoughDataError

RESAMPLES = 2000
_CELLS = 8_000_000  # counts held at a time: 32 MB

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def resampled_means(values: NDArray[np.floating], *, n: int = RESAMPLES, seed: int = 0) -> Floats:
    """(n, C) column means of `values` (users, C) in n resamples of its rows."""
    users = len(values)
    rng = np.random.default_rng(seed)
    matrix = np.ascontiguousarray(values, dtype=np.float64)
    means = np.empty((n, values.shape[1]))
    step = max(1, _CELLS // users)
    for start in range(0, n, step):
        drawn = [np.bincount(rng.integers(users, size=users), minlength=users) for _ in range(min(step, n - start))]
        means[start : start + len(drawn)] = np.stack(drawn).astype(np.float64) @ matrix / users
    return means


def percentiles(values: Floats, *, level: float = 0.95) -> tuple[float, float]:
    """The middle `level` of the resampled values, NaN-free."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_mean(values: NDArray[np.floating], *, n: int = RESAMPLES, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean over shoppers and its interval.

    Args:
        values: (users,) one number per shopper.

    Raises:
        NotEnoughDataError: no shopper.
        InvalidValueError: not a vector of finite numbers.
    """
    _check(values)
    return Interval(float(values.mean()), *percentiles(resampled_means(values[:, None], n=n, seed=seed)[:, 0], level=level))


def paired_bootstrap(
    a: NDArray[np.floating], b: NDArray[np.floating], *, n: int = RESAMPLES, seed: int = 0, level: float = 0.95
) -> Interval:
    """The mean of `a - b` over shoppers and its interval; zero outside the interval is a difference worth the name.

    Args:
        a: (users,) one number per shopper under the first system.
        b: (users,) the same shoppers, in the same order, under the second.

    Raises:
        NotEnoughDataError: no shopper.
        InvalidValueError: different shapes, or a value that is not finite.

    >>> a = np.array([0.9, 0.1, 0.5, 0.3])
    >>> paired_bootstrap(a + 0.1, a)  # always better by the same amount: nothing is left to chance
    Interval(value=0.1, low=0.1, high=0.1)
    """
    _check(a)
    _check(b)
    if a.shape != b.shape:
        raise InvalidValueError(
            f"paired vectors of lengths {len(a)} and {len(b)}",
            expected="one value per shopper under each system, the same shoppers in the same order",
            remedy="compare the two systems through one Evaluation",
        )
    difference = a.astype(np.float64) - b
    return bootstrap_mean(difference, n=n, seed=seed, level=level)


def _check(values: NDArray[np.floating]) -> None:
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InvalidValueError(
            f"values of shape {values.shape} with {int((~np.isfinite(values)).sum())} that are not finite",
            expected="one finite number per shopper",
            remedy="drop the shoppers on which the metric is not defined first",
        )
    if not len(values):
        raise NotEnoughDataError("no shopper to resample", expected="at least one", remedy="widen the evaluation window")
