# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false
# scipy has no types; the rest of the package is checked strictly.
"""What a platform's log says at one moment: popularity, prices, who buys alike, what is promoted.

No later event is ever read, and no promotion that was announced later. A :class:`Snapshot` is built once for a moment and
then answers any number of shoppers, in training, in evaluation and in serving alike. It holds no shopper's name, only a
panel of anonymous baskets for collaborative scores.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from peftrec.data import columns
from peftrec.data.browsing import SHORT
from peftrec.data.catalog import Catalog
from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY, PURCHASE
from peftrec.data.log import EventLog
from peftrec.data.panel import LONG, Panel, matrix_of, panel_of, widened
from peftrec.data.promotions import PromotionLog

VARIANT = "variant"
GROUPS = (columns.TITLE, columns.CATEGORY, columns.BRAND, VARIANT)
"""What makes products kin, so that a shopper's habit in one is a hint for the others: an equal value in one of these columns
of the catalogue, or, for variants such as flavours, in ``canonical_id``, or where there is none in all columns but ``item_id``,
``price`` and ``image``."""

POPULARITY_WEEKS = (1, 4, 16)
PROMOTION_PAST = {"1w": 1, "4w": 4, "16w": 16}
PROMOTION_PLAN = ("next", "planned", "peak")
PLANNED_WEEKS = 5
"""How far ahead announced promotions are read."""

ITEM_FEATURES = (
    *(f"buyers_{weeks}w" for weeks in POPULARITY_WEEKS),
    "buyers",
    "trend_1w",
    "trend_4w",
    "on_sale_since",
    "last_sold",
    "price",
    "price_change",
    "discounted_1w",
    "discounted_4w",
    "repeat_share",
    "purchases_per_buyer",
    "typical_gap",
    "never_sold",
    "price_in_category",
    "viewers_1w",
    "conversion",
    *(f"{kind}_{name}" for kind in columns.PROMOTION_KINDS for name in (*PROMOTION_PAST, *PROMOTION_PLAN)),
)


@dataclass(frozen=True)
class Snapshot:
    """A platform's products at a moment.

    Attributes:
        moment: Seconds since the epoch; every statistic is over events strictly before it and promotions announced by it.
        items: (n_items, len(ITEM_FEATURES)) float32, log-compressed, see ``ITEM_FEATURES``.
        buyers: (n_items,) float32 distinct buyers in the last four weeks.
        price: (n_items,) float64 usual price lately, NaN where nothing was sold at a known one.
        popular: (n_sold,) int32 products sold in the last four weeks, most buyers first.
        groups: (len(GROUPS), n_items) int32 group codes, -1 where the catalogue says nothing.
        group_buyers: (2, n_items) float32 sum of ``buyers`` over products of the same title, and over variants.
        channel_share: (n_channels, n_items) share of a channel's shoppers that bought the product in eight weeks.
        panel: For collaborative scores.
    """

    moment: float
    items: NDArray[np.float32]
    buyers: NDArray[np.float32]
    price: NDArray[np.float64]
    popular: NDArray[np.int32]
    groups: NDArray[np.int32]
    group_buyers: NDArray[np.float32]
    channel_share: sparse.csr_matrix
    panel: Panel

    @property
    def n_items(self) -> int:
        """Products in the catalogue."""
        return len(self.buyers)

    @cached_property
    def popularity(self) -> NDArray[np.float32]:
        """(n_items,) log of one plus the buyers."""
        return np.log1p(self.buyers)

    @cached_property
    def unsold(self) -> NDArray[np.bool_]:
        """(n_items,) products that nobody has bought before the moment."""
        return self.items[:, ITEM_FEATURES.index("never_sold")] > 0

    @classmethod
    def at(cls, dataset: Dataset, moment: float) -> "Snapshot":
        """Computes the statistics of all events before ``moment`` (seconds since the epoch)."""
        n_items, frame = len(dataset.catalog), purchases_before(dataset.log, moment)
        lines = purchase_lines(frame)
        pairs = pairs_in(lines)
        return cls.of(
            dataset.catalog,
            dataset.promotion_log,
            moment,
            item_features(frame, pairs, n_items),
            looked_at(dataset.log, moment, n_items),
            channel_share=channel_share(*channel_counts(frame), n_items),
            panel=panel_of(lines, pairs, n_items),
        )

    @classmethod
    def of(
        cls,
        catalog: Catalog,
        promotions: PromotionLog | None,
        moment: float,
        numbers: "ItemNumbers",
        looked: NDArray[np.int64],
        *,
        channel_share: sparse.csr_matrix,
        panel: Panel,
    ) -> "Snapshot":
        """Puts together what was measured on a log by :func:`item_features` and :func:`looked_at`."""
        buyers, n_items = numbers.buyers, len(catalog)
        groups = _group_codes(catalog)
        relative = _price_in_category(catalog, groups[GROUPS.index(columns.CATEGORY)], numbers.price)
        promoted = _promotions(promotions, moment, n_items)
        popular = np.argsort(-buyers, kind="stable")[: np.count_nonzero(buyers)].astype(np.int32)
        return cls(
            moment=moment,
            items=np.concatenate([numbers.features, relative[:, None], _looked(looked), promoted], axis=1),
            buyers=buyers,
            price=numbers.price,
            popular=popular,
            groups=groups,
            group_buyers=_group_buyers(groups, buyers),
            channel_share=channel_share,
            panel=panel,
        )

    def with_new(self, count: int) -> "Snapshot":
        """The same with ``count`` products behind the last one that nobody has seen yet."""
        if not count:
            return self
        shape = self.n_items + count
        new = np.zeros((count, len(ITEM_FEATURES)), np.float32)
        new[:, ITEM_FEATURES.index("never_sold")] = 1
        none, unknown = np.zeros(count, np.float32), np.full((len(GROUPS), count), -1, np.int32)
        return replace(
            self,
            items=np.concatenate([self.items, new]),
            buyers=np.concatenate([self.buyers, none]),
            price=np.concatenate([self.price, np.full(count, np.nan)]),
            groups=np.concatenate([self.groups, unknown], axis=1),
            group_buyers=np.concatenate([self.group_buyers, np.stack([none, none])], axis=1),
            channel_share=widened(self.channel_share, shape),
            panel=self.panel.widened(shape),
        )

    def with_catalog(self, catalog: Catalog) -> "Snapshot":
        """The same statistics, for a catalogue with further products behind those here or with other words for some."""
        wider, groups = self.with_new(len(catalog) - self.n_items), _group_codes(catalog)
        items = wider.items.copy()
        items[:, ITEM_FEATURES.index("price_in_category")] = _price_in_category(
            catalog, groups[GROUPS.index(columns.CATEGORY)], wider.price
        )
        return replace(wider, items=items, groups=groups, group_buyers=_group_buyers(groups, wider.buyers))


def purchases_before(log: EventLog, moment: float) -> pl.DataFrame:
    """One row per purchase before ``moment``, in time order: all that statistics are made of."""
    end = int(np.searchsorted(log.time, moment, side="left"))
    return pl.DataFrame(
        {
            "user": log.user[:end],
            "item": log.item[:end],
            "age": (moment - log.time[:end]) / DAY,
            "event": log.event[:end],
            "price": log.price[:end],
            "discount": log.discount[:end],
            "session": log.session[:end],
            "channel": log.channel[:end],
        }
    ).filter(pl.col("event") == PURCHASE)


def purchase_lines(frame: pl.DataFrame) -> pl.DataFrame:
    """The last line of each product in a visit."""
    return frame.unique(["user", "item", "session"], keep="last", maintain_order=True)


def pairs_in(lines: pl.DataFrame) -> pl.DataFrame:
    """One row per (shopper, product): purchases, plain and decayed, first and last."""

    def decayed(half_life: float) -> pl.Expr:
        return (pl.col("age") * (-np.log(2) / half_life)).exp().sum()

    pairs = lines.group_by("user", "item").agg(
        times=pl.len(), short=decayed(SHORT), long=decayed(LONG), last=pl.col("age").min(), first=pl.col("age").max()
    )
    return pairs.sort("user", "item")  # group_by gives no order, and sums must not depend on it


class ItemNumbers(NamedTuple):
    """What shoppers did with each product.

    Attributes:
        features: (n_items, the first of ``ITEM_FEATURES``) float32.
        buyers: (n_items,) float32 distinct buyers in the last four weeks.
        price: (n_items,) float64 usual price in the last sixteen weeks, NaN where unknown.
    """

    features: NDArray[np.float32]
    buyers: NDArray[np.float32]
    price: NDArray[np.float64]


def item_features(frame: pl.DataFrame, pairs: pl.DataFrame, n_items: int) -> ItemNumbers:
    """What shoppers did with each product.

    A product's row depends on its own lines and pairs alone, so that a long log can be read some products at a time.
    """
    age, price, discounted = pl.col("age"), pl.col("price"), pl.col("discount") > 0
    within = {weeks: age <= 7 * weeks for weeks in POPULARITY_WEEKS}
    sales = frame.group_by("item").agg(
        *(pl.col("user").filter(within[weeks]).n_unique().alias(f"b{weeks}") for weeks in POPULARITY_WEEKS),
        buyers=pl.col("user").n_unique(),
        first=age.max(),
        last=age.min(),
        price=price.filter(within[4]).median(),
        price_now=price.filter(within[1]).median(),
        price_usual=price.filter(within[16]).median(),
        discounted_1=discounted.filter(within[1]).mean(),
        discounted_4=discounted.filter(within[4]).mean(),
    )
    gap = pl.when(pl.col("times") > 1).then((pl.col("first") - pl.col("last")) / (pl.col("times") - 1))
    habits = pairs.group_by("item").agg(
        repeat=(pl.col("times") > 1).mean(), times=pl.col("times").mean(), gap=gap.median()
    )
    every = pl.DataFrame({"item": np.arange(n_items, dtype=np.int32)})
    table = every.join(sales, on="item", how="left", maintain_order="left").join(
        habits, on="item", how="left", maintain_order="left"
    )
    b1, b4, b16, buyers = (pl.col(name).fill_null(0).cast(pl.Float64) for name in ("b1", "b4", "b16", "buyers"))

    def known(value: pl.Expr, otherwise: float = 0.0) -> pl.Expr:
        return value.fill_nan(None).fill_null(otherwise)

    features = table.select(
        b1.log1p().alias("b1"),
        b4.log1p().alias("b4"),
        b16.log1p().alias("b16"),
        buyers.log1p().alias("buyers"),
        (4 * b1 / (b4 + 1)).log1p().alias("t1"),
        (4 * b4 / (b16 + 1)).log1p().alias("t4"),
        known(pl.col("first")).log1p().alias("first"),
        known(pl.col("last")).log1p().alias("last"),
        known(pl.col("price").clip(0)).log1p().alias("price"),
        known((pl.col("price_now").clip(0.01) / pl.col("price_usual").clip(0.01)).log()).clip(-2, 2).alias("change"),
        known(pl.col("discounted_1")).alias("d1"),
        known(pl.col("discounted_4")).alias("d4"),
        known(pl.col("repeat")).alias("repeat"),
        known(pl.col("times")).log1p().alias("times"),
        known(pl.col("gap")).log1p().alias("gap"),
        pl.col("buyers").is_null().cast(pl.Float64).alias("never"),
    )
    return ItemNumbers(
        features.to_numpy().astype(np.float32),
        table["b4"].fill_null(0).to_numpy().astype(np.float32),
        table["price_usual"].fill_null(np.nan).to_numpy().astype(np.float64),
    )


def _price_in_category(
    catalog: Catalog, category: NDArray[np.int32], asked: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(n_items,) log of each product's price over the median of its category's products, 0 where one is not known.

    Args:
        catalog: Its prices stand in for those of products that were not sold lately.
        category: (n_items,) code, -1 where unknown.
        asked: (n_items,) usual price lately, NaN where unknown.
    """
    table = pl.DataFrame({"category": category, "price": asked}).with_columns(pl.col("price").fill_nan(None))
    if columns.PRICE in catalog.frame.columns:
        table = table.with_columns(pl.coalesce("price", catalog.frame[columns.PRICE]))
    usual = pl.col("price").filter(pl.col("price") > 0).median().over("category")
    ratio = pl.when(pl.col("category") >= 0, pl.col("price") > 0).then((pl.col("price") / usual).log().clip(-3, 3))
    return table.select(ratio.fill_null(0).cast(pl.Float32).alias("ratio"))["ratio"].to_numpy()


def looked_at(log: EventLog, moment: float, n_items: int) -> NDArray[np.int64]:
    """(3, n_items) distinct shoppers before ``moment``; zeros where the log tells of purchases only.

    Those who did anything short of buying a product within a week, those within sixteen, its buyers within sixteen.
    """
    if not tells_more(log, moment):
        return np.zeros((3, n_items), np.int64)
    return lookers(log, moment, n_items)


def tells_more(log: EventLog, moment: float) -> bool:
    """Whether there is anything but purchases before ``moment``."""
    return bool((log.event[: np.searchsorted(log.time, moment, side="left")] != PURCHASE).any())


def lookers(log: EventLog, moment: float, n_items: int) -> NDArray[np.int64]:
    """The counts of :func:`looked_at`, buyers included where the log tells of purchases only."""
    counts, end = np.zeros((3, n_items), np.int64), int(np.searchsorted(log.time, moment, side="left"))
    if not len(log):
        return counts
    users = int(log.user.max()) + 1
    for row, (weeks, buying) in enumerate(((1, False), (POPULARITY_WEEKS[-1], False), (POPULARITY_WEEKS[-1], True))):
        span = slice(int(np.searchsorted(log.time, moment - 7 * weeks * DAY)), end)
        at = (log.event[span] == PURCHASE) == buying
        pairs = np.unique(log.item[span][at].astype(np.int64) * users + log.user[span][at])
        counts[row] = np.bincount(pairs // users, minlength=n_items)
    return counts


def _looked(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """(n_items, 2) from :func:`looked_at`: those of a week, log-compressed; log of buyers over lookers, each plus one."""
    if not counts.any():
        return np.zeros((counts.shape[1], 2), np.float32)
    week, lookers, buyers = counts
    return np.stack([np.log1p(week), np.log((buyers + 1) / (lookers + 1))], axis=1).astype(np.float32)


def _group_codes(catalog: Catalog) -> NDArray[np.int32]:
    frame, codes = catalog.frame, np.full((len(GROUPS), len(catalog)), -1, np.int32)
    alike = [name for name in frame.columns if name not in (columns.ITEM, columns.PRICE, columns.IMAGE)]
    # What cleaning has linked, apart from typing errors and the like; without it, what says the same in all columns.
    one = pl.col(columns.CANONICAL) if columns.CANONICAL in alike else pl.struct(alike)
    frame = frame.with_columns(one.alias(VARIANT))
    for row, column in enumerate(GROUPS):
        if column in frame.columns:
            ranks = frame[column].rank("dense")
            codes[row] = (ranks.fill_null(0).cast(pl.Int32) - 1).to_numpy()
    return codes


def _group_buyers(groups: NDArray[np.int32], buyers: NDArray[np.float32]) -> NDArray[np.float32]:
    """(2, n_items) sum of buyers over products of the same title, and over variants."""
    return np.stack([_summed(groups[GROUPS.index(name)], buyers) for name in (columns.TITLE, VARIANT)])


def _summed(codes: NDArray[np.int32], buyers: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n_items,) buyers of each product's group, its own where it has none."""
    return np.where(codes >= 0, np.bincount(codes + 1, weights=buyers)[codes + 1], buyers).astype(np.float32)


def _promotions(log: PromotionLog | None, moment: float, n_items: int) -> NDArray[np.float32]:
    """(n_items, kinds * 6) reach of each kind, as far as announced.

    Averaged over the weeks gone by; then in the week ahead, averaged over the weeks ahead, and in the strongest of them.
    """
    features = np.zeros((n_items, len(columns.PROMOTION_KINDS), len(PROMOTION_PAST) + len(PROMOTION_PLAN)), np.float32)
    if log is not None:
        known, week = log.known(moment), 7 * DAY
        for kind in range(len(columns.PROMOTION_KINDS)):
            past = [known.reached(n_items, kind, moment - n * week, moment) for n in PROMOTION_PAST.values()]
            starts = moment + week * np.arange(PLANNED_WEEKS)
            ahead = np.stack([known.reached(n_items, kind, start, start + week) for start in starts])
            features[:, kind] = np.stack([*past, ahead[0], ahead.mean(axis=0), ahead.max(axis=0)], axis=1)
    return features.reshape(n_items, -1)


def channel_counts(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Shoppers of each channel in eight weeks, and buyers there of each product: ``channel, all`` and ``channel, item, n``."""
    recent = frame.filter((pl.col("age") <= 56) & (pl.col("channel") >= 0))
    shoppers = recent.group_by("channel").agg(all=pl.col("user").n_unique())
    return shoppers, recent.group_by("channel", "item").agg(n=pl.col("user").n_unique())


def channel_share(shoppers: pl.DataFrame, sold: pl.DataFrame, n_items: int) -> sparse.csr_matrix:
    """(channels, n_items) share of a channel's shoppers that bought the product; channels end with the last one that sold."""
    sold = sold.join(shoppers, on="channel")
    share = (sold["n"] / sold["all"]).to_numpy()
    shape = (0 if shoppers.is_empty() else int(shoppers["channel"].max()) + 1, n_items)
    return matrix_of(share, sold["channel"].to_numpy(), sold["item"].to_numpy(), shape)
