"""Attention with a backward pass of its own gives what it gives written out."""

import pytest
import torch
from torch import Tensor

from peftrec.model.attention import attend, attend_and_itself


def written_out(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, own: list[Tensor]) -> Tensor:
    scores = (query @ key.mT * query.shape[-1] ** -0.5).masked_fill(hidden, -torch.inf)
    if not own:
        return scores.softmax(dim=-1) @ value
    own_key, own_value = own
    itself = (query * own_key).sum(dim=-1, keepdim=True) * query.shape[-1] ** -0.5
    weight = torch.cat([scores, itself], dim=-1).softmax(dim=-1)
    return weight[..., :-1] @ value + weight[..., -1:] * own_value


@pytest.mark.parametrize("itself", [False, True])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_outputs_and_gradients(itself: bool, dtype: torch.dtype, error: float):
    random = torch.Generator().manual_seed(0)
    rows, heads, asked, others, width = 3, 2, 7, 9, 8

    def some(count: int) -> Tensor:
        x = torch.randn(rows, heads, count, width, generator=random, dtype=torch.float64)
        return x.to(dtype).transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()  # laid out as the decoder's

    query, key, value = some(asked), some(others), some(others)
    own = [some(asked), some(asked)] if itself else []
    hidden = torch.rand(rows, 1, 1, others, generator=random) < 0.5
    hidden[0], hidden[1], hidden[1:, ..., 2] = False, True, False  # all are seen, one, some
    inputs = [query, key, value, *own]
    gradient = some(asked).detach()

    found = attend_and_itself(query, *own, key, value, hidden) if itself else attend(query, key, value, hidden)
    of_found = torch.autograd.grad(found, inputs, gradient)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = written_out(*exact[:3], hidden, exact[3:])
    of_expected = torch.autograd.grad(expected, exact, gradient.double())
    for one, other in zip((found, *of_found), (expected, *of_expected), strict=True):
        assert one.dtype == dtype
        assert (one - other).abs().max() <= error * other.abs().max()
    assert not of_found[1].masked_select(hidden.mT.expand_as(key)).any()  # nobody saw them


def test_what_needs_no_gradients_is_the_same():
    query, own_key, own_value, key, value = torch.randn(5, 2, 2, 6, 8)
    hidden = torch.zeros(2, 1, 1, 6, dtype=torch.bool)
    with torch.no_grad():
        alone = attend_and_itself(query, own_key, own_value, key, value, hidden)
    trained = attend_and_itself(query.requires_grad_(), own_key, own_value, key, value, hidden)
    assert torch.equal(alone, trained)
