"""What the commands of ``peftrec registry`` have in common."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Publish, review, promote, roll back, share and verify adapters.", no_args_is_help=True, rich_markup_mode=None
)
console = Console()

Folder = Annotated[Path, typer.Option("--registry", help="Folder of the registry.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Reference = Annotated[str, typer.Argument(help="name, name@version, name@alias or name@sha256:DIGEST.")]
Name = Annotated[str, typer.Argument(help="Name of the adapter.")]
Alias = Annotated[str, typer.Option(help="Alias that moves.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]


def tell(values: object, text: str, *, as_json: bool) -> None:
    """Prints what a command did: values for programs or a line for people."""
    if as_json:
        console.print_json(json.dumps(values, default=str))
    else:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
