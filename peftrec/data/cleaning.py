"""Dropping bad rows with a reason, and the report that accounts for every one of them."""

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import polars as pl

from peftrec.data import columns as col
from peftrec.data.promotions import Promotions
from peftrec.data.repair import REPAIRS, repaired
from peftrec.data.rules import ROW, CleaningRules, Rule, check, event_rules, example
from peftrec.data.values import is_blank, parse_moment
from peftrec.errors import InvalidValueError, NotEnoughDataError

WIDTH = 100


@dataclass(frozen=True)
class RuleCount:
    """What one rule did.

    Args:
        rule: Its name, as in ``CleaningRules``, or "unknown_promotion".
        action: "dropped" (events), "repaired" or "filled" (products) or "left out" (promotions).
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
        products: Products that came in; all of them are kept.
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


def clean_events(
    frame: pl.DataFrame, items: pl.Series, rules: CleaningRules
) -> tuple[pl.DataFrame, list[RuleCount], list[str]]:
    """Drops the rows that break a rule.

    Args:
        frame: From ``read_events``.
        items: Ids of the catalogue.
        rules: Which rules to apply.

    Returns:
        The rows left, one count for each rule applied, and the names of the rules that are off.

    Raises:
        DataError: A row breaks a rule that is off and whose rows cannot be kept.
        NotEnoughDataError: No row is left.
    """
    moment = datetime.now(UTC) if rules.exported_at is None else parse_moment(rules.exported_at, name="exported_at")
    total, counts, off, forbidden = len(frame), list[RuleCount](), list[str](), list[Rule]()
    for rule in event_rules(frame.columns, moment=moment, items=items, non_product_ids=rules.non_product_ids):
        if not rules.applies(rule.name):
            off.append(rule.name)
            forbidden += [] if rule.keeps else [rule]
            continue
        broken, frame = rule.split(frame)
        counts.append(_count(rule.name, len(broken), total, example(broken, rule) if len(broken) else ""))
    check(frame, forbidden)
    if frame.is_empty():
        raise _nothing_left(counts, total)
    return frame, counts, off


def repair_texts(catalog: pl.DataFrame, rules: CleaningRules) -> tuple[pl.DataFrame, list[RuleCount]]:
    """Repairs the texts of a product table by the rules that are on."""
    counts = list[RuleCount]()
    for rule in REPAIRS:
        if rules.applies(rule):
            total = len(catalog)
            catalog, rows, shown = repaired(catalog, rule)
            counts.append(_count(rule, len(rows), total, shown, action="repaired"))
    return catalog, counts


def fill_titles(catalog: pl.DataFrame, sources: Sequence[str]) -> tuple[pl.DataFrame, RuleCount]:
    """Fills empty titles from other columns, or with "unknown product <id>"."""
    blank = is_blank(pl.col(col.TITLE))
    empty = catalog.with_row_index(ROW).filter(blank)
    texts = [pl.col(name).cast(pl.String) for name in sources if name in catalog.columns]
    others = [pl.when(~is_blank(text)).then(text) for text in texts]
    last = pl.lit("unknown product ") + pl.col(col.ITEM)
    filled = catalog.with_columns(pl.when(blank).then(pl.coalesce(*others, last)).otherwise(col.TITLE).alias(col.TITLE))
    shown = ""
    if len(empty):
        row = empty[ROW][0]
        shown = f"row {row}: item_id {empty[col.ITEM][0]!r} -> {filled[col.TITLE][row]!r}"
    return filled, _count("empty_title", len(empty), len(catalog), shown, action="filled")


def known_promotions(promotions: Promotions, items: pl.Series) -> tuple[Promotions, RuleCount]:
    """The promotions of the catalogue's products, and how many others were left out."""
    known = promotions.frame[col.ITEM].is_in(items.implode())
    strange = promotions.frame.with_row_index(ROW).filter(~known)
    shown = f"row {strange[ROW][0]}: item_id {strange[col.ITEM][0]!r}" if len(strange) else ""
    count = _count("unknown_promotion", len(strange), len(promotions), shown, action="left out")
    return (Promotions(promotions.frame.filter(known)) if len(strange) else promotions), count


def _count(rule: str, rows: int, total: int, shown: str, *, action: str = "dropped") -> RuleCount:
    return RuleCount(rule=rule, action=action, rows=rows, share=rows / total if total else 0.0, example=shown)


def _nothing_left(counts: Sequence[RuleCount], total: int) -> NotEnoughDataError:
    reasons = ", ".join(f"{count.rows:,} {count.rule}, e.g. {count.example}" for count in counts if count.rows)
    return NotEnoughDataError(
        f"cleaning dropped all {total:,} events: {reasons}",
        expected="at least one event that can be used",
        remedy="check the column mapping, and that events and catalogue write item ids the same way",
    )


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
