"""Browsing simulated on top of a real log of purchases: for methods whose signals no public log with texts holds.

What is simulated is never a measurement of shoppers: results on it show that a signal that is there is read, not that it
is there.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.columns import EVENT_TYPES
from peftrec.data.dataset import Dataset
from peftrec.data.events import Events
from peftrec.data.histories import DAY, PURCHASE
from peftrec.data.source import DataSource
from peftrec.errors import ConfigError

CHANNELS = ("app", "email", "search", "referral", "advertisement")
BUYING = (0.35, 0.3, 0.2, 0.05, 0.1)
"""How often a visit that ends in a purchase begins with each channel."""

LOOKING = (0.15, 0.1, 0.3, 0.25, 0.2)
"""How often a visit without a purchase does."""

VIEW, CLICK, FAVOURITE, CART = range(PURCHASE)


@dataclass(frozen=True, kw_only=True)
class Browsing:
    """How shoppers browse, in :func:`simulate_browsing`.

    Attributes:
        seen: Chance that a purchase is preceded by a view in its own visit.
        announced: Chance that a purchase is preceded by an earlier visit to the product.
        ahead_days: Mean days from that visit to the purchase (exponential).
        idle: Visits to a product that is not bought after all, for each visit that announces a purchase: what keeps
            browsing from giving purchases away.
        compared: Mean number of products of the same category looked at in a visit, for each product bought.
        dwell_seconds: Median seconds on a product that is bought afterwards; on others it is a third of that.
        favourite: Chance that an earlier visit leaves a favourite; a third of that where the product is not bought.
        cart: The same for carts.
    """

    seen: float = 0.8
    announced: float = 0.3
    ahead_days: float = 5.0
    idle: float = 3.0
    compared: float = 0.5
    dwell_seconds: float = 45.0
    favourite: float = 0.3
    cart: float = 0.2

    def __post_init__(self) -> None:
        for name in ("seen", "announced", "favourite", "cart"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)!r}", expected="a chance, 0 to 1", remedy="correct it")
        for name in ("idle", "compared", "ahead_days", "dwell_seconds"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(f"{name}={getattr(self, name)!r}", expected="0 or more", remedy="correct it")


@dataclass(frozen=True)
class _Looks:
    """Events to be added, K entries: codes of shopper and product, moment, kind, seconds spent, code of the visit."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.float64]
    kind: NDArray[np.int8]
    dwell: NDArray[np.float64]
    visit: NDArray[np.int64]


def simulate_browsing(dataset: Dataset, browsing: Browsing | None = None, *, seed: int = 0) -> Dataset:
    """Adds views, clicks, favourites and carts, seconds spent, pages and entry channels to a log of purchases.

    Every purchase stays: who bought what, when, how many and at what price. Its visit, entry channel, page and dwell time are
    simulated, whatever the log said of them. Before some purchases the shopper looks at the product, in the same visit or in an
    earlier one, where the product may become a favourite or go into the cart. Shoppers also look at products of the same
    category that they do not buy, in the same visit and in visits of their own. Purchases give their visits shorter
    paths and other entry channels (``BUYING``, ``LOOKING``). An earlier visit that would lie before the first purchase of
    the log is left out.

    Args:
        dataset: Events are purchases only.
        browsing: How shoppers browse.
        seed: The same seed gives the same events.

    Returns:
        A data set whose name and source say that its browsing is simulated.

    Raises:
        ConfigError: The log holds other events than purchases already, or ``dataset`` is a part with a past.
    """
    log, browsing = dataset.log, browsing or Browsing()
    if not len(log) or dataset.past is not None or (log.event != PURCHASE).any():
        found = "is a part" if dataset.past is not None else "holds other events than purchases"
        raise ConfigError(
            f"'{dataset.name}' {found if len(log) else 'holds no events'}",
            expected="a whole log of purchases",
            remedy="simulate before splitting, on the purchases alone",
        )
    rng = np.random.default_rng(seed)
    near = _in_visits(dataset, browsing, rng)
    ahead = _ahead(dataset, browsing, 1 + int(log.session.max()), rng)
    frame = _joined(dataset, [near, ahead], rng)
    note = "views, clicks, favourites, carts, dwell times, paths and channels are simulated on real purchases"
    source = dataset.source or DataSource(dataset.name, "not stated", "")
    return Dataset(
        f"{dataset.name} (simulated browsing)",
        dataset.catalog,
        Events(frame),
        dataset.profiles,
        replace(source, note=f"{source.note}; {note}" if source.note else note),
        dataset.report,
        promotions=dataset.promotions,
        coupons=dataset.coupons,
    )


def _in_visits(dataset: Dataset, browsing: Browsing, rng: np.random.Generator) -> _Looks:
    """Views of what is bought and of what is compared with it, in the minutes before."""
    log = dataset.log
    seen = np.flatnonzero(rng.random(len(log)) < browsing.seen)
    compared = np.repeat(np.arange(len(log)), rng.poisson(browsing.compared, len(log)))
    at = np.concatenate([seen, compared])
    item = np.concatenate([log.item[seen], _alike(dataset, log.item[compared], rng)])
    bought = np.arange(len(at)) < len(seen)
    kind = np.where(rng.random(len(at)) < 0.3, CLICK, VIEW).astype(np.int8)
    return _Looks(
        log.user[at],
        item,
        log.time[at] - rng.uniform(10, 1200, len(at)),
        kind,
        _dwell(bought, browsing, rng),
        log.session[at],
    )


def _ahead(dataset: Dataset, browsing: Browsing, next_visit: int, rng: np.random.Generator) -> _Looks:
    """Visits to a product days before it is bought, and as idle ones to products that are not."""
    log = dataset.log
    announcing = np.flatnonzero(rng.random(len(log)) < browsing.announced)
    idle = rng.choice(len(log), int(browsing.idle * len(announcing)))
    at = np.concatenate([announcing, idle])
    bought = np.arange(len(at)) < len(announcing)
    item = np.where(bought, log.item[at], _alike(dataset, log.item[at], rng)).astype(np.int32)
    time = log.time[at] - rng.exponential(browsing.ahead_days * DAY, len(at)) - 3600
    visit = next_visit + np.arange(len(at))
    parts = [(np.ones(len(at), bool), VIEW, 0.0)]
    for kind, chance in ((FAVOURITE, browsing.favourite), (CART, browsing.cart)):
        parts.append((rng.random(len(at)) < np.where(bought, chance, chance / 3), kind, 60.0 * kind))
    rows = [np.flatnonzero(chosen & (time >= log.time[0])) for chosen, _, _ in parts]
    whole = np.concatenate(rows)
    return _Looks(
        log.user[at][whole],
        item[whole],
        time[whole] + np.repeat([after for _, _, after in parts], [len(row) for row in rows]),
        np.repeat([kind for _, kind, _ in parts], [len(row) for row in rows]).astype(np.int8),
        _dwell(bought[whole], browsing, rng),
        visit[whole],
    )


def _alike(dataset: Dataset, item: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """For each product one of its category, drawn as often as it is bought.

    Without categories, one that somebody bought in the same visit as the product.
    """
    log, catalog = dataset.log, dataset.catalog.frame
    if col.CATEGORY in catalog.columns:
        category = catalog[col.CATEGORY].rank("dense").fill_null(0).to_numpy().astype(np.int64)
        return log.item[_another(category[log.item], category[item], rng)]
    visit = log.session[_another(log.item, item, rng)]
    return log.item[_another(log.session, visit, rng)]


def _another(values: NDArray[np.integer], wanted: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each wanted value the row of one of its occurrences, drawn evenly."""
    order = np.argsort(values, kind="stable")
    first, last = (np.searchsorted(values[order], wanted, side=side) for side in ("left", "right"))
    return order[first + (rng.random(len(wanted)) * (last - first)).astype(np.int64)]


def _dwell(bought: NDArray[np.bool_], browsing: Browsing, rng: np.random.Generator) -> NDArray[np.float64]:
    median = np.where(bought, browsing.dwell_seconds, browsing.dwell_seconds / 3)
    return median * np.exp(0.8 * rng.standard_normal(len(bought)))


def _joined(dataset: Dataset, looks: list[_Looks], rng: np.random.Generator) -> pl.DataFrame:
    log, ids, users = dataset.log, dataset.catalog.ids, dataset.users
    added = [
        pl.DataFrame(
            {
                col.USER: users.gather(part.user),
                col.ITEM: ids.gather(part.item),
                col.TIME: pl.Series((part.time * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
                col.EVENT: pl.Series(np.array(EVENT_TYPES)[part.kind], dtype=pl.String),
                col.DWELL: part.dwell.astype(np.float32),
                "__visit": part.visit,
            }
        )
        for part in looks
    ]
    real = dataset.events.frame.drop(col.CHANNEL, col.DWELL, col.PAGE, strict=False)
    frame = pl.concat([real.with_columns(pl.Series("__visit", log.session)), *added], how="diagonal")
    frame = frame.filter(pl.col(col.TIME) >= dataset.start)
    buying = pl.Series(np.unique(log.session)).implode()
    visits = frame["__visit"].unique().sort()
    entered = [rng.choice(len(CHANNELS), len(visits), p=chances) for chances in (BUYING, LOOKING)]
    chosen = np.where(visits.is_in(buying), *entered)
    table = pl.DataFrame({"__visit": visits, col.CHANNEL: np.array(CHANNELS)[chosen]})
    frame = frame.join(table, on="__visit").with_columns(
        pl.col("__visit").cast(pl.String).alias(col.SESSION), pl.col(col.QUANTITY).fill_null(1)
    )
    # Between two products a shopper passes lists and searches: fewer where the visit ends in a purchase.
    steps = 1 + rng.poisson(np.where(frame["__visit"].is_in(buying), 1, 2))
    frame = frame.with_columns(pl.Series("__steps", steps)).sort(col.TIME, maintain_order=True)
    page = pl.col("__steps").cum_sum().over("__visit").cast(pl.Float32).alias(col.PAGE)
    return frame.with_columns(page).drop("__visit", "__steps").select(*_ordered(frame.columns))


def _ordered(present: list[str]) -> list[str]:
    known = [name for name in (*col.EVENTS_REQUIRED, *col.EVENTS_OPTIONAL) if name in {*present, col.PAGE}]
    return [*known, *(name for name in present if name not in {*known, "__visit", "__steps"})]
