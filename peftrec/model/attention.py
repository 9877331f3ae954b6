"""What words see: a shopper's words each other, a candidate the shopper's words and itself.

No matrix of weights is kept: the forward pass is torch's fused kernel, which tells the denominators as well, and the backward
pass makes the weights once more, one row of the batch at a time, so that they stay in a processor's cache, and for the words
that are there alone (as Dao et al., 2022, https://arxiv.org/abs/2205.14135, on a GPU). torch's own backward pass of the fused
kernel takes several times as long in bf16 on a processor.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812  # its usual name


def attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
    """What T words see of N others.

    Args:
        query: (B, heads, T, width).
        key: (B, heads, N, width).
        value: (B, heads, N, width).
        hidden: (B, 1, 1, N) bool, which of the N nobody sees; in each row there is one to see.

    Returns:
        (B, heads, T, width).
    """
    if not query.is_cpu or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=~hidden)
    return _Attention.apply(query, key, value, hidden, None, None)


def attend_and_itself(
    query: Tensor, own_key: Tensor, own_value: Tensor, key: Tensor, value: Tensor, hidden: Tensor
) -> Tensor:
    """What M candidates see: N words of the shopper side, and each of them itself.

    Args:
        query: (B, heads, M, width), of the candidates, as are ``own_key`` and ``own_value``.
        own_key: (B, heads, M, width).
        own_value: (B, heads, M, width).
        key: (B, heads, N, width), of the shopper side, as is ``value``.
        value: (B, heads, N, width).
        hidden: As in :func:`attend`.

    Returns:
        (B, heads, M, width).
    """
    if query.is_cpu and not torch.is_grad_enabled():
        return _and_itself(query, own_key, own_value, *_fused(query, key, value, hidden))[0]
    if query.is_cpu:
        return _Attention.apply(query, key, value, hidden, own_key, own_value)
    scale = query.shape[-1] ** -0.5
    scores = (query @ key.mT).masked_fill(hidden, -torch.inf) * scale  # (B, heads, M, N)
    itself = (query * own_key).sum(-1, keepdim=True) * scale  # (B, heads, M, 1)
    weight = torch.softmax(torch.cat([scores, itself], dim=-1), dim=-1).to(value.dtype)
    return weight[..., :-1] @ value + weight[..., -1:] * own_value


def _fused(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """What words see of others, and the logarithm of the denominator, (B, heads, T, 1)."""
    bias = hidden.new_zeros(hidden.shape, dtype=query.dtype).masked_fill_(hidden, -torch.inf)
    # The one kernel that tells the denominator has no public name.
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    found, total = kernel(query, key, value, 0.0, False, attn_mask=bias, scale=query.shape[-1] ** -0.5)
    return found, total.unsqueeze(-1)


def _and_itself(
    query: Tensor, own_key: Tensor, own_value: Tensor, others: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """The same of what words see of others and of themselves, and the logarithm of their own term of the denominator."""
    itself = (query * own_key).sum(-1, keepdim=True) * query.shape[-1] ** -0.5
    return torch.lerp(others, own_value, torch.sigmoid(itself - total).to(own_value.dtype)), itself


class _Attention(torch.autograd.Function):
    """On a processor: words see N others that are not hidden, and themselves where ``own_key`` and ``own_value`` are given."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        hidden: Tensor,
        own_key: Tensor | None,
        own_value: Tensor | None,
    ) -> Tensor:
        found, total = _fused(query, key, value, hidden)
        if own_key is not None and own_value is not None:
            found, itself = _and_itself(query, own_key, own_value, found, total)
            total = torch.logaddexp(total, itself.to(total.dtype))
        ctx.save_for_backward(query, key, value, hidden, own_key, own_value, found, total)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, hidden, own_key, own_value, found, total = ctx.saved_tensors
        gradient, asked = gradients[0].to(query.dtype).contiguous(), query * query.shape[-1] ** -0.5
        mean = (gradient * found).sum(-1, keepdim=True)  # (B, heads, T, 1), of a weight's gradient
        # The products subtract what half precision holds of the denominator; the rest is a factor of something smaller.
        near = total.to(query.dtype)
        rest = (near - total).exp_().to(query.dtype)
        told, less = gradient * rest, mean * rest
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for row, seen in enumerate(~hidden[:, 0, 0]):
            keys, values = key[row][:, seen], value[row][:, seen]
            size = (*query.shape[1:3], keys.shape[1])  # (heads, T, N)
            weight = torch.baddbmm(near[row].expand(size), asked[row], keys.mT, beta=-1).exp_()
            of_value[row][:, seen] = weight.mT @ told[row]
            of_score = torch.baddbmm(less[row].expand(size), told[row], values.mT, beta=-1).mul_(weight)
            of_query[row] = of_score @ keys
            of_key[row][:, seen] = of_score.mT @ asked[row]
        of_own_key = of_own_value = None
        if own_key is not None and own_value is not None:
            weight = ((asked * own_key).sum(-1, keepdim=True) - near).exp_() * rest
            of_score = weight * ((gradient * own_value).sum(-1, keepdim=True) - mean)
            of_query.addcmul_(of_score, own_key)
            of_own_key, of_own_value = of_score * asked, weight * gradient
        return of_query.mul_(query.shape[-1] ** -0.5), of_key, of_value, None, of_own_key, of_own_value
