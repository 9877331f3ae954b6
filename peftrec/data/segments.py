"""Cutting a data set by the values of a column."""

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.catalog import Catalog
from peftrec.data.coupons import Coupons
from peftrec.data.events import Events
from peftrec.data.index import Index
from peftrec.data.log import codes
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import Promotions
from peftrec.data.reading.values import as_text, is_blank
from peftrec.errors import InvalidValueError, SchemaError

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset

UNKNOWN = "unknown"
MAX_SEGMENTS = 1_000
_NEVER = (col.USER, col.ITEM, col.TIME, col.SESSION, col.QUERY, col.DESCRIPTION, col.IMAGE)


@dataclass(frozen=True)
class _Share:
    """What one segment gets of catalogue, profiles and users; old index -> new index where that changes."""

    catalog: Catalog
    profiles: Profiles | None
    users: pl.Series
    new_user: NDArray[np.int32] | None = None
    new_item: NDArray[np.int32] | None = None


def segment(dataset: "Dataset", *, by: str) -> "dict[str, Dataset]":
    """One data set for each value of a column; see ``Dataset.segment``."""
    home = _home(dataset, by)
    rows = _rows(dataset, home, by)
    if len(rows) > MAX_SEGMENTS:
        raise InvalidValueError(
            f"'{by}' of the {home} has {len(rows):,} values in the events of '{dataset.name}'",
            expected=f"at most {MAX_SEGMENTS:,} segments",
            remedy="segment by a coarser column; group the values into one first",
        )
    parts = [(dataset, rows)]
    while parts[-1][0].past is not None:
        past = parts[-1][0].past
        parts.append((past, _rows(past, home, by)))
    return {value: _cut(parts, value, _share(dataset, home, by, value), by) for value in sorted(rows)}


def _cut(parts: "list[tuple[Dataset, dict[str, NDArray[np.int64]]]]", value: str, share: _Share, by: str) -> "Dataset":
    """The segment of the first part, with those of the others as its past, past's past and so on."""
    part, rows = parts[0]
    at = rows.get(value, np.empty(0, np.int64))
    events = Events(part.events.frame[at])
    log = part.log.take(at, users=share.new_user, items=share.new_item)
    return replace(
        part,
        name=f"{part.name}[{by}={value}]",
        catalog=share.catalog,
        events=events,
        profiles=share.profiles,
        promotions=_promotions(part.promotions, share),
        coupons=_coupons(part.coupons, share),
        past=_cut(parts[1:], value, share, by) if len(parts) > 1 else None,
        index=Index(share.catalog, events, share.users, log),
    )


def _promotions(promotions: Promotions | None, share: _Share) -> Promotions | None:
    if promotions is None or share.new_item is None:
        return promotions
    return Promotions(promotions.frame.filter(pl.col(col.ITEM).is_in(share.catalog.ids.implode())))


def _coupons(coupons: Coupons | None, share: _Share) -> Coupons | None:
    if coupons is None or share.new_item is None:
        return coupons
    return replace(coupons, products=coupons.products.filter(pl.col(col.ITEM).is_in(share.catalog.ids.implode())))


def _rows(dataset: "Dataset", home: str, by: str) -> dict[str, NDArray[np.int64]]:
    """Value -> its events, ascending."""
    if home == "profiles":
        labels = user_labels(dataset, by).gather(dataset.log.user)
    elif home == "catalogue":
        labels = _labels(dataset.catalog.frame, by).gather(dataset.log.item)
    else:
        labels = _labels(dataset.events.frame, by)
    values = labels.unique().sort()
    code = codes(labels, values)
    order = np.argsort(code, kind="stable")
    ends = np.searchsorted(code[order], np.arange(len(values)), side="right")
    return dict(zip(values.to_list(), np.split(order, ends[:-1]), strict=True)) if len(values) else {}


def _share(dataset: "Dataset", home: str, by: str, value: str) -> _Share:
    catalog, profiles, users = dataset.catalog, dataset.profiles, dataset.users
    if home == "profiles" and profiles is not None:
        users = users.filter(user_labels(dataset, by) == value)
        frame = profiles.frame.filter(pl.col(col.USER).is_in(users.implode()))
        return _Share(catalog, Profiles(frame), users, new_user=codes(dataset.users, users))
    if home == "catalogue":
        catalog = Catalog(catalog.frame.filter(_labels(catalog.frame, by) == value))
        return _Share(catalog, profiles, users, new_item=codes(dataset.catalog.ids, catalog.ids))
    return _Share(catalog, profiles, users)


def user_labels(dataset: "Dataset", by: str) -> pl.Series:
    """(n_users,) the value that each shopper has in a column of the profiles, ``unknown`` without one."""
    if dataset.profiles is None:
        return pl.Series(by, [UNKNOWN]).new_from_index(0, len(dataset.users))
    frame = dataset.profiles.frame
    position = codes(dataset.users, frame[col.USER])
    labels = pl.concat([_labels(frame, by), pl.Series(by, [UNKNOWN])])  # the last is for those without a profile
    return labels.gather(np.where(position < 0, len(frame), position))


def _labels(frame: pl.DataFrame, by: str) -> pl.Series:
    if by not in frame.columns:  # a past that was put together by hand may lack it
        return pl.Series(by, [UNKNOWN]).new_from_index(0, len(frame))
    text = as_text(frame[by], "data").to_frame()
    return text.select(pl.when(is_blank(pl.col(by))).then(pl.lit(UNKNOWN)).otherwise(by).alias(by))[by]


def _home(dataset: "Dataset", by: str) -> str:
    tables = {
        "profiles": [] if dataset.profiles is None else dataset.profiles.frame.columns,
        "catalogue": dataset.catalog.frame.columns,
        "events": dataset.events.frame.columns,
    }
    offered = {table: [name for name in names if name not in _NEVER] for table, names in tables.items()}
    for table, names in offered.items():
        if by in names:
            return table
    listed = "; ".join(f"{table}: {', '.join(names)}" for table, names in offered.items() if names)
    close = get_close_matches(by, [name for names in offered.values() for name in names], n=1)
    there = any(by in names for names in tables.values())
    raise SchemaError(
        f"'{by}' is no column to segment '{dataset.name}' by" + (": its values name single rows" if there else ""),
        expected=f"one of these ({listed})",
        remedy=f"use segment(by='{close[0]}')" if close else "choose one of these, or add the column to the profiles",
    )
