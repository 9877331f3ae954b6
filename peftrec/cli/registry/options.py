"""What the commands of ``peftrec registry`` have in common."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from peftrec.registry.words import plain

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


def cell(value: object) -> Text:
    """A value of a table as it is: no markup, and none of a terminal's commands, which manifests from elsewhere may hold."""
    return Text(plain(value))


def lines(text: str) -> str:
    """Several lines, each as :func:`cell` shows one."""
    return "\n".join(map(plain, text.splitlines()))


def tell(values: object, text: str, *, as_json: bool) -> None:
    """Prints what a command did: values for programs or a line for people."""
    if as_json:
        console.print_json(json.dumps(values, default=str))
    else:
        console.print(lines(text), markup=False, highlight=False, soft_wrap=True)
