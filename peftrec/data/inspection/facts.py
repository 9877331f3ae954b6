"""What the values of a column say about it, whatever it is called."""

from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from peftrec.data.cleaning.currency import amounts
from peftrec.data.columns import EVENT_TYPES
from peftrec.data.reading.faults import FAULTS
from peftrec.data.reading.number_formats import unread_numbers
from peftrec.data.reading.time_formats import UNKNOWN, number_moments, written_moments

TEXT, WHOLE, NUMBER, MOMENT, YES_NO, NESTED = "text", "whole", "number", "moment", "yes/no", "nested"
"""Kinds of columns, as they are in the file."""

SAMPLE = 2_000
"""Values that are looked at, spread evenly over the column."""

EVENT_WORDS = {
    "view": "view views viewed pageview productview viewitem pv detail detailview productdetailview visit browse",
    "click": "click clicks clicked selectitem selectcontent productclick",
    "favourite": "favourite favorite favourites favorites fav like likes wishlist addtowishlist addtofavorites collect bookmark",
    "cart": "cart carts addtocart basket addtobasket add incart intocart",
    "purchase": "purchase purchases purchased transaction transactions order orders buy bought sale sold checkoutcomplete",
}
"""Type of event -> words for it, in small letters and digits only."""

LIKELY = ("2000-01-01", "2045-01-01")
"""Between which numbers are taken for times since 1970 where no name says that they are."""


@dataclass(frozen=True)
class Facts:
    """About one column; shares are of the values that are there, and lie in 0..1.

    Attributes:
        name: As in the file.
        dtype: Its type, as polars calls it.
        kind: One of the kinds above.
        rows: Rows of the table.
        missing: Share of the rows without a value; blank text counts as none.
        distinct: Different values; None for nested ones.
        examples: The first different values.
        numbers: Share that are numbers, also as text.
        amounts: Share that are numbers, or written as people write them: with a currency, thousands or a decimal comma.
        money: Share that names a currency.
        moments: Share that are moments, in any form that is recognised.
        form: The most frequent of these forms, empty if there is none.
        events: Share that are words for types of events.
        links: Share that are web addresses.
        images: Share that name pictures.
        words: Share with a blank between letters.
        length: Mean letters.
        low: Smallest number, None where there is none.
        high: Largest number.
        whole: Whether all numbers are whole.
    """

    name: str
    dtype: str
    kind: str
    rows: int
    missing: float
    distinct: int | None
    examples: tuple[str, ...]
    numbers: float = 0.0
    amounts: float = 0.0
    money: float = 0.0
    moments: float = 0.0
    form: str = ""
    events: float = 0.0
    links: float = 0.0
    images: float = 0.0
    words: float = 0.0
    length: float = 0.0
    low: float | None = None
    high: float | None = None
    whole: bool = False

    @property
    def known(self) -> float:
        """Rows with a value."""
        return self.rows * (1 - self.missing)

    @property
    def unique(self) -> float:
        """Different values per value."""
        return (self.distinct or 0) / self.known if self.known else 0.0


def facts_of(column: pl.Series) -> Facts:
    """Looks at a column."""
    dtype = _words(column.dtype)
    if column.dtype == pl.List(pl.String):  # peftrec joins them
        column = column.list.join(", ", ignore_nulls=True)
    kind, name, rows = _kind(column.dtype), column.name, len(column)
    known = column.drop_nulls()
    if column.dtype == pl.String:
        known = known.filter(known.str.strip_chars() != "")
    missing = 1 - len(known) / rows if rows else 0.0
    if kind == NESTED:
        return Facts(name, dtype, kind, rows, missing, None, tuple(_shown(value) for value in known.head(2)))
    examples = tuple(map(_shown, known.head(1000).unique(maintain_order=True).head(3)))
    base = Facts(name, dtype, kind, rows, missing, known.n_unique(), examples)
    sample = known.gather_every(max(1, len(known) // SAMPLE)).head(SAMPLE)
    if not len(sample):
        return base
    details = {TEXT: _text, WHOLE: _number, NUMBER: _number}.get(kind)
    if details is not None:
        return replace(base, **details(sample))
    return replace(base, moments=float(kind == MOMENT), form=dtype if kind == MOMENT else "")


def _words(dtype: pl.DataType) -> str:
    """A type in a word or two."""
    if isinstance(dtype, pl.Datetime):
        return f"Datetime {dtype.time_zone}" if dtype.time_zone else "Datetime"
    return str(dtype.base_type())


def _kind(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return YES_NO
    if dtype.is_integer():
        return WHOLE
    if dtype.is_numeric():
        return NUMBER
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        return TEXT
    return MOMENT if dtype == pl.Date or isinstance(dtype, pl.Datetime) else NESTED


def _text(sample: pl.Series) -> dict[str, Any]:
    text = sample.cast(pl.String).str.strip_chars()
    number = text.cast(pl.Float64, strict=False)
    found = _numeric(number.drop_nulls()) if number.null_count() < len(number) else {}
    written = [form for form in written_moments(text) if form.form != UNKNOWN]
    if number.null_count() == 0:  # an id may look like a time
        guess = number_moments(number)
        written = written if guess is not None and _is_likely(number, guess[1].expr) else []
    plain = text.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")
    lowered = text.str.to_lowercase()
    return found | {
        "numbers": _share(number.is_not_null()),
        **_amounts(text),
        "moments": sum(form.rows for form in written) / len(text),
        "form": written[0].form if written else "",
        "events": _share(plain.is_in(list(_EVENTS))),
        "links": _share(lowered.str.contains(r"^(?:https?:)?//|^www\.")),
        "images": _share(lowered.str.contains(r"\.(?:jpe?g|png|gif|webp|avif|bmp|svg)(?:$|\?)|/images?/")),
        "words": _share(text.str.contains(r"\p{L}.*[\s-].*\p{L}|\p{Han}{3}|[\p{Katakana}\p{Hiragana}]{3}")),
        "length": _mean_length(text),
    }


def _number(sample: pl.Series) -> dict[str, Any]:
    number = sample.cast(pl.Float64).fill_nan(None).drop_nulls()
    guess = number_moments(sample)
    coded = _share(sample.cast(pl.String).is_in(list(EVENT_TYPES)))
    return _numeric(number) | {
        "numbers": len(number) / len(sample),
        "moments": float(guess is not None and _is_likely(sample, guess[1].expr)),
        "form": guess[0] if guess is not None else "",
        "events": coded,
        "length": _mean_length(sample.cast(pl.String)),
    }


def _numeric(number: pl.Series) -> dict[str, Any]:
    if not len(number):
        return {}
    whole = bool((number == number.round()).all())
    return {"low": number.min(), "high": number.max(), "whole": whole}


def _amounts(text: pl.Series) -> dict[str, Any]:
    unread = unread_numbers(text)
    written = text.filter(unread)
    if not len(written) or (written.str.len_chars() > 25).any():
        return {"amounts": 1 - len(written) / len(text)}
    read = amounts(written)
    legible = int(read["amount"].is_not_null().sum())
    return {
        "amounts": 1 - (len(written) - legible) / len(text),
        "money": int(read["currency"].is_not_null().sum()) / len(text),
    }


def _is_likely(sample: pl.Series, moment: pl.Expr) -> bool:
    """Whether numbers are moments of our time: any number of ten digits is one of some time."""
    try:
        read = sample.to_frame().select(moment).to_series().cast(pl.Date).cast(pl.String)
    except FAULTS:
        return False
    return bool(read.is_between(*LIKELY).all())


def _mean_length(text: pl.Series) -> float:
    return float(text.str.len_chars().sum()) / len(text)


def _share(rows: pl.Series) -> float:
    return float(rows.fill_null(False).sum()) / len(rows) if len(rows) else 0.0


def _shown(value: object) -> str:
    return value if isinstance(value, str) else str(value)


_EVENTS = {word: ours for ours, words in EVENT_WORDS.items() for word in words.split()}
"""Word -> type of event."""


def event_of(value: str) -> str | None:
    """The type of event that a value stands for; None if it is no word for one."""
    return _EVENTS.get("".join(letter for letter in value.lower() if letter.isalnum()))
