"""Int8 on a GPU: bitsandbytes' linear layers, a quarter of fp32's memory."""

from typing import Any, cast

import torch
from torch import Tensor, nn


class BitsAndBytesLinear(nn.Module):
    """A frozen drop-in for :class:`torch.nn.Linear` over ``bitsandbytes.nn.Linear8bitLt`` (LLM.int8(), Dettmers et al., 2022).

    The kernel reads half precision and answers in it; this answers in the input's type, as the other layers of a decoder do.
    """

    def __init__(self, linear: nn.Linear, device: torch.device) -> None:
        from bitsandbytes.nn.modules import Int8Params, Linear8bitLt

        super().__init__()
        bias = cast("Tensor | None", linear.bias)
        make, weights = cast(Any, Linear8bitLt), cast(Any, Int8Params)  # they have no types
        inner = make(linear.in_features, linear.out_features, bias=bias is not None, has_fp16_weights=False)
        half = linear.weight.detach().half().cpu()
        inner.weight = weights(half, requires_grad=False, has_fp16_weights=False)
        if bias is not None:
            inner.bias = nn.Parameter(bias.detach().half(), requires_grad=False)
        self.inner: nn.Module = inner.to(device).eval()  # moving quantises

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_features) -> (..., out_features)``."""
        return self.inner(x.half()).to(x.dtype)


def int8_linears_of_bitsandbytes(module: nn.Module, device: torch.device) -> nn.Module:
    """Replaces every :class:`torch.nn.Linear` below ``module``, in place, and returns it."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, BitsAndBytesLinear(child, device))
        else:
            int8_linears_of_bitsandbytes(child, device)
    return module
