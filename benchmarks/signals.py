"""What each signal of a log adds: adapters trained with all of them, and with one of them hidden at a time.

A hidden signal is gone from training and from the past that is read when predicting; the baselines of other benchmarks are
not repeated here. Differences are paired over shoppers. With ``--simulated``, views, clicks, favourites, carts, seconds
spent, paths and channels are simulated on the real purchases (``peftrec/data/simulate.py``), which shows that such signals
are read, not that real ones say as much; the name of the data set says so in every row. Run it alone on the machine::

    python benchmarks/signals.py --dataset completejourney
    python benchmarks/signals.py --dataset online_retail --data invoices.parquet --simulated
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import write
from sampling import every

from peftrec import Backbone, TrainConfig, evaluate, load_dataset, train_adapter
from peftrec.data import Dataset
from peftrec.data.signals import present, without
from peftrec.data.simulate import simulate_browsing
from peftrec.evaluation import Recommender

CUTS = {"completejourney": "2017-10-23T04:00", "online_retail": "2011-10-24"}
"""Completejourney's test window is left to quality.py."""

WEEKS = 5
SCENE = "scene"
"""The word about moment and channel; off by default, so what it adds is measured by switching it on."""


class Hidden:
    """A system that never sees one signal of the past it is asked about."""

    def __init__(self, system: Recommender, signal: str) -> None:
        self.system, self.signal, self.name = system, signal, f"without {signal}"
        self.probabilistic = system.probabilistic
        self._past: tuple[Dataset, Dataset] | None = None

    def _hide(self, past: Dataset) -> Dataset:
        if self._past is None or self._past[0] is not past:
            self._past = past, without(past, self.signal)
        return self._past[1]

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """See ``Recommender``."""
        return self.system.score_catalog(self._hide(past), users)

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """See ``Recommender``."""
        return self.system.score_pool(self._hide(past), users, items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="completejourney")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--simulated", action="store_true", help="simulate browsing on the purchases")
    parser.add_argument("--every", type=int, default=2, help="measure every n-th shopper")
    parser.add_argument("--anchors", type=int, default=3, help="moments of the past that training reads")
    parser.add_argument("--signals", nargs="*", help="signals to hide; all that the log holds if left out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shop = every(load_dataset(options.dataset, options.data), options.every)
    if options.simulated:
        shop = simulate_browsing(shop, seed=options.seed)
    past, rest = shop.split(at=CUTS[options.dataset])
    future = rest.window(end=datetime.fromisoformat(CUTS[options.dataset]) + timedelta(weeks=WEEKS))
    config = TrainConfig(seed=options.seed, anchors=options.anchors)
    systems = _systems(past, config, options.signals or (*present(shop), SCENE))
    result = evaluate(systems, future, baselines=None, seed=options.seed)
    print(result)
    name = f"signals_{options.dataset}{'_simulated' if options.simulated else ''}"
    write(name, [dict(row) for row in result.rows()], seed=options.seed)


def _systems(past: Dataset, config: TrainConfig, signals: Sequence[str]) -> list[Recommender]:
    backbone = Backbone.load("minilm-l6")
    systems: list[Recommender] = [train_adapter(past, backbone, config=config).recommender(name="all signals")]
    for signal in signals:
        if signal == SCENE:
            adapter = train_adapter(past, backbone, config=replace(config, scene=True))
            systems.append(adapter.recommender(name="with scene"))
        else:
            adapter = train_adapter(without(past, signal), backbone, config=config)
            systems.append(Hidden(adapter.recommender(), signal))
    return systems


if __name__ == "__main__":
    main()
