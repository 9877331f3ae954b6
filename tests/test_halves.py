"""Half precision by its bits, for every half there is."""

import numpy as np
import pytest

from peftrec.halves import is_finite, times_power_of_two, to_single

EVERY = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16)
FINITE = EVERY[np.isfinite(EVERY)]


def test_every_half_is_what_numpy_says():
    np.testing.assert_array_equal(to_single(FINITE).view(np.uint32), FINITE.astype(np.float32).view(np.uint32))
    np.testing.assert_array_equal(to_single(EVERY), EVERY.astype(np.float32))  # infinities, and what is no number


@pytest.mark.parametrize("power", [0, 1, 4, 15, 30, 39, 40, 100])
def test_powers_of_two_are_exact_or_refused(power: int):
    with np.errstate(over="ignore"):
        exact = FINITE.astype(np.float64) * 2.0**power
    fitting = np.abs(exact) <= 65_504
    found = times_power_of_two(FINITE[fitting], power)
    assert found is not None
    np.testing.assert_array_equal(found.astype(np.float64), exact[fitting])
    np.testing.assert_array_equal(np.signbit(found), np.signbit(exact[fitting]))  # of zeros as well
    if not fitting.all():
        assert times_power_of_two(FINITE, power) is None


@pytest.mark.parametrize("value", EVERY[~np.isfinite(EVERY)][::97])
def test_what_is_no_number_is_found(value: np.float16):
    assert is_finite(FINITE.reshape(-1, 64))
    assert not is_finite(np.append(FINITE, value))
    assert not is_finite(np.append(FINITE, value).astype(np.float32))


def test_arrays_of_a_file_may_not_be_written_to_and_need_not_lie_in_a_row():
    read = np.frombuffer(FINITE.tobytes(), np.float16)
    assert not read.flags.writeable
    table = read[:120].reshape(10, 12)
    for value in (read, table, table.T, table[:, ::2], read[:0]):
        np.testing.assert_array_equal(to_single(value), value.astype(np.float32))
        assert is_finite(value)


def test_other_types_are_taken_as_they_are():
    for dtype in (np.float32, np.float64, np.int8):
        value = np.array([[1, -2]], dtype)
        assert to_single(value).dtype == np.float32
        assert to_single(value).tolist() == [[1, -2]]
        assert is_finite(value)
