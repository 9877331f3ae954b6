"""Boosted trees as matrices, so that an adapter can hold them and a batch can mix those of several adapters.

A tree is a row of nodes. The children of node n are ``child[n]`` and ``child[n] + 1``; a leaf is its own left child under
a threshold that nothing exceeds, so every candidate takes ``DEPTH`` steps and ends at its leaf, whatever the tree.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.compiled import compiled
from peftrec.halves import to_single

TREES, LEAVES, DEPTH = 400, 31, 10
"""Trees of a forest, and the most leaves and splits in a row that each may have."""

NODES = 2 * LEAVES - 1

BLOCK = 32
"""Candidates that walk down a tree side by side: a processor looks up the next place of one while another's is on its way."""

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
    tables = [to_single(extras[name]) for name in ("forest_feature", "forest_threshold", "forest_child")]
    return len({table.shape for table in tables}) == 1 and _is_whole(*(table.reshape(-1) for table in tables), features)


@compiled("boolean(float32[::1], float32[::1], float32[::1], int64)")
def _is_whole(
    feature: NDArray[np.float32], threshold: NDArray[np.float32], child: NDArray[np.float32], features: int
) -> bool:
    astray = 0
    for node in range(len(child)):
        last = np.float32(NODES - 1 if threshold[node] >= np.float32(NOTHING_EXCEEDS) else NODES - 2)
        inside = (child[node] >= 0) & (child[node] <= last) & (child[node] == np.floor(child[node]))
        known = (feature[node] >= 0) & (feature[node] < features) & (feature[node] == np.floor(feature[node]))
        astray += not (inside & known)
    return astray == 0


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
    tables = [extras[name] for name in SHAPES]
    if features.device.type != "cpu":
        return _gathered(*tables, features.clamp(max=NOTHING_EXCEEDS))
    stacks = [table.detach().float().reshape(-1, TREES, NODES).contiguous().numpy() for table in tables]
    x = features.detach().float().reshape(-1, *features.shape[-2:]).contiguous().numpy()
    own = np.arange(len(x)) if len(stacks[0]) > 1 else np.zeros(len(x), np.int64)
    logits = np.empty(x.shape[:2], np.float32)
    _walk(*stacks, own, x, logits)
    return torch.from_numpy(logits).view(features.shape[:-1])


def _gathered(feature: Tensor, threshold: Tensor, child: Tensor, value: Tensor, features: Tensor) -> Tensor:
    """All candidates through all trees at once, as a GPU likes it."""
    first = torch.arange(TREES, device=features.device) * NODES
    feature, child = feature.long(), child.long()
    at = first.expand(*features.shape[:-1], TREES)
    for _ in range(DEPTH):
        right = features.gather(-1, _look_up(feature, at)) > _look_up(threshold, at)
        at = first + _look_up(child, at) + right
    return _look_up(value, at).sum(dim=-1)


def _look_up(table: Tensor, at: Tensor) -> Tensor:
    """Entries (…, M, TREES) of a table, or of a stack of tables with one per row of ``at``."""
    flat = table.flatten(-2)
    # Not flat[at], which takes twice as long.
    return flat.gather(-1, at.flatten(flat.ndim - 1)).view_as(at)


@compiled(f"void({', '.join(['float32[:, :, ::1]'] * 4)}, int64[::1], float32[:, :, ::1], float32[:, ::1])")
def _walk(
    feature: NDArray[np.float32],
    threshold: NDArray[np.float32],
    child: NDArray[np.float32],
    value: NDArray[np.float32],
    own: NDArray[np.int64],
    features: NDArray[np.float32],
    logits: NDArray[np.float32],
) -> None:
    """Fills (B, M) logits from tables (K, TREES, NODES) of K forests, of which row b of (B, M, F) features has its ``own[b]``.

    A block of candidates takes each step together, so that no step waits for the one before it, and nothing branches. Places
    are unsigned, or every look-up would ask first whether it counts from the end.
    """
    forests, rows, count, width = len(feature), len(features), features.shape[1], features.shape[2]
    column, left = np.empty(feature.shape, np.uint32), np.empty(feature.shape, np.uint32)
    for forest in range(forests):
        for tree in range(TREES):
            for node in range(NODES):
                column[forest, tree, node] = np.uint32(feature[forest, tree, node]) * np.uint32(BLOCK)
                left[forest, tree, node] = np.uint32(child[forest, tree, node])
    block, lane = np.empty(width * BLOCK, np.float32), np.arange(BLOCK).astype(np.uint32)
    at, sums = np.empty(BLOCK, np.uint32), np.empty(BLOCK, np.float32)
    for row in range(rows):
        for start in range(0, count, BLOCK):
            filled = min(BLOCK, count - start)
            for c in range(filled):
                for f in range(width):
                    block[f * BLOCK + c] = min(features[row, start + c, f], NOTHING_EXCEEDS)
            sums[:] = 0
            for tree in range(TREES):
                columns, borders = column[own[row], tree], threshold[own[row], tree]
                lefts, values = left[own[row], tree], value[own[row], tree]
                at[:] = 0
                for _ in range(DEPTH):
                    for c in range(BLOCK):
                        node = at[c]
                        at[c] = lefts[node] + np.uint32(block[columns[node] + lane[c]] > borders[node])
                for c in range(BLOCK):
                    sums[c] += values[at[c]]
            logits[row, start : start + filled] = sums[:filled]
