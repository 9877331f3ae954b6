"""Cutting a data set by the values of a column."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.catalog import Catalog
from peftrec.data.events import Events
from peftrec.data.log import EventLog, codes
from peftrec.data.profiles import Profiles
from peftrec.data.values import as_text
from peftrec.errors import InvalidValueError, SchemaError

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset

UNKNOWN = "unknown"
MAX_SEGMENTS = 1_000
_NEVER = (col.USER, col.ITEM, col.TIME, col.SESSION, col.QUERY, col.DESCRIPTION, col.IMAGE)


def segment(dataset: "Dataset", *, by: str) -> "dict[str, Dataset]":
    """One data set for each value of a column; see ``Dataset.segment``."""
    home = _home(dataset, by)
    if home == "profiles" and dataset.profiles is not None:
        labels = _labels(dataset.profiles.frame[by])
        position = codes(dataset.users, dataset.profiles.frame[col.USER])
        known = np.append(labels.to_numpy(), UNKNOWN)  # -1, a shopper without a profile, is the last
        of_user = pl.Series(by, known[position], dtype=pl.String)
        return _collect(dataset, of_user, by, lambda value: _by_user(dataset, (of_user == value).to_numpy()))
    if home == "catalogue":
        of_item = _labels(dataset.catalog.frame[by])
        return _collect(dataset, of_item, by, lambda value: _by_item(dataset, (of_item == value).to_numpy()))
    of_event = _labels(dataset.events.frame[by])
    return _collect(dataset, of_event, by, lambda value: _by_event(dataset, by, value))
