"""Intervals by resampling shoppers (percentile bootstrap; Efron, 1979)."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000


def mean_interval(values: NDArray[np.float64], *, n: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float]:
    """Mean over shoppers with its 95 % interval; NaN values (shoppers without the metric) are left out.

    Returns:
        Mean, low, high.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.concatenate([rng.choice(values, (part, len(values))).mean(axis=1) for part in _chunks(n)])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def paired_bootstrap(
    a: NDArray[np.float64], b: NDArray[np.float64], *, n: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of ``a - b`` over the same shoppers with its 95 % interval.

    Returns:
        Difference, low, high. An interval clear of zero says that one system is better on more than these shoppers.
    """
    return mean_interval(a - b, n=n, seed=seed)


def _chunks(n: int, size: int = 200) -> list[int]:
    return [min(size, n - start) for start in range(0, n, size)]
