# pyright: reportMissingImports=false
# It runs where RecTools is, and that is not here.
"""What RecTools recommends, for ``peers.py``: runs in an environment of its own, since its pins clash with ours.

Reads ``past.parquet`` (user, item, time in seconds) and ``users.parquet`` from a folder, fits one model, and writes the
products it ranks highest for each of the users, with their scores, to ``lists.parquet``::

    pip install "rectools[torch]==0.19.0" "pyarrow<19"
    python rectools_lists.py FOLDER '{"model": "sasrec", "n_factors": 128, "epochs": 20}'
"""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd

warnings.filterwarnings("ignore")

K = 500
"""Products of a list; what lies behind them is not ranked."""


def main() -> None:
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    from rectools import Columns
    from rectools.dataset import Dataset

    past, users = pd.read_parquet(folder / "past.parquet"), pd.read_parquet(folder / "users.parquet")["user"]
    table = pd.DataFrame(
        {
            Columns.User: past["user"],
            Columns.Item: past["item"],
            Columns.Weight: 1,
            Columns.Datetime: pd.to_datetime(past["time"], unit="s"),
        }
    )
    known = users[users.isin(table[Columns.User])]
    dataset, model = Dataset.construct(table), _model(settings)
    model.fit(dataset)
    k = min(K, table[Columns.Item].nunique())
    # SASRec knows nobody who bought once: such shoppers have no list.
    found = model.recommend(
        users=known.to_numpy(), dataset=dataset, k=k, filter_viewed=False, on_unsupported_targets="ignore"
    )
    lists = found.rename(columns={Columns.User: "user", Columns.Item: "item", Columns.Score: "score"})
    lists[["user", "item", "score"]].to_parquet(folder / "lists.parquet")


def _model(settings: dict[str, object]) -> object:
    settings = dict(settings)
    kind = settings.pop("model")
    if kind == "sasrec":
        from pytorch_lightning import seed_everything
        from rectools.models import SASRecModel

        seed_everything(0)
        return SASRecModel(deterministic=True, recommend_torch_device="cpu", **settings)
    if kind == "ease":
        from rectools.models import EASEModel

        return EASEModel(**settings)
    if kind == "knn":
        from implicit.nearest_neighbours import BM25Recommender
        from rectools.models import ImplicitItemKNNWrapperModel

        return ImplicitItemKNNWrapperModel(BM25Recommender(**settings))
    sys.exit(f"there is no model {kind!r}: sasrec, ease or knn")


if __name__ == "__main__":
    main()
