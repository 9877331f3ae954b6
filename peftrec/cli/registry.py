"""``peftrec registry``: look at published adapters. Starts without torch."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from peftrec.errors import RegistryError
from peftrec.registry import Registry

app = typer.Typer(help="List, show and verify published adapters.", no_args_is_help=True, rich_markup_mode=None)
console = Console()
Folder = Annotated[Path, typer.Option("--registry", help="Folder of the registry.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_(registry: Folder = Path("adapters"), as_json: AsJson = False) -> None:
    """Every adapter: newest version, aliases, method, size."""
    found = Registry(registry)
    rows = [_row(found, name) for name in found.names()]
    if as_json:
        console.print_json(json.dumps(rows))
        return
    if not rows:
        console.print(f"no adapters in {registry}; make some with: peftrec demo", markup=False)
        return
    table = Table("name", "newest", "aliases", "method", "size", "published", box=None)
    for row in rows:
        if "problem" in row:
            table.add_row(str(row["name"]), "damaged", f"see: peftrec registry verify {row['name']}", style="red")
            continue
        aliases = ", ".join(f"{alias} → {version}" for alias, version in sorted(dict(row["aliases"]).items()))
        size = f"{int(str(row['bytes'])) / 1e6:.2f} MB"
        table.add_row(
            str(row["name"]), str(row["version"]), aliases, str(row["method"]), size, str(row["created"])[:16]
        )
    console.print(table)


def _row(registry: Registry, name: str) -> dict[str, object]:
    """One adapter's line; a damaged one does not keep the others from being listed."""
    try:
        newest, aliases = registry.newest(name), registry.aliases(name)
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
def show(
    reference: Annotated[str, typer.Argument(help="name, name@version or name@alias.")],
    registry: Folder = Path("adapters"),
    as_json: AsJson = False,
) -> None:
    """One version: what it was trained on, what was measured, its files."""
    version = Registry(registry).open(reference)
    if as_json:
        console.print_json(version.manifest.to_json())
        return
    console.print(version.read("card.md").decode(), markup=False, highlight=False)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One adapter; all when left out.")] = None,
    registry: Folder = Path("adapters"),
) -> None:
    """Reads every file again and compares it with its digest; exits with 1 if anything is wrong."""
    found = Registry(registry)
    problems = found.verify(name)
    for problem in problems:
        console.print(problem, style="red", markup=False, highlight=False)
    if problems:
        raise typer.Exit(1)
    console.print(f"all files of {len(found.names()) if name is None else name} adapters are as they were published")
