"""The best of a catalogue, in one pass over its scores."""

import numpy as np
from numpy.typing import NDArray

from peftrec.compiled import compiled


def best_of(
    score: NDArray[np.float32], count: int, allowed: NDArray[np.bool_], *, above: float = -np.inf
) -> NDArray[np.int32]:
    """The ``count`` best of the allowed products, rising; of equals, the lower indices.

    Args:
        score: (n_items,).
        count: How many; fewer come back where fewer may.
        allowed: (n_items,) which may.
        above: What a score must exceed.
    """
    if count < 1:
        return np.empty(0, np.int32)
    size = min(2 * count, len(score) + 1)
    found, filled = np.empty(size, np.int32), np.zeros(1, np.int64)
    _select(np.ascontiguousarray(score), np.ascontiguousarray(allowed), above, count, found, filled)
    return found[: filled[0]]


@compiled("void(float32[::1], boolean[::1], float32, int64, int32[::1], int64[::1])")
def _select(
    score: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    above: float,
    count: int,
    found: NDArray[np.int32],
    filled: NDArray[np.int64],
) -> None:
    """Fills in the places of the best, in room for more than ``count`` of them, and says how many.

    Whenever the room is full, the best of it stay, and what comes later must exceed the least of them: of most products
    nothing more than that is asked.
    """
    values = np.empty(len(found), np.float32)
    size, least = 0, above
    for item in range(len(score) + 1):
        last = item == len(score)
        if not last and allowed[item] and score[item] > least:
            found[size], values[size] = item, score[item]
            size += 1
        if size == len(found) or (last and size > count):
            least = np.partition(values[:size], size - count)[size - count]
            equals, kept = count - (values[:size] > least).sum(), 0
            for at in range(size):
                if values[at] > least or (values[at] == least and equals > 0):
                    equals -= values[at] == least
                    found[kept], values[kept] = found[at], values[at]
                    kept += 1
            size = kept
    filled[0] = size
