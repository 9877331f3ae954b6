"""Training against the worst small change of what the decoder reads.

Perturbing word embeddings, as textbooks have it, does nothing where embeddings are frozen: here the decoder's words are
products, so item vectors of the history and of candidates are changed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peftrec.errors import ConfigError

METHODS = ("fgm", "pgd")


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Adversarial training; it costs ``steps + 1`` further passes through the decoder for each step of the training.

    Attributes:
        method: ``fgm``, one step along the gradient (Miyato et al., 2017, https://arxiv.org/abs/1605.07725), or ``pgd``,
            several with a projection after each (Madry et al., 2018, https://arxiv.org/abs/1706.06083).
        radius: Longest change of an item vector, which itself has length 1.
        steps: Of ``pgd``; ``fgm`` has one.
        weight: Of the loss on changed inputs beside that on clean ones.
    """

    method: str = "fgm"
    radius: float = 0.1
    steps: int = 3
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("method", self.method in METHODS, " or ".join(METHODS)),
            ("radius", 0 < self.radius < float("inf"), "a number above 0"),
            ("steps", type(self.steps) is int and self.steps >= 1, "a whole number of at least 1"),
            ("weight", 0 < self.weight < float("inf"), "a number above 0"),
        ):
            if not good:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r}", expected=expected, remedy="the default is Adversarial()"
                )


def worst(loss_of: Callable[[Sequence[Tensor]], Tensor], inputs: Sequence[Tensor], config: Adversarial) -> list[Tensor]:
    """Inputs near the given ones at which the loss is high; weights and their gradients stay as they are.

    Args:
        loss_of: The loss at some inputs.
        inputs: Each (…, H); every vector changes by ``config.radius`` at most, those that the loss ignores not at all.
        config: See :class:`Adversarial`.
    """
    steps = 1 if config.method == "fgm" else config.steps
    size = config.radius if steps == 1 else 1.5 * config.radius / steps  # so that the border can be reached
    changes = [torch.zeros_like(x) for x in inputs]
    for _ in range(steps):
        tried = [change.requires_grad_() for change in changes]
        loss = loss_of([x + change for x, change in zip(inputs, tried, strict=True)])
        gradients = torch.autograd.grad(loss, tried, allow_unused=True)
        changes = [
            change.detach() if gradient is None else _inside(change.detach() + size * _unit(gradient), config.radius)
            for change, gradient in zip(tried, gradients, strict=True)
        ]
    return [x + change for x, change in zip(inputs, changes, strict=True)]


def _unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def _inside(x: Tensor, radius: float) -> Tensor:
    return x * (radius / x.norm(dim=-1, keepdim=True).clamp(min=radius))
