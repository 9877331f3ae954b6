"""A byte for a value, with a step for 64 of them."""

import numpy as np
import pytest
import torch

from peftrec.model.microscaling import BLOCK, bytes_of, fill, fits, rounded, values_of


def halves(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(value.astype(np.float16).ravel())


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 3e-5, 1e-3, 0.4, 1.0, 200.0, 2e3])
def test_rounded_values_become_bytes_and_come_back_bit_for_bit(scale: float):
    value = np.random.default_rng(0).normal(scale=scale, size=(128, 40)).astype(np.float32)
    value[3:8] = 0
    found = rounded(value)
    assert (found.astype(np.float16) == found).all()
    counts, exponents, exact = bytes_of(halves(found))
    assert exact.all()
    assert (counts.dtype, exponents.dtype, exponents.shape) == (torch.int8, torch.int8, (80,))
    np.testing.assert_array_equal(values_of(counts, exponents).numpy(), found.ravel())
    np.testing.assert_array_equal(rounded(found), found)
    for dtype in (torch.half, torch.bfloat16):
        there = torch.empty(len(counts), dtype=dtype)
        fill(there, counts, exponents)
        np.testing.assert_array_equal(there.float().numpy(), found.ravel())


def test_no_value_is_off_by_more_than_a_128th_of_the_greatest_of_its_block():
    value = np.random.default_rng(1).normal(size=(64, BLOCK)).astype(np.float32)
    value[:, 0] = np.geomspace(3, 12, 64)  # all the ways in which a greatest value may lie between two powers of two
    greatest = np.abs(value).max(axis=1, keepdims=True)
    assert (np.abs(rounded(value) - value) <= greatest / 128).all()


def test_whole_numbers_of_tables_are_exact():
    table = np.random.default_rng(2).integers(0, 128, size=(64, 61)).astype(np.float16)
    counts, exponents, exact = bytes_of(halves(table))
    assert exact.all()
    np.testing.assert_array_equal(values_of(counts, exponents).numpy(), table.ravel())


def test_what_has_more_digits_is_told_block_by_block():
    value = rounded(np.random.default_rng(3).normal(size=(4, BLOCK)).astype(np.float32))
    value[2, 5] = np.float16(np.abs(value[2]).max() * 0.3371)
    assert np.flatnonzero(~bytes_of(halves(value))[2].numpy()).tolist() == [2]


def test_an_array_that_ends_within_a_block_is_rounded_to_its_end():
    value = np.random.default_rng(4).normal(size=(61, 70)).astype(np.float32)
    found = rounded(value)
    assert found.shape == value.shape
    assert 0 < np.abs(found - value).max() < 0.05


def test_vectors_and_small_matrices_are_left_alone():
    shapes = {(384, 384): True, (16, 384): True, (400, 61): True, (1, 5000): False, (5000, 1): False, (5, 384): False}
    assert {shape: fits(np.zeros(shape, np.float32)) for shape in shapes} == shapes
