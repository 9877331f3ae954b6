"""RecTools' models beside peftrec, on the same split and with the same metric code.

RecTools pins numpy below 2, so it runs in an environment of its own, which this one asks for lists of 500 products through
``rectools_lists.py``. Its models are tuned like our baselines, on the last window of the past. Run it alone on the machine::

    python -m venv rectools && rectools/bin/pip install "rectools[torch]==0.19.0" "pyarrow<19"
    python benchmarks/peers.py --rectools rectools/bin/python --dataset online_retail --data uci_online_retail.parquet
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from quality import QUESTIONS
from results import write
from sampling import some

from peftrec import Backbone, TrainConfig, evaluate, load_dataset, train_adapter
from peftrec.data import Dataset
from peftrec.data.histories import PURCHASE
from peftrec.evaluation.baselines import Baseline
from peftrec.evaluation.baselines.base import Scorer

SCRIPT = Path(__file__).with_name("rectools_lists.py")
SASREC = {"model": "sasrec", "session_max_len": 100, "n_blocks": 2, "n_heads": 2, "batch_size": 64, "epochs": 20}
TRIED_EPOCHS = 5
"""Of the trainings that a setting is chosen by."""

GRIDS: Mapping[str, Sequence[Mapping[str, object]]] = {
    "RecTools SASRec": [
        {**SASREC, "n_factors": factors, "dropout_rate": dropout}
        for factors, dropout in ((128, 0.2), (128, 0.4), (64, 0.2), (64, 0.5))
    ],
    "RecTools EASE": [{"model": "ease", "regularization": value} for value in (200.0, 50.0, 10.0)],
    "RecTools BM25 item-kNN": [{"model": "knn", "K": value} for value in (200, 50)],
}


@dataclass(frozen=True)
class OfRecTools:
    """One setting of one of its models.

    Attributes:
        python: Of the environment that has RecTools.
        settings: As JSON.
    """

    python: str = field(repr=False)
    settings: str

    def fit(self, past: Dataset) -> Scorer:
        """Asks for the lists of all shoppers; each call of what it returns reads them."""
        log = past.log
        bought = log.event == PURCHASE
        table = pl.DataFrame({"user": log.user[bought], "item": log.item[bought], "time": log.time[bought]})
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table.write_parquet(folder / "past.parquet")
            pl.DataFrame({"user": np.unique(log.user)}).write_parquet(folder / "users.parquet")
            # Nothing of ours is on its path.
            environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
            asked = [self.python, str(SCRIPT), name, self.settings]
            done = subprocess.run(asked, capture_output=True, text=True, check=False, env=environment, cwd=name)
            if done.returncode:
                raise SystemExit(f"{self.python} failed:\n{done.stderr[-3000:]}")
            lists = pl.read_parquet(folder / "lists.parquet")
        user, item, score = (lists[column].to_numpy() for column in ("user", "item", "score"))
        shape = (len(past.users), len(past.catalog))

        def scores(users: NDArray[np.int32]) -> NDArray[np.float32]:
            row = np.full(shape[0], -1)
            row[users] = np.arange(len(users))
            mine = row[user] >= 0
            found = np.full((len(users), shape[1]), -np.inf, np.float32)
            found[row[user[mine]], item[mine]] = score[mine]
            return found

        return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rectools", required=True, metavar="PYTHON", help="interpreter that has RecTools")
    parser.add_argument("--dataset", choices=sorted(QUESTIONS), default="online_retail")
    parser.add_argument("--data", type=Path, help="file or folder of a data set that comes as one")
    parser.add_argument("--asked", type=int, default=2500, help="shoppers that are asked about, as in quality.py")
    parser.add_argument("--models", nargs="*", choices=sorted(GRIDS), default=list(GRIDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tried = subprocess.run(
        [options.rectools, "-c", "import rectools, pyarrow"], capture_output=True, text=True, check=False
    )
    if tried.returncode:  # before anything is trained
        parser.error(f"{options.rectools} lacks what this needs:\n{tried.stderr.strip()}\nMake it as --help says.")
    question = QUESTIONS[options.dataset]
    shop = load_dataset(question.source, options.data)
    past, future = shop.leave_last_out() if question.cut is None else shop.split(at=question.cut)
    future = some(future, options.asked, seed=options.seed)
    adapter = train_adapter(past, Backbone.load("minilm-l6"), config=TrainConfig(seed=options.seed))
    peers = [_tuned(name, options.rectools) for name in options.models]
    result = evaluate(adapter, future, baselines=peers, seed=options.seed)
    print(result)
    rows = [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    chosen = {peer.name: str(peer.chosen) for peer in peers}
    print(chosen)
    write(f"peers_{options.dataset}", rows, seed=options.seed, chosen=chosen)


def _tuned(name: str, python: str) -> Baseline:
    """A model with the grid that its setting is chosen from, by short trainings where it has epochs."""
    whole, tried = (
        [
            OfRecTools(python, json.dumps({**settings, **(short if "epochs" in settings else {})}))
            for settings in GRIDS[name]
        ]
        for short in ({}, {"epochs": TRIED_EPOCHS})
    )
    return Baseline(name, whole, trials=tried)


if __name__ == "__main__":
    main()
