"""Checks that all augmentations share."""

from collections.abc import Sequence
from typing import Any, cast

from peftrec.errors import ConfigError


def check_share(value: object, name: str = "share") -> None:
    """Refuses what is no number from 0 to 1.

    Raises:
        ConfigError: ``value`` is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"{name}={value!r}", expected="a number from 0 to 1", remedy="0.1 means one in ten")


def check_steps(steps: Sequence[object], example: str) -> None:
    """Refuses a chain without steps, or with steps that are no pairs of an augmentation and its chance.

    Raises:
        ConfigError: It is such a chain.
    """
    pairs = [cast("tuple[Any, ...]", step) if isinstance(step, tuple) else (step,) for step in steps]
    for pair in pairs or [()]:
        if len(pair) != 2 or not callable(pair[0]):
            raise ConfigError(
                f"a chain with the step {pair!r}" if pair else "a chain without steps",
                expected="pairs of an augmentation and its chance",
                remedy=f"write {example}",
            )
        check_share(pair[1], "chance")
