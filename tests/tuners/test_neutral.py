"""What is read of a tuner's file: the same values, in half precision where that loses nothing."""

import numpy as np
import pytest

from peftrec.tuners import Changes, LowRankPair, from_tensors, to_tensors


def changes_of(ranks: dict[str, int], *, largest: float = 0.1) -> Changes[np.ndarray]:
    rng = np.random.default_rng(0)

    def half(*shape: int) -> np.ndarray:
        return rng.uniform(-largest, largest, shape).astype(np.float16).astype(np.float32)

    return Changes({name: LowRankPair(half(rank, 12), 2 * half(10, rank)) for name, rank in ranks.items()})


@pytest.mark.parametrize(
    ("scale", "precisions"),
    [
        (lambda _: 2.0, {2: np.float16, 4: np.float16}),
        (lambda _: 1.0, {2: np.float16, 4: np.float16}),
        (lambda rank: 8.0 / rank, {2: np.float16, 4: np.float16}),  # 4 and 2
        (lambda rank: 1.0 / rank, {2: np.float32, 4: np.float32}),  # below 1 the least values would lose bits
        (lambda rank: 8.0 / rank**0.5, {2: np.float32, 4: np.float16}),  # no power of two, and 4
    ],
)
def test_what_is_left_in_half_precision_is_the_same(scale, precisions):
    tensors = to_tensors(changes_of({"one": 2, "two": 4, "three": 2}), scale)
    exact, stored = from_tensors(tensors, scale), from_tensors(tensors, scale, stored=True)
    assert [*stored.low_rank] == [*exact.low_rank]
    for name, pair in exact.low_rank.items():
        ours = stored.low_rank[name]
        assert (ours.a.dtype, ours.b.dtype) == (np.float16, precisions[len(pair.a)])
        np.testing.assert_array_equal(ours.a, pair.a)
        np.testing.assert_array_equal(ours.b, pair.b)


def test_what_half_precision_cannot_hold_is_scaled_in_single():
    tensors = to_tensors(changes_of({"one": 2}, largest=60_000.0), lambda _: 2.0)
    stored = from_tensors(tensors, lambda _: 2.0, stored=True)
    assert stored.low_rank["one"].b.dtype == np.float32
    np.testing.assert_array_equal(stored.low_rank["one"].b, from_tensors(tensors, lambda _: 2.0).low_rank["one"].b)


def test_a_file_without_low_rank_pairs():
    assert from_tensors({}, lambda _: 2.0, stored=True) == Changes()


@pytest.mark.parametrize("factor", [1.0, 2.0, 64.0])
def test_every_half_is_scaled_exactly(factor):
    """Also those too small for an exponent of their own."""
    every = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    every = every[np.abs(every.astype(np.float32)) < 65_504 / factor].reshape(-1, 1)
    tensors = {"base_model.model.one.lora_A.weight": every[:1].T, "base_model.model.one.lora_B.weight": every}
    stored = from_tensors(tensors, lambda _: factor, stored=True).low_rank["one"].b
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored.astype(np.float32), every.astype(np.float32) * np.float32(factor))
