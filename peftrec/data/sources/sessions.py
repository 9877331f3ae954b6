"""Click-streams: what shoppers looked at page by page, or the sums over each of their visits."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.reading.mapping import rename_columns
from peftrec.data.reading.table_files import read_text
from peftrec.data.reading.tables import read_table
from peftrec.data.reading.values import as_id, as_moment, as_number, as_text, is_blank
from peftrec.data.source import OF_ALL_EVENTS, DataSource
from peftrec.data.sources.channels import REFERRER, URL, entry_channels
from peftrec.data.sources.epoch import unix_times
from peftrec.data.sources.online_shoppers import SIGNS, online_shoppers
from peftrec.errors import ConfigError, NotEnoughDataError, SchemaError

SOURCE = DataSource(
    name="click-stream, one row for each page",
    licence="the shop's own",
    url="",
    note=f"a shopper without a user id is one visit; products, their titles and prices are those of all pages, {OF_ALL_EVENTS}",
)
PAGE_TYPE = "page_type"

NAMES = {
    col.SESSION: ("session", "sessionid", "visit", "visitid"),
    col.USER: ("user", "userid", "customerid", "memberid", "shopperid", "visitorid"),
    col.TIME: ("timestamp", "time", "datetime", "eventtime", "viewedat"),
    PAGE_TYPE: ("pagetype", "pagekind", "pagecategory"),
    col.ITEM: ("itemid", "productid", "productsku", "sku", "articleid"),
    col.DWELL: ("dwellseconds", "seconds", "secondsonpage", "timeonpage", "dwelltime"),
    REFERRER: ("referrer", "referer", "httpreferer", "documentreferrer", "source", "trafficsource"),
    URL: ("url", "pageurl", "pagelocation"),
    col.CHANNEL: ("channel", "entrychannel"),
    col.QUERY: ("query", "searchquery", "searchterm", "searchterms", "searchwords", "keywords"),
    col.TITLE: ("title", "producttitle", "productname", "itemname"),
    col.CATEGORY: ("category", "productcategory", "itemcategory"),
    col.BRAND: ("brand", "productbrand"),
    col.PRICE: ("price", "productprice", "itemprice"),
}
"""Our column -> common names, in small letters without blanks, hyphens and underscores; the first one that is there."""

PAGES = {
    "view": ("product", "productpage", "productdetail", "productdetails", "pdp", "item"),
    "favourite": ("wishlist", "favourites", "favorites"),
    "cart": ("cart", "basket", "shoppingcart", "addtocart"),
    "purchase": ("confirmation", "orderconfirmation", "order", "purchase", "thankyou"),
}
"""Type of event -> types of page, written like ``NAMES``. Others (home, category, search, checkout) are no events."""

REQUIRED = (col.SESSION, col.TIME, PAGE_TYPE, col.ITEM)
LISTS = ("favourite", "cart", "purchase")
"""Events whose pages show several products: rows with one time and type are then one page."""

_IDS, _TEXTS = (col.SESSION, col.USER, col.ITEM), (PAGE_TYPE, REFERRER, URL, col.CHANNEL, col.QUERY)
_PRODUCT = (col.TITLE, col.CATEGORY, col.BRAND)
_WHAT, _ROW, _VISIT, _MOMENT = "page views", "__page_row", "__visit", "__moment"


def load_sessions(
    path: Path, rules: CleaningRules | None = None, *, columns: Mapping[str, str] | None = None
) -> Dataset:
    """Reads a click-stream in either of two forms, told apart by the header.

    **One row for each page**: the columns of ``NAMES``, of which session, time, type of page and product must be there.
    Times are ISO 8601, or seconds or milliseconds since 1970. A page of a type in ``PAGES`` is an event with the
    product of its row; a list of several products takes a row for each. Every other page has no product and is counted
    under the rule ``missing_item``, or if it names one under ``unknown_event``; what it tells goes into the events:

    - ``page`` is the position in the visit's path, from 1, counting all pages; ``channel`` is the entry channel of the
      visit, from its first page, whatever its type, see :func:`peftrec.data.sources.channels.entry_channels`;
    - ``query`` of a product page is what was searched for since the product page before it;
    - ``dwell_seconds`` is the seconds column or, where it is empty, the time until the next page of the visit.

    Pages before a log-in belong to the one shopper who logs in later in the session. A session without any user id is
    its own shopper: called by the session's id, after the word "session" where other rows do have user ids. A session
    with several user ids is several visits. A product's title, category, brand and price are those that most of its
    rows carry.

    **One row for each visit**: UCI's Online Shoppers Purchasing Intention, separated by ``,`` or ``;``; see
    :func:`peftrec.data.sources.online_shoppers.online_shoppers`.

    Args:
        path: File in .csv, .tsv or .parquet.
        rules: Which rows to drop. If not given: all rules; without any titles, nothing is taken for a near duplicate.
        columns: Our name -> your name, for columns of the first form that are called differently.

    Raises:
        SchemaError: A column is missing, doubled or of a wrong type, or the file cannot be read.
        InvalidValueError: A value of the second form is missing or not as UCI writes it.
        NotEnoughDataError: No page names a product, or cleaning leaves no event.
        ConfigError: ``columns`` for the second form.
    """
    rows = _read(path)
    if not {*SIGNS} <= {*rows.columns}:
        return _page_views(rows, rules, columns)
    if columns:
        raise ConfigError(
            f"columns={dict(columns)} for {path}, which has one row for each visit",
            expected="no columns: UCI's names are known",
            remedy="leave columns out",
        )
    return online_shoppers(rows, rules)


def _read(path: Path) -> pl.DataFrame:
    try:
        with path.open("rb") as file:
            header = file.readline(65536).decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError):
        header = ""  # read_table tells what is wrong
    names = header.split(";")
    if path.suffix.lower() != ".csv" or len(names) <= header.count(",") + 1:
        return read_table(path, what=_WHAT)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaError(
            f"{path} has more than one column named {', '.join(twice)}",
            expected="column names that differ",
            remedy="rename or drop one of them",
        )
    return read_text(path, ";")


def _page_views(rows: pl.DataFrame, rules: CleaningRules | None, columns: Mapping[str, str] | None) -> Dataset:
    pages = _typed(_named(rows, columns)).with_row_index(_ROW)
    pages = _paths(_visits(pages)).sort(_ROW)
    titled = col.TITLE in pages.columns
    products = _products(pages if titled else pages.with_columns(pl.lit(None, pl.String).alias(col.TITLE)))
    if products.is_empty():
        raise NotEnoughDataError(
            f"none of the {len(pages):,} {_WHAT} names a product",
            expected="the id of a product in the rows of product pages",
            remedy="check which column holds it, and pass columns={'item_id': '<your column>'}",
        )
    return Dataset.build(
        name="sessions",
        catalog=products,
        events=pages.drop(_ROW, _VISIT, _MOMENT).drop(_PRODUCT, strict=False),
        rules=rules,
        source=SOURCE,
    )


def _named(rows: pl.DataFrame, columns: Mapping[str, str] | None) -> pl.DataFrame:
    given = dict(columns or {})
    taken = [name for name in (col.EVENT, col.PAGE) if name in rows.columns and name not in given.values()]
    if taken:
        raise SchemaError(
            f"the {_WHAT} table has a column '{taken[0]}', the name of one that is worked out from the pages",
            expected=f"no column '{col.EVENT}' and none '{col.PAGE}'",
            remedy=f"rename it, or if it tells the type of page, pass columns={{'{PAGE_TYPE}': '{taken[0]}'}}",
        )
    plain = {_plain(name): name for name in reversed(rows.columns) if name not in given.values()}
    for ours, names in NAMES.items():
        found = next((plain[name] for name in names if name in plain), None)
        if found is not None and ours not in given and ours not in rows.columns:
            given[ours] = found
    return rename_columns(rows, given, required=REQUIRED, optional=tuple(NAMES), what=_WHAT)


def _plain(name: str) -> str:
    return "".join(mark for mark in name.lower() if mark not in " -_")


def _typed(pages: pl.DataFrame) -> pl.DataFrame:
    if col.PRICE in pages.columns and not pages[col.PRICE].dtype.is_numeric():
        pages = pages.with_columns(as_text(pages[col.PRICE], _WHAT))  # with its currency, which cleaning reads
    ids = [as_id(pages[name], _WHAT) for name in _IDS if name in pages.columns]
    texts = [as_text(pages[name], _WHAT) for name in (*_TEXTS, *_PRODUCT) if name in pages.columns]
    seconds = [as_number(pages[name], _WHAT, single=False) for name in (col.DWELL,) if name in pages.columns]
    pages = pages.with_columns(*ids, *texts, *seconds, unix_times(pages[col.TIME]))
    blank = [pl.when(~is_blank(pl.col(column.name))).then(column.name) for column in (*ids, *texts)]
    kinds = {kind: event for event, kinds in PAGES.items() for kind in kinds}
    plain = pl.col(PAGE_TYPE).str.to_lowercase().str.replace_all(r"[\s_-]+", "")
    # An empty text is no type of event; a null would be taken for a purchase.
    event = plain.replace_strict(kinds, default=pl.col(PAGE_TYPE)).fill_null("").alias(col.EVENT)
    return pages.with_columns(*blank, as_moment(pages[col.TIME], _WHAT).alias(_MOMENT)).with_columns(event)


def _visits(pages: pl.DataFrame) -> pl.DataFrame:
    """Puts the pages in the order of their visits and paths, and gives each its visit and its shopper."""
    session, user = pl.col(col.SESSION), pl.col(col.USER)
    anonymous = pl.lit("session ") + session if col.USER in pages.columns else session
    if col.USER not in pages.columns:
        pages = pages.with_columns(pl.lit(None, pl.String).alias(col.USER))
    one = session.is_not_null() & (user.drop_nulls().n_unique().over(session) == 1)
    pages = pages.with_columns(pl.when(one).then(user.max().over(session)).otherwise(user).alias(col.USER))
    pages = pages.sort(col.SESSION, col.USER, _MOMENT, _ROW, nulls_last=True)
    begins = session.is_null() | session.ne_missing(session.shift()) | user.ne_missing(user.shift())
    return pages.with_columns(begins.cum_sum().alias(_VISIT), pl.coalesce(user, anonymous).alias(col.USER))


def _paths(pages: pl.DataFrame) -> pl.DataFrame:
    """Adds what the path of a visit tells about its pages: position, channel, dwell time and search words."""
    time, event, page = pl.col(_MOMENT), pl.col(col.EVENT), pl.col(col.PAGE)
    same = (time == time.shift()) & (pl.col(PAGE_TYPE) == pl.col(PAGE_TYPE).shift()) & event.is_in(LISTS)
    pages = pages.with_columns((~same.fill_null(False)).cum_sum().over(_VISIT).cast(pl.Int64).alias(col.PAGE))
    later = pl.when(page != page.shift(-1)).then(time.shift(-1)).backward_fill().over(_VISIT)
    between = (later - time).dt.total_microseconds() / 1e6
    measured = [pl.col(col.DWELL)] if col.DWELL in pages.columns else []
    pages = pages.with_columns(pl.coalesce(*measured, between).alias(col.DWELL))
    if col.QUERY in pages.columns:
        pages = pages.with_columns(_searched())
    if {REFERRER, URL, col.CHANNEL} & {*pages.columns}:
        first = pages.filter(pl.col(_VISIT).ne_missing(pl.col(_VISIT).shift()))
        channels = first.select(_VISIT, entry_channels(first))
        pages = pages.drop(col.CHANNEL, strict=False).join(channels, on=_VISIT, how="left", maintain_order="left")
    # A page without a session is a visit of its own here, though nobody knows its place in one.
    return pages.with_columns(pl.when(pl.col(col.SESSION).is_not_null()).then(page))


def _searched() -> pl.Expr:
    query, event, view = pl.col(col.QUERY), pl.col(col.EVENT), pl.col(col.EVENT) == "view"
    said = pl.when(~event.is_in(col.EVENT_TYPES)).then(query).when(view).then(pl.lit(""))
    words = said.forward_fill().shift().over(_VISIT)
    return pl.when(view & query.is_null() & (words != "")).then(words).otherwise(query).alias(col.QUERY)


def _products(pages: pl.DataFrame) -> pl.DataFrame:
    named = pages.filter(pl.col(col.ITEM).is_not_null())
    products = named.select(pl.col(col.ITEM).unique().sort())
    for name in (name for name in (*_PRODUCT, col.PRICE) if name in named.columns):
        told = named.filter(~is_blank(pl.col(name).cast(pl.String))).group_by(col.ITEM, name).len()
        usual = told.sort(col.ITEM, "len", name, descending=[False, True, False]).unique(col.ITEM, keep="first")
        products = products.join(usual.drop("len"), on=col.ITEM, how="left")
    return products
