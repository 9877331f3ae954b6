"""The demonstration: the whole of peftrec on one real platform, start to end."""

import time
from pathlib import Path

from rich.console import Console

from peftrec.adaptation import AdaptConfig, LanguageConfig, ShoppingConfig, adapt
from peftrec.backbone import Backbone
from peftrec.data import Dataset, load_dataset
from peftrec.evaluation import evaluate
from peftrec.evaluation.baselines import default_baselines
from peftrec.registry import Registry
from peftrec.report import write_report
from peftrec.serving import Engine, measure_latency
from peftrec.serving.requests import Request
from peftrec.training import TrainConfig, train_adapter

CUT = "2017-11-27T05:00"
SEGMENT = "45-54"
SHOWN = ("popular lately", "personal, decayed", "UP-CF")


def run_demo(out: Path, console: Console, *, quick: bool, adapting: bool = False) -> Path:
    """Runs everything and returns the path of the report; ``adapting`` the backbone first, if asked."""
    begun = time.perf_counter()
    registry = Registry(out / "adapters")
    registry.check_ready("grocery", alias="canary")
    shop = load_dataset("completejourney")
    console.print(str(shop), str(shop.report), sep="\n", markup=False, highlight=False, soft_wrap=True)
    past, future = shop.split(at=CUT)
    config = TrainConfig(epochs=0.02, feature_epochs=0.3, anchors=1) if quick else TrainConfig(epochs=0.25)
    backbone = Backbone.load("minilm-l6")
    if adapting:
        console.rule("adapting the backbone to the language of groceries and to households")
        language = LanguageConfig(epochs=0.02 if quick else 1.0)
        stages = AdaptConfig(language=language, shopping=ShoppingConfig(training=config))
        backbone = adapt(backbone, [past], stages, folder=out / "backbone", resume=True)

    console.rule("adapter of the whole platform")
    adapter = train_adapter(past, backbone, config=config)
    seconds = time.perf_counter() - begun
    registry.publish("grocery", adapter, alias="canary")
    console.rule(f"adapter of one segment: households of {SEGMENT}")
    segments = past.segment(by="age")
    segment = train_adapter(segments[SEGMENT], backbone, config=config)
    registry.publish(f"grocery-{SEGMENT}", segment, alias="canary")

    console.rule("serving both from one int8 backbone, in one batch")
    engine = Engine(backbone, registry, memory="64MB")
    engine.attach(past, adapter="grocery")
    engine.attach(segments[SEGMENT], adapter=f"grocery-{SEGMENT}")
    examples = _serve(engine, segments[SEGMENT], console)

    console.rule("measuring what is served")
    baselines = [baseline for baseline in default_baselines() if baseline.name in SHOWN]
    served, narrow = engine.recommender("grocery@canary"), engine.recommender(f"grocery-{SEGMENT}@canary")
    result = evaluate(served, future, baselines=baselines)
    narrow.name = f"{narrow.name}, segment"
    within = evaluate([narrow, served], future.segment(by="age")[SEGMENT], baselines=None)
    console.print(str(result), str(within), sep="\n\n", markup=False, highlight=False, soft_wrap=True)
    measured = adapter.with_facts(**result.facts(), latency=_latency(engine, "grocery", past))
    promoted = registry.publish("grocery", measured, alias="production")
    name = f"grocery-{SEGMENT}"
    measured = segment.with_facts(**within.facts(), latency=_latency(engine, name, segments[SEGMENT]))
    second = registry.publish(name, measured, alias="production")
    console.print(
        f"{promoted.reference} and {second.reference} are in production; the engine follows at the next request"
    )
    path = write_report(
        out / "report.html",
        result,
        title="peftrec on The Complete Journey",
        facts={
            "data": f"{past!r}; {past.source.note if past.source else ''}",
            "adapter": f"{promoted.reference}, {promoted.size / 1e6:.2f} MB",
            "training": f"{seconds / 60:.1f} minutes with loading and encoding",
            "whole demonstration": f"{(time.perf_counter() - begun) / 60:.1f} minutes",
        },
        learning_curve=adapter.learning_curve,
        examples=examples,
        further=[within],
    )
    told = f"\nreport: {path}\nnext:   peftrec recommend grocery --user 1 --registry {out / 'adapters'}"
    told += f" --backbone {out / 'backbone'}" if adapting else ""
    console.print(told, markup=False, soft_wrap=True)
    return path


def _latency(engine: Engine, name: str, shop: Dataset) -> dict[str, object]:
    return measure_latency(engine, f"{name}@canary", shop.users[:60].to_list())


def _serve(engine: Engine, segment: Dataset, console: Console) -> dict[str, list[str]]:
    user = segment.events.frame["user_id"][0]
    requests = [Request(adapter=f"{name}@canary", user=user, k=5) for name in ("grocery", f"grocery-{SEGMENT}")]
    examples: dict[str, list[str]] = {}
    for request, answer in zip(requests, engine.recommend_batch(requests), strict=True):
        heading = f"household {user}, adapter {request.adapter}"
        examples[heading] = [f"{entry.title} ({entry.item_id}): {entry.probability:.2f}" for entry in answer]
        console.print(heading, *examples[heading], sep="\n  ", markup=False, highlight=False)
    return examples
