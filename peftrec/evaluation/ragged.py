"""Rows of different lengths, kept in two flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ragged:
    """One list of item indices per row.

    >>> bought = Ragged.from_lists([[5, 2], [], [7]])
    >>> bought.lengths.tolist(), bought.rows.tolist(), bought[0].tolist()
    ([2, 0, 1], [0, 0, 2], [5, 2])
    """

    offsets: NDArray[np.int64]
    """(rows + 1,): row r is `values[offsets[r]:offsets[r + 1]]`."""
    values: NDArray[np.int32]
    """(offsets[-1],)"""

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> "Ragged":
        """From Python lists, the order inside a row kept."""
        offsets = np.cumsum([0, *(len(row) for row in lists)], dtype=np.int64)
        return cls(offsets, np.array([value for row in lists for value in row], dtype=np.int32))

    @classmethod
    def from_pairs(cls, rows: NDArray[np.integer], values: NDArray[np.integer], *, n_rows: int) -> "Ragged":
        """The distinct (row, value) pairs, ordered by row, then by value."""
        width = int(values.max(initial=0)) + 1
        keys = np.unique(rows.astype(np.int64) * width + values)
        counts = np.bincount(keys // width, minlength=n_rows)
        return cls(np.concatenate([[0], np.cumsum(counts)]), (keys % width).astype(np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(rows,)"""
        return np.diff(self.offsets)

    @property
    def rows(self) -> NDArray[np.int64]:
        """(values,): the row of every value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def between(self, start: int, stop: int) -> "Ragged":
        """Rows `start` up to `stop`."""
        offsets = self.offsets[start : stop + 1]
        return Ragged(offsets - offsets[0], self.values[offsets[0] : offsets[-1]])

    def take(self, rows: NDArray[np.integer]) -> "Ragged":
        """The chosen rows, in the order asked for.

        >>> [row.tolist() for row in Ragged.from_lists([[5, 2], [], [7]]).take(np.array([2, 0]))]
        [[7], [5, 2]]
        """
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(offsets, self.values[np.repeat(self.offsets[rows], lengths) + inside])

    def where(self, keep: NDArray[np.bool_]) -> "Ragged":
        """The values whose flag in `keep` (values,) is set; a row may become empty."""
        counts = np.bincount(self.rows[keep], minlength=len(self))
        return Ragged(np.concatenate([[0], np.cumsum(counts)]), self.values[keep])

    def contains(self, other: "Ragged") -> NDArray[np.bool_]:
        """(other.values,): whether the same row here holds each value of `other`.

        >>> Ragged.from_lists([[5, 2], [7]]).contains(Ragged.from_lists([[7, 2], [7]])).tolist()
        [False, True, True]
        """
        width = 1 + max(int(self.values.max(initial=0)), int(other.values.max(initial=0)))
        return np.isin(other.rows * width + other.values, self.rows * width + self.values)
