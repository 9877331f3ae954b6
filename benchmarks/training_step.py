"""What one step of an adapter's training costs, beside other ways to take it.

The others are all rows at once instead of part by part, peft's own LoRA layers, and words that travel in single precision. The
same rows and decoder in turns, on a real log: seconds of a step, bytes that wait for a backward pass at the same time, and how
far the process grows. Run it alone on the machine::

    python benchmarks/training_step.py --dataset online_retail --data uci_online_retail.parquet
"""

import argparse
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from results import write
from timing import alternately, growth
from torch import Tensor

from peftrec import Backbone, LoRAConfig, TrainConfig, load_dataset
from peftrec.model import Platform
from peftrec.model.decoder import Layer
from peftrec.model.purchase import PurchaseModel
from peftrec.model.shapes import first_layer
from peftrec.training import parts
from peftrec.training.platform_rows import PlatformRows, candidates_bar
from peftrec.training.stages import DecoderStage
from peftrec.training.train import attach, starting_extras
from peftrec.tuners.low_rank import TunedLinear

TURNS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("completejourney", "online_retail"), default="online_retail")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shop, backbone = load_dataset(options.dataset, options.data), Backbone.load("minilm-l6")
    config = TrainConfig(anchors=1, seed=options.seed).on(shop)
    source = PlatformRows.of(Platform.of(shop, backbone), config)
    model = PurchaseModel(backbone.decoder(), starting_extras(backbone, seed=options.seed))
    with candidates_bar(source.shoppers, show=True) as bar:
        train = source.rows(source.offered(model.extras, bar))
    attached = attach(
        LoRAConfig(), model.decoder, config, rows=len(train), start=None, first_layer=first_layer(backbone)
    )
    stage = DecoderStage(model, config, attached).train()
    chosen = np.random.default_rng(options.seed).permutation(len(train))[: config.batch_size]
    batch = train.collate([train[int(at)] for at in chosen])

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            loss = stage(**batch)["loss"]
        loss.backward()
        stage.zero_grad(set_to_none=True)

    systems: dict[str, Callable[[], None]] = {
        "peftrec": step,
        "all_rows_at_once": _with_all_rows(step),
        "peft_layers": _with_peft_layers(step),
        "words_in_single_precision": _with_single_words(step),
    }
    seconds = alternately(*systems.values(), times=TURNS)
    rows: list[dict[str, object]] = []
    for (name, action), taken in zip(systems.items(), seconds, strict=True):
        rows.append(_row(options.dataset, name, "step_seconds", taken, "s"))
        rows.append(_row(options.dataset, name, "waiting_mib", _waiting(stage, action), "MiB"))
        with growth() as grown:
            action()
        rows.append(_row(options.dataset, name, "grown_mib", grown[0] / 2**20, "MiB"))
        rows.append(_row(options.dataset, name, "times_peftrec", taken / seconds[0], "times"))
    for row in rows:
        print(f"{row['system']:24} {row['metric']:16} {row['value']:8.3f} {row['unit']}")
    write(f"training_step_{options.dataset}", rows, seed=options.seed)


def _with_all_rows(action: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with patch.object(parts, "SIZE", 10**6):
            action()

    return run


def _with_peft_layers(action: Callable[[], None]) -> Callable[[], None]:
    """With peft's own forward, but masks for rows, not words: those alone would take a third of a step."""

    def forward(layer: TunedLinear, x: Tensor) -> Tensor:
        return super(TunedLinear, layer).forward(x)

    def run() -> None:
        with patch.object(TunedLinear, "forward", forward):
            action()

    return run


def _with_single_words(action: Callable[[], None]) -> Callable[[], None]:
    """Converted for each matrix product, as autocast alone would have it."""

    def run() -> None:
        with patch.object(PurchaseModel, "layers", lambda model: [Layer.of(layer) for layer in model.decoder]):
            action()

    return run


def _waiting(stage: DecoderStage, action: Callable[[], None]) -> float:
    """MiB that are kept for a backward pass at most at the same time, parameters left out."""
    own = {value.untyped_storage().data_ptr() for value in stage.parameters()}
    holders, held = Counter[int](), [0, 0]  # now, and at most

    class Kept:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    def keep(x: Tensor) -> Kept:
        kept, (at, size) = Kept(x), (x.untyped_storage().data_ptr(), x.untyped_storage().nbytes())
        if at not in own:
            holders[at] += 1
            held[0] += size * (holders[at] == 1)
            held[1] = max(held)
            weakref.finalize(kept, let_go, at, size)
        return kept

    def let_go(at: int, size: int) -> None:
        holders[at] -= 1
        held[0] -= size * (holders[at] == 0)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.value):
        action()
    return held[1] / 2**20


def _row(dataset: str, system: str, metric: str, value: float, unit: str) -> dict[str, object]:
    told: dict[str, object] = {"system": system, "dataset": dataset, "slice": "all", "metric": metric}
    return told | {"value": float(value), "low": None, "high": None, "unit": unit}


if __name__ == "__main__":
    main()
