"""``peftrec data``: look at files before they become a data set. Starts without torch."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from peftrec.cli.audit import audit

app = typer.Typer(
    help="Look at files of events, products, shoppers and promotions before they become a data set.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
console = Console()


@app.callback()  # with it, a single command is still one of a group
def data() -> None:
    """Look at files of events, products, shoppers and promotions before they become a data set."""


@app.command()
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="Text with any separator and encoding, Parquet, JSON or JSON lines; also compressed by gzip."
        ),
    ],
    catalog: Annotated[
        Path | None, typer.Option(help="File of the products, to check that the events name products that exist.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    rows: Annotated[int, typer.Option(min=0, help="How many rows to look at; 0 for all.")] = 1_000_000,
) -> None:
    """What a file holds, and how to read it. Nothing is changed, and no guess is used anywhere but here.

    For each column: type, share missing, different values, examples, and which column of peftrec it seems to be and why
    (from its name and from its values). Then what has to be converted first, such as seconds since 1970, 31.12.2024 or
    1.234,50, with the polars expression that does it; what cleaning would drop, by rule, with examples; and the call of
    Dataset.build(...) with the mapping, to copy and check.

    Row numbers count from 0: row 0 is the first one under the header.

    Example: peftrec data inspect orders.csv --catalog products.csv
    """
    from peftrec.data.inspect import inspect as look

    found = look(file, catalog=catalog, rows=rows or None)
    if as_json:
        console.print_json(json.dumps(found.to_dict()))
        return
    console.print(str(found), markup=False, highlight=False, soft_wrap=True)


app.command()(audit)
