"""Every way to tune the decoder, beside each other: what it gains, and what it costs.

All methods start from the same retrieval map and the same fitted numbers of a platform, and train the same rows with the same
seed; only what is tuned in the decoder differs. ``numbers`` is the system without any decoder. Each method is evaluated on the
same shoppers, over the full catalogue, after the cut; differences are paired. Costs are of the decoder's stage alone: seconds
of an epoch, and how far the process grows above what it held before, asked every tenth of a second. Run it alone on
the machine::

    python benchmarks/tuners.py --dataset completejourney
    python benchmarks/tuners.py --dataset online_retail --data invoices.parquet
"""

import argparse
import json
import resource
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
from results import FOLDER, write
from sampling import every, some

from peftrec import AdaLoRAConfig, Backbone, BottleneckConfig, LoRAConfig, TrainConfig, evaluate, load_dataset
from peftrec.data import Dataset
from peftrec.evaluation import Evaluation
from peftrec.model import Adapter, Platform
from peftrec.model.scoring import AdapterRecommender
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.train import Prepared, prepare, tune
from peftrec.training.trainer import DECODER
from peftrec.tuners import BiasOnlyConfig, FullConfig, HeadOnlyConfig, Tuner

CUTS = {"completejourney": ("2017-11-27T05:00", "2017-10-23T04:00"), "online_retail": ("2011-11-04", "2011-09-30")}
"""Begin of the test window, and of the window before it, which is for choosing."""

WEEKS = 5
METHODS: dict[str, Tuner] = {
    "lora": LoRAConfig(),
    "adalora": AdaLoRAConfig(),
    "bottleneck": BottleneckConfig(),
    "bottleneck_houlsby": BottleneckConfig(placement="houlsby"),
    "bottleneck_parallel": BottleneckConfig(placement="parallel"),
    "head_only": HeadOnlyConfig(),
    "bias_only": BiasOnlyConfig(),
    "full": FullConfig(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="completejourney")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--every", type=int, default=1, help="train on every n-th shopper")
    parser.add_argument("--shoppers", type=int, default=1600, help="asked in the evaluation, drawn evenly")
    parser.add_argument("--methods", nargs="*", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--backbone", default="minilm-l6", help="short name or folder")
    parser.add_argument("--epochs", type=float, default=TrainConfig().epochs, help="of the decoder's stage")
    parser.add_argument("--train", type=json.loads, default={}, help="other settings of TrainConfig, as JSON")
    parser.add_argument("--validation", action="store_true", help="one window earlier; writes no result")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    backbone, config = Backbone.load(options.backbone), TrainConfig(epochs=options.epochs, seed=options.seed)
    past, future = _split(options)
    with tempfile.TemporaryDirectory() as folder:
        source = PlatformRows.of(Platform.of(past, backbone), replace(config, **options.train).on(past))
        prepared = prepare(source, backbone, folder=Path(folder))
    systems, rows = [numbers_alone(prepared, backbone)], list[dict[str, object]]()
    for name in options.methods:
        adapter, cost = _tuned(prepared, backbone, METHODS[name])
        systems.append(adapter.recommender(name=name))
        rows += _cost_rows(name, options.dataset, adapter, cost)
    result = evaluate(systems, future, baselines=None, seed=options.seed)
    print(result)
    rows += [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    if "full" in options.methods:
        rows += _against(result, options.dataset, [name for name in options.methods if name != "full"], "full")
    _show(rows, options.methods)
    if not options.validation:
        write("tuners", [*_others(options.dataset), *rows], seed=options.seed)


def _split(options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    cut = CUTS[options.dataset][1 if options.validation else 0]
    shop = load_dataset(options.dataset, options.data)
    past, rest = (every(shop, options.every) if options.every > 1 else shop).split(at=cut)
    future = rest.window(end=datetime.fromisoformat(cut) + timedelta(weeks=WEEKS))
    return past, some(future, options.shoppers, seed=options.seed)


def numbers_alone(prepared: Prepared, backbone: Backbone) -> AdapterRecommender:
    """What forest and network say before any decoder is trained: heads end in zeros, so that it adds nothing."""
    config = prepared.source.config
    extras = {name: value.numpy() for name, value in prepared.extras.items()}
    adapter = Adapter(
        backbone=backbone,
        config=None,
        changes=HeadOnlyConfig().attach(backbone.decoder(), seed=0, steps=1).export(0),
        extras=extras,
        candidates=config.candidates,
        history=config.history,
    )
    return adapter.recommender(name="numbers")


@dataclass(frozen=True)
class Cost:
    """Of the decoder's stage: seconds of an epoch, bytes of growth at most."""

    epoch: float
    growth: int


def _tuned(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> tuple[Adapter, Cost]:
    epochs = prepared.source.config.epochs
    with tempfile.TemporaryDirectory() as folder, growth() as grown:
        begun = time.perf_counter()
        adapter = tune(prepared, backbone, tuner, folder=Path(folder))
        took = time.perf_counter() - begun
    points = [point["step"] for point in adapter.learning_curve]
    print(f"{tuner.method}: {took:.0f} s, {max(points, default=0):.0f} steps of {DECODER}", flush=True)
    return adapter, Cost(took / epochs, grown[0])


@contextmanager
def growth() -> Generator[list[int]]:
    """How many bytes this process holds at most above what it held at the beginning."""
    process, stop = psutil.Process(), threading.Event()
    before, most = process.memory_info().rss, [0]

    def watch() -> None:
        while not stop.wait(0.1):
            most[0] = max(most[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


def _cost_rows(name: str, dataset: str, adapter: Adapter, cost: Cost) -> list[dict[str, object]]:
    size = sum(array.size for array in adapter.changes.arrays())
    whole = sum(value.numel() for value in adapter.backbone.bert.parameters())
    return [
        _row(name, dataset, "tuned_parameters", size, "values"),
        _row(name, dataset, "share_of_backbone", size / whole, "0..1"),
        _row(name, dataset, "file_bytes", sum(map(len, adapter.files().values())), "bytes"),
        _row(name, dataset, "seconds_per_epoch", cost.epoch, "s"),
        _row(name, dataset, "peak_growth", cost.growth, "bytes"),
        _row(name, dataset, "peak_gib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "GiB"),
    ]


def _against(result: Evaluation, dataset: str, names: Sequence[str], other: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name in names:
        for part in result.slices:
            found = result.compare(name, other, "ndcg@10", part)
            row = _row(name, dataset, "ndcg@10", found.value, "0..1") | {"slice": part, "against": other}
            relative = found.value / result.value(other, "ndcg@10", part).value
            rows += [
                row | {"low": found.low, "high": found.high},
                row | {"metric": "ndcg@10_relative", "value": relative, "unit": ""},
            ]
    return rows


def _others(dataset: str) -> list[dict[str, object]]:
    """Rows on disk of other data sets."""
    path = FOLDER / "tuners.json"
    before = json.loads(path.read_text())["rows"] if path.is_file() else []
    return [row for row in before if row["dataset"] != dataset]


def _row(system: str, dataset: str, metric: str, value: float, unit: str) -> dict[str, object]:
    row: dict[str, object] = {"system": system, "dataset": dataset, "slice": "all", "metric": metric}
    return row | {"value": float(np.float64(value)), "low": None, "high": None, "unit": unit}


def _show(rows: Sequence[dict[str, object]], names: Sequence[str]) -> None:
    metrics = ("tuned_parameters", "share_of_backbone", "file_bytes", "seconds_per_epoch", "peak_growth")
    print(f"{'':20}" + "".join(f"{metric:>20}" for metric in metrics))
    for name in names:
        found = {row["metric"]: row["value"] for row in rows if row["system"] == name and "against" not in row}
        print(f"{name:20}" + "".join(f"{found[metric]:>20,.4g}" for metric in metrics))


if __name__ == "__main__":
    main()
