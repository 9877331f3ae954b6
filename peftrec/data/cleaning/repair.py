"""Texts of products as people would write them: without HTML, without letters read in a wrong encoding."""

import html
import re
from collections.abc import Callable

import ftfy
import polars as pl

from peftrec.data import columns as col

TEXTS = (col.TITLE, col.DESCRIPTION, col.BRAND, col.CATEGORY, col.TAGS)

_ENTITY = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
_NAMES = (
    "abbr|big|blockquote|body|br|center|code|dd|div|dl|dt|em|embed|font|form|h[1-6]|head|hr|html|iframe|img|input|ins|label|li"
    "|link|meta|noscript|object|ol|option|param|pre|samp|script|select|small|span|strike|strong|style|sub|sup|table|tbody|td"
    "|tfoot|th|thead|title|tr|tt|ul|video|wbr"
)
# Of a single letter, words must follow as attributes: "a<b and c>d" holds no markup.
_ELEMENT = rf"(?i:</?(?:{_NAMES})(?:\s[^<>]*|/)?>|</?[abipqsu](?:\s[^<>]*=[^<>]*|\s*/)?>)"
_HTML = rf"{_ELEMENT}|<!--|/>|{_ENTITY}"
_HIDDEN = re.compile(r"<!--.*?(?:-->|$)|<(script|style)\b.*?(?:</\1\s*>|$)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(rf"{_ELEMENT}|\"?\s*/>")
_SPACE = re.compile(r"\s+")


def without_html(text: str) -> str:
    """Drops comments, scripts, style sheets and tags, and writes entities as the letters they stand for.

    >>> without_html("Pens &ndash; <b>Pack</b> of 10")
    'Pens – Pack of 10'
    """
    # Again for what entities hid, as exports of exports hold &amp;lt;b&amp;gt;; only what ends in a semicolon: "A&P" and "R&D"
    # are names, and so is <M> in "Size <M>".
    for _ in range(3):
        text = _TAG.sub(" ", _HIDDEN.sub(" ", text))
        text = re.sub(_ENTITY, lambda found: html.unescape(found.group()), text)
    return _SPACE.sub(" ", _TAG.sub(" ", text)).strip()


def in_right_encoding(text: str) -> str:
    """Undoes that UTF-8 was read as Latin-1, Windows-1252 or their like (ftfy).

    >>> in_right_encoding("CafÃ© crÃ¨me")
    'Café crème'
    """
    return ftfy.fix_encoding(text)


def repaired(frame: pl.DataFrame, rule: str) -> tuple[pl.DataFrame, list[int], str]:
    """Repairs all texts of a product table.

    Args:
        frame: A typed product table.
        rule: ``html`` or ``mojibake``.

    Returns:
        The table, the rows that changed, and the first change in words (empty if there was none).
    """
    suspect, repair = REPAIRS[rule]
    changed, first = set[int](), dict[int, str]()
    for name in (name for name in TEXTS if name in frame.columns):
        rows = frame.select((suspect(pl.col(name))).fill_null(False).arg_true())[name]
        before = frame[name].gather(rows)
        after = pl.Series(name, [repair(text) for text in before], pl.String)
        different = after != before
        at = rows.filter(different)
        for row, old, new in zip(at, before.filter(different), after.filter(different), strict=True):
            first.setdefault(row, f"row {row}: {name} {_short(old)} -> {_short(new)}")
        changed |= {*at}
        if len(at):
            frame = frame.with_columns(frame[name].scatter(at, after.filter(different)))
    return frame, sorted(changed), first[min(first)] if first else ""


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


REPAIRS: dict[str, tuple[Callable[[pl.Expr], pl.Expr], Callable[[str], str]]] = {
    "html": (lambda text: text.str.contains(_HTML), without_html),
    "mojibake": (lambda text: text.str.contains(r"[^\x00-\x7f]"), in_right_encoding),
}
"""Rule -> which texts to look at, and what to make of them."""
