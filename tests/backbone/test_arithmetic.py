import time

import pytest
import torch
from torch import nn

from peftrec import LanguageConfig, TrainConfig
from peftrec.backbone import Backbone, arithmetic, native_precision
from peftrec.backbone.int8 import Int8Linear


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


def test_packed_or_not_a_product_takes_no_longer_than_it_must():
    """The sums of 256 rows are a matter of a millisecond; value by value they took two seconds."""
    rows = torch.randint(-127, 128, (256, 384), generator=torch.Generator().manual_seed(0), dtype=torch.int8)
    layer = Int8Linear(nn.Linear(384, 1536))
    layer.pack()
    layer.product(rows, torch.ones(256, 1))
    begun = time.perf_counter()
    layer.product(rows, torch.ones(256, 1))
    assert time.perf_counter() - begun < 1
