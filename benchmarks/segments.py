"""One adapter for each segment of the shoppers, beside one that all of them share.

All adapters read the same platform; they differ in whose rows they are trained on, and in what they start from. Five ways to
have one adapter per segment are tried. Four stand on the numbers that are fitted to all shoppers: the decoder's stage from
scratch; with a quarter of the rank; from the shared one with a tenth of the rate; and likewise, while the tuner is pulled
back to the shared one (L2-SP, Xuhong et al., 2018). The fifth fits trees and feature network to the segment as well. Each
shopper is asked of the adapter of its own segment; differences are paired. Run it alone on the machine::

    python benchmarks/segments.py --by age
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from results import write
from sampling import every
from torch import Tensor, nn
from tuners import CUTS, WEEKS

from peftrec import Backbone, LoRAConfig, TrainConfig, evaluate, load_dataset
from peftrec.data import Dataset
from peftrec.data.segments import user_labels
from peftrec.evaluation import Evaluation
from peftrec.evaluation.bootstrap import percentile_interval, resampled_sums
from peftrec.model import Adapter, Platform
from peftrec.model.purchase import PurchaseModel
from peftrec.model.scoring import AdapterRecommender
from peftrec.training.feature_path import events_of, fit_feature_path, labelled_of
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.rows import RowDataset
from peftrec.training.train import Prepared, prepare, tune
from peftrec.tuners.tuner import Attached

SHARED = "one for all segments"


@dataclass(frozen=True, kw_only=True)
class Pulled(LoRAConfig):
    """LoRA that is pulled back to where it started.

    Attributes:
        pull: Weight of the squared distance.
    """

    pull: float = 0.01

    def attach(self, decoder: nn.ModuleList, *, seed: int, steps: int) -> Attached:
        """See :meth:`peftrec.tuners.Tuner.attach`."""
        attached, start = super().attach(decoder, seed=seed, steps=steps), dict[str, Tensor]()

        def penalty() -> Tensor:
            tuned = {name: value for name, value in decoder.named_parameters() if value.requires_grad}
            if not start:  # asked in the first step, when what it starts from is in place
                start.update({name: value.detach().clone() for name, value in tuned.items()})
            return self.pull * sum(((value - start[name]) ** 2).sum() for name, value in tuned.items())

        return replace(attached, penalty=penalty)


@dataclass(frozen=True)
class Way:
    """One way to have an adapter per segment.

    Attributes:
        tuner: Of each.
        shared: Whether it starts from the shared one.
        rate: Factor of the learning rate.
        numbers: Whether trees and feature network are the segment's own.
    """

    tuner: LoRAConfig
    shared: bool = False
    rate: float = 1.0
    numbers: bool = False


WAYS = {
    "per segment": Way(LoRAConfig()),
    "per segment, rank 4": Way(LoRAConfig(rank=4)),
    "per segment, from the shared one": Way(LoRAConfig(), shared=True, rate=0.1),
    "per segment, pulled to the shared one": Way(Pulled(), shared=True, rate=0.1),
    "per segment, with numbers of its own": Way(LoRAConfig(), numbers=True),
}


class OfSegment:
    """Asks each shopper's own adapter."""

    probabilistic = True

    def __init__(
        self, name: str, adapters: Mapping[str, Adapter], labels: NDArray[np.str_], platform: Platform
    ) -> None:
        self.name, self.labels = name, labels
        self.of = {label: Sharing(adapter, platform) for label, adapter in adapters.items()}

    def score_catalog(self, past: Dataset, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """See :class:`peftrec.evaluation.Recommender`."""
        scores = np.empty((len(users), len(past.catalog)), np.float32)
        for label, rows in self._rows(users):
            scores[rows] = self.of[label].score_catalog(past, users[rows])
        return scores

    def score_pool(self, past: Dataset, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """See :class:`peftrec.evaluation.Recommender`."""
        scores = np.empty(items.shape, np.float32)
        for label, rows in self._rows(users):
            scores[rows] = self.of[label].score_pool(past, users[rows], items[rows])
        return scores

    def _rows(self, users: NDArray[np.int32]) -> list[tuple[str, NDArray[np.int64]]]:
        return [(label, np.flatnonzero(self.labels[users] == label)) for label in np.unique(self.labels[users])]


class Sharing(AdapterRecommender):
    """An adapter that reads a platform which others read as well."""

    def __init__(self, adapter: Adapter, platform: Platform) -> None:
        super().__init__(adapter)
        self._platform = platform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted(CUTS), default="completejourney")
    parser.add_argument("--data", type=Path, help="file of a data set that comes as one")
    parser.add_argument("--by", default="age", help="column of the profiles")
    parser.add_argument("--least", type=int, default=40, help="smaller segments keep the shared adapter")
    parser.add_argument("--every", type=int, default=1, help="every n-th shopper alone")
    parser.add_argument("--epochs", type=float, default=TrainConfig().epochs, help="of the decoder's stage")
    parser.add_argument("--validation", action="store_true", help="one window earlier; writes no result")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cut = CUTS[options.dataset][1 if options.validation else 0]
    shop, backbone = load_dataset(options.dataset, options.data), Backbone.load("minilm-l6")
    past, rest = (every(shop, options.every) if options.every > 1 else shop).split(at=cut)
    future = rest.window(end=datetime.fromisoformat(cut) + timedelta(weeks=WEEKS))
    labels = user_labels(past, options.by).to_numpy().astype(str)
    names, counts = np.unique(labels, return_counts=True)
    segments = [str(name) for name in names[counts >= options.least]]
    config = TrainConfig(seed=options.seed, epochs=options.epochs).on(past)
    platform = Platform.of(past, backbone)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(PlatformRows.for_adapter(platform, config), backbone, folder=Path(folder))
        shared = tune(prepared, backbone, LoRAConfig(), folder=Path(folder, "shared"))
    systems = [OfSegment(SHARED, dict.fromkeys(names.tolist(), shared), labels, platform)]
    for name, way in WAYS.items():
        own = {label: _tuned(prepared, shared, way, labels == label) for label in segments}
        systems.append(OfSegment(name, {**dict.fromkeys(names.tolist(), shared), **own}, labels, platform))
    result = evaluate(systems, future, baselines=None, parts=(options.by,), seed=options.seed)
    print(result)
    rows = [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    rows += mean_over_segments(result, [f"{options.by}={label}" for label in segments], options.dataset)
    if not options.validation:
        write(f"segments_{options.dataset}", rows, seed=options.seed)


def _tuned(prepared: Prepared, shared: Adapter, way: Way, mine: NDArray[np.bool_]) -> Adapter:
    """An adapter of some shoppers' rows."""
    source = prepared.source
    config = replace(source.config, learning_rate=way.rate * source.config.learning_rate)
    moment, parts = source.anchors[0].moment, prepared.train.parts

    def rows(keep: NDArray[np.bool_], of: list) -> RowDataset:
        return RowDataset(source.platform, of, config, keep=keep & mine, moment=moment)

    with tempfile.TemporaryDirectory() as folder:
        extras = prepared.extras
        if way.shared:
            extras = {name: torch.from_numpy(np.array(value)) for name, value in shared.extras.items()}
        elif way.numbers:
            extras = _fitted(prepared, shared.backbone, mine, Path(folder, "numbers"))
        own = Prepared(
            replace(source, config=config), extras, rows(~source.held_out, parts), rows(source.held_out, parts[:1])
        )
        start = shared.changes if way.shared else None
        return tune(own, shared.backbone, way.tuner, start=start, folder=Path(folder))


def _fitted(prepared: Prepared, backbone: Backbone, mine: NDArray[np.bool_], folder: Path) -> dict[str, Tensor]:
    """What is fitted to all, trees and feature network to some shoppers alone."""
    model, source, parts = PurchaseModel(backbone.decoder(), prepared.extras), prepared.source, prepared.train.parts
    labelled = labelled_of(parts, keep=mine)
    fit_feature_path(model, labelled, events_of(parts), source.config, source.rng, folder=folder, progress=True)
    return {name: value.detach().clone() for name, value in model.extras.items()}


def mean_over_segments(result: Evaluation, parts: Sequence[str], dataset: str) -> list[dict[str, object]]:
    """Each way's lead over the shared adapter, every segment counting once; shoppers are drawn anew within their segments."""
    rows: list[dict[str, object]] = []
    parts = [part for part in parts if part in result.users]
    for way in result.systems[1:]:
        leads = [result.vectors[way, part, "ndcg@10"] - result.vectors[SHARED, part, "ndcg@10"] for part in parts]
        drawn = [
            resampled_sums(lead[:, None], seed=result.seed + at)[:, 0] / len(lead) for at, lead in enumerate(leads)
        ]
        found = percentile_interval(float(np.mean([lead.mean() for lead in leads])), np.mean(drawn, axis=0))
        row = {"system": way, "dataset": dataset, "slice": "mean over segments", "metric": "ndcg@10"}
        bounds = {"value": found.value, "low": found.low, "high": found.high}
        rows.append(row | bounds | {"unit": "0..1", "against": SHARED})
        print(f"{way}: {found:+.4f} on average over {len(leads)} segments")
    return rows


if __name__ == "__main__":
    main()
