"""Amazon's reviews and products as McAuley's group publishes them, in the editions of 2014, 2018 and 2023."""

import gzip
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.order import FINAL
from peftrec.data.reading.faults import FAULTS
from peftrec.data.reading.json_lines import Fields, first_line, read_json_lines, read_object, unreadable
from peftrec.data.reading.tables import read_table
from peftrec.data.reading.values import MOMENT, as_number
from peftrec.data.source import AS_OF_EXPORT, DataSource
from peftrec.data.sources.amazon_products import (
    products_2014,
    products_2018,
    products_2023,
    products_minionerec,
    tidy,
)
from peftrec.errors import SchemaError

_REVIEWED = f"a review counts as a purchase; products are described {AS_OF_EXPORT}"
EDITION_2014 = DataSource(
    name="Amazon reviews, edition of 2014 (McAuley and others)",
    licence="none stated; published for research",
    url="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    note=_REVIEWED,
)
EDITION_2018 = DataSource(
    name="Amazon reviews, edition of 2018 (Ni, Li and McAuley)",
    licence="none stated; published for research",
    url="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
    note=_REVIEWED,
)
EDITION_2023 = DataSource(
    name="Amazon reviews, edition of 2023 (Hou and others)",
    licence="none assigned; published for research",
    url="https://amazon-reviews-2023.github.io/",
    note=_REVIEWED,
)
MINIONEREC = DataSource(
    name="Amazon reviews, edition of 2018, as prepared by MiniOneRec",
    licence="Apache-2.0 for MiniOneRec; none stated for the reviews, which are published for research",
    url="https://github.com/AkaliKong/MiniOneRec",
    note=f"times are made up: only the order of each shopper's events is real, and everyone's last falls on {FINAL};"
    f" histories are short; {_REVIEWED}",
)


def load_amazon(path: str | Path, rules: CleaningRules | None = None) -> Dataset:
    """Reads a folder with the reviews and the products of one category, plain or as .gz.

    A review counts as a purchase, since nothing else tells of one; ``rating`` and, where the edition has it,
    ``verified`` (whether Amazon knows of the purchase) stay with the event. These forms are told by what the files say:

    - 2014 and 2018: reviews as JSON lines, or ratings as CSV without a header, beside ``meta_*.json``;
    - 2023: reviews as ``*.jsonl``, or ratings as CSV (with the parts train, valid and test, if it is cut in those),
      beside ``meta_*.jsonl``; a product is a ``parent_asin``, which stands for all its colours and sizes;
    - MiniOneRec's copy: histories and products as Parquet. It has no times: see
      :func:`peftrec.data.order.timestamps_from_order`.

    A product's ``category`` is its path in Amazon's tree, ``tags`` are its bullet points. Its price is that of the day
    of the export, the lower end where it is a range. What counts reviews up to that day, such as the mean rating, is left
    out, since it would tell of the future. The report counts lines for a product that has several ("doubled_product";
    the last with a title stays) and prices that are none ("unreadable_price").

    Args:
        path: The folder.
        rules: Which rows to drop. If not given: all rules, ``duplicate_event`` included, as nobody reviews twice at once.

    Raises:
        SchemaError: The folder does not hold one such set of files, or a line of a file is broken.
        InvalidValueError: A number is infinite.
        NotEnoughDataError: Cleaning leaves no event.
    """
    edition, products, logs = _recognised(Path(path))
    catalog, counts = tidy(edition.read(products))
    dataset = Dataset.build(
        name="amazon",
        catalog=catalog,
        events=_read_logs(logs, catalog[col.ITEM]),
        rules=rules or CleaningRules(duplicate_event=True),
        source=edition.source,
    )
    report = dataset.report
    return dataset if report is None else replace(dataset, report=replace(report, counts=(*report.counts, *counts)))


@dataclass(frozen=True)
class _Kind:
    """What a file may hold, and the fields that its first line shows if it does."""

    name: str
    form: str
    fields: frozenset[str]

    def __str__(self) -> str:
        return f"{self.name} ({self.form}: {', '.join(sorted(self.fields))})"


@dataclass(frozen=True)
class _Edition:
    """A kind of product file, how it is read, and the kinds of logs that may lie beside it."""

    products: _Kind
    read: Callable[[Path], pl.DataFrame]
    logs: tuple[_Kind, ...]
    source: DataSource


RATING, VERIFIED = "rating", "verified"
_PLAUSIBLE = (1e8, 1e10)
"""Seconds since 1970 between which a log's last event must lie: the years 1973 and 2286."""

_LINES, _CSV, _BARE, _PARQUET = "JSON lines", "CSV", "CSV without a header", "Parquet"
_REVIEWS = _Kind("reviews of 2014 or 2018", _LINES, frozenset({"reviewerID", "asin", "overall", "unixReviewTime"}))
_RATINGS = _Kind("ratings of 2014 or 2018", _BARE, frozenset({"id", "other id", "rating", "timestamp"}))
_REVIEWS_2023 = _Kind("reviews of 2023", _LINES, frozenset({"user_id", "parent_asin", "rating", "timestamp"}))
_RATINGS_2023 = _Kind("ratings of 2023", _CSV, _REVIEWS_2023.fields)
_ORDER = _Kind("histories of MiniOneRec", _PARQUET, frozenset({"user_id", "item_id", "position"}))

_EDITIONS = (
    _Edition(
        _Kind("products of 2014", _LINES, frozenset({"asin", "categories"})),
        products_2014,
        (_REVIEWS, _RATINGS),
        EDITION_2014,
    ),
    _Edition(
        _Kind("products of 2018", _LINES, frozenset({"asin", "category"})),
        products_2018,
        (_REVIEWS, _RATINGS),
        EDITION_2018,
    ),
    _Edition(
        _Kind("products of 2023", _LINES, frozenset({"parent_asin", "categories", "main_category"})),
        products_2023,
        (_REVIEWS_2023, _RATINGS_2023),
        EDITION_2023,
    ),
    _Edition(
        _Kind("products of MiniOneRec", _PARQUET, frozenset({"item_id", "title", "description"})),
        products_minionerec,
        (_ORDER,),
        MINIONEREC,
    ),
)
_FORMS = {"json": _LINES, "jsonl": _LINES, "csv": _CSV, "parquet": _PARQUET}
_NAME = re.compile(r"^[^.].*\.(jsonl?(?=\.gz$|$)|csv(?=\.gz$|$)|parquet(?=$))")
_PART = re.compile(r"\.(train|valid|test)(?=\.csv)")


def _recognised(folder: Path) -> tuple[_Edition, Path, dict[Path, _Kind]]:
    """The edition that a folder holds, its products, and its reviews."""
    if not folder.is_dir():
        raise SchemaError(
            f"{folder} is no folder",
            expected="a folder with the reviews and the products of one category",
            remedy="put both files into one folder and pass its path",
        )
    named = {file: _NAME.search(file.name) for file in sorted(folder.iterdir())}
    seen = {file: _kind(file, _FORMS[name[1]]) for file, name in named.items() if name and file.is_file()}
    fits = list[tuple[_Edition, Path, dict[Path, _Kind]]]()
    for edition in _EDITIONS:
        products = [file for file, kind in seen.items() if kind == edition.products]
        logs = {file: kind for file, kind in seen.items() if isinstance(kind, _Kind) and kind in edition.logs}
        fits += [(edition, file, logs) for file in products if logs]
    if len(fits) != 1 or not _one_log(list(fits[0][2])):
        raise _not_recognised(folder, seen)
    return fits[0]


def _kind(file: Path, form: str) -> _Kind | str:
    """The kind of a file, or what its beginning looks like."""
    if form == _PARQUET:
        try:
            fields = {*pl.read_parquet_schema(file)}
        except (pl.exceptions.PolarsError, OSError) as error:
            raise unreadable(file, error) from error
        start = ", ".join(sorted(fields))
    else:
        line = first_line(file)
        start = line[:60].decode("utf-8-sig", "replace").strip()
        form, fields = (form, _keys(line)) if form == _LINES else _header(line)
    kinds = (kind for edition in _EDITIONS for kind in (edition.products, *edition.logs))
    return next((kind for kind in kinds if kind.form == form and kind.fields <= fields), start)


def _keys(line: bytes) -> set[str]:
    try:
        return {*read_object(line)}
    except ValueError:
        return set()


def _header(line: bytes) -> tuple[str, set[str]]:
    values = line.decode("utf-8-sig", "replace").strip().split(",")
    bare = len(values) == len(_RATINGS.fields) and all(re.fullmatch(r"[0-9.]+\s*", value) for value in values[2:])
    return (_BARE, {*_RATINGS.fields}) if bare else (_CSV, {value.strip() for value in values})


def _one_log(logs: Sequence[Path]) -> bool:
    """Whether the files are one, or the parts of one that was cut for an experiment."""
    whole = {_PART.sub("", log.name) for log in logs}
    return len(logs) == 1 or (len(whole) == 1 and all(_PART.search(log.name) for log in logs))


def _not_recognised(folder: Path, seen: Mapping[Path, _Kind | str]) -> SchemaError:
    said = {file: kind.name if isinstance(kind, _Kind) else f"unknown, {kind!r}" for file, kind in seen.items()}
    listed = "; ".join(f"{file.name}: {kind}" for file, kind in said.items())
    sets = (f"{edition.products} with {' or '.join(map(str, edition.logs))}" for edition in _EDITIONS)
    return SchemaError(
        f"{folder} does not hold one file of products and one of reviews: {listed or 'no .json, .jsonl, .csv or .parquet'}",
        expected="one of these sets, the files of lines plain or as .gz:" + "".join(f"\n    - {one}" for one in sets),
        remedy="put the two files of one category and edition into a folder of their own, as they were published",
    )


def _reviews(path: Path) -> pl.DataFrame:
    names = {
        "reviewerID": col.USER,
        "asin": col.ITEM,
        "overall": RATING,
        "unixReviewTime": col.TIME,
        VERIFIED: VERIFIED,
    }
    return _timed(read_json_lines(path, _fields(names)).rename(names), path, per_second=1)


def _reviews_2023(path: Path) -> pl.DataFrame:
    names = {
        "user_id": col.USER,
        "parent_asin": col.ITEM,
        "rating": RATING,
        "timestamp": col.TIME,
        "verified_purchase": VERIFIED,
    }
    return _timed(read_json_lines(path, _fields(names)).rename(names), path, per_second=1000)


def _fields(names: Mapping[str, str]) -> Fields:
    types = {RATING: pl.Float64(), col.TIME: pl.Float64(), VERIFIED: pl.Boolean()}
    return {theirs: types.get(ours, pl.String()) for theirs, ours in names.items()}


def _ratings(path: Path) -> pl.DataFrame:
    table = _read_csv(path, has_header=False, new_columns=["id", "other id", RATING, col.TIME])
    return _timed(table, path, per_second=1)


def _ratings_2023(path: Path) -> pl.DataFrame:
    table = _read_csv(path, columns=["user_id", "parent_asin", "rating", "timestamp"])
    return _timed(table.rename({"parent_asin": col.ITEM}), path, per_second=1000)


def _order(path: Path) -> pl.DataFrame:
    table = read_table(path, what="events")
    return table.select(col.USER, col.ITEM, "position")


_READERS: dict[_Kind, Callable[[Path], pl.DataFrame]] = {
    _REVIEWS: _reviews,
    _RATINGS: _ratings,
    _REVIEWS_2023: _reviews_2023,
    _RATINGS_2023: _ratings_2023,
    _ORDER: _order,
}


def _read_logs(logs: Mapping[Path, _Kind], items: pl.Series) -> pl.DataFrame:
    events = pl.concat([_READERS[kind](log) for log, kind in logs.items()])
    if "other id" in events.columns:
        # The edition of 2014 names the user first, that of 2018 the product: the catalogue knows which is which.
        known = events.select(pl.col("id", "other id").is_in(items.implode()).sum()).row(0)
        item, user = ("id", "other id") if known[0] >= known[1] else ("other id", "id")
        events = events.rename({item: col.ITEM, user: col.USER})
    empty = [name for name in events.columns if name == VERIFIED and events[name].null_count() == len(events)]
    return events.drop(empty)


def _read_csv(path: Path, **options: Any) -> pl.DataFrame:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            width = file.readline().count(b",") + 1
            for number, line in enumerate(file, start=2):
                if line.strip() and line.count(b",") + 1 != width:
                    raise SchemaError(
                        f"line {number} of {path} has {line.count(b',') + 1} of {width} fields: {line[:60]!r}",
                        expected="the same number of fields in every line",
                        remedy="fetch the file as it was published",
                    )
        # Ids hold neither commas nor quotation marks, so a mark is a letter like others.
        return pl.read_csv(path, infer_schema=False, quote_char=None, **options)
    except (*FAULTS, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def _timed(events: pl.DataFrame, path: Path, *, per_second: int) -> pl.DataFrame:
    """Numbers as numbers, and times, which count from 1970, as moments."""
    rating, time = (as_number(events[name], f"file {path}", single=False) for name in (RATING, col.TIME))
    seconds = time / per_second
    latest = seconds.max()
    if isinstance(latest, float) and not _PLAUSIBLE[0] <= latest <= _PLAUSIBLE[1]:
        raise SchemaError(
            f"the latest time in {path} is {time.max():,.0f}",
            expected=f"{'seconds' if per_second == 1 else 'milliseconds'} since 1970, as this edition counts them",
            remedy="multiply or divide the times by 1,000, or fetch the file as it was published",
        )
    micros = (seconds * 1e6).round().cast(pl.Int64, strict=False)
    return events.with_columns(rating, micros.cast(MOMENT).alias(col.TIME))
