"""Data sets by name: one file per platform or format, each with one function that returns a ``Dataset``."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeAlias

from peftrec.data.dataset import Dataset
from peftrec.data.rules import CleaningRules
from peftrec.data.sources.completejourney import load_completejourney
from peftrec.errors import ConfigError

Loader: TypeAlias = Callable[[CleaningRules | None], Dataset]

_LOADERS: dict[str, Loader] = {"completejourney": load_completejourney}


def load_dataset(name: str, *, rules: CleaningRules | None = None) -> Dataset:
    """Loads a data set by name, cleaned.

    Args:
        name: "completejourney", or a name given to :func:`register_dataset`.
        rules: Which rows to drop; the source's own choice if not given.

    Raises:
        ConfigError: There is no data set of that name.
        MissingExtraError: The package that carries the data is not installed.
    """
    if name not in _LOADERS:
        close = get_close_matches(name, list(_LOADERS), n=1)
        raise ConfigError(
            f"there is no data set called '{name}'",
            expected=f"one of {', '.join(sorted(_LOADERS))}",
            remedy=f"use load_dataset('{close[0]}')" if close else "for your own tables use Dataset.build(...)",
        )
    return _LOADERS[name](rules)


def register_dataset(name: str, load: Loader) -> None:
    """Makes a data set known to :func:`load_dataset`.

    Args:
        name: A name that is not taken.
        load: Gets the cleaning rules asked for, or None, and returns the data set.

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
