"""What an audit of a split found: one line for each kind of leak that was looked for."""

import textwrap
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from peftrec.errors import LeakageError

Severity: TypeAlias = Literal["leak", "warning", "ok", "skipped"]

WIDTH = 100


@dataclass(frozen=True)
class AuditCheck:
    """What one check found.

    Attributes:
        name: What was looked for.
        severity: "leak": results on this split would be wrong; "warning": somebody should look; "ok"; "skipped": could not
            be looked for, ``found`` says why.
        found: What was found, in words.
        rows: Rows concerned: events, visits, products or shoppers.
        share: Of the rows that were looked at, 0..1.
        example: The first such row in words, empty if there was none.
        remedy: What to do about it, empty if nothing.
    """

    name: str
    severity: Severity
    found: str
    rows: int = 0
    share: float = 0.0
    example: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class AuditReport:
    """Whether the past of a split knows its future; ``print`` shows it as a table.

    Attributes:
        name: The data set.
        cut: The moment that parts past and future: the first event of the future, or where the parts overlap in time,
            the moment that leaves the smallest shares of both on the wrong side.
        past_events: Events of the past.
        future_events: Events of the future.
        checks: One for each kind of leak.
    """

    name: str
    cut: datetime
    past_events: int
    future_events: int
    checks: tuple[AuditCheck, ...]

    @property
    def leaks(self) -> tuple[AuditCheck, ...]:
        """Checks that found a leak."""
        return tuple(check for check in self.checks if check.severity == "leak")

    @property
    def warnings(self) -> tuple[AuditCheck, ...]:
        """Checks that found something to look at."""
        return tuple(check for check in self.checks if check.severity == "warning")

    def __getitem__(self, name: str) -> AuditCheck:
        """The check of that name."""
        return {check.name: check for check in self.checks}[name]

    def raise_if_leaking(self) -> None:
        """Does nothing if there is no leak.

        Raises:
            LeakageError: Names every leak with its remedy.
        """
        if self.leaks:
            raise LeakageError(
                f"the split of '{self.name}' at {self.cut:%Y-%m-%d %H:%M} UTC leaks; "
                + "; ".join(f"{check.name}: {check.found}" for check in self.leaks),
                expected="a past that knows nothing of the future",
                remedy="; ".join(dict.fromkeys(check.remedy for check in self.leaks)),
            )

    def to_dict(self) -> dict[str, object]:
        """The report as plain values, ready for JSON."""
        checks: list[dict[str, object]] = [asdict(check) for check in self.checks]
        return {
            "name": self.name,
            "cut": self.cut.isoformat(),
            "past_events": self.past_events,
            "future_events": self.future_events,
            "leaks": len(self.leaks),
            "warnings": len(self.warnings),
            "checks": checks,
        }

    def __str__(self) -> str:
        lines = [
            f"Audit of {self.name}, cut at {self.cut:%Y-%m-%d %H:%M} UTC: {self.past_events:,} events before,"
            f" {self.future_events:,} after; {_counted(len(self.leaks), 'leak')},"
            f" {_counted(len(self.warnings), 'warning')}",
            "",
            f"{'check':<19}{'result':<9}what was found",
            "-" * WIDTH,
        ]
        for check in self.checks:
            lines += _row(check)
        return "\n".join(lines)


def _row(check: AuditCheck) -> list[str]:
    head = f"{check.name:<19}{check.severity:<9}"
    told = [
        check.found,
        f"such as {check.example}" if check.example else "",
        check.remedy and f"to mend: {check.remedy}",
    ]
    text = [line for part in told if part for line in textwrap.wrap(part, WIDTH - len(head))]
    return [(head if place == 0 else " " * len(head)) + line for place, line in enumerate(text)]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number or 'no'} {what}s"
