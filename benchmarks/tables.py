"""Writes the tables of README.md from ``results/``, so that no figure in it is typed by hand.

Without options it rewrites what lies between the markers; with ``--check`` it fails if that would change anything.
"""

import argparse
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- results: written by benchmarks/tables.py -->", "<!-- end of results -->"
COLUMNS = (
    ("all", "ndcg@10", "NDCG@10"),
    ("never_bought", "ndcg@10", "never bought"),
    ("all", "auc", "AUC"),
    ("all", "ece", "ECE"),
)


def quality(path: Path) -> str:
    """The systems of a benchmark, best first, with their intervals and the first one's lead; single windows left out."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if row["dataset"] == rows[0]["dataset"]]
    values = {(row["system"], row["slice"], row["metric"]): row for row in rows if "against" not in row}
    lead = {(row["against"], row["slice"], row["metric"]): row for row in rows if "against" in row}
    systems = [system for system, slice_, metric in values if (slice_, metric) == ("all", "ndcg@10")]
    systems.sort(key=lambda system: -values[system, "all", "ndcg@10"]["value"])
    lines = [
        "| system | " + " | ".join(title for *_, title in COLUMNS) + " | lead of peftrec, NDCG@10 |",
        "|---" + "|--:" * (len(COLUMNS) + 1) + "|",
    ]
    for system in systems:
        cells = [_cell(values.get((system, slice_, metric)), bare=metric == "ece") for slice_, metric, _ in COLUMNS]
        lines.append(f"| {system} | {' | '.join(cells)} | {_cell(lead.get((system, 'all', 'ndcg@10')), signed=True)} |")
    return "\n".join(lines)


def measured(path: Path) -> str:
    """Times and sizes in one sentence."""
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["metric"]: row["value"] for row in result["rows"]}
    return (
        f"Encoding {rows['texts']:,.0f} product texts took {rows['encode_seconds']:.0f} s, training the adapter"
        f" {rows['train_seconds'] / 60:.1f} minutes ({result['machine']})."
    )


def visit(path: Path) -> str:
    """What the demonstration takes, in one sentence."""
    rows = {row["metric"]: row["value"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    return (
        f"`peftrec demo` took {rows['demo_seconds'] / 60:.1f} minutes and {rows['demo_peak_gib']:.1f} GiB of memory,"
        f" `peftrec registry list` {rows['registry_list_seconds']:.2f} s."
    )


def _cell(row: dict[str, float] | None, *, signed: bool = False, bare: bool = False) -> str:
    if row is None:
        return ""
    number = "+.3f" if signed else ".3f"
    value, low, high = (f"{row[name]:{number}}" for name in ("value", "low", "high"))
    return value if bare else f"{value} <sub>{low} to {high}</sub>"


def section() -> str:
    """What stands between the markers."""
    path = FOLDER / "results" / "quality_completejourney.json"
    rolling = FOLDER / "results" / "rolling_completejourney.json"
    without = FOLDER / "results" / "quality_completejourney_without_promotions.json"
    parts = [quality(path), f"{measured(path)} {visit(FOLDER / 'results' / 'demo.json')}"]
    if rolling.exists():
        parts += [
            "The strongest again in three other windows of five weeks, from May, June and July, pooled over shoppers:",
            quality(rolling),
        ]
    if without.exists():
        parts += ["Without the promotion plan, for all systems:", quality(without)]
    return "\n\n".join(parts)


def main() -> None:
    """Rewrites README.md, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 if something would change")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"README.md has no lines {BEGIN} and {END}: put them back where the tables belong")
    new = f"{before}{BEGIN}\n\n{section()}\n\n{END}{after}"
    if options.check:
        sys.exit("README.md differs from results/: run python benchmarks/tables.py" if new != text else 0)
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
