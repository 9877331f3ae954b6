"""What stands between an adapter and better lists: its candidates, its ranking, what it learned from, or what it knows.

Each is asked by itself on the test window, over the full catalogue; differences are paired. Nothing is chosen by what comes out:
whoever wants to choose asks about the window before it (``--earlier``).

- *bought candidates first*: the same candidates, ordered by who knows what is bought. What is missing to 1 no ranking can find.
- *told how well each product will sell*: odds times how many of the others who are offered a product buy it in the window, over
  how many the adapter expects. One use of such knowledge, no bound. Others are nine tenths of the shoppers, without the
  one who is asked: one's own purchase left out of a count by itself would make it lower for what one buys.
- *numbers from a half of the shoppers*, and so on: what is learned without a decoder from fewer rows, drawn several times, beside
  the same from all of them. If more rows taught more, it would show.

Run it alone on the machine::

    python benchmarks/ceilings.py --dataset completejourney
    python benchmarks/ceilings.py --dataset online_retail --data uci_online_retail.parquet
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from ablations import earlier
from numpy.typing import NDArray
from quality import QUESTIONS
from results import write
from sampling import some
from scipy.special import expit, logit
from tuners import CUTS, WEEKS, numbers_alone

from peftrec import Backbone, LoRAConfig, TrainConfig, evaluate, load_dataset
from peftrec.data import Dataset
from peftrec.evaluation import Recommender
from peftrec.evaluation.protocol import Task
from peftrec.evaluation.run import chunks
from peftrec.model import Platform
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.rows import Rows
from peftrec.training.train import Prepared, prepare, tune

SHARES = {"an eighth": 1 / 8, "a half": 1 / 2}
PARTS = ("repeat", "head", "tail", "light_shoppers", "heavy_shoppers")
DRAWS = 2
TENTHS = 10
NUMBERS = "numbers from all shoppers"

Change = Callable[[int, NDArray[np.int32], NDArray[np.floating]], NDArray[np.floating]]
"""From a shopper, products and their logits to other logits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="completejourney")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--asked", type=int, default=2500, help="shoppers that are asked about, drawn evenly")
    parser.add_argument("--earlier", action="store_true", help="one window earlier; writes no result")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    past, future = _split(load_dataset(QUESTIONS[options.dataset].source, options.data), options)
    future, backbone = some(future, options.asked, seed=options.seed), Backbone.load("minilm-l6")
    source = PlatformRows.for_adapter(Platform.of(past, backbone), TrainConfig(seed=options.seed).on(past))
    prepared = _prepared(source, backbone)
    with tempfile.TemporaryDirectory() as folder:
        adapter = tune(prepared, backbone, LoRAConfig(), folder=Path(folder))
    task = Task.from_split(future)
    own, bought = Remembered(adapter.recommender()), purchases(task)
    numbers = numbers_alone(prepared, backbone)
    numbers.name = NUMBERS
    fewer = [_from_fewer(source, backbone, name, draw) for name in SHARES for draw in range(1, DRAWS + 1)]
    systems: list[Recommender] = [
        own,
        Told(own, "bought candidates first", lambda user, items, logits: logits + 1e3 * np.isin(items, bought[user])),
        Told(own, "told how well each product will sell", demand(own, task, bought)),
        numbers,
        *fewer,
    ]
    result = evaluate(systems, future, baselines=None, parts=PARTS, seed=options.seed)
    print(result)
    rows = [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    for part in result.slices:
        for name in (one.name for one in fewer):
            found = result.compare(name, NUMBERS, "ndcg@10", part)
            row = {"system": name, "against": NUMBERS, "dataset": options.dataset, "slice": part, "metric": "ndcg@10"}
            rows.append(row | {"value": found.value, "low": found.low, "high": found.high, "unit": "0..1"})
    if not options.earlier:
        write(f"ceilings_{options.dataset}", rows, seed=options.seed)


def _split(shop: Dataset, options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    if options.earlier:
        return earlier(shop, options.dataset)
    past, rest = shop.split(at=CUTS[options.dataset][0])
    return past, rest.window(end=datetime.fromisoformat(CUTS[options.dataset][0]) + timedelta(weeks=WEEKS))


class Remembered:
    """A system whose answers are kept, so that others can answer on top of them."""

    def __init__(self, system: Recommender) -> None:
        self.system, self.name, self.probabilistic = system, system.name, system.probabilistic
        self._lists: dict[int, tuple[NDArray[np.int32], NDArray[np.floating]]] = {}
        self._pools: dict[bytes, NDArray[np.float32]] = {}

    def candidates(
        self, past: Dataset, users: NDArray[np.int32]
    ) -> list[tuple[NDArray[np.int32], NDArray[np.floating]]]:
        """Products and their logits, of each shopper."""
        if any(int(user) not in self._lists for user in users):
            for user, scores in zip(users.tolist(), self.system.score_catalog(past, users), strict=True):
                items = np.flatnonzero(np.isfinite(scores))
                self._lists[user] = items.astype(np.int32), scores[items]
        return [self._lists[user] for user in users.tolist()]

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """See ``Recommender``."""
        return _dense(self.candidates(past, users), len(past.catalog))

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """See ``Recommender``; the same products are asked of every system."""
        key = users.tobytes()
        if key not in self._pools:
            self._pools[key] = self.system.score_pool(past, users, items)
        return self._pools[key]


class Told:
    """The answers of another system, changed by what only an oracle knows."""

    probabilistic = False

    def __init__(self, system: Remembered, name: str, change: Change) -> None:
        self.system, self.name, self.change = system, name, change

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """See ``Recommender``."""
        told = zip(users.tolist(), self.system.candidates(past, users), strict=True)
        changed = [(items, self.change(user, items, logits)) for user, (items, logits) in told]
        return _dense(changed, len(past.catalog))

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """See ``Recommender``."""
        logits = logit(np.clip(self.system.score_pool(past, users, items), 1e-7, 1 - 1e-7))
        told = zip(users.tolist(), items, logits, strict=True)
        return np.stack([self.change(*one) for one in told]).astype(np.float32)


def _dense(lists: list[tuple[NDArray[np.int32], NDArray[np.floating]]], n_items: int) -> NDArray[np.float32]:
    scores = np.full((len(lists), n_items), -np.inf, np.float32)
    for row, (items, logits) in enumerate(lists):
        scores[row, items] = logits
    return scores


def purchases(task: Task) -> dict[int, NDArray[np.int32]]:
    """What each shopper buys in the window."""
    everything = task.slices[0]
    return {int(task.users[row]): everything.relevant[at] for at, row in enumerate(everything.rows)}


def demand(system: Remembered, task: Task, bought: Mapping[int, NDArray[np.int32]]) -> Change:
    """Logits by how many of the others who have a product among their candidates buy it, over how many are expected to."""
    n_items = len(task.past.catalog)
    sold, expected = np.zeros((TENTHS, n_items)), np.zeros((TENTHS, n_items))
    for rows in chunks(len(task.users), n_items):
        lists = system.candidates(task.past, task.users[rows])
        for user, (items, logits) in zip(task.users[rows].tolist(), lists, strict=True):
            expected[user % TENTHS, items] += expit(logits)
            sold[user % TENTHS, items] += np.isin(items, bought[user])
    ratio = np.log((sold.sum(axis=0) - sold + 1) / (expected.sum(axis=0) - expected + 1))

    def change(user: int, items: NDArray[np.int32], logits: NDArray[np.floating]) -> NDArray[np.floating]:
        return logits + ratio[user % TENTHS, items]

    return change


def _prepared(source: PlatformRows, backbone: Backbone) -> Prepared:
    with tempfile.TemporaryDirectory() as folder:
        return prepare(source, backbone, folder=Path(folder))


def _from_fewer(source: PlatformRows, backbone: Backbone, name: str, draw: int) -> Recommender:
    """Numbers that learned from some of the shoppers; what the platform's statistics count stays."""
    # Not the seed alone: its first draw says who is held out, and all of those would be kept.
    random = np.random.default_rng([source.config.seed, draw])
    kept = random.random(len(source.platform.dataset.users)) < SHARES[name]
    anchors = [one.take(np.flatnonzero(kept[one.users])) for one in source.anchors]
    parts = [
        Rows.begin(one, snapshot, source.config, random)
        for one, snapshot in zip(anchors, source.snapshots, strict=True)
    ]
    fewer = _prepared(replace(source, anchors=anchors, parts=parts), backbone)
    found = numbers_alone(fewer, backbone)
    found.name = f"numbers from {name} of the shoppers, draw {draw}"
    return found


if __name__ == "__main__":
    main()
