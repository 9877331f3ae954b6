"""Through which door a visit came in: the entry channel, from the address of its first page and what referred to it."""

import polars as pl

from peftrec.data import columns as col

REFERRER, URL = "referrer", "url"

CHANNELS = {
    "direct": ("direct", "(direct)", "none", "(none)", "typein", "type in"),
    "search": ("search", "organic", "organic search", "seo"),
    "social": ("social", "social network", "social media", "organic social"),
    "email": ("email", "e mail", "mail", "newsletter"),
    "advertisement": (
        *("advertisement", "advertising", "ad", "ads", "banner", "display", "affiliate", "affiliates"),
        *("paid", "paid search", "paidsearch", "paid social", "cpc", "ppc", "cpm", "cpa", "sem", "retargeting"),
    ),
    "internal": ("internal", "onsite", "same site"),
    "other site": ("other site", "referral", "partner"),
}
"""Channel -> what ``utm_medium``, ``utm_source`` or a channel's name may say, in small letters, blanks for _ and -."""

_TLD = r"\.[a-z]{2,4}(?:\.[a-z]{2})?$"
HOSTS = {
    "email": r"^(?:e?-?mail|webmail|outlook)\.|^com\.google\.android\.gm$",
    "advertisement": r"(?:^|\.)(?:doubleclick|googleadservices|googlesyndication|adnxs|criteo|taboola|outbrain|awin1)"
    + _TLD,
    "social": r"(?:^|\.)(?:facebook|instagram|twitter|tiktok|pinterest|reddit|linkedin|youtube|snapchat|tumblr|threads|vk"
    r"|weibo|whatsapp|telegram)"
    + _TLD
    + r"|(?:^|\.)x\.com$|^(?:t\.co|t\.me|lnkd\.in|youtu\.be|fb\.me|wa\.me|redd\.it)$",
    "search": r"(?:^|\.)(?:google|bing|duckduckgo|yahoo|baidu|yandex|ecosia|qwant|startpage|brave|naver|seznam|sogou|ask|aol)"
    + _TLD
    + r"|^com\.google\.android\.googlequicksearchbox$",
}
"""Channel -> regular expression of the hosts of its sites, looked at in this order: mail.google.com is no search."""

_CLICK_ID = r"[?&](?:gclid|gbraid|wbraid|dclid|msclkid|ttclid)="
_HOST = r"^(?:[a-z][a-z0-9+.-]*:)?//(?:[^/?#@]*@)?([^/:?#]+)"
_BARE_HOST = r"^([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?:[:/?#]|$)"


def entry_channels(entries: pl.DataFrame) -> pl.Series:
    """The channel of each visit: one of ``CHANNELS``, a name of the shop's own, or null where nothing is known.

    The first that says something decides: the column ``channel``; ``utm_medium`` in the page's address, a click id that
    an ad network put there, ``utm_source``; the site that referred to it, "internal" if it is the shop's own; the name
    of a channel in place of a referrer. A visit with an address that says ``utm_...`` and nothing that is known here
    came from some "other site"; one with neither that nor a referrer came "direct".

    Args:
        entries: First page of each visit, with any of the columns ``channel``, ``url`` and ``referrer`` as text.
    """
    given, url, referrer = (_told(entries, name) for name in (col.CHANNEL, URL, REFERRER))
    medium, source = (_spaced(url.str.extract(rf"[?&]utm_{name}=([^&#]*)")) for name in ("medium", "source"))
    host = pl.coalesce(referrer.str.extract(_HOST), referrer.str.extract(_BARE_HOST))
    own = pl.coalesce(url.str.extract(_HOST), url.str.extract(_BARE_HOST))
    found = [
        _named(given),
        given,
        _named(medium),
        pl.when(url.str.contains(_CLICK_ID)).then(pl.lit("advertisement")),
        _named(source),
        _by_host(source),
        _by_host(source + ".com"),
        pl.when(referrer.str.starts_with("/") & host.is_null() | _same_site(host, own)).then(pl.lit("internal")),
        _by_host(host),
        pl.when(host.is_not_null()).then(pl.lit("other site")),
        _named(referrer),
        referrer,
        pl.when(medium.is_not_null() | source.is_not_null()).then(pl.lit("other site")),
    ]
    if REFERRER in entries.columns:  # without the column, nobody knows
        found.append(pl.lit("direct"))
    return entries.select(pl.coalesce(found).alias(col.CHANNEL)).to_series()


def _told(entries: pl.DataFrame, name: str) -> pl.Expr:
    """A column in small letters, null where it is blank or not there."""
    if name not in entries.columns:
        return pl.lit(None, dtype=pl.String)
    text = pl.col(name).str.strip_chars().str.to_lowercase()
    return pl.when(text != "").then(text)


def _spaced(text: pl.Expr) -> pl.Expr:
    spaced = text.str.replace_all(r"(?:%20|[\s_+-])+", " ").str.strip_chars()
    return pl.when(spaced != "").then(spaced)


def _named(text: pl.Expr) -> pl.Expr:
    names = {name: channel for channel, names in CHANNELS.items() for name in names}
    return _spaced(text).replace_strict(names, default=None, return_dtype=pl.String)


def _by_host(host: pl.Expr) -> pl.Expr:
    return pl.coalesce(pl.when(host.str.contains(pattern)).then(pl.lit(name)) for name, pattern in HOSTS.items())


def _same_site(host: pl.Expr, own: pl.Expr) -> pl.Expr:
    bare, mine = (name.str.strip_prefix("www.") for name in (host, own))
    return (bare == mine) | bare.str.ends_with("." + mine) | mine.str.ends_with("." + bare)
