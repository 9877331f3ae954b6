"""What is told of a pool: the sources of all platforms, and one account of all rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftrec.data.cleaning.report import CleaningReport, RuleCount, counted
from peftrec.data.cleaning.rules import PRODUCT_RULES
from peftrec.data.source import DataSource

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset


def joined_source(datasets: "Sequence[Dataset]") -> DataSource | None:
    """All sources, each after the name of its platform."""
    if not any(dataset.source for dataset in datasets):
        return None

    def told(field: str, *, absent: str = "") -> str:
        values = [(dataset.name, str(getattr(dataset.source, field, "")) or absent) for dataset in datasets]
        return "; ".join(f"{name}: {value}" for name, value in values if value)

    unknown = "not stated"
    return DataSource(
        name=told("name", absent=unknown),
        licence=told("licence", absent=unknown),
        url=told("url"),
        note=told("note"),
        clock=_shared(datasets, "clock") or "UTC",
        country=_shared(datasets, "country"),
    )


def _shared(datasets: Sequence["Dataset"], field: str) -> str:
    """What all sources say alike, so that scenes of the pool tell the hour that shoppers live by; empty otherwise."""
    values = {str(getattr(dataset.source, field, "")) for dataset in datasets}
    return values.pop() if len(values) == 1 else ""


def joined_report(datasets: "Sequence[Dataset]", name: str) -> CleaningReport | None:
    """One account of every row; a platform that was not cleaned keeps all its rows."""
    if not any(dataset.report for dataset in datasets):
        return None
    reports = [dataset.report or _uncleaned(dataset) for dataset in datasets]
    keys = dict.fromkeys((count.rule, count.action) for report in reports for count in report.counts)
    off = dict.fromkeys(rule for report in reports for rule in report.switched_off)
    return CleaningReport(
        name=name,
        rows_in=sum(report.rows_in for report in reports),
        rows_kept=sum(report.rows_kept for report in reports),
        products=sum(report.products for report in reports),
        counts=tuple(_summed(datasets, reports, rule, action) for rule, action in keys),
        switched_off=tuple(_where_off(datasets, reports, rule) for rule in off),
    )


def _uncleaned(dataset: "Dataset") -> CleaningReport:
    rows = len(dataset.events) + (len(dataset.past.events) if dataset.past is not None else 0)
    return CleaningReport(dataset.name, rows, rows, len(dataset.catalog), ())


def _summed(datasets: "Sequence[Dataset]", reports: Sequence[CleaningReport], rule: str, action: str) -> RuleCount:
    rows, total, shown = 0, 0, ""
    for dataset, report in zip(datasets, reports, strict=True):
        for count in report.counts:
            if (count.rule, count.action) == (rule, action):
                rows += count.rows
                # A count says how many rows its table had only where the rule met one.
                total += round(count.rows / count.share) if count.rows else _rows_seen(dataset, report, rule)
                shown = shown or (f"{dataset.name}, {count.example}" if count.example else "")
    return counted(rule, rows, total, shown, action=action)


OF_PRODUCTS = ("catalogue_currency", "doubled_product", "unreadable_price", "unknown_year")
"""Further counts of products, which reading and some sources make."""


def _rows_seen(dataset: "Dataset", report: CleaningReport, rule: str) -> int:
    if rule == "unknown_promotion":
        return 0 if dataset.promotions is None else len(dataset.promotions)
    if rule == "unknown_coupon":
        return 0 if dataset.coupons is None else len(dataset.coupons.products)
    return report.products if rule in (*PRODUCT_RULES, *OF_PRODUCTS) else report.rows_in


def _where_off(datasets: "Sequence[Dataset]", reports: Sequence[CleaningReport], rule: str) -> str:
    off = [dataset.name for dataset, report in zip(datasets, reports, strict=True) if rule in report.switched_off]
    return rule if len(off) == len(reports) else f"{rule} ({', '.join(off)})"
