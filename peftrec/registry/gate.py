"""What a version must show before an alias moves to it."""

import math
from dataclasses import dataclass
from typing import Protocol

from peftrec.errors import ConfigError, GateRefusedError
from peftrec.registry.search import ALL
from peftrec.registry.version import Version

ECE = "ece"
LOWER_IS_BETTER = ("log_loss", ECE)
"""As :mod:`peftrec.evaluation` has it, which waits for torch."""


class Interval(Protocol):
    """A value with the ends of its 95 % interval."""

    @property
    def value(self) -> float:
        """The value."""
        ...

    @property
    def low(self) -> float:
        """Lower end."""
        ...

    @property
    def high(self) -> float:
        """Upper end."""
        ...


class Comparison(Protocol):
    """Systems measured on the same shoppers; :class:`peftrec.evaluation.Evaluation` is one."""

    @property
    def systems(self) -> tuple[str, ...]:
        """Their names."""
        ...

    @property
    def period(self) -> str:
        """What was predicted, in words."""
        ...

    def compare(self, a: str, b: str, metric: str = ..., slice: str = ...) -> Interval:
        """``a`` less ``b``, paired over shoppers."""
        ...


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Conditions of a promotion; those that are None are not asked.

    Attributes:
        metric: What decides, such as ``ndcg@10``.
        slice: On which shoppers and products.
        least_gain: The lower end of the paired 95 % interval of the gain over the version that the alias leads to must lie
            above it: 0 for better, -0.002 for not noticeably worse. A gain is a difference, or its opposite where lower is
            better.
        most_ece: Bound of the calibration error that the version's own metrics tell.
        most_bytes: Bound of the size of all its files.
    """

    metric: str = "ndcg@10"
    slice: str = ALL
    least_gain: float | None = 0.0
    most_ece: float | None = None
    most_bytes: int | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.most_ece, self.most_bytes) if bound is not None]
        asked = [*bounds, *([] if self.least_gain is None else [self.least_gain])]
        if not asked or not all(map(math.isfinite, asked)) or any(bound <= 0 for bound in bounds):
            raise ConfigError(
                f"{self}",
                expected="at least one condition, finite, bounds above 0",
                remedy="write Gate() for 'better than what is served', or Gate(least_gain=None, most_ece=0.02)",
            )

    def check(self, version: Version, current: Version | None, evaluation: Comparison | None) -> dict[str, object]:
        """Asks a version.

        Args:
            version: That is to be promoted.
            current: That the alias leads to; without one, nothing need be better.
            evaluation: Holds both as systems named by their references, such as ``grocery@3`` and ``grocery@4``.

        Returns:
            The figures, for the journal.

        Raises:
            GateRefusedError: A condition is not met; all that are not are told, with their figures.
        """
        figures: dict[str, object] = {"bytes": version.size}
        refused = list[str]()
        if current is not None:
            figures["against"] = current.reference
            if self.least_gain is not None and current.reference != version.reference:
                refused += self._gain(version, current, evaluation, figures)
        if self.most_ece is not None:
            ece = _ece(version)
            figures[ECE] = ece
            if ece is None:
                refused.append("its metrics tell no calibration error")
            elif ece > self.most_ece:
                refused.append(f"its calibration error is {ece:.4f}, at most {self.most_ece:g} is asked")
        if self.most_bytes is not None and version.size > self.most_bytes:
            refused.append(f"it has {version.size:,} bytes, at most {self.most_bytes:,} are asked")
        if refused:
            raise GateRefusedError(
                f"{version.reference} is not promoted: {'; '.join(refused)}",
                expected=f"a version that passes {self}",
                remedy="train it better, or change the gate; the alias still leads to where it did",
            )
        return figures

    def _gain(
        self, version: Version, current: Version, evaluation: Comparison | None, figures: dict[str, object]
    ) -> list[str]:
        least = self.least_gain or 0.0
        names = (version.reference, current.reference)
        if evaluation is None:
            return [f"no evaluation of {' and '.join(names)} on the same shoppers was given"]
        if missing := [name for name in names if name not in evaluation.systems]:
            return [f"the evaluation holds {', '.join(evaluation.systems)}, not {' and '.join(missing)}"]
        found = evaluation.compare(*names, self.metric, self.slice)
        value, low, high = (float(end) for end in (found.value, found.low, found.high))
        if self.metric in LOWER_IS_BETTER:
            value, low, high = -value, -high, -low
        over = f"the gain in {self.metric} on {self.slice} over {current.reference}"
        if not all(map(math.isfinite, (value, low, high))):
            return [f"{over} is not told by any shopper"]
        figures |= {"metric": self.metric, "slice": self.slice, "period": evaluation.period}
        figures |= {"gain": value, "low": low, "high": high}
        if low > least:
            return []
        return [f"{over} is {value:+.4f} ({low:+.4f} to {high:+.4f}), the interval must lie above {least:g}"]


def _ece(version: Version) -> float | None:
    return next((e["value"] for e in version.manifest.metrics if (e["metric"], e["slice"]) == (ECE, ALL)), None)
