"""Tables of what lies behind the first figures: segments, parts of the model, ceilings, and products that nobody had bought."""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def cell(row: Row | None, *, signed: bool = False, bare: bool = False) -> str:
    """A figure with its interval, where it has one; nothing where there is none."""
    if row is None:
        return ""
    number = "+.3f" if signed else ".3f"
    if bare or row["low"] is None:
        return f"{row['value']:{number}}"
    value, low, high = (f"{row[name]:{number}}" for name in ("value", "low", "high"))
    return f"{value} <sub>{low} to {high}</sub>"


def segments(path: Path) -> str:
    """What an adapter for each segment gains, on average over segments."""
    rows = [row for row in _rows(path) if row["slice"] == "mean over segments"]
    lines = [
        f"| {rows[0]['dataset']}: an adapter for each segment | lead over one for all, NDCG@10, mean over segments |",
        "|---|--:|",
    ]
    lines += [f"| {row['system']} | {cell(row, signed=True)} |" for row in rows]
    return "\n".join(lines)


def ablations(path: Path) -> str:
    """What each part of the model adds."""
    rows = [row for row in _rows(path) if row["metric"] == "ndcg@10" and "against" in row]
    cells = {(row["against"], row["slice"]): row for row in rows}
    lines = [f"| {rows[0]['dataset']}: variant | lead of the default, NDCG@10 | never bought |", "|---|--:|--:|"]
    for name in dict.fromkeys(row["against"] for row in rows):
        both = [cell(cells.get((name, part)), signed=True) for part in ("all", "never_bought")]
        lines.append(f"| {name} | {' | '.join(both)} |")
    return "\n".join(lines)


def ceilings(path: Path) -> str:
    """What stands between the adapter and better lists."""
    rows = [row for row in _rows(path) if row["metric"] == "ndcg@10"]
    values = {(row["system"], row["slice"]): row for row in rows if "against" not in row}
    lines = [
        f"| {rows[0]['dataset']} | NDCG@10 | lead over peftrec | never bought |",
        "|---|--:|--:|--:|",
    ]
    for system in dict.fromkeys(system for system, _ in values):
        told = (
            cell(values[system, "all"]),
            cell(_more(rows, system), signed=True),
            cell(values.get((system, "never_bought"))),
        )
        lines.append(f"| {system} | {' | '.join(told)} |")
    return "\n".join(lines)


def _more(rows: list[Row], system: str) -> Row | None:
    """By how much a system is ahead of peftrec, whichever of the two the row tells of."""
    for row in rows:
        if row["slice"] == "all" and (row["system"], row.get("against")) == (system, "peftrec"):
            return row
        if row["slice"] == "all" and (row["system"], row.get("against")) == ("peftrec", system):
            return row | {"value": -row["value"], "low": -row["high"], "high": -row["low"]}
    return None


def new_products(path: Path) -> str:
    """Systems that read texts, on products that nobody had bought."""
    rows = [row for row in _rows(path) if row["metric"] == "ndcg@10"]
    values = {(row["system"], row["slice"]): row for row in rows if "against" not in row}
    leads = {row["against"]: row for row in rows if "against" in row and row["slice"] == "cold_products"}
    lines = [
        f"| {rows[0]['dataset']}, all shoppers | NDCG@10, products never sold | lead of peftrec | NDCG@10, all |",
        "|---|--:|--:|--:|",
    ]
    for system in dict.fromkeys(system for system, _ in values):
        told = cell(values.get((system, "cold_products"))), cell(leads.get(system), signed=True)
        lines.append(f"| {system} | {' | '.join(told)} | {cell(values[system, 'all'])} |")
    return "\n".join(lines)


def _rows(path: Path) -> list[Row]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"]
