"""What data costs: time and memory from files to features, for a real shop, for logs longer than memory, and for batches.

Every measured part runs in a process of its own, so that its peak of memory is its own. Run it alone on the machine::

    python benchmarks/data.py
    python benchmarks/data.py --largest 1e7   # without the log of 100 million events, which takes most of the time

- ``completejourney``: from the installed package to a data set with all numbers as of 2017-11-27, for each household's own
  products and the 300 most popular; without reading the shop's promotions, and with them.
- ``synthetic_100m``: made-up logs (see ``synthetic.py``) of 1, 10 and 100 million events, streamed from files into shards;
  then the statistics of all shards, and words and numbers of every shopper for the own products and the 20 most popular.
  Collaborative scores are left out: their cost grows with shoppers times panel, and serving asks for one shopper at a time.
- ``batches``: how much faster batches of training rows are built than the decoder's stage learns from them; and the same
  with a batch's part of the time in which statistics, candidates and their numbers are computed, once per training.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import synthetic
from results import write

from peftrec.data import Dataset
from peftrec.data.collaborative import collaborative
from peftrec.data.features import pair_features
from peftrec.data.histories import Histories, Ragged
from peftrec.data.pairs import pairs_of
from peftrec.data.snapshot import Snapshot
from peftrec.data.sources.completejourney import load_completejourney
from peftrec.data.streaming.stream import stream_events
from peftrec.data.tokens import history_tokens

MOMENT = datetime(2017, 11, 27, 5, tzinfo=UTC).timestamp()
SIZES = (1_000_000, 10_000_000, 100_000_000)
SMALL_RUNS = 3
"""Runs of the shortest log, whose cost is the yardstick of the others."""

CHUNK, WORDS = 256, 128
"""Shoppers described at once, and the longest sentence of one."""

STEPS = 12
"""Batches that are built and learned from."""

Figures = dict[str, float]
Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=float, default=SIZES[-1], help="events of the longest log")
    parser.add_argument("--folder", type=Path, help="where made-up logs lie meanwhile: 100 million events take 12 GB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="data", help="of the result, where machines are compared")
    parser.add_argument("--only", choices=("completejourney", "synthetic_100m", "batches"), help="write no result")
    parser.add_argument("--part", choices=sorted(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.largest < SIZES[0]:
        parser.error(f"--largest is at least {SIZES[0]:g}, whose cost the others are compared with")
    if options.part:
        figures = PARTS[options.part](options)
        print(json.dumps({**figures, "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return
    systems = {"completejourney": _journey, "synthetic_100m": _logs, "batches": _batches}
    rows = [row for name, measure in systems.items() if options.only in (None, name) for row in measure(options)]
    for row in rows:
        print(f"{row['system']:<16}{row['slice']:<22}{row['metric']:<26}{row['value']:>10.3f} {row['unit']}")
    if options.only is None:
        write(options.name, rows, seed=options.seed)


def _child(part: str, *words: object, **environment: str) -> Figures:
    """Runs one part in a process of its own."""
    command = [sys.executable, __file__, "--part", part, *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    return json.loads(done.stdout.splitlines()[-1])


def _row(system: str, metric: str, values: Sequence[float], unit: str, slice_: str = "all") -> Row:
    """The median of some runs, and the span of them where there are several."""
    low, high = (min(values), max(values)) if len(values) > 1 else (None, None)
    dataset = "synthetic" if system == "synthetic_100m" else "completejourney"
    named = {"system": system, "dataset": dataset, "slice": slice_, "metric": metric}
    return named | {"value": statistics.median(values), "low": low, "high": high, "unit": unit}


# ------------------------------------------------------------------------------------------------------ completejourney


def _journey(_: argparse.Namespace) -> list[Row]:
    rows = list[Row]()
    for suffix, part in (("", "journey"), ("_with_promotions", "journey_with_promotions")):
        found = _child(part)
        rows.append(_row("completejourney", f"seconds{suffix}", [found["seconds"]], "s"))
        rows.append(_row("completejourney", f"peak_gib{suffix}", [found["peak_gib"]], "GiB"))
    return rows


def journey(*, promotions: bool) -> Figures:
    """From the package to the numbers of every household."""
    start = time.perf_counter()
    dataset = load_completejourney(promotions=promotions)
    snapshot = Snapshot.at(dataset, MOMENT)
    describe(dataset, snapshot, popular=300, collaborate=True)
    return {"seconds": time.perf_counter() - start}


def describe(dataset: Dataset, snapshot: Snapshot, *, popular: int, collaborate: bool) -> None:
    """Computes words and numbers of all shoppers with a history, some of them at a time."""
    users = np.unique(dataset.log.user[dataset.log.time < snapshot.moment])
    for first in range(0, len(users), CHUNK):
        histories = Histories.of(dataset, users[first : first + CHUNK], moment=snapshot.moment)
        pairs, rows = pairs_of(histories, snapshot.n_items), np.arange(len(histories) + 1) * snapshot.n_items
        history_tokens(histories, pairs, snapshot, limit=WORDS)
        keys = np.union1d(pairs.key, rows[:-1, None] + snapshot.popular[:popular])
        items = Ragged(np.searchsorted(keys, rows), (keys % snapshot.n_items).astype(np.int32))
        neighbours = together = np.zeros(len(keys), np.float32)
        if collaborate:
            neighbours, together = (dense[items.rows, items.values] for dense in collaborative(pairs, snapshot))
        pair_features(histories, items, snapshot, pairs=pairs, neighbours=neighbours, together=together)


# ------------------------------------------------------------------------------------------------------- synthetic_100m


def _logs(options: argparse.Namespace) -> list[Row]:
    system, rows, costs = "synthetic_100m", list[Row](), dict[int, float]()
    for size in (size for size in SIZES if size <= options.largest):
        runs, slice_ = _log(options, size), f"{size // 1_000_000} million"
        for metric in ("stream_seconds", "snapshot_seconds", "features_seconds", "seconds", "cpu_seconds"):
            rows.append(_row(system, metric, [run[metric] for run in runs], "s", slice_))
        rows.append(_row(system, "microseconds_per_event", [run["seconds"] / size * 1e6 for run in runs], "µs", slice_))
        rows.append(_row(system, "peak_gib", [run["peak_gib"] for run in runs], "GiB", slice_))
        costs[size] = statistics.median(run["seconds"] for run in runs) / size
    ratio, peak = costs[max(costs)] / costs[SIZES[0]], max(run["peak_gib"] for run in runs)
    return [*rows, _row(system, "cost_ratio_to_1m", [ratio], "ratio"), _row(system, "peak_gib", [peak], "GiB")]


def _log(options: argparse.Namespace, size: int) -> list[Figures]:
    """Makes a log up, and measures what it costs; the shortest several times."""
    with tempfile.TemporaryDirectory(prefix="peftrec-data-", dir=options.folder) as folder:
        words = ("--largest", size, "--folder", folder, "--seed", options.seed)
        _child("generate", *words)
        return [_child("stream", *words, TMPDIR=folder) for _ in range(SMALL_RUNS if size == SIZES[0] else 1)]


def generate(options: argparse.Namespace) -> Figures:
    """Writes catalogue and events."""
    synthetic.write_catalog(options.folder / "catalog.parquet")
    (options.folder / "events").mkdir()
    synthetic.write_events(options.folder / "events", int(options.largest), seed=options.seed)
    return {}


def stream(options: argparse.Namespace) -> Figures:
    """From the files to the numbers of every shopper."""
    shutil.rmtree(options.folder / "log", ignore_errors=True)
    start, busy = time.perf_counter(), time.process_time()
    catalog, target = options.folder / "catalog.parquet", options.folder / "log"
    log = stream_events(options.folder / "events", catalog, folder=target, progress=False)
    streamed = time.perf_counter()
    snapshot = log.snapshot(log.end.timestamp() + 1)
    known = time.perf_counter()
    for shard in log.shards():
        describe(shard, snapshot, popular=20, collaborate=False)
    end = time.perf_counter()
    print(log.report, file=sys.stderr)
    stages = {"stream_seconds": streamed - start, "snapshot_seconds": known - streamed, "features_seconds": end - known}
    return {**stages, "seconds": end - start, "cpu_seconds": time.process_time() - busy}


# -------------------------------------------------------------------------------------------------------------- batches


def _batches(_: argparse.Namespace) -> list[Row]:
    found = _child("batches")
    return [
        _row("batches", "build_seconds", [found["build_seconds"]], "s"),
        _row("batches", "consume_seconds", [found["consume_seconds"]], "s"),
        _row("batches", "rows_seconds", [found["rows_seconds"]], "s"),
        _row("batches", "build_over_consume", [found["consume_seconds"] / found["build_seconds"]], "ratio"),
        _row(
            "batches",
            "build_and_rows_over_consume",
            [found["consume_seconds"] / (found["build_seconds"] + found["rows_seconds"])],
            "ratio",
        ),
    ]


def batches() -> Figures:
    """Trains the decoder's stage for some steps on rows of one anchor, and looks at when batches were asked for."""
    import torch

    from peftrec import Backbone, TrainConfig
    from peftrec.model import extras
    from peftrec.model.platform import Platform
    from peftrec.model.purchase import PurchaseModel
    from peftrec.training.anchors import anchor
    from peftrec.training.rows import RowDataset, Rows
    from peftrec.training.stages import DecoderStage
    from peftrec.training.trainer import DECODER, run_stage
    from peftrec.tuners import LoRAConfig

    config, backbone = TrainConfig(anchors=1), Backbone.load("minilm-l6")
    platform = Platform.of(load_completejourney(promotions=False), backbone, progress=False)
    one, rng = anchor(platform.dataset, MOMENT, config), np.random.default_rng(config.seed)
    start_of_rows = time.perf_counter()
    snapshot = platform.snapshot(MOMENT)
    rows = Rows.begin(one, snapshot, config, rng).offered(one, snapshot, config, nearest=None, rng=rng)
    rows_seconds = (time.perf_counter() - start_of_rows) / len(one.users) * config.batch_size
    dataset = RowDataset(platform, [rows], config, keep=np.ones(len(platform.dataset.users), bool), moment=MOMENT)
    decoder = backbone.decoder()
    LoRAConfig().attach(decoder, seed=config.seed, steps=1)
    start = extras.initial(backbone.hidden, gain=1.0, generator=torch.Generator())
    model, spans = PurchaseModel(decoder, start), list[tuple[float, float]]()

    def collate(chosen: list[tuple[int, int]]) -> dict[str, object]:
        start = time.perf_counter()
        batch = dataset.collate(chosen)
        spans.append((start, time.perf_counter()))
        return batch

    with tempfile.TemporaryDirectory() as folder:
        run_stage(
            DecoderStage(model, config),
            dataset,
            config,
            folder=Path(folder),
            name=DECODER,
            collate=collate,
            epochs=STEPS * config.batch_size / len(dataset),
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            bf16=config.precision == "bf16",
            progress=False,
        )
    builds = [end - start for start, end in spans]
    steps = [later - end for (_, end), (later, _) in pairwise(spans)]
    return {
        "build_seconds": statistics.median(builds),
        "consume_seconds": statistics.median(steps),
        "rows_seconds": rows_seconds,
    }


PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "journey": lambda _: journey(promotions=False),
    "journey_with_promotions": lambda _: journey(promotions=True),
    "generate": generate,
    "stream": stream,
    "batches": lambda _: batches(),
}

if __name__ == "__main__":
    main()
