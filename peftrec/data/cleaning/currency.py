"""Prices written as people write them: "£2.55", "1.234,50 €", "USD 12"."""

import math
from collections.abc import Mapping

import polars as pl

from peftrec.data import columns as col
from peftrec.errors import ConfigError, InvalidValueError, SchemaError

SYMBOLS = {
    "£": "GBP",
    "€": "EUR",
    "$": "USD",
    "¥": "JPY",
    "₹": "INR",
    "₩": "KRW",
    "zł": "PLN",
    "元": "CNY",
    "円": "JPY",
}
"""Signs and the currencies that they are taken for; a three-letter code beside the number goes before."""

_NO_NUMBER = ("", "na", "n/a", "nan", "null", "none", "—", "-")
_AMOUNT = r"(\p{N}[\p{N}.,'’\s\u00a0\u202f]*)"


def check_rates(rates: Mapping[str, float]) -> None:
    """Raises unless every rate is a finite number above zero.

    Raises:
        ConfigError: Names the first that is not.
    """
    for name, rate in rates.items():
        if not (math.isfinite(rate) and rate > 0):
            raise ConfigError(
                f"rates={{'{name}': {rate!r}}}",
                expected="the value of one unit of the currency in the common one, above 0",
                remedy=f"correct the rate of {name}",
            )


def amounts(column: pl.Series) -> pl.DataFrame:
    """Reads price texts.

    The last point or comma is the decimal mark if one or two digits follow it, or if the other mark comes before it;
    otherwise it parts thousands. A range of two prices has no amount.

    >>> amounts(pl.Series(["£2.55", "1.234,50 €", "USD 1,200"])).rows()
    [(2.55, 'GBP'), (1234.5, 'EUR'), (1200.0, 'USD')]

    Returns:
        ``amount`` (Float64, null where unreadable) and ``currency`` (three letters, null where none is named).
    """
    text = pl.col("text").str.strip_chars()
    numbers = text.str.count_matches(_AMOUNT)
    digits = text.str.extract(_AMOUNT).str.replace_all(r"[\s'’\u00a0\u202f]", "").str.strip_chars_end(".,")
    decimal_comma = digits.str.contains(r"\.\d{3}.*,\d+$|^\d+,\d{1,2}$")
    plain = pl.when(decimal_comma).then(
        digits.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    )
    plain = plain.otherwise(digits.str.replace_all(",", "", literal=True))
    code = text.str.extract(r"(?:^|[\d\s])([A-Z]{3})(?:[\d\s-]|$)")
    named = pl.coalesce(
        pl.when(text.str.contains(mark, literal=True)).then(pl.lit(name)) for mark, name in SYMBOLS.items()
    )
    sign = pl.when(text.str.contains(r"^\P{N}*-\P{N}*\p{N}")).then(-1.0).otherwise(1.0)
    return pl.DataFrame({"text": column}).select(
        pl.when(numbers == 1).then(plain.cast(pl.Float64, strict=False) * sign).alias("amount"),
        pl.coalesce(code, named).alias("currency"),
    )


def in_one_currency(
    frame: pl.DataFrame, what: str, rates: Mapping[str, float] | None
) -> tuple[pl.DataFrame, list[int], str]:
    """Turns a price column of texts into numbers of one currency.

    Args:
        frame: With our names; touched only where ``price`` is text that says more than plain numbers.
        what: What the table is, for messages.
        rates: Value of one unit of each currency in the common one; needed where prices name several.

    Returns:
        The table, the rows whose text was more than a number, and the first of them in words.

    Raises:
        SchemaError: A price cannot be read.
        InvalidValueError: Prices name several currencies, or one without a rate.
    """
    if frame.schema.get(col.PRICE) != pl.String:
        return frame, [], ""
    column = frame[col.PRICE]
    told = column.str.strip_chars().str.to_lowercase().is_in(_NO_NUMBER).not_() & column.is_not_null()
    written = (column.str.strip_chars().cast(pl.Float64, strict=False).is_null() & told).arg_true()
    if not len(written):
        return frame, [], ""
    read = amounts(column.gather(written))
    unread = read["amount"].is_null().arg_true()
    if len(unread):
        row = written[unread[0]]
        raise SchemaError(
            f"column '{col.PRICE}' of the {what}, row {row} (counting from 0), is {column[row]!r}"
            + (f", and {len(unread) - 1:,} more rows are no prices" if len(unread) > 1 else ""),
            expected="one amount with at most a currency sign or code, such as 2.55, '£2.55', '1.234,50 €' or 'USD 12'",
            remedy="correct the rows or empty them; of a range of prices keep one",
        )
    factor = _factors(read["currency"], what, rates)
    values = column.str.strip_chars().cast(pl.Float64, strict=False).scatter(written, read["amount"] * factor)
    first = written[0]
    shown = f"row {first}: {col.PRICE} {column[first]!r} -> {values[first]:g}"
    return frame.with_columns(values.alias(col.PRICE)), written.to_list(), shown


def _factors(named: pl.Series, what: str, rates: Mapping[str, float] | None) -> pl.Series:
    found = named.drop_nulls().unique().sort().to_list()
    if rates is None:
        if len(found) > 1:
            counts = ", ".join(f"{name} {(named == name).sum():,}" for name in found)
            raise InvalidValueError(
                f"prices of the {what} are in {len(found)} currencies: {counts}",
                expected="one currency, or the value of each in a common one",
                remedy="pass rules=CleaningRules(rates={" + ", ".join(f"'{name}': ..." for name in found) + "})",
            )
        return pl.Series([1.0]).new_from_index(0, len(named))
    missing = [name for name in found if name not in rates]
    if missing:
        raise InvalidValueError(
            f"prices of the {what} are in {', '.join(missing)}, for which there is no rate",
            expected=f"a rate for each of {', '.join(found)}",
            remedy="add it to CleaningRules(rates=...)",
        )
    return named.replace_strict(dict(rates), default=1.0, return_dtype=pl.Float64)
