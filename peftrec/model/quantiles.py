"""Numbers about a product as the feature network reads them: standardised, and as places among quantiles.

The place is piecewise linear between the distinct quantiles (after Gorishniy et al., 2022, "On Embeddings for Numerical
Features"): it tells apart what a standardised count crowds together, as the thresholds of a tree do.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.compiled import compiled

KNOTS = 33
"""Quantiles of each feature that are kept: 32 steps between the least and the greatest value."""

_SPREAD = np.float32(math.sqrt(12))
"""Of places that are all as likely, brings the variance to one."""


def knots_of(features: Tensor) -> Tensor:
    """(KNOTS, F) distinct quantiles of (C, F) training rows, rising; the last one fills the places of equal ones."""
    wanted = torch.linspace(0, 1, KNOTS, dtype=features.dtype)
    found = [torch.quantile(column, wanted).unique() for column in features.T]
    return torch.stack([torch.cat([one, one[-1:].expand(KNOTS - len(one))]) for one in found], dim=1)


def standard(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Measured from the mean, in standard deviations, six at most."""
    return ((x - mean) * scale).clamp(-6, 6)


def encoded(extras: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Inputs of the feature network.

    Args:
        extras: The adapter's, or stacks of them with one per row.
        features: (…, M, F), as they are measured. Gradients do not reach them.

    Returns:
        (…, M, 2 * F) each number standardised, then its place among quantiles.
    """
    mean, scale, knots = (extras[f"feature_{name}"] for name in ("mean", "scale", "knots"))
    if features.device.type != "cpu":
        return torch.cat([standard(features, mean, scale), _places(knots, features)], dim=-1)
    x = features.detach().float().reshape(-1, *features.shape[-2:]).contiguous().numpy()
    tables = [one.detach().float().reshape(-1, *one.shape[-2:]).contiguous().numpy() for one in (mean, scale, knots)]
    own = np.arange(len(x)) if len(tables[0]) > 1 else np.zeros(len(x), np.int64)
    found = torch.empty(*features.shape[:-1], 2 * features.shape[-1])
    _encode(*tables, own, x, found.view(len(x), -1, found.shape[-1]).numpy())
    return found


def _places(knots: Tensor, features: Tensor) -> Tensor:
    """(…, M, F) places, all at once, as a GPU likes it."""
    knots = knots.transpose(-1, -2).contiguous()  # (…, F, KNOTS), the last one repeated to the end
    steps = (knots.diff(dim=-1) > 0).sum(dim=-1, keepdim=True)  # (…, F, 1)
    x = features.transpose(-1, -2).clamp(knots[..., :1], knots[..., -1:])
    if x.ndim > knots.ndim:
        knots, steps = (one.expand(*x.shape[:-1], -1) for one in (knots, steps))
    above = torch.searchsorted(knots.contiguous(), x.contiguous(), right=True).minimum(steps).clamp(min=1)
    low, high = knots.gather(-1, above - 1), knots.gather(-1, above)
    place = (above - 1 + (x - low) / (high - low).clamp(min=1e-12)) / steps.clamp(min=1)
    return torch.where(steps > 0, (place - 0.5) * _SPREAD, 0).transpose(-1, -2)


@compiled(f"void({', '.join(['float32[:, :, ::1]'] * 3)}, int64[::1], float32[:, :, ::1], float32[:, :, ::1])")
def _encode(
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
    knots: NDArray[np.float32],
    own: NDArray[np.int64],
    features: NDArray[np.float32],
    found: NDArray[np.float32],
) -> None:
    """Fills (B, M, 2 * F) from tables of K adapters, of which row b of (B, M, F) features has its ``own[b]``.

    All numbers of a candidate are compared with their next knots side by side, which takes less time than to search for each.
    """
    rows, count, width = features.shape
    above, steps = np.empty(width, np.int32), np.empty(width, np.int32)
    for row in range(rows):
        means, scales, borders = mean[own[row], 0], scale[own[row], 0], knots[own[row]]
        steps[:] = 0
        for knot in range(1, KNOTS):
            for f in range(width):
                steps[f] += borders[knot, f] > borders[knot - 1, f]
        for at in range(count):
            x, out = features[row, at], found[row, at]
            above[:] = 0
            for knot in range(KNOTS):
                for f in range(width):
                    above[f] += borders[knot, f] <= x[f]
            for f in range(width):
                out[f] = min(max((x[f] - means[f]) * scales[f], np.float32(-6)), np.float32(6))
                below = max(min(above[f], steps[f]), 1) - 1
                low, high = borders[below, f], borders[below + 1, f]
                step = max(high - low, np.float32(1e-12))
                inside = min(max(x[f], borders[0, f]), borders[KNOTS - 1, f]) - low
                place = (np.float32(below) + inside / step) / np.float32(max(steps[f], 1))
                out[width + f] = (place - np.float32(0.5)) * _SPREAD if steps[f] > 0 else np.float32(0)
