"""Boosted trees as matrices, so that an adapter can hold them and a batch can mix those of several adapters.

A tree is a row of nodes. The children of node n are ``child[n]`` and ``child[n] + 1``; a leaf is its own left child under
a threshold that nothing exceeds, so every candidate takes ``DEPTH`` steps and ends at its leaf, whatever the tree.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TREES, LEAVES, DEPTH = 400, 31, 10
"""Trees of a forest, and the most leaves and splits in a row that each may have."""

NODES = 2 * LEAVES - 1

BLOCK = 1024
"""Candidates that go through the trees together: their places in all trees, 3 MB, stay in the processor's cache."""

NOTHING_EXCEEDS = float(torch.finfo(torch.float16).max)
"""Threshold of a leaf, of which no number about a product is more: larger ones count as this."""

SHAPES = dict.fromkeys(("forest_feature", "forest_threshold", "forest_child", "forest_value"), (TREES, NODES))


def empty() -> dict[str, Tensor]:
    """A forest that adds nothing: each tree is one leaf of value 0."""
    tables = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    tables["forest_threshold"].fill_(NOTHING_EXCEEDS)
    tables["forest_child"] += torch.arange(NODES)
    return tables


def is_whole(extras: Mapping[str, NDArray[np.floating]], features: int) -> bool:
    """Whether every node looks at one of ``features`` numbers and leads to nodes of its tree."""
    feature, child = (extras[name].astype(np.float32) for name in ("forest_feature", "forest_child"))
    leaf = extras["forest_threshold"] >= NOTHING_EXCEEDS
    inside = (child >= 0) & np.where(leaf, child < NODES, child < NODES - 1)
    known = (feature >= 0) & (feature < features)
    return bool((inside & known & (child == np.floor(child)) & (feature == np.floor(feature))).all())


def thresholds_in_half(values: NDArray[np.floating]) -> NDArray[np.float16]:
    """The greatest numbers of half precision that are not above: they part numbers of half precision as before."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float16)
    return np.where(near > values, np.nextafter(near, np.float16(-np.inf)), near)


def forest_logits(extras: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """The sum of the trees.

    Args:
        extras: The adapter's, or stacks of them with one per row.
        features: (…, M, len(FEATURES)), as they are measured, not standardised.

    Returns:
        (…, M) logits.
    """
    first = torch.arange(TREES, device=features.device) * NODES
    feature, child = (extras[name].long() for name in ("forest_feature", "forest_child"))
    found: list[Tensor] = []
    rows = math.prod(features.shape[:-2])
    for part in features.clamp(max=NOTHING_EXCEEDS).split(max(1, BLOCK // rows), dim=-2):
        at = first.expand(*part.shape[:-1], TREES)
        for _ in range(DEPTH):
            right = part.gather(-1, _look_up(feature, at)) > _look_up(extras["forest_threshold"], at)
            at = first + _look_up(child, at) + right
        found.append(_look_up(extras["forest_value"], at).sum(dim=-1))
    return torch.cat(found, dim=-1)


def _look_up(table: Tensor, at: Tensor) -> Tensor:
    """Entries (…, M, TREES) of a table, or of a stack of tables with one per row of ``at``."""
    flat = table.flatten(-2)
    # Not flat[at], which takes twice as long.
    return flat.gather(-1, at.flatten(flat.ndim - 1)).view_as(at)
