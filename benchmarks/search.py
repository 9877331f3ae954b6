"""Settings of a tuner searched by Optuna, and whether what is found is better on shoppers' later purchases.

Trials train the decoder through ``transformers.Trainer`` on numbers that are fitted once, and are told apart by the loss on
shoppers held out from the past. The best one and the default are then asked about the window before the test window, both
as by a shop whose products are new, where texts must speak: elsewhere tuners hardly differ. It is also the example to
start from::

    python benchmarks/search.py --dataset online_retail --data uci_online_retail.parquet --trials 12
"""

import argparse
import tempfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from results import write
from sampling import every, some
from tuners import CUTS, WEEKS

from peftrec import Backbone, LoRAConfig, TrainConfig, evaluate, load_dataset
from peftrec.model import Platform
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.search import search
from peftrec.training.train import prepare, tune
from peftrec.tuners import BottleneckConfig, Tuner


def suggest(trial: Any) -> tuple[Tuner, dict[str, Any]]:
    """A tuner, and settings of its training; ``trial`` is Optuna's."""
    settings = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 4e-3, log=True),
        "listwise_weight": trial.suggest_float("listwise_weight", 0.0, 0.5),
    }
    if trial.suggest_categorical("method", ["lora", "bottleneck"]) == "lora":
        return LoRAConfig(rank=trial.suggest_categorical("rank", [4, 8, 16, 32])), settings
    return BottleneckConfig(width=trial.suggest_categorical("width", [16, 32, 64])), settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="online_retail")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--every", type=int, default=3, help="train on every n-th shopper")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--shoppers", type=int, default=300, help="asked in the end, drawn evenly")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cut, backbone = CUTS[options.dataset][1], Backbone.load("minilm-l6")
    past, rest = every(load_dataset(options.dataset, options.data), options.every).split(at=cut)
    future = some(rest.window(end=datetime.fromisoformat(cut) + timedelta(weeks=WEEKS)), options.shoppers, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(seed=options.seed).on(past)
        prepared = prepare(
            PlatformRows.of(Platform.of(past, backbone), config, silent=True), backbone, folder=Path(folder)
        )
        default = tune(prepared, backbone, LoRAConfig(), folder=Path(folder, "default"))
        found = search(prepared, backbone, suggest, trials=options.trials)
        for number, (settings, loss) in enumerate(found.trials):
            print(f"{number:3} {loss:.5f} {settings}")
        print(f"best: {found.tuner}, loss {found.loss:.5f}")
        chosen = replace(prepared, source=replace(prepared.source, config=found.config))
        best = tune(chosen, backbone, found.tuner, folder=Path(folder, "best"))
    systems = [best.recommender(name="searched"), default.recommender(name="default")]
    result = evaluate(systems, future, baselines=None, seed=options.seed)
    print(result)
    rows = [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    rows += [
        {
            "system": f"trial {number}",
            "dataset": options.dataset,
            "slice": "held out",
            "metric": "loss",
            "value": loss,
            "low": None,
            "high": None,
            "unit": "nats",
        }
        for number, (_, loss) in enumerate(found.trials)
    ]
    told = {f"trial {number}": str(settings) for number, (settings, _) in enumerate(found.trials)}
    write(f"search_{options.dataset}", rows, seed=options.seed, chosen=told | {"searched": str(found.tuner)})


if __name__ == "__main__":
    main()
