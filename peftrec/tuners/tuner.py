"""What every tuner is: a frozen value that can be attached to a decoder, and one loud ``register``."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TrainerCallback

from peftrec.errors import ConfigError
from peftrec.tuners.neutral import Changes

Arrays = Changes[NDArray[np.float32]]
Layers = Mapping[int, nn.Module]
"""``BertLayer`` modules by their number within the whole BERT."""


@dataclass(frozen=True)
class Attached:
    """A tuner at work on a decoder.

    Attributes:
        export: Reads what was trained into the neutral form, given the number of the decoder's lowest layer within the
            whole BERT. Raises TrainingError where training did not do what the method is about.
        load: Puts values in the neutral form in its place, given the same number, to train on from there; None where the method
            cannot. Raises ConfigError where they are of another shape.
        penalty: Added to the loss of every training step.
        callbacks: Take part in the training.
        state: Buffers that checkpoints must hold for a killed training to end in the same weights.
        settled: Step from which on a state may be kept as the best one.
    """

    export: Callable[[int], Arrays]
    load: Callable[[Arrays, int], None] | None = None
    penalty: Callable[[], Tensor] | None = None
    callbacks: tuple[TrainerCallback, ...] = ()
    state: nn.Module | None = None
    settled: int = 0


class Tuner(Protocol):
    """One way to tune a decoder whose own weights stay frozen; a frozen dataclass of its settings.

    Attributes:
        method: Its name in manifests and tables.
        servable: Whether an engine can serve it beside others on shared weights.
    """

    method: ClassVar[str]
    servable: ClassVar[bool]

    @property
    def learning_rate(self) -> float | None:
        """Peak rate of what it trains; that of the training if None."""
        ...

    @property
    def activation(self) -> str:
        """Of its bottlenecks; empty where there are none."""
        ...

    def attach(self, decoder: nn.ModuleList, *, seed: int, steps: int) -> Attached:
        """Puts it on a decoder, in place; of the decoder's parameters only what it trains requires gradients afterwards.

        Args:
            decoder: ``BertLayer`` modules, lowest first, frozen.
            seed: Of what is drawn; the tuned decoder gives the same output as before.
            steps: Length of the training.

        Raises:
            ConfigError: The settings do not fit the decoder or the length.
        """
        ...

    def scale(self, rank: int) -> float:
        """What a low-rank product is multiplied by."""
        ...

    def shapes(self, layers: Layers, ranks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor in the file of such an adapter.

        Args:
            layers: Of the decoder.
            ranks: That a training ended in, by the map's path; ignored by methods whose settings fix them.
        """
        ...

    def config_file(self, changes: Arrays, base: str) -> dict[str, Any]:
        """Content of ``adapter_config.json``: peft's own configuration where peft can open the adapter."""
        ...

    def describe(self) -> dict[str, object]:
        """The settings as plain values, which the class can be built from again."""
        ...


Kind = TypeVar("Kind", bound=type)

TUNERS: dict[str, type[Any]] = {}
"""Tuners by method."""


def register(kind: Kind) -> Kind:
    """Makes a tuner known, so that adapters trained with it can be loaded. A class decorator.

    Raises:
        ValueError: Another tuner has this method's name.
    """
    method: str = kind.method  # pyright: ignore[reportAttributeAccessIssue]  # a Tuner
    if TUNERS.setdefault(method, kind) is not kind:
        raise ValueError(f"method {method!r} is taken by {TUNERS[method].__name__}, so {kind.__name__} cannot have it")
    return kind


def tuner_of(settings: Mapping[str, Any]) -> Tuner:
    """The tuner that :meth:`Tuner.describe` told of, its ``method`` added; LoRA where none is named.

    Raises:
        ConfigError: Nobody knows the method, or a setting cannot work.
        TypeError: A setting is unknown.
    """
    method = settings.get("method", "lora")
    if method not in TUNERS:
        raise ConfigError(
            f"method {str(method)[:80]!r}",
            expected=f"one of {', '.join(sorted(TUNERS))}",
            remedy="use the peftrec that it was trained with, or import the module that registers this tuner",
        )
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return TUNERS[method](**{name: value for name, value in plain.items() if name != "method"})


def copy_into(target: Tensor, value: NDArray[np.float32], name: str) -> None:
    """Puts a value where training begins.

    Raises:
        ConfigError: It has another shape.
    """
    if tuple(target.shape) != value.shape:
        raise ConfigError(
            f"{name} of shape {value.shape} to start from",
            expected=f"{tuple(target.shape)}, as the tuner's settings say",
            remedy="start with the settings that belong to these values",
        )
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def check_same(found: Iterable[str], wanted: Iterable[str]) -> None:
    """Refuses values of other maps than a tuner has.

    Raises:
        ConfigError: Names some that are missing or unknown.
    """
    missing, unknown = sorted({*wanted} - {*found}), sorted({*found} - {*wanted})
    if missing or unknown:
        parts = [f"without {', '.join(missing[:3])}"] if missing else []
        parts += [f"with the unknown {', '.join(unknown[:3])}"] if unknown else []
        raise ConfigError(
            f"values to start from {' and '.join(parts)}",
            expected="values for all that the tuner changes, and for nothing else",
            remedy="start with the settings that belong to these values",
        )


def check_number(name: str, value: object, good: bool, expected: str, remedy: str) -> None:
    """Refuses a setting.

    Raises:
        ConfigError: It is not ``good``.
    """
    if not good:
        raise ConfigError(f"{name}={value!r}", expected=expected, remedy=remedy)


def check_rate(rate: object) -> None:
    """Refuses a learning rate that is none."""
    good = rate is None or (isinstance(rate, int | float) and 0 < rate < float("inf"))
    check_number("learning_rate", rate, good, "a number above 0", "leave it out for that of the training")


def own_file(tuner: Tuner, base: str) -> dict[str, Any]:
    """Content of ``adapter_config.json`` of a method that peft does not have: it refuses the file by its type."""
    return {"peft_type": tuner.method.upper(), "base_model_name_or_path": base, **tuner.describe()}


def path(number: int, place: str) -> str:
    """Path of something within a layer, in the whole BERT."""
    return f"encoder.layer.{number}.{place}"


def width(decoder: nn.ModuleList) -> int:
    """Width H of a decoder."""
    return decoder[0].attention.self.query.in_features  # pyright: ignore  # a BertLayer
