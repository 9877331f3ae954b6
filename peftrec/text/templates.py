"""How a product, a shopper's profile and a scene become a line of text that BERT can read.

A template is a frozen value with a fingerprint: an adapter remembers the templates it was trained with, because other
words mean other vectors. Rendering is vectorised; missing and blank values are skipped, and a row with nothing to say
becomes the empty text, which the encoder reads as ``[CLS] [SEP]``: a valid vector, the same for all such rows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from peftrec.data import columns as col
from peftrec.text import calendar

_SEPARATOR = ", "
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True, slots=True)
class ProductTemplate:
    """A product as a line: ``ICE - CRUSHED/CUBED, FRZN ICE, National, 22 LB, GROCERY``.

    Attributes:
        first: Columns that open the line, in this order: what a shopper would say first. A package's size, where there
            is one, comes before attributes that a product shares with thousands of others.
        last: Columns that close it, in this order; they are what is lost when a text is too long to be read whole.
        skip: Text columns that say nothing in words. Columns named ``*_id`` are always skipped.

    Every other text column comes in between, sorted by name, so that the order of a file's columns changes nothing.
    """

    first: tuple[str, ...] = (col.TITLE, col.CATEGORY, col.BRAND, "package_size")
    last: tuple[str, ...] = (col.TAGS, col.DESCRIPTION)
    skip: tuple[str, ...] = (col.IMAGE, col.PLATFORM)

    def render(self, frame: pl.DataFrame) -> pl.Series:
        """One text per row of a catalogue's frame."""
        names = self.columns(frame.schema)
        return _lines(frame, [_clean(name) for name in names])

    def columns(self, schema: pl.Schema) -> list[str]:
        """The columns that are read, in the order in which they are read."""
        texts = [name for name, dtype in schema.items() if _is_text(dtype) and not name.endswith("_id")]
        between = sorted(name for name in texts if name not in {*self.first, *self.last, *self.skip})
        return [name for name in (*self.first, *between, *self.last) if name in texts]

    @property
    def fingerprint(self) -> str:
        """Sha256 of the template's content, in hex."""
        return _fingerprint(self)


@dataclass(frozen=True, slots=True)
class ProfileTemplate:
    """A shopper as a line: ``age 45-54, household size 2, income 50-74K``.

    Attributes:
        skip: Columns that are not read. Columns named ``*_id`` never are.
        unknown: Values, in lower case, that mean "not known" and are skipped like nulls.

    Each attribute is its column's name, with spaces for underscores, and its value; columns come sorted by name. True
    becomes ``yes`` and false ``no``; a whole number loses its ``.0``.
    """

    skip: tuple[str, ...] = (col.PLATFORM,)
    unknown: tuple[str, ...] = ("unknown", "none/unknown", "n/a", "nan")

    def render(self, frame: pl.DataFrame) -> pl.Series:
        """One text per row of a profiles' frame."""
        names = sorted(name for name in frame.columns if not name.endswith("_id") and name not in self.skip)
        return _lines(frame, [self._attribute(name, frame.schema[name]) for name in names])

    def _attribute(self, name: str, dtype: pl.DataType) -> pl.Expr:
        value = _readable(name, dtype)
        known = value.str.to_lowercase().is_in(list(self.unknown)).not_()
        return pl.when(known).then(pl.concat_str(pl.lit(name.replace("_", " ") + " "), value))

    @property
    def fingerprint(self) -> str:
        """Sha256 of the template's content, in hex."""
        return _fingerprint(self)


@dataclass(frozen=True, slots=True)
class SceneTemplate:
    """A moment as a line: ``Saturday evening, December, winter, week of Christmas Day, mobile app``.

    Attributes:
        parts: (first hour, name) of each part of the day, from hour 0 on. Weekday, hour and month are read from the
            time stamps as they are, without a change of zone.
        seasons: Name of the season of each month, January first, north of the equator.
        ahead: Days before a public holiday from which a scene names it.
    """

    parts: tuple[tuple[int, str], ...] = ((0, "night"), (6, "morning"), (12, "afternoon"), (18, "evening"))
    seasons: tuple[str, ...] = (*("winter",) * 2, *("spring",) * 3, *("summer",) * 3, *("autumn",) * 3, "winter")
    ahead: int = 6

    def render(self, frame: pl.DataFrame, *, country: str = "") -> pl.Series:
        """One text per row of an events' frame: its time stamp and, where the column is there, its channel.

        Args:
            frame: With ``timestamp``, and perhaps ``channel``.
            country: ISO 3166 code, for seasons and public holidays; neither is named without one.

        Raises:
            ConfigError: There is no such country.
        """
        time = pl.col(col.TIME).dt
        hour = time.hour()
        part = pl.lit(None, dtype=pl.String)
        for start, name in self.parts:
            part = pl.when(hour >= start).then(pl.lit(name)).otherwise(part)
        day = pl.concat_str(_named(time.weekday(), _WEEKDAYS), part, separator=" ", ignore_nulls=True)
        day = pl.when(day != "").then(day)  # polars joins nulls alone to an empty text
        said = [day, _named(time.month(), _MONTHS)]
        if country:
            seasons = self.seasons[6:] + self.seasons[:6] if calendar.is_southern(country) else self.seasons
            frame = frame.with_columns(calendar.holidays_ahead(frame[col.TIME], country, days=self.ahead))
            week = pl.when(pl.col(calendar.HOLIDAY).is_not_null()).then(pl.lit("week of ") + pl.col(calendar.HOLIDAY))
            said += [_named(time.month(), seasons), week]
        return _lines(frame, [*said, *([_clean(col.CHANNEL)] if col.CHANNEL in frame.columns else [])])

    def one(self, moment: datetime, *, channel: str | None = None, country: str = "") -> str:
        """The text of a single moment."""
        return self.many([moment], channels=[channel], country=country)[0]

    def many(
        self, moments: Sequence[datetime], *, channels: Sequence[str | None] | None = None, country: str = ""
    ) -> list[str]:
        """The texts of moments given as Python values; ``channels`` is as long as ``moments``."""
        data = {col.TIME: pl.Series(moments, dtype=pl.Datetime("us")) if not moments else pl.Series(moments)}
        if channels is not None:
            data[col.CHANNEL] = pl.Series(channels, dtype=pl.String)
        return self.render(pl.DataFrame(data), country=country).to_list()

    @property
    def fingerprint(self) -> str:
        """Sha256 of the template's content, in hex."""
        return _fingerprint(self)


@dataclass(frozen=True, slots=True)
class Templates:
    """The three templates of a backbone, as one value."""

    product: ProductTemplate = field(default_factory=ProductTemplate)
    profile: ProfileTemplate = field(default_factory=ProfileTemplate)
    scene: SceneTemplate = field(default_factory=SceneTemplate)

    @property
    def fingerprint(self) -> str:
        """Sha256 of the content of all three, in hex."""
        return _fingerprint(self)

    @classmethod
    def of(cls, told: Mapping[str, Mapping[str, object]]) -> "Templates":
        """From plain values, as ``dataclasses.asdict`` and JSON leave them.

        Raises:
            TypeError: A field is unknown.
            KeyError: A template is missing.
        """
        kinds = {"product": ProductTemplate, "profile": ProfileTemplate, "scene": SceneTemplate}
        made = {
            name: kind(**{key: _frozen(value) for key, value in told[name].items()}) for name, kind in kinds.items()
        }
        return cls(**made)


def _frozen(value: object) -> Any:
    """Lists as tuples."""
    return tuple(_frozen(one) for one in value) if isinstance(value, list | tuple) else value


def _fingerprint(template: ProductTemplate | ProfileTemplate | SceneTemplate | Templates) -> str:
    content = json.dumps({"kind": type(template).__name__, **asdict(template)}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)


def _clean(name: str) -> pl.Expr:
    """The column as text with single spaces; blank becomes null."""
    value = pl.col(name).cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(value != "").then(value)


def _readable(name: str, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Boolean:
        return pl.when(pl.col(name)).then(pl.lit("yes")).when(pl.col(name).not_()).then(pl.lit("no"))
    value = _clean(name)
    return value.str.replace(r"\.0$", "") if dtype.is_float() else value


def _named(number: pl.Expr, names: Sequence[str]) -> pl.Expr:
    """1 becomes the first name, 2 the second, and so on; null stays null."""
    return number.cast(pl.Int64).replace_strict(dict(enumerate(names, start=1)), default=None, return_dtype=pl.String)


def _lines(frame: pl.DataFrame, parts: Sequence[pl.Expr]) -> pl.Series:
    if not parts:
        return pl.Series("text", [""] * frame.height, dtype=pl.String)
    line = pl.concat_str(parts, separator=_SEPARATOR, ignore_nulls=True).fill_null("")
    return frame.select(line.alias("text")).to_series()
