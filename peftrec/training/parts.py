"""A step's loss part by part: each part goes back as soon as it has gone forth.

What waits for a backward pass is then that of a few rows instead of all: on two cores a step of 16 shoppers takes a third of
the memory and, since little of a part of like rows is padding and more of it stays in the caches, seven eighths of the time
(``benchmarks/training_step.py``). Gradients are those of the whole batch but for rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from peftrec.training.rows import Batch

SIZE = 4
"""Rows of a part: of 2, 4 and 8 the fastest on groceries and gifts, LoRA in fp32 (``benchmarks/LOG.md``)."""


def alike(batch: Batch) -> Sequence[Tensor]:
    """Places of a batch's rows, at most ``SIZE`` in each part, sorted so that little of a part is padding."""
    words, candidates = batch.shoppers.mask.sum(dim=1), batch.counts
    orders = [torch.argsort(lengths, stable=True).split(SIZE) for lengths in (words, candidates)]
    return min(orders, key=lambda parts: sum(len(at) * int(words[at].max() + candidates[at].max()) for at in parts))


def summed(losses: Sequence[Callable[[], Tensor]], inputs: Sequence[Tensor]) -> Tensor:
    """The sum of losses, one at a time; its gradients are known before its backward pass begins.

    Args:
        losses: Each makes a scalar, which depends on ``inputs``.
        inputs: All that gradients are asked for, parameters included; those that no loss depends on get none.
    """
    return _Summed.apply(losses, *inputs)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, losses: Sequence[Callable[[], Tensor]], *inputs: Tensor) -> Tensor:
        total, gradients = torch.zeros(()), list[Tensor | None]([None] * len(inputs))
        for loss in losses:
            with torch.enable_grad():
                value = loss()
            with torch.autocast(value.device.type, enabled=False):
                found = torch.autograd.grad(value, inputs, allow_unused=True)
            total = total + value.detach()
            # Into copies: one tensor may be the gradient of several inputs.
            gradients = [
                old if new is None else new.clone() if old is None else old.add_(new)
                for old, new in zip(gradients, found, strict=True)
            ]
        ctx.gradients = gradients
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return None, *(None if found is None else found * gradient for found in ctx.gradients)
