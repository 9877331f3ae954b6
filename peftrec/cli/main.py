"""``peftrec``: train, evaluate, publish and ask adapters from a terminal. Heavy imports happen inside commands."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peftrec.cli.adapt import adapt
from peftrec.cli.data import app as data_app
from peftrec.cli.registry import app as registry_app
from peftrec.errors import PeftrecError

app = typer.Typer(
    help="One frozen BERT, one small adapter per shop.\n\nStart with: peftrec demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(registry_app, name="registry")
app.add_typer(data_app, name="data")
console = Console()

DatasetName = Annotated[str, typer.Option("--dataset", help="Data set by name.")]
DataPath = Annotated[
    Path | None, typer.Option("--data", help="File or folder of a data set that comes as files, such as online_retail.")
]
At = Annotated[str, typer.Option(help="Moment of the cut, ISO 8601, UTC: train before it, evaluate from it on.")]
RegistryFolder = Annotated[Path, typer.Option("--registry", help="Folder of the registry.")]
BackboneName = Annotated[str, typer.Option("--backbone", help="Short name, local folder of a BERT, or hub id.")]

Method = Literal["lora", "adalora", "bottleneck"]

DEMO_CUT = "2017-11-27T05:00"

app.command()(adapt)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the registry and the report.")] = Path("peftrec-demo"),
    quick: Annotated[bool, typer.Option(help="A tenth of the training, to see that everything runs.")] = False,
    adapting: Annotated[
        bool, typer.Option("--adapt", help="Adapt the backbone first, to products and shoppers: some 15 minutes more.")
    ] = False,
) -> None:
    """Trains, publishes, serves and evaluates adapters on a year of real grocery purchases."""
    from peftrec.cli.demo import run_demo

    run_demo(out, console, quick=quick, adapting=adapting)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="Name to publish the adapter under.")],
    dataset: DatasetName = "completejourney",
    data: DataPath = None,
    at: Annotated[
        str | None, typer.Option(help="Train on what came before this moment; on everything when left out.")
    ] = None,
    registry: RegistryFolder = Path("adapters"),
    backbone: BackboneName = "minilm-l6",
    method: Annotated[Method, typer.Option(help="How the decoder is tuned.")] = "lora",
    rank: Annotated[int, typer.Option(help="Inner width of what is tuned: the rank, or the bottleneck's width.")] = 16,
    epochs: Annotated[float, typer.Option(help="Passes of tuner and decoder over all rows.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    alias: Annotated[str, typer.Option(help="Alias that points to the new version.")] = "production",
) -> None:
    """Trains one adapter and publishes it.

    Example: peftrec train grocery --at 2017-11-27T05:00

    In two processes: torchrun --nproc-per-node 2 --no-python peftrec train grocery --at 2017-11-27T05:00
    """
    from peftrec import Backbone, Registry, TrainConfig, load_dataset, train_adapter
    from peftrec.training import parallel
    from peftrec.tuners import AdaLoRAConfig, BottleneckConfig, LoRAConfig

    parallel.join()
    console.quiet = not parallel.is_first()  # one of several processes tells and publishes
    tuner = {
        "lora": lambda: LoRAConfig(rank=rank),
        "adalora": lambda: AdaLoRAConfig(rank=rank),
        "bottleneck": lambda: BottleneckConfig(width=rank),
    }[method]()
    Registry(registry).check_ready(name, alias=alias)
    shop = load_dataset(dataset, data)
    console.print(str(shop.report), markup=False, highlight=False, soft_wrap=True)
    past = shop.split(at=at)[0] if at else shop
    config = TrainConfig(epochs=epochs, seed=seed)
    adapter = train_adapter(past, Backbone.load(backbone), tuner, config)
    if not parallel.is_first():
        return
    version = Registry(registry).publish(name, adapter, alias=alias)
    told = f"published {version.reference}, {version.size / 1e6:.2f} MB, alias {alias}, in {version.path}"
    console.print(told, markup=False, soft_wrap=True)


@app.command()
def evaluate(
    reference: Annotated[str, typer.Argument(help="name, name@version or name@alias.")],
    dataset: DatasetName = "completejourney",
    data: DataPath = None,
    at: At = DEMO_CUT,
    registry: RegistryFolder = Path("adapters"),
    backbone: BackboneName = "minilm-l6",
    baselines: Annotated[
        bool, typer.Option(help="Also tune and measure all baselines, LightGBM included: some 20 minutes more.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows instead of a table.")] = False,
) -> None:
    """Measures an adapter as it is served, in int8, beside tuned baselines."""
    from peftrec import Backbone, Engine, load_dataset
    from peftrec import evaluate as run
    from peftrec.evaluation.baselines import LightGBMRanker, default_baselines
    from peftrec.training.table import CandidateTable

    engine = Engine(loaded := Backbone.load(backbone), registry)
    if loaded.shopping is None:
        engine.registry.open(reference)  # a name that is not there is told before data is read
    past, future = load_dataset(dataset, data).split(at=at)
    engine.attach(past, adapter=reference, progress=True)
    served = engine.recommender(reference)
    others = [*default_baselines(), LightGBMRanker(CandidateTable(loaded))] if baselines else None
    result = run(served, future, baselines=others)
    console.print_json(json.dumps(result.rows())) if as_json else console.print(
        str(result), markup=False, highlight=False, soft_wrap=True
    )


@app.command()
def recommend(
    reference: Annotated[str, typer.Argument(help="name, name@version or name@alias.")],
    user: Annotated[str | None, typer.Option(help="Id of a shopper of the data set.")] = None,
    item: Annotated[list[str] | None, typer.Option(help="Product bought, oldest first; repeat for several.")] = None,
    k: Annotated[int, typer.Option(help="How many products.")] = 10,
    dataset: DatasetName = "completejourney",
    data: DataPath = None,
    registry: RegistryFolder = Path("adapters"),
    backbone: BackboneName = "minilm-l6",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Recommends products to a shopper of the log, or to a new one by what was bought.

    Example: peftrec recommend grocery --user 1
    """
    from peftrec import Backbone, Engine, load_dataset

    engine = Engine(Backbone.load(backbone), registry)
    engine.attach(load_dataset(dataset, data), adapter=reference.partition("@")[0], progress=True)
    found = engine.recommend(reference, user=user, history=item or (None if user else []), k=k)
    if as_json:
        console.print_json(json.dumps([vars(entry) for entry in found]))
        return
    table = Table("", "product", "title", "probability", box=None)
    for place, entry in enumerate(found, start=1):
        table.add_row(str(place), Text(entry.item_id), Text(entry.title), f"{entry.probability:.3f}")
    console.print(table)


def main() -> None:
    """Runs the command line; an error made for people is printed as such, without a traceback."""
    try:
        app()
    except PeftrecError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
