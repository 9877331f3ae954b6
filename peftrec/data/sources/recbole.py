"""RecBole's atomic files: interactions, products and shoppers as lines of fields between tabs, read and written."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.events import POSITION, no_events
from peftrec.data.order import FINAL, timestamps_from_order
from peftrec.data.reading.mapping import rename_columns
from peftrec.data.reading.values import MOMENT, as_id, as_text, is_blank
from peftrec.data.source import DataSource
from peftrec.data.sources.atomic import read_atomic, write_atomic
from peftrec.data.sources.epoch import MICROSECONDS, MILLISECONDS
from peftrec.errors import ConfigError, DataError, InvalidValueError, NotEnoughDataError, SchemaError

SOURCE = DataSource(
    name="atomic files of RecBole",
    licence="that of the data set they were made from",
    url="https://recbole.io/docs/user_guide/data/atomic_files.html",
)
UNTYPED = "no field tells the type of an event: every interaction counts as a purchase"
MADE_UP = f"times are made up: only the order of each shopper's events is real, and everyone's last falls on {FINAL}"

TITLES = (
    *(col.TITLE, "movie_title", "book_title", "item_title", "song_title", "app_name", "track_name"),
    *col.ALIASES[col.TITLE],
)
CATEGORIES = (col.CATEGORY, "categories", "class", "genre", "genres")
EVENTS = (col.EVENT, *col.ALIASES[col.EVENT])
"""Fields that are read as title, as category and as type of event; the first one that is there."""

_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""Seconds since 1970 of the first and the last moment that a calendar date can tell: the years 1 and 9999."""


def load_recbole(
    path: Path, rules: CleaningRules | None = None, *, columns: Mapping[str, str] | None = None
) -> Dataset:
    """Reads ``<name>.inter`` and, if they are there, ``<name>.item`` and ``<name>.user``.

    Every line has one field for each of the header's, between tabs. A field in quotes stands for what is inside, as for
    RecBole; any other quote is a letter. An empty field is not known, and empty lines are passed over.

    - Interactions: ``timestamp`` counts seconds since 1970 in UTC, or milliseconds or microseconds where the middle one
      would otherwise lie beyond the year 5138. Without it, the order of the lines, or the field ``position``, is all
      that is known: see :func:`peftrec.data.order.timestamps_from_order`. A field of ``EVENTS`` is the type of event if
      a value is one of ours, and any other value then falls under the rule ``unknown_event``; without such a field
      every interaction is a purchase. All other fields stay as they are called, such as ``rating``.
    - Products: a field of ``TITLES`` is the title, one of ``CATEGORIES`` the category. Without a file of products the
      catalogue is made of the ids in the interactions, and each is titled "unknown product <id>".
    - Shoppers: all fields are attributes of the profile.

    Sequences are kept as text, as they are written.

    Args:
        path: The folder that holds the files of one data set, or the ``.inter`` file.
        rules: Which rows to drop; all rules if not given.
        columns: Our name -> the field's name, for fields that are called differently, whatever file they are in.

    Raises:
        SchemaError: There is no such file, a header names no type or an unknown one, a field is missing or doubled, or
            a line has too few or too many fields or text where a number should be.
        InvalidValueError: A time is beyond the calendar, or an id of products or shoppers is missing or appears twice.
        NotEnoughDataError: A file has no lines, or cleaning leaves no event.
    """
    tables = read_atomic_files(Path(path), columns=columns)
    rules = rules or CleaningRules()
    source = replace(SOURCE, name=f"{tables.name}, {SOURCE.name}", note="; ".join(tables.notes))
    return tables.build(name=tables.name, rules=rules, source=source)


@dataclass(frozen=True)
class AtomicTables:
    """What the atomic files of one data set hold, under our names.

    Attributes:
        name: That of the files.
        events: Interactions, with moments where times are known.
        catalog: Products; titles may be empty.
        profiles: Shoppers, None without a file of them.
        ordered: Whether only the order of events is known.
        notes: What a reader of results must know.
    """

    name: str
    events: pl.DataFrame
    catalog: pl.DataFrame
    profiles: pl.DataFrame | None
    ordered: bool
    notes: tuple[str, ...]

    def build(self, *, name: str, rules: CleaningRules, source: DataSource) -> Dataset:
        """The data set, cleaned."""
        dataset = Dataset.build(
            name=name, catalog=self.catalog, events=self.events, profiles=self.profiles, rules=rules, source=source
        )
        return replace(dataset, ordered=True) if self.ordered else dataset


def read_atomic_files(path: Traversable, *, columns: Mapping[str, str] | None = None) -> AtomicTables:
    """Reads the files of one data set without cleaning them; see :func:`load_recbole`.

    Args:
        path: A folder, also one inside an archive, or an ``.inter`` file.
        columns: Our name -> the field's name.
    """
    inter = path if isinstance(path, Path) and path.suffix == ".inter" else _only_inter(path)
    folder, name = (inter.parent if isinstance(inter, Path) else path), inter.name.removesuffix(".inter")
    files = {kind: folder.joinpath(f"{name}.{kind}") for kind in ("inter", "item", "user")}
    frames = {kind: read_atomic(file) for kind, file in files.items() if kind == "inter" or file.is_file()}
    required = {"inter": (col.USER, col.ITEM), "item": (col.ITEM,), "user": (col.USER,)}
    used = {field for kind, frame in frames.items() if kind != "inter" for field in frame.columns}
    for kind, frame in frames.items():
        # What no file has is looked for in the interactions, whose error then names it.
        wanted = {*frame.columns} | ({*(columns or {}).values()} - used if kind == "inter" else set[str]())
        mapping = {ours: field for ours, field in (columns or {}).items() if field in wanted}
        frames[kind] = rename_columns(frame, mapping, required=required[kind], optional=(), what=files[kind].name)
    if frames["inter"].is_empty():
        raise no_events()
    events, typed = _with_types(frames["inter"])
    ordered = col.TIME not in events.columns
    notes = (*(() if typed else (UNTYPED,)), *((MADE_UP,) if ordered else ()))
    events = events.with_columns(_made_up(events) if ordered else _moments(events[col.TIME], files["inter"]))
    return AtomicTables(name, events, _products(frames), frames.get("user"), ordered, notes)


def _only_inter(folder: Traversable) -> Traversable:
    try:
        inside = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise SchemaError(
            f"{folder} is no folder that can be read: {error.strerror or error}",
            expected="a folder that holds <name>.inter, or that file itself",
            remedy="check the path",
        ) from error
    found = [entry for entry in inside if entry.name.endswith(".inter") and not entry.name.startswith(".")]
    if len(found) != 1:
        shown = ", ".join(entry.name for entry in (found or inside)[:20]) or "nothing"
        raise SchemaError(
            f"{folder} holds {'more than one file' if found else 'no file'} of interactions: {shown}",
            expected="one file called <name>.inter",
            remedy="pass the path of the one to read; parts of one log, such as .train.inter and .test.inter, must be joined"
            if found
            else "pass the folder that holds it, or write a data set there with write_recbole(...)",
        )
    return found[0]


def _with_types(events: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """Gives the type of event its name, and tells whether there is one."""
    if col.EVENT in events.columns:
        return events.with_columns(_type(as_text(events[col.EVENT], "events"))), True
    for name in (name for name in EVENTS if events.schema.get(name) == pl.String):
        found = _type(events[name])
        if found.is_in(col.EVENT_TYPES).any():
            return events.with_columns(found).rename({name: col.EVENT}), True
    return events, False


def _type(column: pl.Series) -> pl.Series:
    plain = column.str.strip_chars().str.to_lowercase()
    # An empty text is no type of event; a null would be taken for a purchase.
    return plain.zip_with(plain.is_in(col.EVENT_TYPES).fill_null(False), column).fill_null("")


def _made_up(events: pl.DataFrame) -> pl.Series:
    rows = pl.int_range(len(events), eager=True)
    return timestamps_from_order(events[col.USER], events[POSITION] if POSITION in events.columns else rows)


def _moments(column: pl.Series, file: Traversable) -> pl.Series:
    """Numbers since 1970 as moments; text that is none stays, to be read as ISO 8601."""
    number = column.cast(pl.Float64, strict=False)
    if number.null_count() > column.null_count():
        return column
    middle = number.abs().median()
    size = middle if isinstance(middle, float) else 0.0
    seconds = number / (1 if size < MILLISECONDS else 1e3 if size < MICROSECONDS else 1e6)
    beyond = (~seconds.is_between(_FIRST, _LAST)).fill_null(False).arg_true()
    if len(beyond):
        raise InvalidValueError(
            f"row {beyond[0]:,} of {file} (counting from 0): {column.name} is {number[beyond[0]]:g}",
            expected="seconds since 1970, or milliseconds or microseconds in all rows",
            remedy="correct the value, or leave it empty where the time is not known",
        )
    return (seconds * 1e6).round().cast(pl.Int64).cast(MOMENT)


def _products(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    if "item" not in frames:
        ids = as_id(frames["inter"][col.ITEM], "interactions").to_frame()
        products = ids.filter(~is_blank(pl.col(col.ITEM))).unique().sort(col.ITEM)
        if products.is_empty():
            raise NotEnoughDataError(
                "no interaction names a product",
                expected=f"an id in the field {col.ITEM}",
                remedy="check how the file was written",
            )
    else:
        products = _first(_first(frames["item"], TITLES), CATEGORIES)
    return products if col.TITLE in products.columns else products.with_columns(pl.lit(None).alias(col.TITLE))


def _first(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Gives the first of these columns the name that comes first."""
    found = next((name for name in names if name in frame.columns), names[0])
    return frame.rename({found: names[0]}, strict=False)


def write_recbole(dataset: Dataset, folder: str | Path, *, name: str | None = None) -> Path:
    """Writes a data set as atomic files: ``<name>.inter``, ``<name>.item`` and, with profiles, ``<name>.user``.

    :func:`load_recbole` reads the same catalogue, events and profiles back, and RecBole the same values, if the folder is
    called like the data set. Tabs and line ends in texts become spaces. Times are written as seconds since 1970, to the
    microsecond; where moments are made up, only the order of events is written.

    The format has no types for dates, yes/no and whole numbers above 2^53, which become text, nor for durations, which
    become seconds; and no place for promotions, coupons and the past of a part. A column of ``CATEGORIES`` is read back
    as the category if the catalogue has none.

    Files of the same name are replaced. Each is written aside first and the interactions are put in place last: a kill
    at any moment leaves whole files, or no ``.inter`` to read.

    Args:
        dataset: What to write.
        folder: Where to; made if it is not there.
        name: What to call the files; the data set's name if not given.

    Returns:
        The path of the ``.inter`` file.

    Raises:
        ConfigError: The name cannot be that of a file.
        SchemaError: A column's name holds a colon, a tab or a line end, or its values cannot be written as text.
        InvalidValueError: An id holds a tab or a line end.
        NotEnoughDataError: There are no events.
        DataError: The folder cannot be written.
    """
    name, folder = dataset.name if name is None else name, Path(folder)
    _check_name(name)
    if not len(dataset.events):
        raise NotEnoughDataError(
            f"'{dataset.name}' has no events", expected="at least one", remedy="write the data set it was cut from"
        )
    seconds = (pl.col(col.TIME).dt.epoch("us") / 1e6).alias(col.TIME)
    events = dataset.events.frame.drop(col.TIME) if dataset.ordered else dataset.events.frame.with_columns(seconds)
    profiles = dataset.profiles.frame if dataset.profiles is not None and len(dataset.profiles) else None
    tables = {"item": dataset.catalog.frame, "user": profiles, "inter": events}
    target = folder / f"{name}.inter"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".recbole-", dir=folder) as aside:
            for kind, frame in tables.items():
                if frame is not None:
                    write_atomic(frame, Path(aside) / kind, f"{name}.{kind}")
            target.unlink(missing_ok=True)
            for kind, frame in tables.items():
                place = target.with_suffix(f".{kind}")
                place.unlink(missing_ok=True) if frame is None else (Path(aside) / kind).replace(place)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error.strerror or error}",
            expected="a folder that this user may write, on a disk with space left",
            remedy="name another folder, change its permissions, or free some space",
        ) from error
    return target


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or {"/", "\\", "\0"} & {*name}:
        raise ConfigError(
            f"name={name!r} for files",
            expected="a name that a file can have, without slashes and without a full stop in front",
            remedy="pass another one, such as name='shop'",
        )
