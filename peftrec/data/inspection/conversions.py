"""What has to be converted before a table can be read, and the expression that does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.currency import amounts
from peftrec.data.inspection.facts import NESTED, Facts, event_of
from peftrec.data.inspection.guess import CATALOGUE, EVENTS, OPTIONAL, REQUIRED
from peftrec.data.reading.code import Code, column
from peftrec.data.reading.number_formats import as_numbers, style_of, unread_numbers
from peftrec.data.reading.time_formats import ISO, UNKNOWN, moments, number_moments, written_moments

_TIMES = (col.TIME, col.START, col.END, col.ANNOUNCED)
_NUMBERS = (col.QUANTITY, col.PRICE, col.DISCOUNT, col.DWELL, col.PAGE, col.REACH, "position")
_IDS = (col.USER, col.ITEM, col.SESSION)


@dataclass(frozen=True)
class Conversion:
    """One column that has to be changed first.

    Attributes:
        column: Name in the file.
        ours: What it becomes, empty if nothing.
        found: What is the matter with it.
        code: The expression that mends it; None where the column is to be dropped.
        doubt: What the values do not tell, empty if nothing.
    """

    column: str
    ours: str
    found: str
    code: Code | None
    doubt: str = ""


def conversions(
    frame: pl.DataFrame, facts: Sequence[Facts], matches: Mapping[str, str], table: str
) -> tuple[list[Conversion], list[str]]:
    """What to convert, and notes on what can stay as it is.

    Args:
        frame: The table.
        facts: About its columns.
        matches: Our name -> their name, also where both are the same.
        table: Which table it is.
    """
    found, notes, about = list[Conversion](), list[str](), {one.name: one for one in facts}
    for ours, theirs in matches.items():
        one, note = _conversion(frame[theirs], about[theirs], ours, table)
        found += [] if one is None else [one]
        notes += [note] if note else []
    known, used = {*REQUIRED[table], *OPTIONAL[table]}, {*matches.values()}
    for one in facts:
        if one.name in used:
            continue
        if one.kind == NESTED:
            found.append(
                Conversion(one.name, "", f"it holds {one.dtype}, which no part of peftrec could compare", None)
            )
        elif one.name in known:
            why = f"it has our name, but its values are none of a {one.name}, such as {', '.join(one.examples[:2])}"
            found.append(Conversion(one.name, "", why, None))
    return found, notes


def _conversion(values: pl.Series, facts: Facts, ours: str, table: str) -> tuple[Conversion | None, str]:
    if ours in _TIMES:
        return _time(values, ours), _clock(values, ours)
    if ours in _NUMBERS:
        return _number(values, facts, ours, table)
    if ours == col.EVENT:
        return _event(values, facts)
    if ours in _IDS:
        return _id(values, ours), ""
    return None, ""


def _time(values: pl.Series, ours: str) -> Conversion | None:
    if values.dtype.is_numeric():
        guess = number_moments(values)
        return guess and Conversion(values.name, ours, f"its numbers look like {guess[0]}", guess[1])
    if values.dtype != pl.String:
        return None
    written = written_moments(values)
    if all(one.form in (ISO, UNKNOWN) for one in written):
        return None
    told = "; ".join(f"{one.rows:,} rows {one.form}, first row {one.first}: {one.example!r:.40}" for one in written)
    doubts = dict.fromkeys(one.doubt for one in written if one.doubt)
    return Conversion(
        values.name, ours, f"its moments are written as {told}", moments(values.name, written), "; ".join(doubts)
    )


def _clock(values: pl.Series, ours: str) -> str:
    """A note where moments name no zone."""
    naive = isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is None
    text = (
        values.dtype == pl.String and not values.head(1000).str.contains(r"[Zz]\s*$|[+-]\d\d:?\d\d\s*$|UTC|GMT").any()
    )
    digits = text and bool(values.head(1000).str.contains(r"^\s*\d+(?:\.\d+)?\s*$").any())
    if ours != col.TIME or digits or not (naive or text):
        return ""
    return (
        f"'{values.name}' names no time zone and is taken as UTC; if it was written by a local clock, pass"
        " rules=CleaningRules(timezone='Europe/London') or the like"
    )


def _number(values: pl.Series, facts: Facts, ours: str, table: str) -> tuple[Conversion | None, str]:
    if values.dtype != pl.String or not unread_numbers(values).any():
        return _scale(facts, ours, column(values.name)), ""
    unread = unread_numbers(values)
    rows, first = int(unread.sum()), unread.arg_max() or 0
    told = f"{rows:,} rows are no plain numbers, first row {first}: {values[first]!r:.40}"
    if ours == col.PRICE and table in (EVENTS, CATALOGUE):
        read = amounts(values.filter(unread))
        currencies = read["currency"].drop_nulls().unique().sort().to_list()
        if not read["amount"].null_count():
            rates = ", which need rules=CleaningRules(rates={...})" if len(currencies) > 1 else ""
            names = f" in {', '.join(currencies)}" if currencies else ""
            return None, f"'{values.name}': {told}; cleaning reads them as amounts{names}{rates}"
    style = style_of(values)
    if style is not None:
        return Conversion(
            values.name, ours, f"{told}, written with {style.name}", as_numbers(values.name, style), style.doubt
        ), ""
    number = column(values.name).call("str.strip_chars").call("cast", pl.Float64, strict=False)
    lost = f"{rows:,} values would become empty"
    return Conversion(values.name, ours, told, number.call("alias", values.name), lost), ""


def _scale(facts: Facts, ours: str, source: Code) -> Conversion | None:
    """Numbers in another unit than ours: percent, milliseconds."""
    number = source.call("cast", pl.Float64, strict=False)
    name = facts.name.lower()
    if ours == col.DISCOUNT and facts.high is not None and 1 < facts.high <= 100:
        code = number.call("truediv", 100).call("alias", facts.name)
        doubt = "if it is an amount of money, divide it by the list price instead"
        return Conversion(facts.name, ours, f"its numbers go up to {facts.high:g}: percent, not shares", code, doubt)
    if ours == col.DWELL and any(mark in name for mark in ("msec", "milli", "_ms")):
        code = number.call("truediv", 1000).call("alias", facts.name)
        return Conversion(facts.name, ours, "its name says milliseconds, and peftrec counts seconds", code)
    return None


def _event(values: pl.Series, facts: Facts) -> tuple[Conversion | None, str]:
    text = values.cast(pl.String)
    different = text.drop_nulls().unique().sort().to_list()[:1000]
    if {*different} <= {*col.EVENT_TYPES}:
        return None, ""
    codes = {"1": "view", "2": "favourite", "3": "cart", "4": "purchase"} if {*different} <= {*"1234"} else {}
    read = {value: codes.get(value) or event_of(value) for value in different}
    known = {value: ours for value, ours in read.items() if ours is not None}
    strange = [value for value, ours in read.items() if ours is None]
    told = f"its values are {', '.join(map(repr, different[:8]))}{', ...' if len(different) > 8 else ''}"
    doubt = "the meaning of the numbers is a guess" if codes else ""
    doubt += f"rows with {', '.join(map(repr, strange[:5]))} are dropped by the rule unknown_event" if strange else ""
    source = column(facts.name)
    source = source if values.dtype == pl.String else source.call("cast", pl.String)
    changed = {value: ours for value, ours in known.items() if value != ours}
    if not changed:
        return None, f"'{facts.name}': {doubt}"
    return Conversion(facts.name, col.EVENT, told, source.call("replace", changed), doubt), ""


def _id(values: pl.Series, ours: str) -> Conversion | None:
    """Ids that a program once read as numbers: "17850.0"."""
    if values.dtype != pl.String:
        return None
    known = values.drop_nulls()
    known = known.filter(known != "")
    if not len(known) or not known.str.contains(r"^\d+\.0$").all():
        return None
    code = column(values.name).call("str.strip_suffix", ".0")
    return Conversion(
        values.name, ours, f"its ids end in '.0', such as {known[0]!r}: they were read as numbers once", code
    )
