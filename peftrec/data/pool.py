"""Several platforms under one schema: ids that say whose they are, one currency, one vocabulary of events."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import polars as pl

from peftrec.data import columns as col
from peftrec.data.catalog import Catalog
from peftrec.data.coupons import Coupons
from peftrec.data.events import Events
from peftrec.data.pool_report import joined_report, joined_source
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import Promotions
from peftrec.data.reading.values import as_text
from peftrec.data.segments import segment
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError

if TYPE_CHECKING:
    from peftrec.data.dataset import Dataset

SEPARATOR = "/"
NAMESPACED = (col.USER, col.ITEM, col.SESSION, col.CHANNEL, "store_id", col.CANONICAL, col.CAMPAIGN)
"""Columns whose values mean something on one platform only."""


def pool(
    datasets: "Sequence[Dataset]",
    *,
    name: str = "pool",
    currencies: Mapping[str, float] | None = None,
    events: Mapping[str, Mapping[str, str]] | None = None,
) -> "Dataset":
    """Joins platforms; see ``Dataset.pool``."""
    _check_platforms(datasets)
    rates, types = currencies or {}, events or {}
    _check_rates(rates, datasets)
    _check_types(types, datasets)
    parts = [_named(dataset, rates.get(dataset.name, 1.0), types.get(dataset.name, {})) for dataset in datasets]
    whole = replace(
        parts[0],
        name=name,
        catalog=Catalog(_stacked([part.catalog.frame for part in parts])),
        events=Events(_stacked([part.events.frame for part in parts]).sort(col.TIME, maintain_order=True)),
        profiles=Profiles(_stacked([part.profiles.frame for part in parts if part.profiles is not None])),
        promotions=_promotions(parts),
        coupons=_coupons(parts),
        source=joined_source(datasets),
        report=joined_report(datasets, name),
        index=None,
    )
    return _cut(whole, datasets)


def platforms(pooled: "Dataset") -> "dict[str, Dataset]":
    """A pool's platforms again, each with its own products, shoppers and events; ids stay as they are in the pool."""
    bare = replace(pooled, profiles=None, past=pooled.past and replace(pooled.past, profiles=None))
    parts: dict[str, Dataset] = {}
    for value, part in segment(bare, by=col.PLATFORM).items():  # by the catalogue, since there are no profiles
        past = part.past and replace(part.past, profiles=pooled.profiles)
        known = replace(part, profiles=pooled.profiles, past=past)
        parts[value] = replace(segment(known, by=col.PLATFORM)[value], name=part.name)
    return parts


def is_pool(dataset: "Dataset") -> bool:
    """Whether all tables say which platform a row is from."""
    frames = [dataset.catalog.frame, dataset.events.frame]
    return dataset.profiles is not None and all(
        col.PLATFORM in frame.columns for frame in (*frames, dataset.profiles.frame)
    )


def _named(dataset: "Dataset", rate: float, types: Mapping[str, str]) -> "Dataset":
    """A platform with all its events, those of its past included, in the pool's terms."""
    known = dataset.users.to_frame(col.USER)
    profiles = known if dataset.profiles is None else known.join(dataset.profiles.frame, on=col.USER, how="left")
    frames = [part.events.frame for part in (dataset.past, dataset) if part is not None]
    events = pl.concat(frames, how="diagonal")
    events = events.with_columns(pl.col(col.EVENT).replace(dict(types)))
    promotions, coupons = dataset.promotions, dataset.coupons
    return replace(
        dataset,
        catalog=Catalog(_with_platform(_priced(dataset.catalog.frame, rate), dataset.name)),
        events=Events(_with_platform(_priced(events, rate), dataset.name)),
        profiles=Profiles(_with_platform(profiles, dataset.name)),
        promotions=promotions and Promotions(_in_namespace(promotions.frame, dataset.name)),
        coupons=coupons
        and Coupons(
            _in_namespace(coupons.products, dataset.name),
            _in_namespace(coupons.recipients, dataset.name),
        ),
        past=None,
        index=None,
    )


def _in_namespace(frame: pl.DataFrame, platform: str) -> pl.DataFrame:
    ids = [as_text(frame[name], platform) for name in NAMESPACED if name in frame.columns]
    return frame.with_columns((platform + SEPARATOR + values).alias(values.name) for values in ids)


def _with_platform(frame: pl.DataFrame, platform: str) -> pl.DataFrame:
    if col.PLATFORM in frame.columns:
        raise SchemaError(
            f"a table of '{platform}' has a column '{col.PLATFORM}' already",
            expected="platforms that were not pooled before, as the pool writes its own names into that column",
            remedy="pool all platforms at once, or rename the column first",
        )
    return _in_namespace(frame, platform).with_columns(pl.lit(platform).alias(col.PLATFORM))


def _priced(frame: pl.DataFrame, rate: float) -> pl.DataFrame:
    if col.PRICE not in frame.columns:
        return frame
    return frame.with_columns((pl.col(col.PRICE) * rate).cast(frame.schema[col.PRICE]))


def _stacked(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """All rows under the union of the columns; columns of different kinds become text."""
    kinds: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            empty = frame[name].null_count() == len(frame)  # what is never filled in has no kind
            kinds.setdefault(name, set()).update([] if empty else [dtype])
    mixed = {name for name, found in kinds.items() if len(found) > 1 and not all(dtype.is_numeric() for dtype in found)}
    return pl.concat([_alike(frame, kinds, mixed) for frame in frames], how="diagonal_relaxed")


def _alike(frame: pl.DataFrame, kinds: Mapping[str, set[pl.DataType]], mixed: set[str]) -> pl.DataFrame:
    empty = {name for name in frame.columns if frame[name].null_count() == len(frame) and len(kinds[name]) == 1}
    texts = [as_text(frame[name], "pool") for name in frame.columns if name in mixed]
    return frame.with_columns(texts).cast({name: next(iter(kinds[name])) for name in empty})


def _promotions(parts: "Sequence[Dataset]") -> Promotions | None:
    frames = [part.promotions.frame for part in parts if part.promotions is not None]
    return Promotions(_stacked(frames)) if frames else None


def _coupons(parts: "Sequence[Dataset]") -> Coupons | None:
    given = [part.coupons for part in parts if part.coupons is not None]
    if not given:
        return None
    return Coupons(_stacked([one.products for one in given]), _stacked([one.recipients for one in given]))


def _cut(whole: "Dataset", datasets: "Sequence[Dataset]") -> "Dataset":
    """The pool itself, or where platforms are parts, the pooled part with the pooled past."""
    pasts = [dataset.past for dataset in datasets if dataset.past is not None]
    if not pasts:
        return whole
    ends = [past.end for past in pasts if len(past.events)]
    starts = [dataset.start for dataset in datasets if len(dataset.events)]
    if not ends or not starts:
        raise NotEnoughDataError(
            f"no {'past' if starts else 'part'} of {', '.join(dataset.name for dataset in datasets)} has an event",
            expected="parts and pasts with at least one event",
            remedy="cut the platforms at another moment",
        )
    if max(ends) >= min(starts):
        raise InvalidValueError(
            f"these platforms are parts, and the past of one ends at {max(ends):%Y-%m-%d %H:%M:%S} UTC, when another part"
            f" has begun ({min(starts):%Y-%m-%d %H:%M:%S} UTC)",
            expected="parts that begin after all pasts have ended",
            remedy="cut every platform at the same moment, or pool the whole platforms and split the pool",
        )
    return whole.split(at=min(starts))[1]


def _check_kinds(datasets: object) -> None:
    """Refuses what is no list of data sets."""
    from peftrec.data.dataset import Dataset  # it imports this module

    alone = isinstance(datasets, Dataset)
    strangers = (
        []
        if alone
        else [type(one).__name__ for one in cast(Sequence[object], datasets) if not isinstance(one, Dataset)]
    )
    if alone or strangers:
        raise SchemaError(
            f"the platforms are {'one data set' if alone else f'among others a {strangers[0]}'}",
            expected="a list of data sets",
            remedy="read each with load_dataset(...) or Dataset.build(...), and write Dataset.pool([a, b])",
        )


def _check_platforms(datasets: "Sequence[Dataset]") -> None:
    _check_kinds(datasets)
    names = [dataset.name for dataset in datasets]
    wrong = [name for name in names if SEPARATOR in name or not name.strip()]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if not names:
        raise NotEnoughDataError("no platforms", expected="at least one data set", remedy="pass Dataset.pool([a, b])")
    if wrong or twice:
        raise InvalidValueError(
            f"a platform is called '{wrong[0]}'"
            if wrong
            else f"{names.count(twice[0])} platforms are called '{twice[0]}'",
            expected=f"different names without '{SEPARATOR}', as an id becomes <platform>{SEPARATOR}<id>",
            remedy="rename one with dataclasses.replace(dataset, name=...)",
        )
    if len({dataset.ordered for dataset in datasets}) > 1:
        shown = next(dataset.name for dataset in datasets if dataset.ordered)
        raise InvalidValueError(
            f"the moments of '{shown}' are made up from the order of events, those of other platforms are real",
            expected="one kind of moments",
            remedy="pool the platforms with real times, and those without, apart",
        )
    _check_pasts(datasets)


def _check_pasts(datasets: "Sequence[Dataset]") -> None:
    parts = [dataset for dataset in datasets if dataset.past is not None]
    without = [dataset.name for dataset in datasets if dataset.past is None]
    if parts and without:
        raise InvalidValueError(
            f"'{parts[0].name}' is a part that has a past, '{without[0]}' has none",
            expected="parts cut at one moment, or whole platforms",
            remedy="cut every platform with split(at=...), or pool the whole platforms and split the pool",
        )
    deep = [dataset.name for dataset in parts if dataset.past is not None and dataset.past.past is not None]
    if deep:
        raise InvalidValueError(
            f"the past of '{deep[0]}' has a past of its own",
            expected="a past that is everything before its part",
            remedy="cut the part from the whole data set with split(at=...) or window(start=...)",
        )


def _check_rates(rates: Mapping[str, object], datasets: "Sequence[Dataset]") -> None:
    _refuse_strangers(rates, datasets, "currencies")
    for name, rate in rates.items():
        if not (isinstance(rate, (int, float)) and math.isfinite(rate) and rate > 0):
            raise InvalidValueError(
                f"currencies={{'{name}': {rate!r}}}",
                expected="the value of one unit of the platform's currency in the common one, above 0",
                remedy=f"correct the rate of {name}",
            )


def _check_types(types: Mapping[str, Mapping[str, str]], datasets: "Sequence[Dataset]") -> None:
    _refuse_strangers(types, datasets, "events")
    for name, mapping in types.items():
        for theirs, ours in mapping.items():
            if not {theirs, ours} <= {*col.EVENT_TYPES}:
                wrong = theirs if theirs not in col.EVENT_TYPES else ours
                raise InvalidValueError(
                    f"events={{'{name}': {{'{theirs}': '{ours}'}}}}: there is no type of event '{wrong}'",
                    expected=f"two of {', '.join(col.EVENT_TYPES)}",
                    remedy="map the platform's own names where its data set is built, and only meanings here",
                )


def _refuse_strangers(names: Mapping[str, object], datasets: "Sequence[Dataset]", argument: str) -> None:
    known = [dataset.name for dataset in datasets]
    strangers = [name for name in names if name not in known]
    if strangers:
        raise InvalidValueError(
            f"{argument} names the platform '{strangers[0]}', which is not pooled",
            expected=f"one of {', '.join(map(repr, known))}",
            remedy="use the names of the data sets",
        )
