"""What each part of the model adds: the default beside models without the part, or with another setting of it.

On the window before the test window, which is for choosing; differences are paired over shoppers. Parts of the feature
path are left out when an adapter answers, everything else when it is trained. The adapted backbone is adapted here, to the
language and the shoppers of that past. Rows of variants that are not run are kept from the result on disk. Run it alone on
the machine::

    python benchmarks/ablations.py --dataset completejourney --every 4
    python benchmarks/ablations.py --dataset online_retail --data uci_online_retail.parquet
    python benchmarks/ablations.py --dataset amazon_office --data amazon_office --variants "rank 4" "rank 64"
"""

import argparse
import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from adaptation import seeded
from quality import QUESTIONS
from results import kept, write
from sampling import every, some
from tuners import CUTS, WEEKS, numbers_alone

from peftrec import Backbone, LoRAConfig, TrainConfig, adapt, evaluate, load_dataset
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.data import Dataset
from peftrec.data.augment import EventDrop, WordDrop
from peftrec.data.histories import PURCHASE
from peftrec.evaluation import Recommender
from peftrec.model import Adapter, Platform, forest
from peftrec.model.scoring import AdapterRecommender
from peftrec.training import Augmentation, Auxiliary
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.train import prepare, tune

DEFAULT = "as by default"
SOURCES = ("history", "popular", "neighbours", "together")


@dataclass(frozen=True)
class World:
    """What all variants share.

    Attributes:
        past: They are trained on it.
        backbone: As loaded.
        config: The default one.
    """

    past: Dataset
    backbone: Backbone
    config: TrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=sorted({*CUTS, "amazon_office"}), default="completejourney")
    parser.add_argument("--data", type=Path, help="file or folder of a data set that comes as one")
    parser.add_argument("--every", type=int, default=1, help="train on every n-th shopper")
    parser.add_argument("--asked", type=int, default=800, help="shoppers that are asked about, drawn evenly")
    parser.add_argument(
        "--variants", nargs="*", choices=sorted({*VARIANTS} - {DEFAULT}), help="these alone, and the default"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shop = load_dataset(QUESTIONS[options.dataset].source, options.data)
    shop = every(shop, options.every) if options.every > 1 else shop
    past, future = earlier(shop, options.dataset)
    future = some(future, options.asked, seed=options.seed)
    world = World(past, Backbone.load("minilm-l6"), TrainConfig(seed=options.seed).on(past))
    systems = list[Recommender]()
    for name, make in VARIANTS.items():
        if options.variants is not None and name not in (DEFAULT, *options.variants):
            continue
        print(name, flush=True)
        made = make(world, name)
        if not made:
            print(f"left out: {name}; the data does not hold what it takes")
        systems += made
    result = evaluate(systems, future, baselines=None, seed=options.seed)
    print(result)
    rows = [dict(row) | {"dataset": options.dataset} for row in result.rows()]
    name, measured = f"ablations_{options.dataset}", {row["system"] for row in rows}
    old = (
        kept(name, lambda row: row.get("against", row["system"]) not in measured)
        if options.variants is not None
        else []
    )
    write(name, [*rows, *old], seed=options.seed)


def earlier(shop: Dataset, dataset: str) -> tuple[Dataset, Dataset]:
    """The window that choices are made on: nobody's test event, and nothing of the test window, is in it."""
    if dataset not in CUTS:
        return shop.leave_last_out()[0].leave_last_out()
    cut = CUTS[dataset][1]
    past, rest = shop.split(at=cut)
    return past, rest.window(end=datetime.fromisoformat(cut) + timedelta(weeks=WEEKS))


def _adapter(
    world: World,
    *,
    backbone: Backbone | None = None,
    encoder: Backbone | None = None,
    tuner: LoRAConfig | None = None,
    past: Dataset | None = None,
    **settings: object,
) -> tuple[Adapter, Platform]:
    backbone, past = backbone or world.backbone, past or world.past
    platform, config = Platform.of(past, encoder or backbone), replace(world.config, **settings)  # pyright: ignore
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(PlatformRows.for_adapter(platform, config), backbone, folder=Path(folder))
        return tune(prepared, backbone, tuner or LoRAConfig(), folder=Path(folder, "tuned")), platform


class ReadThrough(AdapterRecommender):
    """An adapter whose products are read by another encoder, or whose past is told otherwise."""

    def __init__(self, adapter: Adapter, name: str, told: Callable[[Dataset], Platform]) -> None:
        super().__init__(adapter, name=name)
        self._told = told

    def platform(self, past: Dataset) -> Platform:
        """The past as it is told here."""
        if self._platform is None:
            self._platform = self._told(past)
        return self._platform


def _default(world: World, name: str) -> list[Recommender]:
    """The default, and what is left of its answers without parts of the feature path or the decoder."""
    with tempfile.TemporaryDirectory() as folder:
        source = PlatformRows.for_adapter(Platform.of(world.past, world.backbone), world.config)
        prepared = prepare(source, world.backbone, folder=Path(folder))
        adapter = tune(prepared, world.backbone, LoRAConfig(), folder=Path(folder, "tuned"))
    numbers = numbers_alone(prepared, world.backbone)
    numbers.name = "without the decoder"
    # The mean of network and forest: with nothing of the one, twice the other is its own answer.
    no_forest = {name: value.numpy() for name, value in forest.empty().items()}
    network = {key: 2 * adapter.extras[key] for key in ("features_logit", "features_logit_bias")}
    trees = {key: np.zeros_like(adapter.extras[key]) for key in network}
    trees["forest_value"] = 2 * adapter.extras["forest_value"]
    return [
        adapter.recommender(name=name),
        numbers,
        replace(adapter, extras={**adapter.extras, **no_forest, **network}).recommender(name="without the forest"),
        replace(adapter, extras={**adapter.extras, **trees}).recommender(name="without the feature network"),
    ]


def _with(**settings: object) -> Callable[[World, str], list[Recommender]]:
    return lambda world, name: [_adapter(world, **settings)[0].recommender(name=name)]  # pyright: ignore


def _without_source(source: str) -> Callable[[World, str], list[Recommender]]:
    def make(world: World, name: str) -> list[Recommender]:
        candidates = replace(world.config.candidates, **{source: 0})
        return [_adapter(world, candidates=candidates)[0].recommender(name=name)]

    return make


def _with_one_nearest(world: World, name: str) -> list[Recommender]:
    """The source cannot be left out: it stands in for others where they name too few."""
    candidates = replace(world.config.candidates, nearest=1)
    return [_adapter(world, candidates=candidates)[0].recommender(name=name)]


def _depth(world: World, name: str, *, layers: int) -> list[Recommender]:
    return [_adapter(world, backbone=replace(world.backbone, decoder_layers=layers))[0].recommender(name=name)]


def _vectors_of_layer(world: World, name: str, *, layer: int) -> list[Recommender]:
    """Item vectors from a lower layer; the decoder stays what it is."""
    bert = copy.deepcopy(world.backbone.bert)
    bert.encoder.layer = bert.encoder.layer[:layer]
    bert.config.num_hidden_layers = layer
    lower = replace(world.backbone, bert=bert, encoder_fingerprint=weights_fingerprint(bert), name=name)
    adapter, _ = _adapter(world, encoder=lower)
    return [ReadThrough(adapter, name, lambda past: Platform.of(past, lower))]


def _without_profiles(world: World, name: str) -> list[Recommender]:
    if world.past.profiles is None:
        return []
    adapter, platform = _adapter(world, past=replace(world.past, profiles=None))
    return [ReadThrough(adapter, name, lambda _: platform)]


def _quantities(world: World, name: str) -> list[Recommender]:
    bought = world.past.log.quantity[world.past.log.event == PURCHASE]
    if not (bought != 1).any():
        return []
    return [_adapter(world, auxiliary=(Auxiliary(task="quantity"),))[0].recommender(name=name)]


def _adapted(world: World, name: str) -> list[Recommender]:
    adapted = adapt(world.backbone, [world.past], seeded(world.config.seed, {}, {}))
    return [_adapter(world, backbone=adapted)[0].recommender(name=name)]


VARIANTS: Mapping[str, Callable[[World, str], list[Recommender]]] = {
    DEFAULT: _default,
    "decoder of 1 layer": lambda world, name: _depth(world, name, layers=1),
    "decoder of 6 layers": lambda world, name: _depth(world, name, layers=6),
    "item vectors of layer 3": lambda world, name: _vectors_of_layer(world, name, layer=3),
    **{f"without the source {source}": _without_source(source) for source in SOURCES},
    "one nearest product": _with_one_nearest,
    "without products never sold": _with(newcomers=0),
    "without profiles": _without_profiles,
    "with the scene": _with(scene=True),
    "texts augmented": _with(augmentation=Augmentation(text=WordDrop())),
    "histories augmented": _with(augmentation=Augmentation(history=EventDrop())),
    "quantities foretold as well": _quantities,
    "adapted backbone": _adapted,
    "rank 4": _with(tuner=LoRAConfig(rank=4)),
    "rank 64": _with(tuner=LoRAConfig(rank=64)),
}


if __name__ == "__main__":
    main()
