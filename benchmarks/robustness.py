"""What each regulariser and adversarial training do to an adapter, on clean and on perturbed texts.

Amazon's office products, each shopper's last event left out, as in ``augmentation.py``. Retrieval map and numbers are fitted
once; only how the decoder is trained on top of them differs, so that differences, which are paired over shoppers, are its own.
All are trained and asked as by a shop whose products are new: where statistics tell how products sell, the decoder corrects
next to nothing, and no training of it makes a difference (``LOG.md``). ``numbers dropped`` hides numbers of the history's words
alone, since those of candidates are fitted before. ``typos``, ``reordered`` and ``title only`` evaluate the same adapters where
every product's text is written with typing errors, in another order of words, or without its attributes. Run it alone on the
machine::

    python benchmarks/robustness.py --data amazon_office
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from perturbing import conditions
from results import write
from sampling import every, some

from peftrec import Backbone, LoRAConfig, TrainConfig, evaluate, load_dataset
from peftrec.model import Platform
from peftrec.training import Adversarial
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.train import prepare, tune

CONFIG = TrainConfig(anchors=2)
"""Days are made up from the order of events, one a day: the next event lies within one."""

PLAIN = "as by default"
TRAININGS: dict[str, Mapping[str, object]] = {
    PLAIN: {},
    "no weight decay": {"weight_decay": 0.0},
    "two epochs": {"epochs": 2.0},
    "two epochs, no early stop": {"epochs": 2.0, "patience": 1000},
    "no clipping": {"clip_norm": 0.0},
    "labels smoothed": {"label_smoothing": 0.1},
    "numbers dropped": {"feature_drop": 0.2},
    "fgm": {"adversarial": Adversarial(method="fgm")},
    "pgd": {"adversarial": Adversarial(method="pgd")},
    "fgm, radius 0.3": {"adversarial": Adversarial(method="fgm", radius=0.3)},
}
TUNERS = {"no dropout": LoRAConfig(dropout=0.0), "dropout 0.2": LoRAConfig(dropout=0.2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with items.parquet and interactions.parquet")
    parser.add_argument("--every", type=int, default=1, help="train on every n-th shopper")
    parser.add_argument("--asked", type=int, default=800, help="shoppers that are asked about, drawn evenly")
    parser.add_argument("--train", type=json.loads, default={}, help="other settings of TrainConfig for all, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shop, backbone = load_dataset("amazon", options.data), Backbone.load("minilm-l6")
    past, future = (every(shop, options.every) if options.every > 1 else shop).leave_last_out()
    future = some(future, options.asked, seed=options.seed)
    config = replace(CONFIG, seed=options.seed, **options.train).on(past)
    with tempfile.TemporaryDirectory() as folder:
        source = PlatformRows.of(Platform.of(past, backbone), config, silent=True)
        prepared = prepare(source, backbone, folder=Path(folder))
    adapters = {}
    for name, settings in {**TRAININGS, **{name: {} for name in TUNERS}}.items():
        source = replace(prepared.source, config=replace(config, **settings))
        with tempfile.TemporaryDirectory() as folder:
            tuner = TUNERS.get(name, LoRAConfig())
            adapters[name] = tune(replace(prepared, source=source), backbone, tuner, folder=Path(folder))
        print(name, [dict(point) for point in adapters[name].learning_curve if "eval_loss" in point], flush=True)
    rows: list[dict[str, object]] = []
    for condition, part in conditions(future, seed=options.seed).items():
        systems = [adapter.recommender(name=name) for name, adapter in adapters.items()]
        result = evaluate(systems, part, baselines=None, seed=options.seed)
        print(condition, result, sep="\n", flush=True)
        rows += [dict(row) | {"dataset": f"{shop.name}, {condition}"} for row in result.rows()]
    write("robustness_amazon_office", rows, seed=options.seed)


if __name__ == "__main__":
    main()
