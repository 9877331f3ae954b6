"""What adapting the backbone once is worth: to language, to adapters, and to shops without an adapter.

Three platforms: The Complete Journey (groceries), Online Retail (gifts), Amazon's office products. Five parts, each of
which can be run alone; rows of parts that are not run are kept from the result on disk.

``language``   Masked-word loss on product texts held out: the adapted BERT against a fresh head trained alone on the
               original, as long and on the same texts. Whether vectors still tell what is bought together, before and after,
               on visits after the cut. Time and memory of an epoch, and the plain recipe's (all texts padded to 512, fp32, logits
               at all words) over ours.
``adapters``   On each platform an adapter on the adapted backbone (all three pooled) and one on the original, same settings:
               equal budgets of tuning, but the adapted backbone has read the pasts before.
``new_products``  The same where nothing is known of how products sell, so that texts must speak: trained and asked so.
``zero_shot``  The backbone is adapted to the other two platforms alone. Without an adapter and without a single event of the
               platform it recommends to shoppers whose own past comes with the request (an engine reads no statistics of a
               platform that its backbone has never seen, so that a log without training changes nothing); then adapters
               trained on a few events (shoppers drawn at random, of each some visits drawn at random, about ten events), on
               this backbone and on the original.
               ``popular`` and ``TF-IDF`` know the whole log.
``speed``      Seconds of a language epoch, steps and words per second, and the plain recipe beside it. Peak memory is that of
               the whole process with its data, so run this part alone.

Everything is learned from before the cut and measured after it; ``--validation`` moves the cuts one window back, which is
where settings were chosen. Run it alone on the machine::

    python benchmarks/adaptation.py --online-retail invoices.parquet --amazon-office amazon_office
"""

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from results import kept, write
from sampling import every, some
from transformers import BertForPreTraining

from peftrec import (
    AdaptConfig,
    Backbone,
    LanguageConfig,
    LoRAConfig,
    ShoppingConfig,
    TrainConfig,
    adapt,
    evaluate,
    load_dataset,
)
from peftrec import train_adapter as train
from peftrec.adaptation import Baskets, copurchase_auc, fit_head, masked_loss
from peftrec.adaptation.language import LanguageResult, adapt_language, held_out
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.data import Dataset, Events
from peftrec.data.snapshot import Snapshot
from peftrec.errors import NotEnoughDataError
from peftrec.evaluation import Recommender
from peftrec.evaluation.baselines import Baseline, Popular, TfidfText
from peftrec.model import Adapter
from peftrec.model.platform import Platform
from peftrec.model.scoring import AdapterRecommender
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.train import prepare, tune

CUTS = {"completejourney": ("2017-11-27T05:00", "2017-10-23T04:00"), "online_retail": ("2011-11-04", "2011-09-30")}
"""Begin of the test window, and of the window before it, which is for choosing."""

WEEKS = 5
FEW = (100, 1_000, 10_000)
EVENTS_PER_SHOPPER = 10
ASKED = 800
"""Shoppers that zero- and few-shot systems are asked about on a platform, drawn evenly; adapters are about twice as many."""

PARTS = ("language", "adapters", "new_products", "zero_shot", "speed")
HEAD_RATE = 3e-3
"""Peak rate of the fresh head: on validation better than 1e-3."""

TUNE = TrainConfig(anchors=3)
"""Settings of every adapter here: the defaults, but for fewer moments of the past."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--online-retail", type=Path, required=True, help="UCI's invoices")
    parser.add_argument("--amazon-office", type=Path, required=True, help="folder with items and interactions")
    parser.add_argument("--every", type=int, default=1, help="read every n-th household of The Complete Journey")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--platforms", nargs="*", help="measure these alone; all are pooled")
    parser.add_argument("--keep", type=Path, help="folder for adapted backbones, which a later run finds there")
    parser.add_argument("--validation", action="store_true", help="one window earlier; writes no result")
    parser.add_argument("--language", type=json.loads, default={}, help="other settings of LanguageConfig, as JSON")
    parser.add_argument("--shopping", type=json.loads, default={}, help="other settings of ShoppingConfig, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    splits = _splits(options)
    asked = options.platforms or list(splits)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(
            splits,
            seeded(options.seed, options.language, options.shopping),
            options.keep or Path(temporary),
            options.seed,
        )
        for part in options.parts:
            found = {
                "language": run.language,
                "adapters": run.adapters,
                "new_products": run.new_products,
                "zero_shot": run.zero_shot,
                "speed": run.speed,
            }[part](asked)
            rows += [row | {"part": part} for row in found]
    if not options.validation:
        old = kept("adaptation", lambda row: row["part"] not in options.parts or row["dataset"] not in {*asked, "all"})
        write("adaptation", [*old, *rows], seed=options.seed)


def seeded(seed: int, language: Mapping[str, Any], shopping: Mapping[str, Any]) -> AdaptConfig:
    """The default settings, but for the seed of both stages and what is given."""
    training = replace(ShoppingConfig().training, seed=seed)
    return AdaptConfig(LanguageConfig(seed=seed, **language), ShoppingConfig(training=training, **shopping))


Split = tuple[Dataset, Dataset]


def _splits(options: argparse.Namespace) -> dict[str, Split]:
    window = 1 if options.validation else 0
    grocery = load_dataset("completejourney")
    if options.every > 1:
        grocery = every(grocery, options.every)
    shops = {"completejourney": grocery}
    if options.parts == ["speed"]:  # others would count among the memory that is measured
        return {"completejourney": grocery.split(at=CUTS["completejourney"][window])}
    shops["online_retail"] = load_dataset("online_retail", options.online_retail)
    splits: dict[str, Split] = {}
    for name, shop in shops.items():
        past, rest = shop.split(at=CUTS[name][window])
        splits[name] = past, rest.window(end=datetime.fromisoformat(CUTS[name][window]) + timedelta(weeks=WEEKS))
    office = replace(load_dataset("amazon", options.amazon_office), name="amazon_office")
    splits["amazon_office"] = (office.leave_last_out()[0] if options.validation else office).leave_last_out()
    return splits


class Run:
    """The parts, over adapted backbones that are made once."""

    def __init__(self, splits: dict[str, Split], config: AdaptConfig, folder: Path, seed: int) -> None:
        self.splits, self.config, self.folder, self.seed = splits, config, folder, seed
        self.original = replace(Backbone.load("minilm-l6"), name="original")

    def encoder(self, *, without: str | None = None) -> tuple[Backbone, LanguageResult]:
        """Language alone: adapted to all platforms, or to all but one."""
        config, pasts = self.config.language or LanguageConfig(), self._pasts(without)
        told = repr((config, [(past.name, past.digest) for past in pasts]))
        folder = self.folder / f"language-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        result = adapt_language(self.original, pasts, config, folder=folder, resume=True)
        fingerprint = weights_fingerprint(result.bert)
        return replace(self.original, bert=result.bert, encoder_fingerprint=fingerprint, name="language"), result

    def adapted(self, *, without: str | None = None) -> Backbone:
        """Language and shopping."""
        name = "all" if without is None else f"without_{without}"
        config = replace(self.config, language=None)
        return adapt(
            self.encoder(without=without)[0],
            self._pasts(without),
            config,
            folder=self.folder / name,
            resume=True,
        )

    def _pasts(self, without: str | None) -> list[Dataset]:
        return [past for name, (past, _) in self.splits.items() if name != without]

    def language(self, asked: Sequence[str]) -> list[dict[str, object]]:
        """Masked-word loss and similarity, before and after."""
        config, pasts = self.config.language or LanguageConfig(), self._pasts(None)
        with tempfile.TemporaryDirectory() as work:
            head = fit_head(self.original, pasts, replace(config, learning_rate=HEAD_RATE), folder=work)
        adapted, result = self.encoder()
        left_out, rows = held_out(config.validation_share), []
        out = {
            name: [text for text in _distinct(self.splits[name][0], self.original) if left_out(text)] for name in asked
        }
        for name, texts in {**out, "all": sorted({text for one in out.values() for text in one})}.items():
            before = masked_loss(self.original, texts, head=head, config=config)
            after = masked_loss(self.original, texts, head=result.head, bert=result.bert, config=config)
            rows += [
                _row("fresh_head_alone", name, "mlm_loss", before, "nats"),
                _row("adapted_backbone", name, "mlm_loss", after, "nats"),
                _row("adapted_backbone", name, "mlm_loss_ratio", after / before, "", against="fresh_head_alone"),
            ]
        for name in asked:
            for system, backbone in (("original_backbone", self.original), ("adapted_backbone", adapted)):
                for only in (None, left_out):
                    rows += _similarity(name, self.splits[name][1], backbone, system, self.seed, only=only)
        _show(rows)
        return rows

    def adapters(self, asked: Sequence[str]) -> list[dict[str, object]]:
        """Adapters on both backbones."""
        return self._both(asked, lambda past, backbone, config: train(past, backbone, config=config))

    def new_products(self, asked: Sequence[str]) -> list[dict[str, object]]:
        """Adapters on both backbones that read no statistics of products."""
        return self._both(asked, _silent)

    def _both(
        self, asked: Sequence[str], trained: Callable[[Dataset, Backbone, TrainConfig], Adapter]
    ) -> list[dict[str, object]]:
        adapted, rows = self.adapted(), []
        for name in asked:
            past, whole = self.splits[name]
            future, config = some(whole, 2 * ASKED, seed=self.seed), replace(TUNE, seed=self.seed)
            systems = [
                trained(past, adapted, config).recommender(name="adapted_backbone"),
                trained(past, self.original, config).recommender(name="original_backbone"),
            ]
            result = evaluate(systems, future, baselines=None, seed=self.seed)
            print(result, flush=True)
            rows += [dict(row) | {"dataset": name} for row in result.rows()]
        return rows

    def zero_shot(self, asked: Sequence[str]) -> list[dict[str, object]]:
        """A platform that the backbone has never seen, from its catalogue alone to ten thousand events."""
        rows: list[dict[str, object]] = []
        for name in asked:
            past, whole = self.splits[name]
            backbone, future = self.adapted(without=name), some(whole, ASKED, seed=self.seed)
            alone = Adapter.of_backbone(backbone)
            systems: list[Recommender] = [Young(alone, few_events(past, 0, seed=self.seed), name="zero_shot")]
            for count in FEW:
                young = few_events(past, count, seed=self.seed)
                for of, told in ((backbone, f"few_shot_{count}"), (self.original, f"original, {count} events")):
                    adapter = self._few(young, of)
                    if adapter is not None:
                        systems.append(Young(adapter, young, name=told))
            baselines = [
                Baseline("popular", [Popular()]),
                Baseline("TF-IDF of text", [TfidfText(popularity=weight) for weight in (0.05, 0.2, 0.5)]),
                Baseline("TF-IDF of text alone", [TfidfText(popularity=0.0)]),
            ]
            result = evaluate(systems, future, baselines=baselines, seed=self.seed)
            print(result, flush=True)
            rows += [dict(row) | {"dataset": name} for row in result.rows()]
            for count in FEW:
                pair = f"few_shot_{count}", f"original, {count} events"
                if {*pair} <= {*result.systems}:
                    rows += _paired(result, name, *pair)
        return rows

    def _few(self, young: Dataset, backbone: Backbone) -> Adapter | None:
        try:
            return train(young, backbone, config=replace(TUNE, seed=self.seed), progress=False)
        except NotEnoughDataError as error:
            print(f"{young.name}, {len(young.events)} events: {error.found}", flush=True)
            return None

    def speed(self, asked: Sequence[str]) -> list[dict[str, object]]:
        """An epoch on twenty thousand product texts, and what the plain recipe would take for it."""
        past, _ = self.splits["completejourney"]
        config = replace(self.config.language or LanguageConfig(), epochs=1.0, checkpoint_steps=10_000)
        texts = _distinct(past, self.original)
        with tempfile.TemporaryDirectory() as work:
            begun = time.perf_counter()
            result = adapt_language(self.original, [past], config, folder=work)
            took = time.perf_counter() - begun
        seconds = took * 20_000 / len(texts)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        plain = _plain_recipe(self.original, texts, self.seed)
        words = sum(len(ids) for ids in self.original.tokenizer(texts, truncation=True, max_length=64)["input_ids"])
        rows = [
            _row("language", "completejourney", "seconds_per_epoch", seconds, "s per 20,000 texts"),
            _row("language", "completejourney", "steps_per_second", result.steps / took, "1/s"),
            _row("language", "completejourney", "tokens_per_second", words * 20_000 / len(texts) / seconds, "1/s"),
            _row("language", "completejourney", "peak_gib", peak, "GiB"),
            _row("plain_recipe", "completejourney", "seconds_per_epoch", plain, "s per 20,000 texts"),
            _row(
                "language", "completejourney", "speedup_over_plain_recipe", plain / seconds, "", against="plain_recipe"
            ),
        ]
        _show(rows)
        return rows


def _silent(past: Dataset, backbone: Backbone, config: TrainConfig) -> Adapter:
    """An adapter that is trained as by a shop whose products are new."""
    source = PlatformRows.of(Platform.of(past, backbone), config.on(past), silent=True)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(source, backbone, folder=Path(folder))
        return tune(prepared, backbone, LoRAConfig(), folder=Path(folder))


class Known(Platform):
    """A platform whose statistics come from the few events that a young shop has logged; shoppers bring their own past."""

    few: Dataset

    @classmethod
    def on(cls, platform: Platform, few: Dataset) -> "Known":
        """The same products and shoppers."""
        known = cls(**{one.name: getattr(platform, one.name) for one in fields(Platform) if one.init})
        object.__setattr__(known, "few", few)
        return known

    def snapshot(self, moment: float) -> Snapshot:
        """Of the few events."""
        if moment not in self._snapshots:
            self._snapshots[moment] = Snapshot.at(self.few, moment)
        return self._snapshots[moment]


class Young(AdapterRecommender):
    """An adapter as a young shop would use it."""

    def __init__(self, adapter: Adapter, few: Dataset, *, name: str) -> None:
        super().__init__(adapter, name=name)
        self.few = few

    def platform(self, past: Dataset) -> Platform:
        """See :class:`Known`."""
        if self._platform is None or self._platform.dataset is not past:
            self._platform = Known.on(Platform.of(past, self.adapter.backbone), self.few)
        return self._platform


def few_events(past: Dataset, count: int, *, seed: int) -> Dataset:
    """About ``count`` events: shoppers drawn at random, of each some visits drawn at random, about ten events."""
    log, rng = past.log, np.random.default_rng(seed)
    table = pl.DataFrame({"row": np.arange(len(log)), "user": log.user, "visit": log.session})
    visits = table.unique(["user", "visit"]).sort("user", "visit")
    order = visits.with_columns(pl.Series("luck", rng.random(len(visits))))
    lines = table.join(order, on=["user", "visit"]).sort("user", "luck", "row")
    lines = lines.filter(pl.int_range(pl.len()).over("user") < EVENTS_PER_SHOPPER)
    shoppers = pl.DataFrame({"user": rng.permutation(np.unique(log.user))}).with_row_index("turn")
    chosen = lines.join(shoppers, on="user").sort("turn", "row").head(count)["row"].sort()
    return replace(past, events=Events(past.events.frame[chosen.to_numpy()]), index=None, past=None)


def _similarity(
    name: str, future: Dataset, backbone: Backbone, system: str, seed: int, *, only=None
) -> list[dict[str, object]]:
    """Whether cosines tell what is bought in one visit after the cut; on texts never trained on, where ``only`` is given."""
    pairs = Baskets.of(future, backbone.templates.product, keep=only).copurchases(20_000, seed=seed)
    if len(pairs.first) < 50:
        return []
    vectors = backbone.encode(pairs.texts, progress=False)
    found, part = copurchase_auc(vectors, pairs, seed=seed), "all" if only is None else "texts held out"
    return [
        _row(system, name, "copurchase_auc", found.auc, "") | {"slice": part},
        _row(system, name, f"copurchase_recall@{found.top}", found.recall, "") | {"slice": part},
        _row(system, name, "copurchase_mrr", found.reciprocal_rank, "") | {"slice": part},
    ]


def _distinct(dataset: Dataset, backbone: Backbone) -> list[str]:
    texts = backbone.templates.product.render(dataset.catalog.frame)
    return texts.filter(texts != "").unique().sort().to_list()


def _plain_recipe(backbone: Backbone, texts: Sequence[str], seed: int) -> float:
    """Seconds for 20,000 texts of masked-language modelling as tutorials have it, from a few batches."""
    config = backbone.bert.config
    model, rng = BertForPreTraining(config), np.random.default_rng(seed)
    model.bert.load_state_dict(backbone.bert.state_dict(), strict=False)
    optimiser, batch, steps = torch.optim.AdamW(model.parameters(), lr=1e-4), 16, 4
    length = min(512, config.max_position_embeddings)
    times: list[float] = []
    for _ in range(steps):
        begun = time.perf_counter()
        pairs = [[texts[int(at)] for at in rng.integers(len(texts), size=batch)] for _ in range(2)]
        inputs = backbone.tokenizer(
            *pairs, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        labels = torch.where(torch.rand(inputs["input_ids"].shape) < 0.15, inputs["input_ids"], -100)
        output = model(**inputs, labels=labels, next_sentence_label=torch.randint(2, (batch,)))
        output.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - begun)
    return float(np.median(times[1:])) * 20_000 / batch


def _paired(result, name: str, first: str, second: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for part in result.slices:
        found = result.compare(first, second, "ndcg@10", part)
        rows.append(
            _row(first, name, "ndcg@10", found.value, "", against=second)
            | {"slice": part, "low": found.low, "high": found.high}
        )
        rows.append(
            _row(
                first,
                name,
                "ndcg@10_relative",
                found.value / result.value(second, "ndcg@10", part).value,
                "",
                against=second,
            )
            | {"slice": part}
        )
    return rows


def _row(
    system: str, dataset: str, metric: str, value: float, unit: str, *, against: str | None = None
) -> dict[str, object]:
    row: dict[str, object] = {"system": system, "dataset": dataset, "slice": "all", "metric": metric, "value": value}
    row |= {"low": None, "high": None, "unit": unit}
    return row | ({"against": against} if against else {})


def _show(rows: Sequence[dict[str, object]]) -> None:
    for row in rows:
        print(f"{row['dataset']!s:16} {row['system']!s:18} {row['slice']!s:15} {row['metric']!s:28} {row['value']:.4f}")


if __name__ == "__main__":
    main()
