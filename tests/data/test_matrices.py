"""Sparse products in machine code give the bits of scipy's."""

import numpy as np
import pytest
from scipy import sparse

from peftrec.data.matrices import dense_product, entries, product_at


def drawn(seed: int, rows: int, columns: int, density: float) -> sparse.csr_matrix:
    return sparse.random(
        rows, columns, density, format="csr", dtype=np.float32, random_state=np.random.default_rng(seed)
    )


@pytest.mark.parametrize("density", [0.0, 0.02, 0.6])
def test_a_dense_product_has_the_bits_of_the_sparse_one(density: float):
    left, right = drawn(0, 7, 300, density), drawn(1, 300, 90, density)
    found = dense_product(left, right)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, (left @ right).toarray())


def test_chosen_rows_are_multiplied_with_the_vectors_they_name():
    matrix, vectors = drawn(2, 40, 25, 0.3), np.random.default_rng(3).normal(size=(3, 25)).astype(np.float32)
    rows, of = np.array([5, 39, 5, 0], np.int32), np.array([0, 1, 2, 2])
    expected = [(matrix[row] @ vectors[vector]).item() for row, vector in zip(rows, of, strict=True)]
    np.testing.assert_array_equal(product_at(matrix, vectors, rows, of), np.float32(expected))
    assert product_at(matrix, vectors, rows[:0], of[:0]).shape == (0,)


def test_entries_are_those_of_the_matrix_and_0_where_it_has_none_or_no_such_row():
    matrix = drawn(4, 6, 50, 0.3)
    rows, columns = np.repeat(np.arange(-1, 8), 50), np.tile(np.arange(50), 9)
    expected = np.pad(matrix.toarray(), ((1, 2), (0, 0)))
    np.testing.assert_array_equal(entries(matrix, rows, columns), expected[rows + 1, columns])
    shuffled = matrix[:, ::-1][:, ::-1]
    shuffled.indices, shuffled.data = shuffled.indices.copy(), shuffled.data.copy()
    for first, last in zip(shuffled.indptr, shuffled.indptr[1:], strict=False):
        for array in (shuffled.indices, shuffled.data):
            array[first:last] = array[first:last][::-1].copy()
    shuffled.has_sorted_indices = False
    np.testing.assert_array_equal(entries(shuffled, rows, columns), expected[rows + 1, columns])
    assert not entries(sparse.csr_matrix((0, 50), dtype=np.float32), rows, columns).any()
