"""Every way to tune the decoder, beside each other: what it gains, and what it costs.

All methods start from the same retrieval map and the same fitted numbers of a platform, and train the same rows with the same
seed; only what is tuned in the decoder differs. ``numbers`` is the system without any decoder. Each method is evaluated on the
same shoppers, over the full catalogue, after the cut; differences are paired. Costs are of the decoder's stage alone: seconds
of an epoch, and how far the process grows above what it held before, asked every tenth of a second.

``silent`` asks the same where numbers say little: all systems are trained and asked as by a shop whose products are new, so that
nothing is known of how they sell, and their texts must speak.

``attempts`` tunes AdaLoRA further, on that task and on the window before the test window: other rates, and a schedule that ends
earlier under a smaller penalty.

``references`` trains three systems on a task small enough for all of them: a sample of the shoppers, one moment of the past,
few candidates. LoRA through the item table (``lora, sampled task``); the same decoder on a whole BERT that peft's LoRA
tunes with it, which encodes every product of a step anew; and the cross-encoder, trained on the very same candidates,
several times over.

``default`` times a step of the same three on the task as it is by default, all shoppers and 256 candidates each. Both count
the operations of a step as well, through the item table and end to end: about what equal rates would save. They also tell how
many of the decoder's own operations a second would make it 20 times as fast as end to end, beside those that the machine does
at best in the same precision: where more would be needed, this decoder cannot get there in it. Run it alone on the machine::

    python benchmarks/tuners.py --dataset completejourney
    python benchmarks/tuners.py --dataset online_retail --data invoices.parquet
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from default_task import ANEW, CROSS, TABLE, operations, rate, steps_in_turns
from end_to_end import tune_end_to_end
from results import kept, write
from sampling import every, some
from timing import growth

from peftrec import AdaLoRAConfig, Backbone, BottleneckConfig, LoRAConfig, TrainConfig, evaluate, load_dataset
from peftrec.data import Dataset
from peftrec.evaluation import Evaluation
from peftrec.model import Adapter, CandidateConfig, Platform, cross
from peftrec.model.cross import CrossEncoder
from peftrec.model.scoring import AdapterRecommender
from peftrec.model.shapes import first_layer
from peftrec.training.cross import UNREAD, CrossEncoderConfig, tune_cross_encoder
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.train import Prepared, choose_popularity, prepare, tune
from peftrec.training.trainer import DECODER, attach
from peftrec.tuners import BiasOnlyConfig, Changes, FullConfig, HeadOnlyConfig, Tuner

CUTS = {"completejourney": ("2017-11-27T05:00", "2017-10-23T04:00"), "online_retail": ("2011-11-04", "2011-09-30")}
"""Begin of the test window, and of the window before it, which is for choosing."""

WEEKS = 5
WANTED = 20
"""Times as fast as end to end that tuning through the item table should be."""

PARTS = ("methods", "silent", "attempts", "references", "default")
SAMPLED = TrainConfig(
    anchors=1,
    epochs=1.0,
    patience=100,
    sampled_candidates=32,
    negatives=256,
    candidates=CandidateConfig(history=60, popular=30, neighbours=15, together=15, nearest=30),
)
"""The task of the references: no early stop, so that each reads what it is meant to.

An eighth of the default's candidates: every further one costs the cross-encoder a sentence, and the decoder a word.
"""

CROSS_RATE = 1e-3
"""Of 2e-4, 1e-3 and 3e-3 the one with the least loss on shoppers held out, gifts, one window earlier."""

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

ATTEMPTS: dict[str, Tuner] = {
    "lora": LoRAConfig(),
    "adalora": AdaLoRAConfig(),
    "adalora_rate_5e-3": AdaLoRAConfig(learning_rate=5e-3),
    "adalora_rate_2e-2": AdaLoRAConfig(learning_rate=2e-2),
    "adalora_early_end": AdaLoRAConfig(learning_rate=5e-3, warmup_share=0.05, final_share=0.7, orthogonality=0.01),
}
"""AdaLoRA as it is, and three ways to tune it further, beside LoRA."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="completejourney")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--every", type=int, default=1, help="train on every n-th shopper")
    parser.add_argument("--shoppers", type=int, default=1600, help="asked in the evaluation, drawn evenly")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sampled-every", type=int, default=8, help="references: every n-th shopper")
    parser.add_argument("--sampled-shoppers", type=int, default=50, help="references: asked in the evaluation")
    parser.add_argument("--cross-epochs", type=float, default=5.0, help="references: passes of the cross-encoder")
    parser.add_argument("--methods", nargs="*", choices=sorted(METHODS), default=list(METHODS))
    parser.add_argument("--backbone", default="minilm-l6", help="short name or folder")
    parser.add_argument("--epochs", type=float, default=TrainConfig().epochs, help="of the decoder's stage")
    parser.add_argument("--train", type=json.loads, default={}, help="other settings of TrainConfig, as JSON")
    parser.add_argument("--validation", action="store_true", help="one window earlier; writes no result")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    backbone, config = Backbone.load(options.backbone), TrainConfig(epochs=options.epochs, seed=options.seed)
    rows: list[dict[str, object]] = []
    tuners = {name: METHODS[name] for name in options.methods}
    parts = {
        "methods": lambda: compare_methods(options, backbone, config, tuners),
        "silent": lambda: compare_methods(options, backbone, config, tuners, silent=True),
        "attempts": lambda: compare_methods(options, backbone, config, ATTEMPTS, silent=True, earlier=True),
        "references": lambda: compare_references(options, backbone),
        "default": lambda: compare_steps(options, backbone),
    }
    for part in options.parts:
        rows += [row | {"part": part} for row in parts[part]()]
    if not options.validation:
        others = kept("tuners", lambda row: row["dataset"] != options.dataset or row["part"] not in options.parts)
        write("tuners", [*others, *rows], seed=options.seed)


def compare_methods(
    options: argparse.Namespace,
    backbone: Backbone,
    config: TrainConfig,
    tuners: Mapping[str, Tuner],
    *,
    silent: bool = False,
    earlier: bool = False,
) -> list[dict[str, object]]:
    """Tuners on the same rows, with quality and costs; ``silent`` about how products sell, or not."""
    past, future = _split(options, every_nth=options.every, shoppers=options.shoppers, earlier=earlier)
    with tempfile.TemporaryDirectory() as folder:
        read = replace(config, **options.train).on(past)
        source = PlatformRows.of(Platform.of(past, backbone), read, silent=silent)
        prepared = prepare(source, backbone, folder=Path(folder))
    systems, rows = [numbers_alone(prepared, backbone)], list[dict[str, object]]()
    for name, tuner in tuners.items():
        adapter, cost = _tuned(prepared, backbone, tuner)
        systems.append(adapter.recommender(name=name))
        rows += _cost_rows(name, options.dataset, adapter, cost)
    result = evaluate(systems, future, baselines=None, seed=options.seed)
    print(result)
    rows += [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    for other in (name for name in ("full", "lora") if name in tuners):
        rows += _against(result, options.dataset, [name for name in tuners if name != other], other)
    _show(rows, [*tuners])
    return rows


def compare_references(options: argparse.Namespace, backbone: Backbone) -> list[dict[str, object]]:
    """The item table against encoding anew, and the decoder against the cross-encoder."""
    past, future = _split(options, every_nth=options.sampled_every, shoppers=options.sampled_shoppers)
    task = replace(SAMPLED, seed=options.seed).on(past)
    platform = Platform.of(past, backbone)
    texts = backbone.templates.product.render(past.catalog.frame).unique().to_list()
    begun = time.perf_counter()
    backbone.encode(texts)  # what the item table spares whoever comes later
    encoding = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(PlatformRows.for_adapter(platform, task), backbone, folder=Path(folder))
    short = replace(prepared.source, config=replace(task, epochs=0.2))
    _tuned(replace(prepared, source=short), backbone, LoRAConfig())  # what libraries load once is nobody's cost
    table, ours = _tuned(prepared, backbone, LoRAConfig())
    costs_of: dict[str, list[Cost]] = {"anew": [], "cross": []}
    with tempfile.TemporaryDirectory() as folder:
        measured = _measured(task.epochs, costs_of["anew"])
        anew = tune_end_to_end(prepared, backbone, LoRAConfig(), folder=Path(folder), measured=measured)
    with tempfile.TemporaryDirectory() as folder:
        measured = _measured(options.cross_epochs, costs_of["cross"])
        cross_encoder = _cross_encoder(prepared, backbone, options.cross_epochs, Path(folder), measured)
    of_anew, of_cross = costs_of["anew"][0], costs_of["cross"][0]
    name = "lora, sampled task"
    systems = [table.recommender(name=name), anew, cross_encoder.recommender(name="cross_encoder")]
    result = evaluate(systems, future, baselines=None, seed=options.seed)
    print(result)
    rows = [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    costs = {name: ours, "end_to_end_peft": of_anew, "cross_encoder": of_cross}
    for system, cost in costs.items():
        rows += [
            _row(system, options.dataset, "seconds_per_epoch", cost.epoch, "s"),
            _row(system, options.dataset, "peak_growth", cost.growth, "bytes"),
        ]
    rows.append(_row(name, options.dataset, "seconds_to_encode_catalogue_once", encoding, "s"))
    steps = len(prepared.train) / task.batch_size
    rows += _operation_rows(prepared, backbone, options.dataset, name, anew_step=of_anew.epoch / steps)
    for metric, other, ratio in (
        ("speedup_over_end_to_end_peft", "end_to_end_peft", of_anew.epoch / ours.epoch),
        ("memory_ratio_to_end_to_end_peft", "end_to_end_peft", of_anew.growth / ours.growth),
        ("speedup_over_cross_encoder", "cross_encoder", of_cross.epoch / ours.epoch),
    ):
        rows.append(_row(name, options.dataset, metric, ratio, "") | {"against": other})
        print(f"{metric}: {ratio:.1f}")
    return rows


def compare_steps(options: argparse.Namespace, backbone: Backbone) -> list[dict[str, object]]:
    """The three references by seconds of a step alone, on the default's task."""
    past, _ = _split(options, every_nth=options.every, shoppers=options.shoppers)
    source = PlatformRows.for_adapter(Platform.of(past, backbone), TrainConfig(anchors=1, seed=options.seed).on(past))
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(source, backbone, folder=Path(folder))
    costs = steps_in_turns(prepared, backbone, LoRAConfig())
    rows = _operation_rows(prepared, backbone, options.dataset, TABLE, anew_step=costs[ANEW][0])
    for system, (seconds, grown) in costs.items():
        rows += [
            _row(system, options.dataset, "step_seconds", seconds, "s"),
            _row(system, options.dataset, "step_growth", grown, "bytes"),
        ]
    for metric, other, of in (
        (f"speedup_over_{ANEW}", ANEW, 0),
        (f"memory_ratio_to_{ANEW}", ANEW, 1),
        (f"speedup_over_{CROSS}", CROSS, 0),
    ):
        ratio = costs[other][of] / costs[TABLE][of]
        rows.append(_row(TABLE, options.dataset, metric, ratio, "") | {"against": other})
        print(f"{metric}: {ratio:.1f}")
    return rows


def _operation_rows(
    prepared: Prepared, backbone: Backbone, dataset: str, name: str, *, anew_step: float
) -> list[dict[str, object]]:
    """Operations of a step, and how many a second were needed and can be had; ``anew_step`` in seconds."""
    counted, possible = operations(prepared, backbone, LoRAConfig()), rate(backbone, prepared.source.config.precision)
    ratio, needed = counted[ANEW] / counted[TABLE], WANTED * counted[TABLE] / anew_step
    print(f"operations of a step: {counted[TABLE]:.3g}, end to end {counted[ANEW]:.3g}, {ratio:.1f} times")
    print(f"{WANTED} times would take {needed / 1e9:.0f} GFLOP/s; the machine does {possible / 1e9:.0f}")
    return [
        _row(name, dataset, "step_operations", counted[TABLE], ""),
        _row(ANEW, dataset, "step_operations", counted[ANEW], ""),
        _row(name, dataset, f"operations_ratio_to_{ANEW}", ratio, "") | {"against": ANEW},
        _row(name, dataset, f"rate_for_{WANTED}_times", needed, "1/s") | {"against": ANEW},
        _row(name, dataset, "rate_of_products", possible, "1/s"),
    ]


def _cross_encoder(
    prepared: Prepared, backbone: Backbone, epochs: float, folder: Path, measured: AbstractContextManager[object]
) -> Adapter:
    """A cross-encoder on the rows and candidates that the decoder is trained on.

    Its head begins knowing nothing, where the decoder begins with fitted numbers: it may read the rows several times, in
    small steps.
    """
    source, layers = prepared.source, backbone.upper_layers()
    unread = {name: getattr(TrainConfig(), name) for name in UNREAD}
    size = CrossEncoderConfig().training.batch_size
    training = replace(source.config, learning_rate=CROSS_RATE, batch_size=size, epochs=epochs, **unread)
    config = CrossEncoderConfig(training=training)
    attached = attach(LoRAConfig(), layers, training, rows=source.count, start=None, first_layer=first_layer(backbone))
    model = CrossEncoder(backbone, layers, cross.initial(backbone.hidden))
    choose_popularity(model.extras, source, reads=cross.retrieval_extras(model.extras))
    offered = prepared.train.parts
    with measured:
        return tune_cross_encoder(source, offered, model, backbone, LoRAConfig(), attached, config, folder=folder)


def _split(
    options: argparse.Namespace, *, every_nth: int, shoppers: int, earlier: bool = False
) -> tuple[Dataset, Dataset]:
    cut = CUTS[options.dataset][1 if earlier or options.validation else 0]
    shop = load_dataset(options.dataset, options.data)
    past, rest = (every(shop, every_nth) if every_nth > 1 else shop).split(at=cut)
    future = rest.window(end=datetime.fromisoformat(cut) + timedelta(weeks=WEEKS))
    return past, some(future, shoppers, seed=options.seed)


def numbers_alone(prepared: Prepared, backbone: Backbone) -> AdapterRecommender:
    """What forest and network say before any decoder is trained: heads end in zeros, so that it adds nothing."""
    config = prepared.source.config
    extras = {name: value.numpy() for name, value in prepared.extras.items()}
    adapter = Adapter(
        backbone=backbone,
        config=HeadOnlyConfig(),
        changes=Changes(),
        extras=extras,
        candidates=config.candidates,
        history=config.history,
        silent=prepared.source.silent,
    )
    return adapter.recommender(name="numbers")


@dataclass(frozen=True)
class Cost:
    """Of the decoder's stage: seconds of an epoch, bytes of growth at most."""

    epoch: float
    growth: int


def _tuned(prepared: Prepared, backbone: Backbone, tuner: Tuner) -> tuple[Adapter, Cost]:
    epochs = prepared.source.config.epochs
    cost: list[Cost] = []
    with tempfile.TemporaryDirectory() as folder, _measured(epochs, cost):
        adapter = tune(prepared, backbone, tuner, folder=Path(folder))
    points = [point["step"] for point in adapter.learning_curve]
    print(
        f"{tuner.method}: {cost[0].epoch:.0f} s an epoch, {max(points, default=0):.0f} steps of {DECODER}", flush=True
    )
    return adapter, cost[0]


@contextmanager
def _measured(epochs: float, found: list[Cost]) -> Generator[None]:
    """Adds what the block costs to a list, as if it ran all epochs."""
    with growth() as grown:
        begun = time.perf_counter()
        yield
        found.append(Cost((time.perf_counter() - begun) / epochs, max(grown[0], 1)))


def _cost_rows(name: str, dataset: str, adapter: Adapter, cost: Cost) -> list[dict[str, object]]:
    size = sum(array.size for array in adapter.changes.arrays())
    before = ("features_", "feature_", "forest_", "event_mean", "event_scale", "popularity")  # fitted before, or chosen
    beside = sum(value.size for name, value in adapter.extras.items() if not name.startswith(before))
    whole = sum(value.numel() for value in adapter.backbone.bert.parameters())
    return [
        _row(name, dataset, "tuned_parameters", size, "values"),
        _row(name, dataset, "share_of_backbone", size / whole, "0..1"),
        _row(name, dataset, "trained_beside", beside, "values"),
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
