"""Commands that change a registry: publish, promote, rollback, split, pin, tag, delete, restore, gc."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from peftrec.cli.registry.options import Alias, AsJson, Folder, Name, Reason, Reference, app, tell
from peftrec.errors import RegistryError
from peftrec.registry import Gate, Registry
from peftrec.registry.gate import Comparison
from peftrec.registry.names import is_number
from peftrec.registry.store import GRACE


@app.command()
def publish(
    name: Name,
    source: Annotated[Path, typer.Argument(help="Registry that holds the version.")],
    reference: Annotated[str, typer.Argument(help="The version there: name, name@version or name@alias.")],
    registry: Folder = Path("adapters"),
    alias: Annotated[str | None, typer.Option(help="Alias that points to it afterwards.")] = None,
    parent: Annotated[str | None, typer.Option(help="Version of this registry that it descends from.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Publishes a version of another registry as the next one of an adapter here.

    Example: peftrec registry publish grocery-de trials grocery@canary --alias canary
    """
    version = Registry(registry).publish(
        name, Registry(source).open(reference), alias=alias, parent=parent, reason=reason
    )
    told = {"reference": version.reference, "path": str(version.path), "alias": alias}
    tell(told, f"published {version.reference}" + (f", alias {alias}" if alias else ""), as_json=as_json)


@app.command()
def promote(
    reference: Reference,
    registry: Folder = Path("adapters"),
    alias: Alias = "production",
    better: Annotated[
        bool,
        typer.Option("--better", help="Measure it beside what the alias leads to, and refuse it unless it is better."),
    ] = False,
    least_gain: Annotated[
        float | None,
        typer.Option(help="With --better: what the paired interval must lie above; below 0 for 'hardly worse'."),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="With --better: what decides; ndcg@10 when left out.")] = None,
    most_ece: Annotated[float | None, typer.Option(help="Refuse a larger calibration error.")] = None,
    most_bytes: Annotated[int | None, typer.Option(help="Refuse larger files.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="With --better: data set by name; completejourney when left out.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="With --better: file or folder of the data set.")] = None,
    at: Annotated[
        str | None, typer.Option(help="With --better: moment of the cut, ISO 8601; both are trained before it.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="With --better: backbone of both; minilm-l6 when left out.")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Points an alias to a version, if it shows what you ask for.

    Example: peftrec registry promote grocery@4 --better --at 2017-11-27T05:00 --most-ece 0.02
    """
    found = Registry(registry)
    of_better = {
        "least-gain": least_gain,
        "metric": metric,
        "dataset": dataset,
        "data": data,
        "at": at,
        "backbone": backbone,
    }
    if not better and (given := [f"--{option}" for option, value in of_better.items() if value is not None]):
        raise RegistryError(
            f"{', '.join(given)} without --better",
            expected="both or none",
            remedy="add --better, which measures the two versions",
        )
    gate = None
    if better or most_ece is not None or most_bytes is not None:
        gain = (least_gain or 0.0) if better else None
        gate = Gate(metric=metric or "ndcg@10", least_gain=gain, most_ece=most_ece, most_bytes=most_bytes)
    evaluation = None
    if better:
        evaluation = _measured(found, reference, alias, dataset or "completejourney", data, at, backbone or "minilm-l6")
    version = found.promote(reference, alias=alias, gate=gate, evaluation=evaluation, reason=reason)
    told = {
        "reference": version.reference,
        "alias": alias,
        "evidence": found.history(version.name, last=1)[-1].details.get("evidence"),
    }
    tell(told, f"{version.name}@{alias} leads to version {version.version}", as_json=as_json)


def _measured(
    registry: Registry, reference: str, alias: str, dataset: str, data: Path | None, at: str | None, backbone: str
) -> Comparison | None:
    """Both versions on the same shoppers; nothing where the alias leads nowhere yet."""
    version = registry.open(reference)
    current = registry.aliases(version.name).get(alias)
    if current in (None, version.version):
        return None
    if at is None:
        raise RegistryError(
            "--better without --at",
            expected="the moment before which both were trained, and after which they are measured",
            remedy="add --at, such as 2017-11-27T05:00",
        )
    from peftrec import Backbone, Engine, evaluate, load_dataset

    engine = Engine(Backbone.load(backbone), registry)
    past, future = load_dataset(dataset, data).split(at=at)
    engine.attach(past, adapter=version.name, progress=True)
    systems = [engine.recommender(one) for one in (version.reference, f"{version.name}@{current}")]
    for system, told in zip(systems, (version.reference, f"{version.name}@{current}"), strict=True):
        system.name = told
    return evaluate(systems, future, baselines=None)


@app.command()
def rollback(
    name: Name,
    registry: Folder = Path("adapters"),
    alias: Alias = "production",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Points an alias to where it led before its last move."""
    version = Registry(registry).rollback(name, alias=alias, reason=reason)
    told = {"reference": version.reference, "alias": alias}
    tell(told, f"{name}@{alias} leads to version {version.version} again", as_json=as_json)


@app.command()
def split(
    name: Name,
    shares: Annotated[list[str], typer.Argument(help="VERSION=WEIGHT, two or more, such as 3=0.9 4=0.1.")],
    registry: Folder = Path("adapters"),
    alias: Alias = "production",
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Leads an alias to several versions, each shopper always to the same: an A/B test.

    Example: peftrec registry split grocery 3=0.9 4=0.1
    """
    weights = dict(map(_share, shares))
    if len(weights) < len(shares):
        raise RegistryError(
            f"a version twice among {' '.join(shares)}",
            expected="one share of each",
            remedy="write it like 3=0.9 4=0.1",
        )
    found = Registry(registry)
    found.split(name, weights, alias=alias, reason=reason)
    told = found.splits(name)[alias]
    shown = ", ".join(f"{share:.1%} to version {version}" for version, share in told.items())
    tell({"alias": alias, "shares": told}, f"{name}@{alias} leads {shown}", as_json=as_json)


def _share(text: str) -> tuple[str, float]:
    version, _, weight = text.partition("=")
    try:
        return version, float(weight)
    except ValueError as error:
        raise RegistryError(f"share {text!r}", expected="VERSION=WEIGHT", remedy="write it like 3=0.9 4=0.1") from error


@app.command("remove-alias")
def remove_alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="Alias that goes; its versions stay.")],
    registry: Folder = Path("adapters"),
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Takes an alias away."""
    Registry(registry).remove_alias(name, alias, reason=reason)
    tell({"name": name, "removed": alias}, f"{name} has no alias {alias} any more", as_json=as_json)


@app.command()
def repair(name: Name, registry: Folder = Path("adapters"), as_json: AsJson = False) -> None:
    """Makes aliases.json anew of the history, where it was lost, changed by hand or restored from an old copy."""
    state = Registry(registry).repair(name)
    told = {"name": name, "changes": state.step, "aliases": {alias: dict(at) for alias, at in state.aliases.items()}}
    tell(told, f"aliases.json of {name} follows from {state.step} changes again", as_json=as_json)


@app.command()
def pin(
    name: Name,
    alias: Annotated[str, typer.Argument(help="Alias that must not move.")],
    reason: Annotated[str, typer.Option(help="Why: whoever wants to move it will read this.")],
    registry: Folder = Path("adapters"),
    as_json: AsJson = False,
) -> None:
    """Keeps an alias from moving until it is unpinned."""
    Registry(registry).pin(name, alias, reason=reason)
    tell({"name": name, "alias": alias, "pinned": reason}, f"{name}@{alias} stays where it is", as_json=as_json)


@app.command()
def unpin(
    name: Name,
    alias: Annotated[str, typer.Argument(help="Alias that may move again.")],
    registry: Folder = Path("adapters"),
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Lets a pinned alias move again."""
    Registry(registry).unpin(name, alias, reason=reason)
    tell({"name": name, "alias": alias, "pinned": None}, f"{name}@{alias} may move", as_json=as_json)


@app.command()
def tag(
    reference: Reference,
    tags: Annotated[list[str], typer.Argument(help="Tags, written like names.")],
    registry: Folder = Path("adapters"),
    remove: Annotated[bool, typer.Option("--remove", help="Take them away instead.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Gives a version tags; peftrec registry find tag=TAG finds it."""
    found = Registry(registry)
    version = found.open(reference)
    found.tag(version.reference, *tags, remove=remove, reason=reason)
    kept = list(found.state(version.name).tags.get(version.version, ()))
    tell(
        {"reference": version.reference, "tags": kept},
        f"{version.reference}: {', '.join(kept) or 'no tags'}",
        as_json=as_json,
    )


@app.command()
def delete(
    reference: Annotated[str, typer.Argument(help="name@version.")],
    registry: Folder = Path("adapters"),
    days: Annotated[float, typer.Option(min=0, max=3653, help="For how long it can be restored.")] = GRACE
    / timedelta(days=1),
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Takes a version out of sight; gc removes it when its grace is over."""
    found = Registry(registry)
    name, _, number = reference.partition("@")
    if not is_number(number):
        raise RegistryError(
            f"{reference!r}",
            expected="name@version: what is deleted is named",
            remedy=f"see: peftrec registry versions {name}",
        )
    found.delete(reference, grace=timedelta(days=days), reason=reason)
    until = found.state(name).deleted[number]
    told = f"{reference} is deleted; until {until}: peftrec registry restore {reference}"
    tell({"reference": reference, "until": until}, told, as_json=as_json)


@app.command()
def restore(
    reference: Annotated[str, typer.Argument(help="name@version.")],
    registry: Folder = Path("adapters"),
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Brings a deleted version back."""
    version = Registry(registry).restore(reference, reason=reason)
    tell({"reference": version.reference}, f"{version.reference} is back", as_json=as_json)


@app.command()
def gc(
    registry: Folder = Path("adapters"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Removes deleted versions whose grace is over, unless an alias or a descendant needs them."""
    done = Registry(registry).gc(dry_run=dry_run)
    lines = [f"{'would remove' if dry_run else 'removed'} {len(done.removed)} versions, {done.bytes / 1e6:.2f} MB"]
    lines += [f"  {reference}" for reference in done.removed]
    lines += [f"keeps {reference}: {why}" for reference, why in done.kept.items()]
    tell({"removed": done.removed, "kept": done.kept, "bytes": done.bytes}, "\n".join(lines), as_json=as_json)
