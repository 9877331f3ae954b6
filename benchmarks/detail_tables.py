"""Tables of what lies behind the first figures: segments, parts of the model, ceilings, and products that nobody had bought."""

import json
from itertools import product
from pathlib import Path
from typing import Any

Row = dict[str, Any]

ITEM_TABLE = {"completejourney": "groceries", "online_retail": "gifts, whose texts are short"}
TASKS = {"references": "an epoch, 32 candidates", "default": "a step, 256 candidates"}


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
    """What stands between the adapter and better lists; systems that learned from fewer rows beside the same from all."""
    rows = [row for row in _rows(path) if row["metric"] == "ndcg@10"]
    values = {(row["system"], row["slice"]): row for row in rows if "against" not in row}
    found = {(row["system"], row["against"]): row for row in rows if "against" in row and row["slice"] == "all"}
    lines = [f"| {rows[0]['dataset']} | NDCG@10 | never bought | difference | from |", "|---|--:|--:|--:|---|"]
    for system in dict.fromkeys(system for system, _ in values):
        told = [cell(values[system, part]) for part in ("all", "never_bought")]
        from_others = [(row, other) for (name, other), row in found.items() if name == system and system != "peftrec"]
        less = found.get(("peftrec", system))
        if from_others:
            told += [cell(from_others[0][0], signed=True), from_others[0][1]]
        elif less:
            turned = {"value": -less["value"], "low": -less["high"], "high": -less["low"]}
            told += [cell(turned, signed=True), "peftrec"]
        else:
            told += ["", ""]
        lines.append(f"| {system} | {' | '.join(told)} |")
    return "\n".join(lines)


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


def possible(path: Path) -> str:
    """How far the item table's saving can go: operations that it spares, and the rate at which others would have to be done."""
    head = [
        "| through the item table, compared with end to end | time saved | operations saved | 20 times would take"
        " | the machine does at best |",
        "|---|--:|--:|--:|--:|",
    ]
    lines: list[str] = []
    for (dataset, shop), (part, task) in product(ITEM_TABLE.items(), TASKS.items()):
        of = {
            row["metric"]: row["value"] for row in _rows(path) if (row["dataset"], row.get("part")) == (dataset, part)
        }
        if "rate_of_products" in of:
            saved = [f"{of[f'{name}_end_to_end_peft']:.1f} times" for name in ("speedup_over", "operations_ratio_to")]
            rates = [f"{of[name] / 1e9:,.0f} GFLOP/s" for name in ("rate_for_20_times", "rate_of_products")]
            lines.append(f"| {shop}: {task} | {' | '.join(saved + rates)} |")
    return "\n".join(head + lines) if lines else ""


def _rows(path: Path) -> list[Row]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"]
