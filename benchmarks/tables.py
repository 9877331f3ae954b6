"""Writes the tables of both READMEs and the plots from ``results/``, so that no figure in them is typed by hand.

Without options it rewrites what lies between the markers; with ``--check`` it fails if that would change anything.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from detail_tables import ITEM_TABLE, TASKS, ablations, ceilings, cell, new_products, possible, segments

FOLDER = Path(__file__).parent
README = FOLDER.parent / "README.md"
SERVING = FOLDER / "results" / "serving.json"
WITHOUT_TILES = FOLDER / "results" / "serving_without_tiles.json"
OTHERS = ("online_retail", "amazon_office", "movielens")
BEGIN, END = "<!-- results: written by benchmarks/tables.py -->", "<!-- end of results -->"
TUNERS = FOLDER / "results" / "tuners.json"
SHOPS = (("completejourney", "groceries"), ("online_retail", "gifts"))

RIVALS = {
    "LightGBM binary": "#0b6e4f",
    "LightGBM LambdaRank": "#7a9e3b",
    "UP-CF": "#c77700",
    "TF-IDF of text": "#5470a8",
}
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
        cells = [cell(values.get((system, slice_, metric)), bare=metric == "ece") for slice_, metric, _ in COLUMNS]
        lines.append(f"| {system} | {' | '.join(cells)} | {cell(lead.get((system, 'all', 'ndcg@10')), signed=True)} |")
    return "\n".join(lines)


def shops(paths: Sequence[Path]) -> str:
    """NDCG@10 of all systems on several data sets, with the first one's lead and whether its interval is clear of zero."""
    found = {path.stem.removeprefix("quality_"): json.loads(path.read_text(encoding="utf-8"))["rows"] for path in paths}
    systems = dict.fromkeys(row["system"] for rows in found.values() for row in rows if row["metric"] == "ndcg@10")
    cells: dict[tuple[str, str], str] = {}
    order: dict[str, float] = {}
    for name, rows in found.items():
        for row in rows:
            if row["metric"] == "ndcg@10" and row["slice"] == "all" and "against" not in row:
                cells[row["system"], name] = f"{row['value']:.3f}"
                order.setdefault(row["system"], row["value"])
        for row in rows:
            if row["metric"] == "ndcg@10" and row["slice"] == "all" and "against" in row:
                lead = f"{row['value']:+.3f}, {row['low']:+.3f} to {row['high']:+.3f}"
                cells[row["against"], name] += f" <sub>{lead}</sub>"
    lines = [f"| NDCG@10, lead of peftrec | {' | '.join(found)} |", "|---" + "|--:" * len(found) + "|"]
    shown = sorted(systems, key=lambda system: -order.get(system, 0))
    lines += [f"| {system} | {' | '.join(cells.get((system, name), '') for name in found)} |" for system in shown]
    return "\n".join(lines)


def draw_slices(paths: Sequence[Path], to: Path) -> None:
    """Writes the plot of peftrec's lead over some baselines, part by part."""
    from matplotlib.figure import Figure

    _same_ids()
    figure = Figure(figsize=(4.2 * len(paths), 5.2), layout="constrained")
    panels = figure.subplots(1, len(paths), squeeze=False)[0]
    for axes, path in zip(panels, paths, strict=True):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        leads = {
            (row["slice"], row["against"]): row for row in rows if row["metric"] == "ndcg@10" and row.get("against")
        }
        parts = list(dict.fromkeys(part for part, _ in leads))
        for shift, (against, colour) in enumerate(RIVALS.items()):
            shown = [(at, leads[part, against]) for at, part in enumerate(parts) if (part, against) in leads]
            values = [row["value"] for _, row in shown]
            errors = [[row["value"] - row["low"] for _, row in shown], [row["high"] - row["value"] for _, row in shown]]
            places = [-at - 0.2 * (shift - (len(RIVALS) - 1) / 2) for at, _ in shown]
            axes.errorbar(
                values, places, xerr=errors, fmt="o", markersize=3.5, color=colour, linewidth=1, label=against
            )
        axes.axvline(0, color="#9aa5b1", linewidth=0.8)
        axes.set_yticks([-at for at in range(len(parts))], [part.replace("_", " ") for part in parts], fontsize=8)
        axes.set_title(path.stem.removeprefix("quality_"), fontsize=10)
        axes.set_xlabel("lead in NDCG@10", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=len(RIVALS)
    )
    figure.savefig(to, metadata={"Date": None})


def tuned(path: Path) -> str:
    """What each tuner gains and costs: a table for each shop."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    told: list[str] = []
    for dataset, title in SHOPS:
        mine = [row for row in rows if row["dataset"] == dataset and "against" not in row]
        cells = {(row["system"], row["part"], row["slice"], row["metric"]): row for row in mine}
        columns = [
            ("methods", "all", "ndcg@10", "NDCG@10"),
            ("methods", "never_bought", "ndcg@10", "never bought"),
            ("methods", "all", "auc", "AUC"),
        ]
        if any(row["part"] == "silent" for row in mine):
            columns.append(("silent", "never_bought", "ndcg@10", "new products"))
        titles = [f"{title}: tuner", "values tuned, of the backbone's", "file", "an epoch", "memory"]
        lines = ["| " + " | ".join([*titles, *(name for *_, name in columns)]) + " |"]
        lines.append("|---" + "|--:" * (len(titles) + len(columns) - 1) + "|")
        for system in dict.fromkeys(row["system"] for row in mine if row["part"] == "methods"):
            costs = {
                metric: row["value"]
                for (of, part, _, metric), row in cells.items()
                if (of, part) == (system, "methods")
            }
            size = [""] * 4
            if "file_bytes" in costs:
                size = [
                    f"{costs['share_of_backbone']:.1%}",
                    f"{costs['file_bytes'] / 1e6:.1f} MB",
                    f"{costs['seconds_per_epoch']:.0f} s",
                    f"{costs['peak_growth'] / 2**30:.1f} GiB",
                ]
            shown = [cell(cells.get((system, *key))) for *key, _ in columns]
            lines.append("| " + " | ".join([system.replace("_", " "), *size, *shown]) + " |")
        told.append("\n".join(lines))
    return "\n\n".join(told)


def referred(path: Path) -> str:
    """What the item table saves, a line for each shop and size of task; what lists gain where all three were trained."""
    result, anew, pairs = json.loads(path.read_text(encoding="utf-8")), "end_to_end_peft", "cross_encoder"
    lines = [
        "| through the item table, compared | peft's LoRA on the whole BERT takes | and memory | lead, NDCG@10"
        " | a cross-encoder takes | lead, NDCG@10 | measured on |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for dataset, name in ITEM_TABLE.items():
        for part, task in TASKS.items():
            mine = [
                row for row in result["rows"] if (row["dataset"], row["part"]) == (dataset, part) and "against" in row
            ]
            if not mine:
                continue
            of = {(row["metric"], row["against"]): row for row in mine if row["slice"] == "all"}
            times = {metric: f"{row['value']:.0f} times" for (metric, _), row in of.items()}
            leads = [cell(of.get(("ndcg@10", other)), signed=True) for other in (anew, pairs)]
            lines.append(
                f"| {name}: {task} | {times[f'speedup_over_{anew}']} | {times[f'memory_ratio_to_{anew}']} | {leads[0]} |"
                f" {times[f'speedup_over_{pairs}']} | {leads[1]} | {mine[0].get('machine') or result['machine']} |"
            )
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


def served(path: Path) -> str:
    """What serving costs, beside the ways that others serve, as far as it was measured."""
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = {(row["system"], row["metric"], row.get("adapters")): row["value"] for row in result["rows"]}

    def best(metric: str, adapters: int | None = None) -> float:
        return max(rows[key] for key in rows if key[0].startswith("peftrec") and key[1:] == (metric, adapters))

    def of(metric: str, adapters: int | None = None, system: str = "peftrec") -> float:
        return rows[system, metric, adapters]

    systems = ("peftrec", "peftrec bf16", "peftrec fp32")
    costs = [f"{rows[key]:.0%}" for name in systems if (key := (name, "mixed_overhead_over_base", 32)) in rows]
    encoders = ((name, rate) for (name, metric, _), rate in rows.items() if metric == "texts_per_second")
    others = ", ".join(f"{name} {rate:,.0f}" for name, rate in encoders if not name.startswith("peftrec"))
    measured: dict[str, Callable[[], list[str]]] = {
        "throughput": lambda: [
            f"scores per second, everything included, 32 adapters | {best('scores_per_second'):,.0f} | plain recipe"
            f" {of('scores_per_second', None, 'plain_recipe'):.1f}, peft's mixed batch of whole BERTs"
            f" {of('scores_per_second', None, 'peft_cross_encoder'):.1f}",
            "the same decoder and words, 32 adapters in a batch of 32: scores per second |"
            f" {best('scores_per_second', 32):,.0f} | peft {of('scores_per_second', 32, 'peft'):,.0f}",
            f"what that costs above the bare base{', in int8, bf16 and fp32' if len(costs) > 2 else ', in int8 and fp32'} |"
            f" {' and '.join(', '.join(costs).rsplit(', ', 1))} |"
            f" peft {of('mixed_overhead_over_base', 32, 'peft'):.0%}",
        ],
        "encode": lambda: [f"product texts encoded in a second | {best('texts_per_second'):,.0f} | {others}"],
        "load": lambda: [
            f"loading an adapter beside 1,000 others, p50 and p99 | {of('adapter_load_p50_ms', 1000):.1f} and"
            f" {of('adapter_load_p99_ms', 1000):.1f} ms | peft's 30th: {of('load_ms', 30, 'peft'):.0f} ms"
        ],
        "recommend": lambda: [
            f"top 10 of {of('products'):,.0f} products, {of('candidates'):.0f} candidates, p50 and p99 |"
            f" {of('recommend_p50_ms'):.0f} and {of('recommend_p99_ms'):.0f} ms |",
            f"throughput with 1,000 adapters over that with one | {of('throughput_1000_over_1'):.2f} |",
        ],
        "memory": lambda: [
            f"memory of 1,000 adapters | {of('resident_bytes', 1000) / 2**30:.2f} GiB | their files"
            f" {of('resident_bytes', 1000) / of('resident_over_file') / 2**30:.2f} GiB",
            f"weights of the whole BERT in int8 over fp32 | {of('int8_backbone_bytes_ratio'):.3f} |",
        ],
        "swap": lambda: [
            f"wrong answers of {of('hot_swap_answers'):,.0f} while an alias moved {of('hot_swaps'):,.0f} times |"
            f" {of('hot_swap_wrong_answers'):.0f} |"
        ],
    }
    parts = {row["part"] for row in result["rows"]}
    lines = [f"| {line} |" for part, tell in measured.items() if part in parts for line in tell()]
    table = "\n".join(["| serving | peftrec | beside it |", "|---|--:|--:|", *lines])
    # Parts are run one at a time, and a kept one says where.
    machines = " or ".join(dict.fromkeys(row.get("machine") or result["machine"] for row in result["rows"]))
    return f"Many adapters on one backbone ({machines}):\n\n{table}"


def draw(path: Path) -> None:
    """Writes the plot of throughput by number of adapters beside the result."""
    from matplotlib.figure import Figure

    _same_ids()
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for system, colour in (
        ("peftrec", "#0b6e4f"),
        ("peftrec fp32", "#5aa585"),
        ("peftrec bf16", "#9ccbb8"),
        ("peft", "#9aa5b1"),
    ):
        points = sorted(
            (row["adapters"], row["value"])
            for row in rows
            if row["system"] == system and row["metric"] == "scores_per_second" and row.get("adapters")
        )
        if points:
            name = {"peftrec": "peftrec int8", "peft": "peft, adapter_names"}.get(system, system)
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("adapters at hand (batches of 32 shoppers)")
    axes.set_ylabel("scores per second")
    axes.legend(frameon=False)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _same_ids() -> None:
    """Has plots name their parts alike each time, so that the same numbers give the same file."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = "peftrec"


def _quality(dataset: str) -> Path:
    return FOLDER / "results" / f"quality_{dataset}.json"


def section() -> str:
    """What stands between the markers."""
    path = _quality("completejourney")
    without = FOLDER / "results" / "quality_completejourney_without_promotions.json"
    parts = [quality(path), f"{measured(path)} {visit(FOLDER / 'results' / 'demo.json')}"]
    parts += windows("completejourney", "The strongest again")
    others = [path for path in map(_quality, OTHERS) if path.exists()]
    if others:
        plot = "![lead in NDCG@10 by part](benchmarks/results/parts.svg)"
        parts += ["Other shops, with the same defaults:", shops(others), f"Where the lead lies:\n\n{plot}"]
    parts += windows("online_retail", "The gift shop's strongest again")
    if TUNERS.exists():
        parts += [
            "Tuners, on some of the shoppers; memory is above what the process held before, and *new products* asks for products"
            " never bought where nothing is known of how products sell:",
            tuned(TUNERS),
            "What is saved where products are read through the item table, and not word by word in each step; 256 candidates a"
            " shopper are the default. Memory is what a process grows by, which is little where it had freed some before:",
            referred(TUNERS),
        ]
    peers = FOLDER / "results" / "peers_online_retail.json"
    if peers.exists():
        parts += ["RecTools' models, tuned alike, on the gift shop:", quality(peers)]
    if without.exists():
        parts += ["Without the promotion plan, for all systems:", quality(without)]
    if SERVING.exists():
        parts += [served(SERVING), "![scores per second by number of adapters](benchmarks/results/serving.svg)"]
    return "\n\n".join(parts)


def windows(dataset: str, title: str) -> list[str]:
    """A title and the systems of rolling.py on a data set, pooled; nothing where there is no result."""
    path = FOLDER / "results" / f"rolling_{dataset}.json"
    told = "in three other windows of five weeks, from May, June and July, pooled over shoppers:"
    return [f"{title} {told}", quality(path)] if path.exists() else []


def details() -> str:
    """What stands between the markers of this folder's README."""
    kinds = (("segments", segments), ("ablations", ablations), ("ceilings", ceilings), ("new_products", new_products))
    parts = [make(path) for name, make in kinds for path in sorted((FOLDER / "results").glob(f"{name}_*.json"))]
    if TUNERS.exists():
        parts.append(possible(TUNERS))
    if WITHOUT_TILES.exists():
        parts.append(served(WITHOUT_TILES))
    return "\n\n".join(filter(None, parts))


def _between(path: Path, new: str) -> tuple[str, str]:
    """A file's text as it is, and with something new between its markers."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{path.name} has no lines {BEGIN} and {END}: put them back where the tables belong")
    return text, f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"


def main() -> None:
    """Rewrites both READMEs, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit with 1 if something would change")
    options = parser.parse_args()
    for path, new in ((README, section()), (FOLDER / "README.md", details())):
        old, text = _between(path, new)
        if options.check and old != text:
            sys.exit(f"{path.parent.name}/{path.name} differs from results/: run python benchmarks/tables.py")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    if options.check:
        return
    if SERVING.exists():
        draw(SERVING)
    drawn = [path for path in map(_quality, ("completejourney", *OTHERS)) if path.exists()]
    if len(drawn) > 1:
        draw_slices(drawn, FOLDER / "results" / "parts.svg")


if __name__ == "__main__":
    main()
