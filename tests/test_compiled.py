"""Loops in machine code: kept where that can be, made anew where it cannot, and for the types they were made for."""

from collections.abc import Callable

import numpy as np
import pytest

from peftrec.compiled import compiled


def double(x: np.ndarray, out: np.ndarray) -> None:
    for at in range(len(x)):
        out[at] = 2 * x[at]


def test_a_loop_gives_what_it_says():
    out = np.zeros(3, np.float32)
    compiled("void(float32[::1], float32[::1])")(double)(np.arange(3, dtype=np.float32), out)
    assert out.tolist() == [0, 2, 4]


def test_it_is_made_where_it_cannot_be_kept():
    namespace: dict[str, Callable[..., None]] = {}
    exec("def double(x, out):\n    out[0] = 2 * x[0]", namespace)  # of no file
    out = np.zeros(1, np.float32)
    compiled("void(float32[::1], float32[::1])")(namespace["double"])(np.full(1, 3, np.float32), out)
    assert out == 6


def test_other_types_are_refused_and_not_compiled_for():
    with pytest.raises(TypeError, match="No matching definition"):
        compiled("void(float32[::1], float32[::1])")(double)(np.zeros(3), np.zeros(3))
