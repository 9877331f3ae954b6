"""A byte for a value, with a step for 64 of them."""

import numpy as np
import pytest
import torch

from peftrec.model.microscaling import BLOCK, bytes_of, fill, fits, rounded, values_of


def halves(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float16)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 3e-5, 1e-3, 0.4, 1.0, 200.0, 2e3])
def test_rounded_values_become_bytes_and_come_back_bit_for_bit(scale: float):
    value = np.random.default_rng(0).normal(scale=scale, size=(128, 40)).astype(np.float32)
    value[3:8] = 0
    found = rounded(value)
    assert (found.astype(np.float16) == found).all()
    held, counts, exponents = bytes_of([halves(found)])
    assert held == [True]
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
    held, counts, exponents = bytes_of([halves(table)])
    assert held == [True]
    np.testing.assert_array_equal(values_of(counts, exponents).numpy(), table.ravel())


def test_an_array_with_more_digits_in_any_block_is_left_out():
    value = rounded(np.random.default_rng(3).normal(size=(4, BLOCK)).astype(np.float32))
    finer = value.copy()
    finer[2, 5] = np.float16(np.abs(value[2]).max() * 0.3371)
    held, counts, exponents = bytes_of([halves(value), halves(finer), halves(2 * value)])
    assert held == [True, False, True]
    np.testing.assert_array_equal(values_of(counts, exponents).numpy(), [*value.ravel(), *2 * value.ravel()])


def test_halves_of_every_kind_are_told_apart_as_by_exact_arithmetic():
    """Each finite half alone in a block beside a greater one: whether the step divides it."""
    every = np.arange(2**15, dtype=np.uint32).astype(np.uint16).view(np.float16)
    every = every[np.isfinite(every)]
    for greatest in np.array([2.0**-24, 3.1e-5, 6.2e-5, 0.7, 1.5, 60_000.0], np.float16):
        smaller = every[every <= greatest]
        blocks = np.zeros((len(smaller), BLOCK), np.float16)
        blocks[:, 0], blocks[:, 7] = greatest, -smaller
        step = np.exp2(np.maximum(np.floor(np.log2(np.float64(greatest))), -14) - 6)
        whole = (smaller / step % 1 == 0) & (greatest / step % 1 == 0)
        held, counts, exponents = bytes_of([*blocks[::7]])
        assert held == whole[::7].tolist()
        np.testing.assert_array_equal(values_of(counts, exponents).numpy(), blocks[::7][whole[::7]].ravel())


def test_the_last_block_is_filled_up_with_zeros():
    value = rounded(np.random.default_rng(5).normal(size=(3, 30)).astype(np.float32))
    held, counts, exponents = bytes_of([halves(value)])
    assert (held, len(counts), len(exponents)) == ([True], 2 * BLOCK, 2)
    np.testing.assert_array_equal(values_of(counts, exponents).numpy(), [*value.ravel(), *[0] * (2 * BLOCK - 90)])


def test_an_array_that_ends_within_a_block_is_rounded_to_its_end():
    value = np.random.default_rng(4).normal(size=(61, 70)).astype(np.float32)
    found = rounded(value)
    assert found.shape == value.shape
    assert 0 < np.abs(found - value).max() < 0.05


def test_vectors_and_small_matrices_are_left_alone():
    shapes = {(384, 384): True, (16, 384): True, (400, 61): True, (1, 5000): False, (5000, 1): False, (5, 384): False}
    assert {shape: fits(np.zeros(shape, np.float32)) for shape in shapes} == shapes
