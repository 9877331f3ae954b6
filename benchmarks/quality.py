"""Recommendation quality on a real log: the adapter beside tuned baselines, on the same shoppers and products.

Trains on everything before the cut, predicts the five weeks after it, over the full catalogue. Nothing is chosen on the
test window: baselines and the adapter choose their settings on windows inside the past. Run it alone on the machine::

    python benchmarks/quality.py --dataset completejourney
"""

import argparse
import os
import resource
import tempfile
import time
from dataclasses import replace

import numpy as np
from results import write

from peftrec import Backbone, Engine, Registry, TrainConfig, evaluate, load_dataset, train_adapter
from peftrec.evaluation.baselines import LightGBMRanker, default_baselines
from peftrec.model.platform import Platform
from peftrec.training.table import CandidateTable

CUTS = {"completejourney": "2017-11-27T05:00"}
PRECISIONS = ("fp32", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="completejourney")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without-promotions", action="store_true", help="hide the shop's promotion plan from all systems"
    )
    parser.add_argument("--publish", metavar="FOLDER", help="also publish the trained adapter to this registry")
    options = parser.parse_args()
    shop, name = load_dataset(options.dataset), f"quality_{options.dataset}"
    if options.without_promotions:
        shop, name = replace(shop, promotions=None), f"{name}_without_promotions"
    past, future = shop.split(at=CUTS[options.dataset])
    backbone = Backbone.load("minilm-l6")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PEFTREC_CACHE"] = folder  # vectors kept from an earlier run would hide the time that encoding takes
        start = time.perf_counter()
        texts = len(Platform.of(past, backbone).vectors)
        encoding = time.perf_counter() - start
        _measure(options, name, past, future, backbone, encoding, texts)


def _measure(options, name, past, future, backbone, encoding, texts) -> None:
    start = time.perf_counter()
    adapter = train_adapter(past, backbone, config=TrainConfig(seed=options.seed))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows: list[dict[str, object]] = [
        _row(options.dataset, "peftrec", "texts", texts, "texts"),
        _row(options.dataset, "peftrec", "encode_seconds", encoding, "s"),
        _row(options.dataset, "peftrec", "train_seconds", seconds, "s"),
        _row(options.dataset, "peftrec", "peak_gib_up_to_training", peak, "GiB"),
    ]

    classic = [] if options.without_promotions else default_baselines(seed=options.seed)
    baselines = [*classic, *boosting(backbone, options.seed)]
    if options.without_promotions:
        result = evaluate(adapter, future, baselines=baselines, seed=options.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            Registry(folder).publish("trial", adapter)
            served = [Engine(backbone, folder, precision=precision).recommender("trial") for precision in PRECISIONS]
            result = evaluate([adapter, *served], future, baselines=baselines, seed=options.seed)
            for slice_ in ("all", "never_bought"):
                overlap = _overlap(served, past, future, new=slice_ != "all")
                rows.append(_row(options.dataset, "peftrec int8", "top10_overlap_with_fp32", overlap, "share", slice_))
    print(result)
    print({baseline.name: str(baseline.chosen) for baseline in baselines})
    rows += [dict(row) for row in result.rows()]
    write(name, rows, seed=options.seed)
    if options.publish:
        evaluated = adapter.with_facts(**result.facts("peftrec"))
        print(Registry(options.publish).publish("grocery", evaluated, alias="production").reference)


def boosting(backbone: Backbone, seed: int) -> list[LightGBMRanker]:
    """LightGBM on the model's own candidates and numbers, with both objectives; the table of rows is shared."""
    table = CandidateTable(backbone, TrainConfig(seed=seed))
    return [LightGBMRanker(table), LightGBMRanker(table, objective="binary", name="LightGBM binary")]


def _overlap(served, past, future, *, new: bool) -> float:
    """Mean share of the ten best products that two arithmetics have in common, over 256 shoppers; ``new``: never bought."""
    users = np.unique(future.log.user)[:256].astype(np.int32)
    known = users[np.isin(users, past.log.user)]
    mine = np.isin(past.log.user, known)
    row = np.searchsorted(known, past.log.user[mine])
    tops = []
    for system in served:
        scores = system.score_catalog(past, known)
        if new:
            scores[row, past.log.item[mine]] = -np.inf
        tops.append(np.argsort(-scores, axis=1, kind="stable")[:, :10])
    return float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(*tops, strict=True)]))


def _row(dataset: str, system: str, metric: str, value: float, unit: str, slice_: str = "all") -> dict[str, object]:
    return {
        "system": system,
        "dataset": dataset,
        "slice": slice_,
        "metric": metric,
        "value": value,
        "low": None,
        "high": None,
        "unit": unit,
    }


if __name__ == "__main__":
    main()
