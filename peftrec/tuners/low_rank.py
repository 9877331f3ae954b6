"""The LoRA layer that training runs: peft's parameters under peft's names, with far fewer passes over the words.

peft's own forward converts the words to single precision and back, drops some of their values, and scales and adds what it
found: on a processor these passes make a step longer (``benchmarks/training_step.py``). Here a row's mask is laid over A, which
is small, the scale over B, and the change is added by the product itself; the backward pass is written the same way.
"""

from typing import Any, NamedTuple, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F  # noqa: N812  # its usual name

NAME = "default"
"""Under which peft keeps an adapter's parameters."""


class TunedLinear(LoraLinear):
    """``y = W x + c + s B A (m x)``, the mask m drawn once for all words of a row (variational dropout).

    Gal and Ghahramani, 2016, https://arxiv.org/abs/1512.05287. W and c are frozen.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``(B, T, in) -> (B, T, out)``, in the precision of autocast where that is on, else in that of the weights."""
        if args or kwargs or not self._is_plain():
            return super().forward(x, *args, **kwargs)
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else self.get_base_layer().weight.dtype
        weight, bias = self._frozen(dtype)
        a, b = (cast(Tensor, part[NAME].weight) for part in (self.lora_A, self.lora_B))
        dropout, mask = self.lora_dropout[NAME], None
        if self.training and isinstance(dropout, nn.Dropout):
            mask = F.dropout(a.new_ones(len(x), 1, a.shape[1]), dropout.p)
        return _LowRank.apply(x.to(dtype), weight, bias, a, b, mask, float(self.scaling[NAME]))

    def _is_plain(self) -> bool:
        """Whether one LoRA is at work, as it stands in the paper, and nobody listens to its parts."""
        if self.disable_adapters or self.merged or self.active_adapters != [NAME]:
            return False
        if NAME in self.lora_variant or self.lora_bias[NAME]:
            return False
        parts = (self.lora_A[NAME], self.lora_B[NAME])
        return not any(hooks for part in parts for hooks in (part._forward_hooks, part._forward_pre_hooks))

    def _frozen(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """The base's weights in a precision; kept, since autocast would convert frozen ones anew in every call.

        Changes in place are noticed, but for those behind torch's back, through ``.data``.
        """
        base = self.get_base_layer()
        originals: list[Tensor] = [base.weight] if base.bias is None else [base.weight, base.bias]
        state = [(value._version, value.data_ptr()) for value in originals]
        kept: _Kept | None = getattr(self, "_kept", None)
        if kept is None or kept.state != state or kept.values[0].dtype != dtype:
            with torch.inference_mode(False):  # who scores first may train afterwards
                originals = [value.detach() for value in originals]
                kept = self._kept = _Kept(state, originals, [value.to(dtype) for value in originals])
        return kept.values[0], kept.values[1] if len(kept.values) > 1 else None


class _Kept(NamedTuple):
    """Weights in another precision; the originals are held, so that nothing else comes to lie where they lie."""

    state: list[tuple[int, int]]
    originals: list[Tensor]
    values: list[Tensor]


def with_our_layer(config: LoraConfig) -> LoraConfig:
    """Has peft put :class:`TunedLinear` where it would put its own layer."""
    config._register_custom_module({nn.Linear: TunedLinear})
    return config


class _LowRank(torch.autograd.Function):
    """``x W^T + c + s (m x) A^T B^T`` for words of (B, T, in), with gradients of x, A and B."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        down = (a[None] if mask is None else a * mask).to(x.dtype)  # (1 or B, r, in)
        up = (b * scale).to(x.dtype)  # (out, r)
        inner = x @ down.transpose(1, 2)  # (B, T, r)
        found = F.linear(x, weight, bias)
        found.view(-1, len(up)).addmm_(inner.flatten(0, 1), up.T)
        ctx.save_for_backward(x, weight, down, up, inner, mask)
        ctx.scale = scale  # pyright: ignore[reportAttributeAccessIssue]  # what a context is for
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, inner, mask = ctx.saved_tensors
        (gradient,) = gradients
        flat = gradient.flatten(0, 1)
        within = (flat @ up).view_as(inner)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (flat @ weight).view_as(x)
            if mask is None:
                of_x.view(-1, x.shape[-1]).addmm_(within.flatten(0, 1), down[0])
            else:
                of_x.baddbmm_(within, down)
        if mask is None:
            of_a = (within.flatten(0, 1).T @ x.flatten(0, 1)).float()
        else:
            of_a = ((within.transpose(1, 2) @ x).float() * mask).sum(dim=0)
        of_b = (flat.T @ inner.flatten(0, 1)).float() * ctx.scale
        return of_x, None, None, of_a, of_b, None, None
