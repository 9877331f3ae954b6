"""The report that accounts for every row of a data set."""

import textwrap
import unicodedata
from dataclasses import asdict, dataclass

from peftrec.errors import InvalidValueError

WIDTH = 100


@dataclass(frozen=True)
class RuleCount:
    """What one rule did.

    Args:
        rule: Its name, as in ``CleaningRules``, or what sources and joins count besides, such as "unknown_promotion",
            "unknown_coupon", "catalogue_currency", "doubled_product", "unreadable_price" and "unknown_year".
        action: "dropped" (events), "repaired" (events or products), "filled", "linked" or "merged" (products) or "left out"
            (promotions, coupons).
        rows: Rows concerned.
        share: Of the rows of their table, 0..1.
        example: The first such row in words, empty if there was none.
    """

    rule: str
    action: str
    rows: int
    share: float
    example: str


@dataclass(frozen=True)
class CleaningReport:
    """Where every row of the event table went; ``print`` shows it as a table.

    Args:
        name: The data set.
        rows_in: Events that came in.
        rows_kept: Events of the data set.
        products: Products that came in; all of them are kept, unless near duplicates are merged.
        counts: What each rule did, in the order of application.
        switched_off: Rules that were not applied.
    """

    name: str
    rows_in: int
    rows_kept: int
    products: int
    counts: tuple[RuleCount, ...]
    switched_off: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rows_in != self.rows_kept + self.rows_dropped:
            raise InvalidValueError(
                f"{self.rows_in:,} events came in, {self.rows_kept:,} were kept and {self.rows_dropped:,} dropped",
                expected="kept and dropped rows that add up to the rows that came in",
                remedy="count every dropped row under one rule",
            )

    @property
    def rows_dropped(self) -> int:
        """Events dropped by all rules together."""
        return sum(count.rows for count in self.counts if count.action == "dropped")

    def to_dict(self) -> dict[str, object]:
        """The report as plain values, ready for JSON."""
        rules: list[dict[str, object]] = [asdict(count) for count in self.counts]
        return {
            "name": self.name,
            "rows_in": self.rows_in,
            "rows_kept": self.rows_kept,
            "rows_dropped": self.rows_dropped,
            "products": self.products,
            "rules": rules,
            "switched_off": list(self.switched_off),
        }

    def __str__(self) -> str:
        share = self.rows_kept / self.rows_in if self.rows_in else 0.0
        lines = [
            f"Cleaning of {self.name}: {self.rows_in:,} events in, {self.rows_kept:,} kept ({share:.2%}),"
            f" {self.rows_dropped:,} dropped",
            "",
            f"{'rule':<24}{'rows':>12}{'share':>9}  example (rows count from 0)",
            "-" * WIDTH,
        ]
        lines += [
            f"{_label(count):<24}{count.rows:>12,}{count.share:>9.2%}  {count.example}"
            for count in self.counts
            if count.rows
        ]
        idle = ", ".join(count.rule for count in self.counts if not count.rows)
        lines += _wrapped("no rows: ", idle) + _wrapped("switched off: ", ", ".join(self.switched_off))
        return "\n".join(_fit(line, WIDTH) for line in lines)


def counted(rule: str, rows: int, total: int, shown: str, *, action: str = "dropped") -> RuleCount:
    """What a rule did to ``rows`` of ``total`` rows."""
    return RuleCount(rule=rule, action=action, rows=rows, share=rows / total if total else 0.0, example=shown)


def _label(count: RuleCount) -> str:
    return count.rule if count.action == "dropped" else f"{count.rule} ({count.action})"


def _wrapped(label: str, names: str) -> list[str]:
    return textwrap.wrap(label + names, WIDTH, subsequent_indent=" " * len(label)) if names else []


def _fit(line: str, width: int) -> str:
    """Cuts a line to a width in terminal columns, where Chinese characters and emoji take two."""
    line = "".join(mark if mark.isprintable() else " " for mark in line)
    sizes = [2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in line]
    if sum(sizes) <= width:
        return line
    kept, used = "", 0
    for mark, size in zip(line, sizes, strict=True):
        if used + size > width - 3:
            break
        kept, used = kept + mark, used + size
    return f"{kept}..."
