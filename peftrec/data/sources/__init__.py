"""Data sets by name, one file each."""

from collections.abc import Callable

from peftrec.data.dataset import Dataset
from peftrec.data.sources import completejourney
from peftrec.errors import ConfigError

SOURCES: dict[str, Callable[[], Dataset]] = {"completejourney": completejourney.load}


def load_dataset(name: str) -> Dataset:
    """Loads a data set that peftrec knows by name.

    Args:
        name: One of ``SOURCES``. Your own tables go through :meth:`peftrec.Dataset.build`.

    Raises:
        ConfigError: There is no such name.
        MissingExtraError: The package that carries the data is not installed.
    """
    if name not in SOURCES:
        raise ConfigError(
            f"data set {name!r}",
            expected=f"one of {', '.join(SOURCES)}",
            remedy="for your own tables or files use Dataset.build(name, catalog=..., events=...)",
        )
    return SOURCES[name]()
