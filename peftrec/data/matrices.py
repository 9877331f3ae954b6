# pyright: basic, reportOptionalSubscript=false, reportReturnType=false
# scipy has no types; the rest of the package is checked strictly.
"""Products of sparse matrices of which all or a few entries are wanted, written where they are wanted."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from peftrec.compiled import compiled

_CSR = "int32[::1], int32[::1], float32[::1]"


def dense_product(left: sparse.csr_matrix, right: sparse.csr_matrix) -> NDArray[np.float32]:
    """(n, m) ``left @ right``, dense, with the bits of scipy's sparse one, which first counts its entries and then lists them."""
    found = np.zeros((left.shape[0], right.shape[1]), np.float32)
    _multiply(*_arrays(left), *_arrays(right), found)
    return found


def product_at(
    matrix: sparse.csr_matrix, vectors: NDArray[np.float32], rows: NDArray[np.int32], of: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(C,) products of some rows of a matrix (n, m), each with the one of the vectors (B, m) that ``of`` names."""
    found = np.empty(len(rows), np.float32)
    _multiply_at(*_arrays(matrix), np.ascontiguousarray(vectors), rows, of, found)
    return found


def entries(matrix: sparse.csr_matrix, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.float32]:
    """(C,) some entries of a matrix without doubles, 0 where it has none, or no such row."""
    if not matrix.has_sorted_indices:
        matrix = matrix.sorted_indices()
    found = np.zeros(len(rows), np.float32)
    _look_up(*_arrays(matrix), rows.astype(np.int64), columns.astype(np.int32), found)
    return found


def _arrays(matrix: sparse.csr_matrix) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    ends, columns = (array.astype(np.int32, copy=False) for array in (matrix.indptr, matrix.indices))
    return ends, columns, matrix.data


@compiled(f"void({_CSR}, {_CSR}, float32[:, ::1])")
def _multiply(
    left_ends: NDArray[np.int32],
    left_columns: NDArray[np.int32],
    left: NDArray[np.float32],
    right_ends: NDArray[np.int32],
    right_columns: NDArray[np.int32],
    right: NDArray[np.float32],
    found: NDArray[np.float32],
) -> None:
    for row in range(len(found)):
        sums = found[row]
        for at in range(left_ends[row], left_ends[row + 1]):
            factor, inner = left[at], left_columns[at]
            for there in range(right_ends[inner], right_ends[inner + 1]):
                sums[right_columns[there]] += factor * right[there]


@compiled(f"void({_CSR}, float32[:, ::1], int32[::1], int64[::1], float32[::1])")
def _multiply_at(
    ends: NDArray[np.int32],
    columns: NDArray[np.int32],
    matrix: NDArray[np.float32],
    vectors: NDArray[np.float32],
    rows: NDArray[np.int32],
    of: NDArray[np.int64],
    found: NDArray[np.float32],
) -> None:
    for at in range(len(rows)):
        vector, total = vectors[of[at]], np.float32(0)
        for there in range(ends[rows[at]], ends[rows[at] + 1]):
            total += matrix[there] * vector[columns[there]]
        found[at] = total


@compiled(f"void({_CSR}, int64[::1], int32[::1], float32[::1])")
def _look_up(
    ends: NDArray[np.int32],
    columns: NDArray[np.int32],
    matrix: NDArray[np.float32],
    rows: NDArray[np.int64],
    wanted: NDArray[np.int32],
    found: NDArray[np.float32],
) -> None:
    for at in range(len(rows)):
        if not 0 <= rows[at] < len(ends) - 1:
            continue
        first, last = ends[rows[at]], ends[rows[at] + 1]
        there = first + np.searchsorted(columns[first:last], wanted[at])
        if there < last and columns[there] == wanted[at]:
            found[at] = matrix[there]
