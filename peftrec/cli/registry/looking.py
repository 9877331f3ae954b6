"""Commands that change nothing: list, find, show, diff, history, lineage, verify."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.table import Column, Table

from peftrec.cli.registry.options import AsJson, Folder, Name, Reference, app, cell, console, lines, tell
from peftrec.errors import AdapterNotFoundError, RegistryError
from peftrec.registry import Registry, Version
from peftrec.registry.manifest import CARD, PAGE
from peftrec.registry.search import differences
from peftrec.registry.signing import read_signatures
from peftrec.registry.state import State

ON_A_PAGE = 50


@app.command("list")
def list_(
    registry: Folder = Path("adapters"),
    after: Annotated[str, typer.Option(help="Begin behind this name: the last one of the page before.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Adapters on a page.")] = ON_A_PAGE,
    as_json: AsJson = False,
) -> None:
    """Every adapter, a page at a time: newest version, aliases, method, size."""
    found = Registry(registry)
    names = found.names(after=after, limit=limit + 1)
    rows = [_row(found, name) for name in names[:limit]]
    if as_json:
        console.print_json(json.dumps(rows))
        return
    if not rows:
        console.print(
            f"no adapters in {registry}{f' after {after}' if after else ''}; make some with: peftrec demo", markup=False
        )
        return
    table = Table("name", "newest", Column("aliases", overflow="fold"), "method", "size", "published", box=None)
    for row in rows:
        if "problem" in row:
            table.add_row(str(row["name"]), "damaged", f"see: peftrec registry verify {row['name']}", style="red")
            continue
        if row["version"] is None:
            table.add_row(str(row["name"]), "deleted", f"see: peftrec registry versions {row['name']}")
            continue
        aliases = ", ".join(f"{alias} → {aim_of(aim)}" for alias, aim in sorted(dict(row["aliases"]).items()))
        created = str(row["created"])[:16]
        values = (row["name"], row["version"], aliases, row["method"], _size(row["bytes"]), created)
        table.add_row(*map(cell, values))
    console.print(table)
    if len(names) > limit:
        console.print(
            f"more: peftrec registry list --registry {registry} --after {names[limit - 1]}",
            markup=False,
            soft_wrap=True,
        )


def _row(registry: Registry, name: str) -> dict[str, object]:
    """One adapter's line; a damaged one does not keep the others from being listed."""
    try:
        state = registry.state(name)
        aliases = {alias: dict(weights) for alias, weights in state.aliases.items()}
        newest = registry.newest(name)
    except AdapterNotFoundError:  # all are deleted
        return {"name": name, "version": None, "aliases": {}, "deleted": registry.numbers(name)}
    except RegistryError as error:
        return {"name": name, "problem": error.found}
    return {
        "name": name,
        "version": newest.version,
        "aliases": aliases,
        "method": newest.manifest.method,
        "bytes": newest.size,
        "created": newest.manifest.created,
    }


@app.command()
def versions(name: Name, registry: Folder = Path("adapters"), as_json: AsJson = False) -> None:
    """All versions of one adapter, those deleted among them: aliases, tags, parent, NDCG@10."""
    found = Registry(registry)
    numbers, state = found.numbers(name), found.state(name)
    if not numbers:
        found.newest(name)  # raises, and names the nearest
    rows = [_version_row(found, name, number, state) for number in numbers]
    if as_json:
        console.print_json(json.dumps(rows))
        return
    table = Table("version", "aliases", "tags", "parent", "NDCG@10", "published", "", box=None)
    for row in rows:
        value = row.get("ndcg@10")
        shown = "" if value is None else f"{float(str(value)):.4f}"
        words = [", ".join(cast(list[str], row[field])) for field in ("aliases", "tags")]
        state_of = row.get("problem") or (f"deleted, may go {str(row['deleted'])[:16]}" if row["deleted"] else "")
        created = str(row.get("created") or "")[:16]
        table.add_row(*map(cell, (row["version"], *words, row.get("parent") or "", shown, created, state_of)))
    console.print(table)
    for alias, why in sorted(state.pinned.items()):
        tell(None, f"pinned: {alias}: {why}", as_json=False)


def _version_row(registry: Registry, name: str, number: str, state: State) -> dict[str, object]:
    row: dict[str, object] = {
        "version": number,
        "aliases": state.users_of(number),
        "tags": list(state.tags.get(number, ())),
        "deleted": state.deleted.get(number),
    }
    try:
        version = registry.stored(name, number)
    except RegistryError as error:
        return row | {"problem": error.found}
    return row | _line(version) | {"parent": version.manifest.parent, "digest": version.digest}


def aim_of(weights: object) -> str:
    """``3``, or ``3 (90%) + 4 (10%)``."""
    shares = cast(dict[str, float], weights) if isinstance(weights, dict) else {str(weights): 1.0}
    if len(shares) == 1:
        return next(iter(shares))
    total = sum(shares.values())
    return " + ".join(f"{version} ({weight / total:.0%})" for version, weight in shares.items())


def _size(count: object) -> str:
    return f"{int(str(count)) / 1e6:.2f} MB"


@app.command()
def find(
    conditions: Annotated[
        list[str],
        typer.Argument(
            help="Such as method=lora, data.licence~CC, metrics.ndcg@10>0.4, tag=reviewed, alias=production."
        ),
    ],
    registry: Folder = Path("adapters"),
    name: Annotated[list[str] | None, typer.Option(help="Look at this adapter alone; repeat for several.")] = None,
    as_json: AsJson = False,
) -> None:
    """Versions whose manifests meet all conditions.

    Example: peftrec registry find 'method=lora' 'metrics.ndcg@10>0.4'
    """
    found = Registry(registry).find(*conditions, names=name)
    if as_json:
        console.print_json(json.dumps([_line(version) for version in found]))
        return
    table = Table("version", "method", "size", "published", "NDCG@10", box=None)
    for version in found:
        line = _line(version)
        value = line["ndcg@10"]
        shown = "" if value is None else f"{float(str(value)):.4f}"
        created = str(line["created"])[:16]
        table.add_row(*map(cell, (version.reference, line["method"], _size(line["bytes"]), created, shown)))
    console.print(table if found else "no version meets these conditions")


def _line(version: Version) -> dict[str, object]:
    told, metrics = version.manifest, version.manifest.metrics
    main = next((entry["value"] for entry in metrics if (entry["metric"], entry["slice"]) == ("ndcg@10", "all")), None)
    return {
        "reference": version.reference,
        "method": told.method,
        "bytes": version.size,
        "created": told.created,
        "ndcg@10": main,
    }


@app.command()
def show(reference: Reference, registry: Folder = Path("adapters"), as_json: AsJson = False) -> None:
    """One version: what it was trained on, what was measured, its files; and what leads to it."""
    found = Registry(registry)
    version = found.open(reference)
    state = found.state(version.name)
    if as_json:
        told = {
            "reference": version.reference,
            "digest": version.digest,
            "aliases": state.users_of(version.version),
            "tags": list(state.tags.get(version.version, ())),
            "signed": read_signatures(version) is not None,
            "manifest": json.loads(version.manifest.to_json()),
        }
        console.print_json(json.dumps(told))
        return
    others = [f"{alias} → {aim_of(weights)}" for alias, weights in sorted(state.aliases.items())]
    told = [
        version.reference + "".join(f"  #{tag}" for tag in state.tags.get(version.version, ())),
        f"digest:  sha256:{version.digest}",
        f"aliases: {', '.join(others) or 'none'}",
        *(f"pinned:  {alias}: {why}" for alias, why in sorted(state.pinned.items())),
        f"page:    {version.path / PAGE}" if PAGE in version.manifest.files else "",
    ]
    tell(None, "\n".join(line for line in told if line) + "\n", as_json=False)
    console.print(lines(version.read(CARD).decode()), markup=False, highlight=False)


@app.command()
def diff(
    one: Reference,
    other: Reference,
    registry: Folder = Path("adapters"),
    as_json: AsJson = False,
) -> None:
    """What differs between the manifests of two versions.

    Example: peftrec registry diff grocery@production grocery@canary
    """
    found = Registry(registry)
    first, second = found.open(one), found.open(other)
    fields = differences(first.manifest, second.manifest)
    if as_json:
        console.print_json(json.dumps({path: list(values) for path, values in fields.items()}))
        return
    table = Table(Column("field", overflow="fold"), first.reference, second.reference, box=None)
    for path, values in fields.items():
        table.add_row(*(cell(_short(text)) for text in (path, *values)))
    console.print(table if fields else f"{first.reference} and {second.reference} say the same")


def _short(value: object) -> str:
    """A value in few letters; numbers keep as many digits as tell two trainings apart."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return " to ".join(map(_short, cast(tuple[object, ...], value)))
    text = "–" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


@app.command()
def history(
    name: Name,
    registry: Folder = Path("adapters"),
    limit: Annotated[int, typer.Option(min=1, help="The last so many changes.")] = ON_A_PAGE,
    as_json: AsJson = False,
) -> None:
    """Who changed what and why: publications, promotions, rollbacks, deletions."""
    entries = Registry(registry).history(name, last=limit)
    if as_json:
        console.print_json(json.dumps([asdict(entry) for entry in entries]))
        return
    table = Table("moment", "by", "what", "reason", box=None)
    for entry in entries:
        told = dict(entry.details)
        alias, version, after = told.get("alias"), told.get("version"), told.get("after")
        what = " ".join(
            part
            for part in (
                entry.action,
                f"version {version}" if version else "",
                f"{alias} → {aim_of(after)}" if alias and after and entry.action != "publish" else str(alias or ""),
                f"tags {', '.join(map(str, after))}" if isinstance(after, list) else "",
            )
            if part
        )
        table.add_row(*map(cell, (entry.moment[:19], entry.by, what, told.get("reason", ""))))
    console.print(table if entries else f"{name} has no history yet: it begins with its next change")


@app.command()
def lineage(reference: Reference, registry: Folder = Path("adapters"), as_json: AsJson = False) -> None:
    """What a version was trained on from, back to the first."""
    found = Registry(registry).lineage(reference)
    rows = [
        {
            "reference": one.reference,
            "data": None if one.version is None else one.version.manifest.data.get("digest"),
            "backbone": None if one.version is None else one.version.manifest.fingerprints.backbone,
            "note": one.note,
        }
        for one in found
    ]
    if as_json:
        console.print_json(json.dumps(rows))
        return
    table = Table("version", "data", "backbone", "", box=None)
    for row in rows:
        digests = [str(row[name] or "")[:12] for name in ("data", "backbone")]
        table.add_row(*map(cell, (row["reference"], *digests, row["note"])))
    console.print(table)


def told_problems(problems: Sequence[str], what: str, *, as_json: bool) -> None:
    """Prints what is wrong and exits with 1, or that nothing is."""
    if as_json:
        console.print_json(json.dumps({"problems": list(problems)}))
    else:
        for problem in problems:
            console.print(lines(problem), style="red", markup=False, highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    if not as_json:
        tell(None, f"all files of {what} are as they were published", as_json=False)
