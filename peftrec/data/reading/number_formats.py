"""Numbers that are written for people: recognised, and told with the polars expression that reads them."""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from peftrec.data.reading.code import Code, column

NO_NUMBER = ("", "na", "n/a", "nan", "null", "none")
"""What is written, in small letters, where a number is not known."""

_BLANKS = r"[\s\u00a0\u202f'’]"


@dataclass(frozen=True)
class Style:
    """One way to write numbers.

    Attributes:
        name: In words.
        pattern: Which texts are written so.
        read: Turns text into numbers; plain numbers among them stay what they are.
        doubt: What the texts do not tell.
    """

    name: str
    pattern: str
    read: Callable[[Code], Code]
    doubt: str = ""


def _number(text: Code) -> Code:
    return text.call("cast", pl.Float64, strict=False)


def _without(text: Code, pattern: str) -> Code:
    return text.call("str.replace_all", pattern, "")


def _decimal_comma(text: Code) -> Code:
    return text.call("str.replace_all", r"\.(\d{3})\b", "${1}").call("str.replace", ",", ".", literal=True)


STYLES = (
    Style(
        "a comma that is either a decimal mark or parts thousands",
        r"^[+-]?\d{1,3},\d{3}$",
        lambda text: _number(_without(text, ",")),
        "the expression takes the comma for one that parts thousands; for a decimal mark write"
        " .str.replace(',', '.') instead",
    ),
    Style("commas part thousands", r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?$", lambda text: _number(_without(text, ","))),
    Style(
        "a decimal comma",
        r"^[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+$",
        lambda text: _number(_decimal_comma(text)),
    ),
    Style(
        "blanks or apostrophes part thousands",
        rf"^[+-]?\d{{1,3}}(?:{_BLANKS}\d{{3}})+(?:[.,]\d+)?$",
        lambda text: _number(_without(text, _BLANKS).call("str.replace", ",", ".", literal=True)),
    ),
    Style("percent", r"^[+-]?\d+(?:\.\d+)?\s*%$", lambda text: _number(_without(text, r"[\s%]")).call("truediv", 100)),
    Style(
        "percent with a decimal comma",
        r"^[+-]?\d+,\d+\s*%$",
        lambda text: _number(_without(text, r"[\s%]").call("str.replace", ",", ".", literal=True)).call("truediv", 100),
    ),
    Style(
        "a currency and a decimal comma",
        r"^\P{N}*\d[\d.]*,\d{1,2}\P{N}*$",
        lambda text: _number(_decimal_comma(_without(text, r"[^\d.,-]"))),
        "the expression drops what stands beside the number: check that it is the same in every row",
    ),
    Style(
        "a currency or a unit beside the number",
        r"^\P{N}*\d[\d,]*(?:\.\d+)?\P{N}*$",
        lambda text: _number(_without(text, r"[^\d.-]")),
        "the expression drops what stands beside the number: check that it is the same in every row",
    ),
)


def unread_numbers(values: pl.Series) -> pl.Series:
    """Boolean, true where a text says something and that is no plain number."""
    text = values.str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    return number.is_null() & ~text.str.to_lowercase().is_in(NO_NUMBER).fill_null(True)


def style_of(values: pl.Series) -> Style | None:
    """How the texts that are no plain numbers are written; None if they are written in no way or in several."""
    unread = values.filter(unread_numbers(values)).str.strip_chars()
    if not len(unread):
        return None
    return next((style for style in STYLES if unread.str.contains(style.pattern).all()), None)


def as_numbers(name: str, style: Style) -> Code:
    """The expression that reads a column in this style."""
    return style.read(column(name).call("str.strip_chars")).call("alias", name)
