"""Rows of different length that lie end to end in one array."""

import numpy as np
from numpy.typing import NDArray


def laid_out(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where some rows come to lie, and what to take for it.

    Args:
        starts: (B,) where each row begins now.
        lengths: (B,) of each.

    Returns:
        (B + 1,) offsets of the rows once they lie end to end, and (total,) places to take, row by row.
    """
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, np.repeat(starts - offsets[:-1], lengths) + np.arange(int(offsets[-1]))
