"""``peftrec data audit``: does the past of a split know its future?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from peftrec.errors import ConfigError

if TYPE_CHECKING:
    from peftrec.data import AuditReport

console = Console()


def audit(
    dataset: Annotated[str | None, typer.Option(help="Data set by name, to be cut at --at.")] = None,
    data: Annotated[Path | None, typer.Option(help="File or folder of a data set that comes as files.")] = None,
    at: Annotated[str | None, typer.Option(help="Moment of the cut, ISO 8601, UTC.")] = None,
    train: Annotated[Path | None, typer.Option(help="Events to learn from, of a split that is made already.")] = None,
    test: Annotated[Path | None, typer.Option(help="Events to predict, of that split.")] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Products of that split, to look for columns that know the future.")
    ] = None,
    profiles: Annotated[Path | None, typer.Option(help="Shoppers' attributes of that split, likewise.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Our name = your name, such as user_id=CustomerID, of a column of events; repeat for several."
        ),
    ] = None,
    catalog_column: Annotated[
        list[str] | None, typer.Option(help="The same for a column of the products, such as title=Description.")
    ] = None,
    profile_column: Annotated[
        list[str] | None, typer.Option(help="The same for a column of the shoppers' attributes.")
    ] = None,
    features: Annotated[
        bool, typer.Option(help="Also compute all statistics with and without the future; for --dataset.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Looks for everything that the past of a split may know of its future; exits with 1 if it knows something.

    Examples: peftrec data audit --dataset completejourney --at 2017-11-27T05:00

    peftrec data audit --train train.csv --test test.csv --catalog products.csv
    """
    own, named = {"--dataset": dataset, "--at": at}, {"--train": train, "--test": test}
    mappings = [
        _mapping(option, given or [])
        for option, given in (
            ("--column", column),
            ("--catalog-column", catalog_column),
            ("--profile-column", profile_column),
        )
    ]
    if all(own.values()) and not any((*named.values(), catalog, profiles, *mappings)):
        report = _of_dataset(str(dataset), data, str(at), features=features)
    elif train is not None and test is not None and not any((*own.values(), data)):
        report = _of_tables(train, test, catalog, profiles, mappings)
    else:
        given = [name for name, value in (own | named).items() if value is not None]
        raise ConfigError(
            f"an audit of {' and '.join(given) or 'nothing'}",
            expected="--dataset and --at (with --data where it comes as files), or --train and --test (with --catalog,"
            " --profiles, --column, --catalog-column and --profile-column)",
            remedy="peftrec data audit --dataset completejourney --at 2017-11-27T05:00",
        )
    told = json.dumps(report.to_dict(), indent=2) if as_json else str(report)
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    if report.leaks:
        raise typer.Exit(1)


def _of_dataset(name: str, data: Path | None, at: str, *, features: bool) -> "AuditReport":
    from peftrec.data import audit as run
    from peftrec.data import load_dataset

    past, future = load_dataset(name, data).split(at=at)
    return run(past, future, features=features)


def _of_tables(
    train: Path, test: Path, catalog: Path | None, profiles: Path | None, mappings: list[dict[str, str]]
) -> "AuditReport":
    from peftrec.data import audit_tables

    columns, of_products, of_shoppers = mappings
    return audit_tables(
        train,
        test,
        columns=columns,
        catalog=catalog,
        catalog_columns=of_products,
        profiles=profiles,
        profile_columns=of_shoppers,
    )


def _mapping(option: str, pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if not all(pair.partition("="))]
    if wrong:
        raise ConfigError(
            f"{option} {wrong[0]}", expected="our name = your name", remedy=f"write {option} user_id=CustomerID"
        )
    return {ours: theirs for ours, _, theirs in (pair.partition("=") for pair in pairs)}
