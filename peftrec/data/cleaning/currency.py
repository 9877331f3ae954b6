"""Prices written as people write them: "£2.55", "1.234,50 €", "USD 12"."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import polars as pl

from peftrec.data import columns as col
from peftrec.data.reading.number_formats import NO_NUMBER
from peftrec.errors import ConfigError, InvalidValueError, SchemaError

SYMBOLS = {
    "US$": "USD",
    "CA$": "CAD",
    "AU$": "AUD",
    "HK$": "HKD",
    "NZ$": "NZD",
    "NT$": "TWD",
    "MX$": "MXN",
    "C$": "CAD",
    "A$": "AUD",
    "R$": "BRL",
    "S$": "SGD",
    "CN¥": "CNY",
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
"""Signs and the currencies that they are taken for, longer ones first; a three-letter code beside the number goes before."""

COLUMNS = "currency", "currency_code"
"""Columns that say what each price is in, where its own text names nothing."""

_CODES = (
    "AED ARS AUD BGN BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW KWD MAD MXN MYR NGN"
    " NOK NZD PEN PHP PKR PLN QAR RON RSD RUB SAR SEK SGD THB TRY TWD UAH USD VND ZAR"
)
CODES = tuple(_CODES.split())
"""Codes that are read; other words of three capitals, such as XXL, are none."""

_NOTHING = (*NO_NUMBER, "—", "-")
_AMOUNT = r"([.,]?\p{N}[\p{N}.,'’\s\u00a0\u202f]*)"
_BLANKS = r"[\s'’\u00a0\u202f]"
_NEGATIVE = r"^\P{N}*-\P{N}*\p{N}|^\s*\(.*\)\s*$|\p{N}\s*-\s*$"


def check_rates(rates: object) -> None:
    """Raises unless every currency has a finite rate above zero.

    Raises:
        ConfigError: Names the first that has not.
    """
    if not isinstance(rates, Mapping):
        raise ConfigError(
            f"rates={rates!r:.60} is a {type(rates).__name__}",
            expected="a mapping from currencies to their value in the common one",
            remedy="write rates={'EUR': 1.08, 'USD': 1}",
        )
    for name, rate in cast("Mapping[object, object]", rates).items():
        is_rate = isinstance(rate, int | float) and not isinstance(rate, bool) and math.isfinite(rate) and rate > 0
        if not (isinstance(name, str) and is_rate):
            raise ConfigError(
                f"rates={{{name!r}: {rate!r}}}",
                expected="a currency's name, and the value of one unit of it in the common one, a number above 0",
                remedy=f"correct the rate of {name}",
            )


def amounts(column: pl.Series) -> pl.DataFrame:
    """Reads price texts.

    Of two different marks the last one is the decimal mark, as is one that is followed by other than three digits or that
    follows a single zero. Where a single mark is followed by three digits, it is what that mark is in the other texts of
    the column, or else parts thousands. A range of two prices has no amount.

    >>> amounts(pl.Series(["£2.55", "1.234,50 €", "USD 1,200", "(3,00)", "-.99"])).rows()
    [(2.55, 'GBP'), (1234.5, 'EUR'), (1200.0, 'USD'), (-3.0, None), (-0.99, None)]

    Returns:
        ``amount`` (Float64, null where unreadable) and ``currency`` (three letters, null where none is named).
    """
    text = pl.col("text").str.strip_chars()
    code = text.str.extract_all(r"\b[A-Z]{3}\b|[A-Z]{3}").list.eval(pl.element().filter(pl.element().is_in(CODES)))
    sign = pl.coalesce(
        pl.when(text.str.contains(mark, literal=True)).then(pl.lit(name)) for mark, name in SYMBOLS.items()
    )
    frame = pl.DataFrame({"text": column}, schema={"text": pl.String}).select(
        pl.when(text.str.count_matches(_AMOUNT) == 1)
        .then(text.str.extract(_AMOUNT).str.replace_all(_BLANKS, "").str.strip_chars_end(".,"))
        .alias("digits"),
        pl.when(text.str.contains(_NEGATIVE)).then(-1.0).otherwise(1.0).alias("sign"),
        pl.coalesce(code.list.first(), sign).alias("currency"),
    )
    digits = pl.col("digits")
    point, comma = _is_decimal(digits, "."), _is_decimal(digits, ",")
    open_ = digits.str.contains(r"^[1-9]\p{N}{0,2}[.,]\p{N}{3}$")
    usual_point, usual_comma = (frame.select((sure & ~open_).sum()).item() for sure in (point, comma))
    mark = digits.str.extract(r"([.,])")
    is_point = pl.when(open_).then((mark == ".") & (usual_point > usual_comma)).otherwise(point)
    is_comma = pl.when(open_).then((mark == ",") & (usual_comma > usual_point)).otherwise(comma)
    whole = digits.str.replace_all(r"[.,]", "")
    with_point = digits.str.replace_all(",", "", literal=True)
    with_comma = digits.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    number = pl.when(is_point).then(with_point).when(is_comma).then(with_comma).otherwise(whole)
    number = pl.concat_str(pl.lit("0"), number).cast(pl.Float64, strict=False)
    return frame.select((number * pl.col("sign")).alias("amount"), "currency")


def _is_decimal(digits: pl.Expr, mark: str) -> pl.Expr:
    """Whether a mark parts whole from fraction; where three digits follow a single one, that is open."""
    other = "," if mark == "." else "."
    last = digits.str.contains(rf"\{mark}\p{{N}}*$") & (digits.str.count_matches(mark, literal=True) == 1)
    both, after_zero = digits.str.contains(other, literal=True), digits.str.contains(rf"^0?\{mark}")
    return last & (both | after_zero | ~digits.str.contains(rf"\{mark}\p{{N}}{{3}}$"))


@dataclass(frozen=True)
class Priced:
    """A table whose prices are numbers of one currency.

    Attributes:
        frame: The table.
        rows: Those whose text was more than a number, or that were converted into the common currency.
        example: The first of them in words.
        currencies: What prices name, sorted; those that were converted into a common one are left out.
    """

    frame: pl.DataFrame
    rows: Sequence[int] = ()
    example: str = ""
    currencies: Sequence[str] = ()


def refuse_several(found: Mapping[str, Sequence[str]]) -> None:
    """Raises where tables of one shop name several currencies, none of which was converted.

    Args:
        found: What a table is -> the currencies that it names.

    Raises:
        InvalidValueError: Names the tables.
    """
    distinct = sorted({name for names in found.values() for name in names})
    if len(distinct) > 1:
        told = "; ".join(f"{', '.join(names)} in the {what}" for what, names in found.items() if names)
        raise InvalidValueError(
            f"prices are in {len(distinct)} currencies: {told}",
            expected="one currency, or the value of each in a common one",
            remedy="pass rules=CleaningRules(rates={" + ", ".join(f"'{name}': ..." for name in distinct) + "})",
        )


def in_one_currency(frame: pl.DataFrame, what: str, rates: Mapping[str, float] | None) -> Priced:
    """Turns a price column into numbers of one currency.

    Args:
        frame: With our names; touched only where ``price`` is text that says more than plain numbers, or where one of
            ``COLUMNS`` names currencies. After a conversion that column is gone, as it is no longer true.
        what: What the table is, for messages.
        rates: Value of one unit of each currency in the common one; needed where prices name several.

    Raises:
        SchemaError: A price cannot be read.
        InvalidValueError: Prices name several currencies, or one without a rate.
    """
    if col.PRICE not in frame.columns:
        return Priced(frame)
    column, beside = frame[col.PRICE], next((name for name in COLUMNS if name in frame.columns), None)
    values, written, named = _as_written(column, what) if column.dtype == pl.String else (column, None, None)
    if beside is not None and values.dtype.is_numeric():
        own = frame[beside].cast(pl.String, strict=False).str.strip_chars().str.to_uppercase()
        own = own.zip_with((values.is_not_null() & (own != "")).fill_null(False), own.clear(len(own)))
        named = own if named is None else named.zip_with(named.is_not_null(), own)
    if named is None:
        return Priced(frame)
    factor = _factors(named, what, rates)
    changed = (factor != 1) & values.is_not_null()
    rows = (changed if written is None else changed | written).arg_true()
    converted = (values * factor).alias(col.PRICE) if written is not None or changed.any() else column
    found = frame.with_columns(converted)
    found = found.drop(beside) if beside is not None and rates is not None else found
    shown = ""
    if len(rows):
        place = "" if beside is None or named[rows[0]] is None else f" ({named[rows[0]]})"
        shown = f"row {rows[0]}: {col.PRICE} {column[rows[0]]!r}{place} -> {converted[rows[0]]:g}"
    currencies = [] if rates is not None else named.drop_nulls().unique().sort().to_list()
    return Priced(found, rows.to_list(), shown, currencies)


def _as_written(column: pl.Series, what: str) -> tuple[pl.Series, pl.Series | None, pl.Series | None]:
    """Price texts as numbers, which of them said more than a number, and the currencies that they name.

    Where none says more, the last two are None.
    """
    plain = column.str.strip_chars().cast(pl.Float64, strict=False)
    told = column.str.strip_chars().str.to_lowercase().is_in(_NOTHING).not_() & column.is_not_null()
    more = (plain.is_null() & told).fill_null(False)
    written = more.arg_true()
    if not len(written):
        return plain, None, None
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
    named = pl.Series([None], dtype=pl.String).new_from_index(0, len(column)).scatter(written, read["currency"])
    return plain.scatter(written, read["amount"]), more, named


def _factors(named: pl.Series, what: str, rates: Mapping[str, float] | None) -> pl.Series:
    """What each price is worth in the common currency; 1 where none is named."""
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
    worth = {name: float(rate) for name, rate in rates.items()}
    return named.replace_strict(worth, default=1.0, return_dtype=pl.Float64)
