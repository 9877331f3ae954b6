"""Coupons: promotions that only some shoppers were given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.data import columns as col
from peftrec.data.log import codes
from peftrec.data.ragged import laid_out
from peftrec.data.reading.mapping import read_rows
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import MOMENT, as_attribute, as_id, as_moment, is_blank
from peftrec.errors import InvalidValueError, SchemaError

DAY = 86_400.0
_ROW = "__row"
_PRODUCTS = {col.CAMPAIGN: pl.String, col.ITEM: pl.String}
_RECIPIENTS = {col.CAMPAIGN: pl.String, col.USER: pl.String, col.START: MOMENT, col.END: MOMENT}


@dataclass(frozen=True, eq=False, repr=False)
class Coupons:
    """Campaigns of coupons: which products each covers, and who got it when. Build them with :meth:`from_tables`.

    Features as of a moment read a coupon only while it is valid, since nobody is said to know it before.

    Attributes:
        products: ``campaign_id``, ``item_id`` (String), one row for each product that a campaign's coupons cover.
        recipients: ``campaign_id``, ``user_id`` (String), ``start``, ``end`` (UTC; the end is the first moment after it),
            one row for each time that a shopper got a campaign's coupons.
    """

    products: pl.DataFrame
    recipients: pl.DataFrame

    def __post_init__(self) -> None:
        for name, frame, types in (
            ("products", self.products, _PRODUCTS),
            ("recipients", self.recipients, _RECIPIENTS),
        ):
            _check_types(name, frame, types)
            for column in types:
                missing = is_blank(pl.col(column)) if types[column] == pl.String else pl.col(column).is_null()
                _refuse(frame, missing, column, name, "a value in every row; moments in ISO 8601 where they are text")
        late = pl.col(col.END) <= pl.col(col.START)
        _refuse(
            self.recipients, late, col.END, "recipients", "a moment after the start: the first one after the coupon"
        )

    @classmethod
    def from_tables(
        cls,
        products: Table,
        recipients: Table,
        *,
        product_columns: Mapping[str, str] | None = None,
        recipient_columns: Mapping[str, str] | None = None,
    ) -> "Coupons":
        """Reads and checks the two tables; a single bad row is an error.

        Args:
            products: ``campaign_id, item_id``.
            recipients: ``campaign_id, user_id, start, end``.
            product_columns: Our name -> your name.
            recipient_columns: Our name -> your name.

        Raises:
            SchemaError: A column is missing, doubled or of a wrong type, or a file cannot be read.
            InvalidValueError: A value is missing, or an end is not after its start.
            NotEnoughDataError: A table has no rows.
        """
        remedy = "leave coupons out if there are none: coupons=None"
        covered = read_rows(
            products,
            product_columns,
            required=col.COUPON_PRODUCTS_REQUIRED,
            optional=(),
            what="coupon products",
            rows="product",
            remedy=remedy,
        )
        given = read_rows(
            recipients,
            recipient_columns,
            required=col.COUPON_RECIPIENTS_REQUIRED,
            optional=(),
            what="coupon recipients",
            rows="recipient",
            remedy=remedy,
        )
        return cls(
            pl.DataFrame([_typed(column) for column in covered]).select(*_PRODUCTS).unique(maintain_order=True),
            pl.DataFrame([_typed(column) for column in given]).select(*_RECIPIENTS).unique(maintain_order=True),
        )

    def coded(self, *, users: pl.Series, items: pl.Series) -> "CouponLog":
        """The coupons as arrays, without products and shoppers that are not among ``items`` and ``users``."""
        campaigns = self.products[col.CAMPAIGN].unique().sort()
        row, item = codes(self.products[col.CAMPAIGN], campaigns), codes(self.products[col.ITEM], items)
        covered = np.unique(row[item >= 0].astype(np.int64) * len(items) + item[item >= 0])
        user, campaign = codes(self.recipients[col.USER], users), codes(self.recipients[col.CAMPAIGN], campaigns)
        known = np.flatnonzero((user >= 0) & (campaign >= 0))
        known = known[np.argsort(user[known], kind="stable")]
        start, end = (self.recipients[name].to_physical().to_numpy() / 1e6 for name in (col.START, col.END))
        return CouponLog(len(campaigns), len(items), covered, user[known], campaign[known], start[known], end[known])

    def __len__(self) -> int:
        """Number of times that a shopper got coupons."""
        return len(self.recipients)

    def __repr__(self) -> str:
        """Sizes in one line."""
        campaigns, shoppers = self.products[col.CAMPAIGN].n_unique(), self.recipients[col.USER].n_unique()
        return f"Coupons({campaigns:,} campaigns for {self.products[col.ITEM].n_unique():,} products, {shoppers:,} shoppers)"


@dataclass(frozen=True, eq=False)
class CouponLog:
    """Coupons of one catalogue's products as arrays; R is the number of recipients, sorted by user.

    Attributes:
        campaigns: Their number.
        n_items: Products of the catalogue.
        covered: int64 keys ``campaign * n_items + item`` of what coupons cover, rising.
        user: (R,) int32 user index.
        campaign: (R,) int32 code of the campaign.
        start: (R,) float64 seconds since 1970 UTC.
        end: (R,) float64 first second after it.
    """

    campaigns: int
    n_items: int
    covered: NDArray[np.int64]
    user: NDArray[np.int32]
    campaign: NDArray[np.int32]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    def held(self, users: NDArray[np.integer], moment: float) -> "HeldCoupons":
        """The coupons that shoppers hold at ``moment``.

        Args:
            users: (B,) user indices.
            moment: Seconds since the epoch.
        """
        first, last = np.searchsorted(self.user, users, side="left"), np.searchsorted(self.user, users, side="right")
        row, (_, at) = np.repeat(np.arange(len(users)), last - first), laid_out(first, last - first)
        valid = (self.start[at] <= moment) & (self.end[at] > moment)
        row, at = row[valid], at[valid]
        held, which = np.unique(row * self.campaigns + self.campaign[at], return_inverse=True)
        left = np.bincount(which, weights=(self.end[at] - moment) / DAY, minlength=len(held)).astype(np.float32)
        ends = np.searchsorted(held, np.arange(len(users) + 1) * self.campaigns)
        return HeldCoupons(ends, held % max(1, self.campaigns), left, self.covered, self.n_items)


@dataclass(frozen=True, eq=False)
class HeldCoupons:
    """What B shoppers hold at one moment, kept by campaign: a campaign may cover thousands of products.

    Attributes:
        offsets: (B + 1,) int64, where each shopper's begin.
        campaign: (n,) int64 campaign, rising and without repeats for a shopper.
        left: (n,) float32 days that its coupons still last.
        covered: int64 keys ``campaign * n_items + item`` of what coupons cover, rising.
        n_items: Products of the catalogue.
    """

    offsets: NDArray[np.int64]
    campaign: NDArray[np.int64]
    left: NDArray[np.float32]
    covered: NDArray[np.int64]
    n_items: int

    def take(self, rows: NDArray[np.integer]) -> "HeldCoupons":
        """The same for a choice of shoppers."""
        offsets, at = laid_out(self.offsets[:-1][rows], self.count[rows])
        return replace(self, offsets=offsets, campaign=self.campaign[at], left=self.left[at])

    @classmethod
    def join(cls, parts: "Sequence[HeldCoupons]") -> "HeldCoupons":
        """The shoppers of several, which know the same campaigns."""
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.count for part in parts]))])
        campaign, left = (np.concatenate([getattr(part, name) for part in parts]) for name in ("campaign", "left"))
        return replace(parts[0], offsets=offsets, campaign=campaign, left=left)

    @property
    def count(self) -> NDArray[np.int64]:
        """(B,) campaigns that each shopper holds coupons of."""
        return np.diff(self.offsets)

    def days(self, row: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.float32]:
        """(C,) days that shopper ``row``'s coupons for ``item`` still last, summed over campaigns; 0 without one."""
        held = np.where(item < self.n_items, self.count[row], 0)  # products described in a request have no coupons
        pair = np.repeat(np.arange(len(row)), held)  # one entry for each pair and campaign that its shopper holds
        _, at = laid_out(self.offsets[row], held)
        key = self.campaign[at] * self.n_items + item[pair]
        place = np.minimum(np.searchsorted(self.covered, key), max(0, len(self.covered) - 1))
        there = self.covered[place] == key if len(self.covered) else np.zeros(len(key), bool)
        return np.bincount(pair[there], weights=self.left[at[there]], minlength=len(row)).astype(np.float32)


def _typed(column: pl.Series) -> pl.Series:
    if column.name in (col.START, col.END):
        return as_moment(column, "coupons")
    return as_id(column, "coupons") if column.name in {**_PRODUCTS, **_RECIPIENTS} else as_attribute(column, "coupons")


def _check_types(name: str, frame: pl.DataFrame, types: Mapping[str, pl.DataType | type[pl.DataType]]) -> None:
    wrong = [
        f"{column} {frame.schema.get(column, 'missing')}"
        for column, dtype in types.items()
        if frame.schema.get(column) != dtype
    ]
    if wrong:
        raise SchemaError(
            f"this frame is not a table of coupon {name}: {', '.join(wrong)}",
            expected="columns " + ", ".join(f"{column} {dtype}" for column, dtype in types.items()),
            remedy="build it with Coupons.from_tables(products, recipients)",
        )


def _refuse(frame: pl.DataFrame, broken: pl.Expr, column: str, name: str, expected: str) -> None:
    rows = frame.with_row_index(_ROW).filter(broken)
    if len(rows):
        value = "missing or unreadable" if rows[column][0] is None else repr(str(rows[column][0]))
        raise InvalidValueError(
            f"row {rows[_ROW][0]} of the coupon {name} (counting from 0): {column} {value}"
            + (f", and {len(rows) - 1:,} more rows" if len(rows) > 1 else ""),
            expected=expected,
            remedy="correct the rows or leave them out",
        )
