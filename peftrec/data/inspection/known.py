"""Files of a form that one of the sources reads, told by the names of their columns."""

from collections.abc import Collection
from pathlib import Path

from peftrec.data.sources.online_retail import COLUMNS, SECOND_EDITION
from peftrec.data.sources.online_shoppers import SIGNS
from peftrec.data.sources.personalize import REQUIRED

FORMS: tuple[tuple[str, frozenset[str], bool], ...] = (
    ("online_retail", frozenset(COLUMNS.values()), False),
    ("online_retail", frozenset(SECOND_EDITION.values()), False),
    ("sessions", frozenset(SIGNS), False),
    ("personalize", frozenset(name.upper() for name in REQUIRED["interactions"]), True),
    ("amazon", frozenset({"reviewerID", "asin", "unixReviewTime"}), True),
    ("amazon", frozenset({"user_id", "parent_asin", "rating", "timestamp"}), True),
)
"""Name of a data set, columns that its file has, and whether it is read from the folder of that file."""


def known_form(path: Path, columns: Collection[str]) -> str:
    """A note on the source that reads such a file; empty where none does."""
    for name, signs, folder in FORMS:
        if signs <= {*columns}:
            place = str(path.parent if folder else path)
            return (
                f"its columns are those of the source '{name}', which knows what is particular to them:"
                f" load_dataset({name!r}, {place!r})"
            )
    return ""
