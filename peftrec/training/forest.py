# pyright: basic, reportArgumentType=false
# lightgbm's types are partial; the rest of the package is checked strictly.
"""Boosted trees on the numbers about shoppers and products: half of what the feature path says, beside the network."""

import os
from collections import deque
from typing import Any

import lightgbm
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from peftrec.model.forest import DEPTH, LEAVES, NODES, TREES, empty
from peftrec.model.losses import processes
from peftrec.training.rows import Labelled

SETTINGS = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": LEAVES,
    "max_depth": DEPTH,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbose": -1,
}


def fit_forest(labelled: Labelled, *, seed: int, progress: bool) -> dict[str, Tensor]:
    """Gradient boosting (Friedman, 2001) of the purchase loss, by LightGBM (Ke et al., 2017).

    Args:
        labelled: Candidates, and which of them were bought within the horizon.
        seed: Of the rows and columns that each tree sees.
        progress: Show a bar.

    Returns:
        The tables of :mod:`peftrec.model.forest`.
    """
    features, bought, weight = labelled
    table = lightgbm.Dataset(features, bought.astype(np.int8), weight=weight, free_raw_data=True)
    with tqdm(total=TREES, desc="training, forest", unit="tree", disable=not progress) as bar:

        def step(_: object) -> None:
            bar.update()

        booster = lightgbm.train(settings_of(labelled, seed=seed), table, TREES, callbacks=[step])
    return tables_of([tree["tree_structure"] for tree in booster.dump_model()["tree_info"]])


PURCHASES = 100
"""Variance of purchases, about as many as are expected, that a leaf holds at least on a large platform.

Where one candidate in five hundred is bought, a leaf of two hundred of them says nothing, and LightGBM believes it
(``benchmarks/LOG.md``).
"""


def settings_of(labelled: Labelled, *, seed: int) -> dict[str, Any]:
    """LightGBM's, for so many candidates: a small platform's leaves must be small to split at all."""
    leaf = int(np.clip(len(labelled.bought) / 1000, 20, 200))
    purchases = float(np.clip(labelled.bought.sum() / 50, 0.1, PURCHASES))
    threads = torch.get_num_threads() * (int(os.environ["LOCAL_WORLD_SIZE"]) if processes() > 1 else 1)  # others wait
    return {
        **SETTINGS,
        "min_data_in_leaf": leaf,
        "min_sum_hessian_in_leaf": purchases,
        "seed": seed,
        "num_threads": threads,
    }


def tables_of(trees: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Turns trees as LightGBM dumps them into tables; nodes are numbered level by level, siblings side by side."""
    tables = empty()
    for row, root in enumerate(trees):
        waiting, free = deque([(0, root)]), 1
        while waiting:
            node, content = waiting.popleft()
            if "split_feature" not in content:
                tables["forest_value"][row, node] = content["leaf_value"]
                continue
            if free + 2 > NODES or content["decision_type"] != "<=":
                raise ValueError(f"a tree with a decision '{content['decision_type']}' or more than {LEAVES} leaves")
            tables["forest_feature"][row, node] = content["split_feature"]
            tables["forest_threshold"][row, node] = content["threshold"]
            tables["forest_child"][row, node] = free
            waiting += [(free, content["left_child"]), (free + 1, content["right_child"])]
            free += 2
    return tables
