import pytest
import torch
from torch import Tensor

from peftrec import LanguageConfig, TrainConfig
from peftrec.backbone import Backbone, arithmetic, native_precision


@pytest.mark.parametrize("columns", [1, 384, 1040, 1041, 4096])
def test_both_ways_to_multiply_int8_are_exact(columns: int):
    generator = torch.Generator().manual_seed(columns)
    rows, weight = (torch.randint(-127, 128, (n, columns), generator=generator, dtype=torch.int8) for n in (5, 7))
    rows[0], weight[0], weight[1] = 127, 127, -127  # the largest sums there can be
    exact = (rows.to(torch.int64) @ weight.to(torch.int64).t()).float()
    assert arithmetic._by_floats(rows, weight).equal(exact)
    if columns > 1:  # of one column torch itself multiplies wrongly on some processors
        assert arithmetic.integer_product(rows, weight).float().equal(exact)
    assert arithmetic.whole_product(rows, weight).equal(exact)


@pytest.mark.parametrize(
    ("knows", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx2": True, "avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"neon": True, "bf16": True}, "bf16"),
        ({}, "fp32"),
    ],
)
def test_bf16_is_chosen_where_it_is_not_emulated(
    knows: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: knows)
    assert native_precision.__wrapped__() == expected


def test_all_defaults_follow_the_machine(tiny_backbone: Backbone):
    assert TrainConfig().precision == LanguageConfig().precision == native_precision()
    assert (tiny_backbone.encode(["tea"]) == tiny_backbone.encode(["tea"], precision=native_precision())).all()


def test_without_int8_tiles_no_kernel_that_multiplies_value_by_value_is_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True, "amx_int8": False})
    assert not arithmetic._packs.__wrapped__()


@pytest.mark.parametrize(
    ("seconds", "exact", "packs"), [(0.001, True, True), (0.2, True, False), (0.001, False, False)]
)
def test_a_packed_kernel_is_taken_if_it_is_exact_and_no_slow_one(
    seconds: float, exact: bool, packs: bool, monkeypatch: pytest.MonkeyPatch
):
    """A processor may say that it has tiles, and the system keep them from the process."""

    class Packed:
        def __init__(self, weight: Tensor) -> None:
            self.weight = weight

        def product(self, rows: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
            return (arithmetic.whole_product(rows, self.weight) * scale + (not exact)).to(dtype)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_int8": True})
    monkeypatch.setattr(arithmetic, "_floats_are_faster", lambda: False)
    monkeypatch.setattr(arithmetic, "PackedWeight", Packed)
    monkeypatch.setattr(arithmetic, "_seconds", lambda product: seconds)
    assert arithmetic._packs.__wrapped__() == packs
