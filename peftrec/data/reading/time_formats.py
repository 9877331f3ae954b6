"""Moments that are not written in ISO 8601: recognised, and told with the polars expression that reads them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import polars as pl

from peftrec.data.reading.code import Code, column, function, where

ISO, UNKNOWN = "ISO 8601", "no moment that is recognised"

UNITS = {"s": (1e8, 1e11), "ms": (1e11, 1e14), "us": (1e14, 1e17), "ns": (1e17, 9.2e18)}
"""Unit of time since 1970 -> numbers that are taken for it; all of them lie between 1973 and 5138."""

WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}

_ISO = r"^\s*\d{4}-\d{1,2}-\d{1,2}(?:[T ]\s*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*(?:[Zz]|[+-]\d{2}(?::?\d{2})?)?)?\s*$"
_DIGITS = r"^\s*\d{8,19}(?:\.\d+)?\s*$"
_STAMP = "%Y-%m-%dT%H:%M:%S%.fZ"

_DATES = (
    (r"\d{4}-\d{1,2}-\d{1,2}", ("%Y-%m-%d",), "year-month-day"),
    (r"\d{4}/\d{1,2}/\d{1,2}", ("%Y/%m/%d",), "year/month/day"),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",), "year.month.day"),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y",), "day.month.year"),
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%d/%m/%Y", "%m/%d/%Y"), "day/month/year"),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y"), "day-month-year"),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y",), "day.month.year"),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%d/%m/%y", "%m/%d/%y"), "day/month/year"),
    (r"\d{1,2}-\d{1,2}-\d{2}", ("%d-%m-%y", "%m-%d-%y"), "day-month-year"),
    (r"\d{1,2}-[A-Za-z]{3,}-\d{4}", ("%d-%B-%Y",), "day-month-year"),
    (r"\d{1,2}-[A-Za-z]{3,}-\d{2}", ("%d-%B-%y",), "day-month-year"),
    (r"\d{1,2} [A-Za-z]{3,} \d{4}", ("%d %B %Y",), "day month year"),
    (r"\d{1,2}[A-Za-z]{3}\d{4}", ("%d%B%Y",), "day month year"),
    (r"[A-Za-z]{3,} \d{1,2}, \d{4}", ("%B %d, %Y",), "month day, year"),
    (r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4}", ("%a, %d %b %Y",), "weekday, day month year"),
)
_TIMES = (
    (r"(\d{1,2}:\d{2}:\d{2}\.\d+)", "%H:%M:%S%.f"),
    (r"(\d{1,2}:\d{2}:\d{2} [AaPp][Mm])", "%I:%M:%S %p"),
    (r"(\d{1,2}:\d{2} [AaPp][Mm])", "%I:%M %p"),
    (r"(\d{1,2}:\d{2}:\d{2}[AaPp][Mm])", "%I:%M:%S%p"),
    (r"(\d{1,2}:\d{2}[AaPp][Mm])", "%I:%M%p"),
    (r"(\d{1,2}:\d{2}:\d{2})", "%H:%M:%S"),
    (r"(\d{1,2}:\d{2})", "%H:%M"),
)
_UNMARKED = (
    (6, "year, month and day without marks", "%Y%m%d"),
    (12, "date and time without marks", "%Y%m%d%H%M%S"),
)
_DAY_AND_MONTH, _SHAPES = r"^(\d{1,2})[/-](\d{1,2})[/-]", 50
_MONTH_FIRST = {"day/month/year": "month/day/year", "day-month-year": "month-day-year"}


@dataclass(frozen=True)
class Written:
    """One way in which moments of a column are written.

    Attributes:
        form: In words.
        rows: How many are.
        first: The first of them.
        example: Its value.
        doubt: What no value tells, empty if nothing.
        read: Turns the column into moments; None where nothing has to be done, or nothing can be.
        fits: Whether a value is written this way; None where ``read`` leaves the others null.
    """

    form: str
    rows: int
    first: int
    example: str
    doubt: str = ""
    read: Callable[[Code], Code] | None = None
    fits: Callable[[Code], Code] | None = None


def written_moments(values: pl.Series) -> list[Written]:
    """The ways in which the moments of a text column are written, the most frequent first; blank values are left out.

    ``ISO`` is what needs no conversion, ``UNKNOWN`` what cannot be converted.
    """
    text = values.str.strip_chars()
    frame = pl.DataFrame({"row": pl.int_range(len(values), eager=True), "text": text}).filter(pl.col("text") != "")
    iso, digits = pl.col("text").str.contains(_ISO), pl.col("text").str.contains(_DIGITS)
    found = _counted(frame.filter(iso), ISO) + _numbers(frame.filter(digits))
    rest, shape = frame.filter(~iso & ~digits), pl.col("text").str.replace_all(r"\p{L}+", "a")
    shape = shape.str.replace_all(r"\d{4,}", "0000").str.replace_all(r"\b\d{1,3}\b", "0")
    first, second = (rest["text"].str.extract(_DAY_AND_MONTH, at).cast(pl.Int64, strict=False) > 12 for at in (1, 2))
    order = _Order(int(first.sum() or 0), int(second.sum() or 0))
    groups = rest.with_columns(shape.alias("shape")).partition_by("shape", maintain_order=True)
    for group in groups[:_SHAPES]:
        found += _shaped(group, order)
    found += [one for group in groups[_SHAPES:] for one in _counted(group, UNKNOWN)]
    return sorted(_joined(found), key=lambda written: -written.rows)


def moments(name: str, found: Sequence[Written]) -> Code:
    """The expression that reads a column written in these ways: moments, or text where some cannot be read.

    What is in ISO 8601 or cannot be read stays as it is, so that cleaning can count it.
    """
    source, known = column(name), [written for written in found if written.read is not None]
    if len(known) == len(found) == 1 and known[0].read is not None:
        return known[0].read(source).call("alias", name)
    parts = list[Code]()
    for written in sorted(known, key=lambda written: "%y" not in written.form):  # %Y also reads years of two digits
        if written.read is not None:
            part = written.read(source).call("dt.strftime", _STAMP)
            parts.append(part if written.fits is None else where(written.fits(source), part))
    return function("coalesce", *parts, source).call("alias", name)


def number_moments(numbers: pl.Series) -> tuple[str, Code] | None:
    """What the numbers of a column count, in words, and the expression that reads them; None if no guess fits all."""
    known, source = numbers.cast(pl.Float64).fill_nan(None).drop_nulls(), column(numbers.name)
    if not len(known):
        return None
    unit = unit_of(numbers)
    if unit is not None:
        whole = source.call("cast", pl.Int64, strict=False) if numbers.dtype.is_float() else source
        return f"{WORDS[unit]} since 1970", function("from_epoch", whole, time_unit=unit).call("alias", numbers.name)
    if known.is_between(19000101, 20991231).all():
        text = source.call("cast", pl.Int64, strict=False).call("cast", pl.String)
        return "dates without marks, year first", text.call("str.to_datetime", "%Y%m%d", time_unit="us")
    if known.is_between(20_000, 80_000).all():
        days = function("duration", days=source)
        text = f"pl.datetime(1899, 12, 30) + {days.text}"
        shown = Code(f"({text})", pl.datetime(1899, 12, 30) + days.expr)
        return "days since 1899-12-30, as workbooks count them", shown.call("alias", numbers.name)
    return None


def unit_of(numbers: pl.Series) -> str | None:
    """The unit of numbers since 1970; None if there are none, or not all fit one unit."""
    known = numbers.cast(pl.Float64).fill_nan(None).drop_nulls()
    units = (unit for unit, (least, end) in UNITS.items() if known.is_between(least, end, closed="left").all())
    return next(units, None) if len(known) else None


def since_1970(name: str, unit: str) -> Code:
    """The expression that reads text with numbers since 1970."""
    return _epoch(unit)(column(name)).call("alias", name)


def _counted(frame: pl.DataFrame, form: str) -> list[Written]:
    return [Written(form, len(frame), frame["row"][0], frame["text"][0])] if len(frame) else []


def _numbers(frame: pl.DataFrame) -> list[Written]:
    """Numbers since 1970 by their size, and dates without marks."""
    found = list[Written]()
    for length, form, pattern in _UNMARKED:
        part = frame.filter(pl.col("text").str.contains(rf"^(?:19|20)\d{{{length}}}$"))
        part = part.filter(_parsed(part["text"], pattern).is_not_null())
        if len(part):
            found += [Written(form, len(part), part["row"][0], part["text"][0], read=_reader(pattern))]
            frame = frame.join(part, on="row", how="anti", maintain_order="left")
    value = pl.col("text").cast(pl.Float64)
    for unit, (least, end) in UNITS.items():
        part = frame.filter(value.is_between(least, end, closed="left"))
        if len(part):
            digits = len(str(int(least)))
            fits = rf"^\s*\d{{{digits},{digits + 2}}}(?:\.\d+)?\s*$"
            form = f"{WORDS[unit]} since 1970"
            found.append(
                Written(form, len(part), part["row"][0], part["text"][0], read=_epoch(unit), fits=_matching(fits))
            )
    least, end = UNITS["s"][0], UNITS["ns"][1]
    return found + _counted(frame.filter(~value.is_between(least, end, closed="left")), UNKNOWN)


def _epoch(unit: str) -> Callable[[Code], Code]:
    return lambda source: function(
        "from_epoch", source.call("str.extract", r"(\d+)").call("cast", pl.Int64), time_unit=unit
    )


def _matching(pattern: str) -> Callable[[Code], Code]:
    return lambda source: source.call("str.contains", pattern)


@dataclass(frozen=True)
class _Order:
    """How many dates have a number above 12 in the first place, and how many in the second."""

    day_first: int
    month_first: int

    @property
    def doubt(self) -> str:
        if not self.day_first and not self.month_first:
            return "no day is above 12: whether the day or the month comes first is a guess"
        return "both orders occur: which one is meant is a guess where day and month are up to 12" if self.mixed else ""

    @property
    def mixed(self) -> bool:
        return bool(self.day_first and self.month_first)


def _shaped(group: pl.DataFrame, order: _Order) -> list[Written]:
    """Texts that have letters, digits and marks at the same places."""
    patterns, name, ending = _patterns(group["text"][0])
    found, several = list[Written](), len(patterns) > 1
    if several and order.month_first > order.day_first:
        patterns = patterns[::-1]
    for pattern in patterns if order.mixed else patterns[:1]:
        read = pattern + ending
        good = group.filter(_parsed(group["text"], read).is_not_null())
        if len(good):
            words = name if not several or pattern.startswith("%d") else _MONTH_FIRST[name]
            form = f"{words}{' with time' if ':' in pattern else ''}, {read}"
            doubt = order.doubt if several else ""
            found.append(Written(form, len(good), good["row"][0], good["text"][0], doubt, _reader(read)))
            group = group.join(good, on="row", how="anti", maintain_order="left")
    return found + _counted(group, UNKNOWN)


def _patterns(example: str) -> tuple[list[str], str, str]:
    """What strptime could read an example by, the name of its date, and the zone at its end."""
    zone = re.search(r" ?(?:UTC|GMT|[Zz])$| ?[+-]\d{2}:?\d{2}$", example) if ":" in example else None
    body, ending = example, ""
    if zone:
        written = zone[0]
        body, ending = example[: zone.start()], re.sub(r"[+-]\d{2}:?\d{2}$", "%z", written)
    for shape, dates, name in _DATES:
        for time, pattern in (*_TIMES, ("", "")):
            between = re.fullmatch(rf"{shape}(?P<mark>,? |T|){time}", body)
            if between and bool(pattern) == bool(between["mark"]):
                return [f"{date}{between['mark']}{pattern}" for date in dates], name, ending
    return [], "", ""


def _parsed(text: pl.Series, pattern: str) -> pl.Series:
    return pl.DataFrame({"text": text}).select(_reader(pattern)(column("text")).expr).to_series()


def _reader(pattern: str) -> Callable[[Code], Code]:
    """Reads text by a pattern, as UTC where it names no zone."""

    def read(source: Code) -> Code:
        moment = source.call("str.strip_chars").call("str.to_datetime", pattern, strict=False, time_unit="us")
        return moment.call("dt.replace_time_zone", None) if pattern.endswith("%z") else moment

    return read


def _joined(found: Sequence[Written]) -> list[Written]:
    """One entry for each form: words for months are short or long, for example."""
    joined = dict[str, Written]()
    for written in found:
        before = joined.get(written.form, written)
        first = min(before, written, key=lambda one: one.first)
        rows = written.rows + (before.rows if written.form in joined else 0)
        joined[written.form] = replace(written, rows=rows, first=first.first, example=first.example)
    return list(joined.values())
