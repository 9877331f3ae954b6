import pytest
import torch
from torch import nn

from peftrec.backbone import Int8Embedding, Int8Linear, int8_linears, quantise_rows
from peftrec.backbone.arithmetic import _packs, whole_product


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_rounding_is_within_half_a_step(random: torch.Generator):
    values = torch.randn(50, 64, generator=random) * torch.logspace(-3, 3, 50)[:, None]
    rows, steps = quantise_rows(values)
    assert rows.dtype == torch.int8
    assert rows.abs().amax(dim=1).eq(127).all()  # every row uses the whole range
    assert ((rows * steps - values).abs() <= steps * 0.5001).all()


def test_words_of_bfloat16_have_steps_that_bfloat16_holds(random: torch.Generator):
    values = (torch.randn(50, 64, generator=random) * torch.logspace(-3, 3, 50)[:, None]).bfloat16()
    rows, steps = quantise_rows(values)
    assert torch.equal(steps.bfloat16().float(), steps)
    assert rows.int().abs().amax(dim=1).clamp(126, 127).eq(rows.int().abs().amax(dim=1)).all()
    assert ((rows * steps - values.float()).abs() <= steps * 0.5001).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_zeros_stays_zero(dtype: torch.dtype):
    rows, steps = quantise_rows(torch.zeros(2, 8, dtype=dtype))
    assert (rows * steps).eq(0).all()
    assert steps.isfinite().all()


def test_whole_numbers_come_out_exactly():
    # With 127 in every row the step is 1 on both sides, so nothing is rounded and the answer is known.
    linear = nn.Linear(3, 2)
    linear.weight.data = torch.tensor([[127.0, -2, 3], [0, 5, -127]])
    linear.bias.data = torch.tensor([0.5, -0.5])
    x = torch.tensor([[127.0, 1, 0], [2, 127, 4]])
    with torch.no_grad():
        assert Int8Linear(linear)(x).tolist() == linear(x).tolist() == [[16127.5, 4.5], [12.5, 126.5]]


@pytest.mark.parametrize("shape", [(1, 48), (17, 48), (2, 5, 48), (0, 48), (3, 0, 48)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_keeps_shape_and_direction(shape: tuple[int, ...], bias: bool, random: torch.Generator):
    linear = nn.Linear(48, 40, bias=bias).requires_grad_(False)
    x = torch.randn(shape, generator=random)
    answer, expected = Int8Linear(linear)(x), linear(x)
    assert answer.shape == expected.shape
    if answer.numel():
        assert cosine(answer, expected) > 0.9995


@pytest.mark.parametrize("packs", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_answers_in_the_type_it_was_asked_in(packs: bool, bias: bool, random: torch.Generator):
    linear = nn.Linear(48, 40, bias=bias)
    layer, x = Int8Linear(linear), torch.randn(4, 48, generator=random)
    if packs:
        layer.pack()
    answer = layer(x.bfloat16())
    assert answer.dtype == torch.bfloat16
    assert cosine(answer.float(), linear(x)) > 0.9995


def test_layers_that_read_the_same_input_share_its_rounding(random: torch.Generator):
    layer = Int8Linear(nn.Linear(16, 8))
    x = torch.randn(4, 16, generator=random)
    assert layer.product(*quantise_rows(x)).equal(layer(x))


def test_one_row_does_not_depend_on_the_others(random: torch.Generator):
    layer = Int8Linear(nn.Linear(32, 16))
    x = torch.randn(40, 32, generator=random)
    x[1:] *= 1000
    assert layer(x)[:1].equal(layer(x[:1]))


def test_an_embedding_keeps_its_words_in_a_quarter_of_the_memory(random: torch.Generator):
    embedding = nn.Embedding(1000, 64)
    small = Int8Embedding(embedding)
    ids = torch.randint(1000, (3, 7), generator=random)
    assert small(ids).shape == (3, 7, 64)
    assert cosine(small(ids), embedding(ids).detach()) > 0.9999
    held = sum(tensor.nbytes for tensor in small.buffers())
    assert held < embedding.weight.nbytes * 0.27


def test_every_linear_below_a_module_is_replaced():
    module = nn.Sequential(nn.Linear(8, 8), nn.ModuleDict({"inner": nn.Linear(8, 8)}), nn.LayerNorm(8))
    assert int8_linears(module) is module
    kinds = [type(child).__name__ for child in module.modules()]
    assert kinds.count("Int8Linear") == 2
    assert "Linear" not in kinds


@pytest.mark.gpu
def test_cuda_gives_what_the_processor_gives(random: torch.Generator):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    layer = Int8Linear(nn.Linear(64, 32))
    for rows in (1, 16, 17, 100):
        x = torch.randn(rows, 64, generator=random)
        torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), layer.cpu()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns", "out"), [(1, 384, 1536), (33, 1536, 384), (1601, 384, 384), (2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_weights_answer_the_same_bits(rows: int, columns: int, out: int, bias: bool):
    torch.manual_seed(rows)
    layer = Int8Linear(nn.Linear(columns, out, bias=bias))
    x = torch.randn(rows, columns)
    expected, empty = layer(x), layer(x[:0])
    layer.pack()
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer(x[:0]), empty)


def test_sums_beyond_what_float32_counts_are_rounded_alike():
    linear = nn.Linear(4096, 2, bias=False)
    nn.init.ones_(linear.weight)
    layer = Int8Linear(linear)
    x = torch.ones(3, 4096)
    x[1, ::2] = 0.7
    expected = layer(x)
    layer.pack()
    assert torch.equal(layer(x), expected)


def test_a_single_column_is_not_packed():
    layer = Int8Linear(nn.Linear(1, 4))
    layer.pack()
    assert layer.packed is None
    assert layer.weight.shape == (4, 1)


def test_a_packed_layer_holds_its_weights_once():
    layer = Int8Linear(nn.Linear(64, 32))
    layer.pack()
    assert (layer.packed is not None) == _packs()
    assert layer.weight.numel() == (0 if layer.packed else 64 * 32)


@pytest.mark.parametrize(("rows", "columns", "out"), [(1, 384, 1536), (33, 1536, 384), (700, 384, 384), (2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_one_pass_over_sums_gives_the_bits_of_two(rows: int, columns: int, out: int, bias: bool):
    torch.manual_seed(rows)
    layer, x = Int8Linear(nn.Linear(columns, out, bias=bias)), torch.randn(rows, columns)
    whole, steps = quantise_rows(x)
    sums = whole_product(whole, layer.weight) * layer.steps
    expected = sums * steps if layer.bias is None else torch.addcmul(layer.bias, sums, steps)
    assert torch.equal(layer(x), expected)


def test_rows_are_rounded_as_torch_rounds_them():
    x = torch.randn(300, 384, generator=torch.Generator().manual_seed(0)) * torch.logspace(-14, 14, 300)[:, None]
    x[0], x[1], x[1, 0] = 0, (torch.arange(384) % 255 - 127) / 2, 127  # nothing, and halves between two steps
    rows, steps = quantise_rows(x)
    assert ((x[1] / steps[1]).abs() % 1 == 0.5).sum() > 100
    exact = x.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
    assert torch.equal(steps, exact)
    assert torch.equal(rows, (x / exact).round().to(torch.int8))
    assert torch.equal(quantise_rows(x.t().contiguous().t())[0], rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_not_hidden_and_stays_in_its_row(
    dtype: torch.dtype, value: float, random: torch.Generator
):
    layer, x = Int8Linear(nn.Linear(384, 16)), torch.randn(3, 384, generator=random)
    x[1, 5] = value
    assert layer(x.to(dtype)).isnan().any(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("threads", [1, 16])
def test_on_one_core_or_many_the_bits_are_the_same(
    threads: int, monkeypatch: pytest.MonkeyPatch, random: torch.Generator
):
    layer, x = Int8Linear(nn.Linear(384, 384)), torch.randn(300, 384, generator=random)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    expected = layer(x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(layer(x), expected)


def test_steps_of_any_layout_and_type_are_taken(random: torch.Generator):
    layer, x = Int8Linear(nn.Linear(384, 16)), torch.randn(4, 384, generator=random)
    rows, steps = quantise_rows(x)
    assert torch.equal(layer.product(rows[::2], steps[::2]), layer(x)[::2])
    assert torch.equal(layer.product(rows, steps[:1].expand(4, 1))[0], layer(x)[0])
    assert cosine(layer.half()(x).float(), layer.float()(x)) > 0.999
    assert not layer(x.requires_grad_()).requires_grad
