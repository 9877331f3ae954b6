"""What tuners are compared with: nothing tuned, biases alone, and the whole decoder.

They answer how much of a result is the method's merit. Biases and whole decoders change weights that platforms share, so an
engine does not serve them; they can be trained, evaluated and kept like any other.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import nn

from peftrec.tuners.neutral import DIFFERENCE, Changes
from peftrec.tuners.tuner import Arrays, Attached, Layers, check_rate, check_same, copy_into, own_file, path, register


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """Trains some of the decoder's own parameters: those whose names end in one of ``suffixes``.

    Attributes:
        learning_rate: Peak rate of these; that of the training if None.
    """

    learning_rate: float | None = None

    activation: ClassVar[str] = ""
    method: ClassVar[str]
    servable: ClassVar[bool] = False
    suffixes: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_rate(self.learning_rate)

    def scale(self, rank: int) -> float:
        """Of low-rank products, of which there are none."""
        return 1.0

    def attach(self, decoder: nn.ModuleList, *, seed: int, steps: int) -> Attached:
        """See :meth:`peftrec.tuners.Tuner.attach`."""
        chosen = {name: value for name, value in decoder.named_parameters() if name.endswith(self.suffixes)}
        before = {name: value.detach().float().cpu().numpy().copy() for name, value in chosen.items()}
        for value in chosen.values():
            value.requires_grad_(True)

        def names(first_layer: int) -> dict[str, str]:
            parts = {name: name.partition(".") for name in chosen}
            return {path(first_layer + int(index), place): name for name, (index, _, place) in parts.items()}

        def export(first_layer: int) -> Arrays:
            return Changes(
                differences={
                    to: chosen[name].detach().float().cpu().numpy() - before[name]
                    for to, name in names(first_layer).items()
                }
            )

        def load(changes: Arrays, first_layer: int) -> None:
            own = names(first_layer)
            check_same(changes.differences, own)
            for to, name in own.items():
                copy_into(chosen[name], before[name] + changes.differences[to], to)

        return Attached(export, load=load)

    def shapes(self, layers: Layers, ranks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """See :meth:`peftrec.tuners.Tuner.shapes`."""
        return {
            f"{path(number, name)}{DIFFERENCE}": tuple(value.shape)
            for number, layer in layers.items()
            for name, value in layer.named_parameters()
            if name.endswith(self.suffixes)
        }

    def config_file(self, changes: Arrays, base: str) -> dict[str, Any]:
        """See :func:`peftrec.tuners.tuner.own_file`."""
        return own_file(self, base)

    def describe(self) -> dict[str, object]:
        """The fields as plain values."""
        return asdict(self)


@register
@dataclass(frozen=True, kw_only=True)
class HeadOnlyConfig(_Reference):
    """Tunes nothing of the decoder: what is trained beside it, embeddings and heads, is trained all the same."""

    method: ClassVar[str] = "head_only"
    servable: ClassVar[bool] = True


@register
@dataclass(frozen=True, kw_only=True)
class BiasOnlyConfig(_Reference):
    """Tunes the decoder's biases (BitFit; Ben Zaken et al., 2022, https://arxiv.org/abs/2106.10199)."""

    method: ClassVar[str] = "bias_only"
    suffixes: ClassVar[tuple[str, ...]] = ("bias",)


@register
@dataclass(frozen=True, kw_only=True)
class FullConfig(_Reference):
    """Tunes the decoder whole.

    Attributes:
        learning_rate: Peak rate of the decoder's weights; they are pretrained, so it is below that of fresh ones.
    """

    learning_rate: float | None = 1e-4

    method: ClassVar[str] = "full"
    suffixes: ClassVar[tuple[str, ...]] = ("weight", "bias")
