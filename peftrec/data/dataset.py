"""Catalogue, events, profiles and promotions of one shop, checked against each other, and cut by time or segment."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cached_property

import polars as pl

from peftrec.data import columns as col
from peftrec.data.building import Given, built
from peftrec.data.catalog import Catalog
from peftrec.data.cleaning.report import CleaningReport
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.coupons import CouponLog, Coupons
from peftrec.data.digest import EVENT_KEYS, dataset_digest, event_digest
from peftrec.data.events import Events
from peftrec.data.index import Index
from peftrec.data.log import EventLog
from peftrec.data.pool import is_pool, platforms, pool
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import PromotionLog, Promotions
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import parse_moment
from peftrec.data.segments import segment
from peftrec.data.source import DataSource
from peftrec.data.split import leave_last_out, rolling
from peftrec.errors import InvalidValueError, NotEnoughDataError, UnknownUserError

HOUR = 3600.0


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A shop's data. All its events name products of its catalogue; a new shop has none yet.

    Args:
        name: What to call it.
        catalog: Products.
        events: What shoppers did.
        profiles: What is known about shoppers, if anything.
        promotions: What the shop advertised and displayed, and plans to, if known; read as of a moment, see
            :class:`Promotions`.
        coupons: Which shoppers were given coupons for which products, if known; read while they are valid.
        source: Where the data comes from.
        report: What cleaning dropped, where the data was cleaned; parts keep the report of the whole.
        past: Everything before this part, where it is a part: same catalogue, users and profiles.
        index: What a part inherits so that nothing is coded twice; ignored where it belongs to other events.
        ordered: Whether only the order of a shopper's events is known and their moments are made up.

    Raises:
        UnknownItemError: An event, a promotion or a coupon names a product that the catalogue does not hold.
        UnknownUserError: An event names a shopper that ``past`` does not know.
    """

    name: str
    catalog: Catalog
    events: Events
    profiles: Profiles | None = None
    source: DataSource | None = None
    report: CleaningReport | None = None
    past: "Dataset | None" = None
    index: Index | None = None
    promotions: Promotions | None = None
    coupons: Coupons | None = None
    ordered: bool = False

    def __post_init__(self) -> None:
        if self.index is not None and not self.index.fits(self.catalog, self.events):
            object.__setattr__(self, "index", None)  # dataclasses.replace brought other events
        if self.past is not None and not self.past.catalog.ids.equals(self.catalog.ids):
            raise InvalidValueError(
                f"the past of '{self.name}' has another catalogue ({len(self.past.catalog):,} products, not"
                f" {len(self.catalog):,}, or in another order)",
                expected="one catalogue for a data set and its past",
                remedy="cut both from one data set with split(at=...) or window(start=...)",
            )
        if self.index is None:
            coupons = None if self.coupons is None else self.coupons.products
            promotions = None if self.promotions is None else self.promotions.frame
            for frame in (self.events.frame, promotions, coupons):
                if frame is not None:
                    self._refuse_unknown(frame)

    def _refuse_unknown(self, frame: pl.DataFrame) -> None:
        unknown = frame.select(pl.col(col.ITEM).unique(maintain_order=True)).filter(
            ~pl.col(col.ITEM).is_in(self.catalog.ids.implode())
        )
        if len(unknown):
            self.catalog.indices(unknown[col.ITEM].to_list())  # raises, naming them

    @classmethod
    def build(
        cls,
        *,
        name: str,
        catalog: Table | Catalog,
        events: Table | Events | None = None,
        profiles: Table | Profiles | None = None,
        promotions: Table | Promotions | None = None,
        coupons: Coupons | None = None,
        catalog_columns: Mapping[str, str] | None = None,
        event_columns: Mapping[str, str] | None = None,
        profile_columns: Mapping[str, str] | None = None,
        promotion_columns: Mapping[str, str] | None = None,
        rules: CleaningRules | None = None,
        source: DataSource | None = None,
    ) -> "Dataset":
        """Reads, cleans and joins the tables of a shop; ``report`` accounts for every event that was dropped.

        Args:
            name: What to call the data set.
            catalog: Products: any table, or a ready catalogue.
            events: Events: any table, or ready events. A table that knows only in which order a shopper's events came has
                ``position`` in place of ``timestamp``; its data set is ``ordered``. Left out for a shop that has sold
                nothing yet: it can be served by a backbone that was adapted to shopping, see :func:`peftrec.adapt`.
            profiles: Shoppers' attributes, if there are any.
            promotions: Past and planned promotions, if there are any; those of unknown products are left out.
            coupons: Coupons that shoppers were given, if any; unknown products are left out of them.
            catalog_columns: Our name -> your name.
            event_columns: Our name -> your name.
            profile_columns: Our name -> your name.
            promotion_columns: Our name -> your name.
            rules: Which rows to drop; all rules but ``duplicate_event`` if not given.
            source: Where the data comes from.

        Raises:
            SchemaError: A column is missing, doubled or of a wrong type, or a file cannot be read; or columns of events are
                named without events.
            InvalidValueError: An id of the catalogue or the profiles is missing or appears twice.
            NotEnoughDataError: A table is empty, or cleaning leaves no event.
        """
        given = Given(
            catalog=(catalog, catalog_columns),
            events=(events, event_columns),
            profiles=(profiles, profile_columns),
            promotions=(promotions, promotion_columns),
            coupons=coupons,
        )
        return cls(name=name, source=source, **built(given, rules or CleaningRules(), name=name))

    @classmethod
    def pool(
        cls,
        datasets: "Sequence[Dataset]",
        *,
        name: str = "pool",
        currencies: Mapping[str, float] | None = None,
        events: Mapping[str, Mapping[str, str]] | None = None,
    ) -> "Dataset":
        """Joins platforms under one schema; ``segment(by="platform")`` takes them apart again.

        Ids of products, shoppers, visits, channels and stores become ``<platform>/<id>``, and every table gets a column
        ``platform``. A table has the columns of all platforms, empty where one has none; a column that holds text on one
        platform and something else on another becomes text. Parts are pooled with their pasts.

        Args:
            datasets: Platforms, whose names differ; whole ones, or parts that begin after all pasts have ended.
            name: What to call the pool.
            currencies: Platform -> value of one unit of its currency in the common one; prices of the platforms that are
                not named stay as they are.
            events: Platform -> type of event -> what it means in the pool, such as ``{"shop": {"click": "view"}}``.

        Raises:
            InvalidValueError: Names are doubled or contain "/", a rate is not above 0, a type of event is unknown, a
                platform that is not pooled is named, pasts and parts overlap or only some have one, or only some
                platforms have real moments.
            SchemaError: A platform is no data set, or a table has a column ``platform`` already.
            NotEnoughDataError: There are no platforms, or no part or past has an event.
        """
        return pool(datasets, name=name, currencies=currencies, events=events)

    @cached_property
    def users(self) -> pl.Series:
        """Ids of all shoppers with an event or a profile, sorted; a shopper's index is the position here.

        The parts of a split share it, so that an index means one shopper in all of them.
        """
        if self.index is not None:
            return self.index.users
        if self.past is not None:
            return self.past.users
        ids = self.events.frame[col.USER].unique()
        if self.profiles is not None:
            ids = pl.concat([ids, self.profiles.frame[col.USER]]).unique()
        return ids.sort()

    @cached_property
    def log(self) -> EventLog:
        """The events as arrays, in time order."""
        if self.index is not None:
            return self.index.log
        log = EventLog.of(self.events.frame, users=self.users, items=self.catalog.ids)
        if len(log) and log.user.min() < 0:
            stranger = self.events.frame[col.USER][int(log.user.argmin())]
            raise UnknownUserError(
                f"an event of '{self.name}' names the shopper '{stranger}', whom its past does not know",
                expected="a past that shares its shoppers with this part",
                remedy="cut both from one data set with split(at=...) or window(start=...)",
            )
        return log

    @cached_property
    def promotion_log(self) -> PromotionLog | None:
        """The promotions as arrays, None where none are known."""
        return None if self.promotions is None else self.promotions.coded(self.catalog.ids)

    @cached_property
    def coupon_log(self) -> CouponLog | None:
        """The coupons as arrays, None where none are known."""
        return None if self.coupons is None else self.coupons.coded(users=self.users, items=self.catalog.ids)

    @property
    def start(self) -> datetime:
        """Moment of the first event, UTC.

        Raises:
            NotEnoughDataError: There are no events.
        """
        return self._moment(0)

    @property
    def end(self) -> datetime:
        """Moment of the last event, UTC.

        Raises:
            NotEnoughDataError: There are no events.
        """
        return self._moment(-1)

    @property
    def now(self) -> float:
        """The moment that the shop is served at, in seconds since the epoch.

        It is one second after the last event. A shop without events is at the present hour, which moves on.
        """
        return float(self.log.time[-1]) + 1 if len(self.log) else time.time() // HOUR * HOUR

    @cached_property
    def digest(self) -> str:
        """sha256 over the content of all tables, whatever the order of rows and columns."""
        return dataset_digest(self, event_digest(self.events.frame, EVENT_KEYS))

    def split(self, *, at: str | date | datetime) -> "tuple[Dataset, Dataset]":
        """Cuts in two by time: the events before ``at``, and those from ``at`` on.

        Args:
            at: The moment; UTC unless it says otherwise.

        Returns:
            The past and the future part, which share all but the events; ``future.past`` is all before it.

        Raises:
            InvalidValueError: ``at`` is not a date or time.
            NotEnoughDataError: One of the parts would have no events.
        """
        moment = parse_moment(at, name="at")
        cut = self._position(moment)
        if cut in (0, len(self.events)):
            side = "before" if cut == 0 else "at or after"
            raise self._outside(f"splitting '{self.name}' at {_shown(moment)} UTC leaves no events {side} that moment")
        past = self._part(0, cut, past=self.past)
        before = past if self.past is None else self._joined(self.past, past)
        return past, self._part(cut, len(self.events), past=before)

    def window(
        self, *, start: str | date | datetime | None = None, end: str | date | datetime | None = None
    ) -> "Dataset":
        """The events from ``start`` up to, but not at, ``end``; ``past`` is everything before, if there is anything.

        Args:
            start: First moment; the first event if not given.
            end: First moment after the window; open if not given.

        Raises:
            InvalidValueError: A moment is not a date or time.
            NotEnoughDataError: No event is in the window.
        """
        first = 0 if start is None else self._position(parse_moment(start, name="start"))
        last = len(self.events) if end is None else self._position(parse_moment(end, name="end"))
        if first >= last:
            raise self._outside(f"no event of '{self.name}' is in the window from {start} to {end}")
        before = self._part(0, first, past=self.past) if first else self.past
        if first and self.past is not None and before is not None:
            before = self._joined(self.past, before)
        return self._part(first, last, past=before)

    def rolling(
        self,
        *,
        windows: int,
        horizon: timedelta | int,
        step: timedelta | int | None = None,
        end: str | date | datetime | None = None,
    ) -> "tuple[tuple[Dataset, Dataset], ...]":
        """Several windows to predict, each with everything before it; the earliest comes first.

        Args:
            windows: How many.
            horizon: Length of each window; a whole number counts days.
            step: From the start of one window to the start of the next; the horizon if not given. A shorter one lets
                windows overlap.
            end: First moment after the latest window; just after the last event if not given.

        Returns:
            (past, future) for each window; ``past`` is ``future.past``.

        Raises:
            InvalidValueError: A number of windows, horizon or step that is not above 0, or ``end`` is no moment.
            NotEnoughDataError: A window has no events, or nothing comes before it; the message says how many fit.
        """
        return rolling(self, windows=windows, horizon=horizon, step=step, end=end)

    def leave_last_out(self, *, count: int = 1) -> "tuple[Dataset, Dataset]":
        """Cuts off the last events of every shopper; only for data that says nothing but their order.

        A shopper with ``count`` events or fewer stays in the past, as there would be no history to predict from. As
        moments are made up, such a shopper's days are moved before the cut, and everyone's last day is made the last day
        of the data: no event of the past is at or after one of the future.

        Args:
            count: Events of each shopper to leave out.

        Returns:
            The past and the future part, like those of :meth:`split`.

        Raises:
            InvalidValueError: The data has real moments, has a past, or ``count`` is below 1.
            NotEnoughDataError: No shopper has more than ``count`` events.
        """
        return leave_last_out(self, count=count)

    def segment(self, *, by: str) -> "dict[str, Dataset]":
        """One data set for each value of a column.

        A profile column (looked for first) cuts users and profiles, a catalogue column cuts products, an event column
        cuts events alone, so users keep their index in the latter two. ``past`` is cut the same way, and may be empty.
        ``platform`` of a pool cuts all of them.

        Args:
            by: A column of profiles, catalogue or events.

        Returns:
            Value -> data set, sorted; "unknown" holds the rows without a value. Values without events are left out.

        Raises:
            SchemaError: There is no such column, or one cannot segment by it; the message lists those that one can.
            InvalidValueError: The column has too many values.
        """
        return platforms(self) if by == col.PLATFORM and is_pool(self) else segment(self, by=by)

    def _moment(self, row: int) -> datetime:
        if not len(self.events):
            raise NotEnoughDataError(
                f"'{self.name}' has no events",
                expected="at least one event",
                remedy="choose a longer time or a larger segment; a shop that is served from its catalogue has only a `now`",
            )
        moment: datetime = self.events.frame[col.TIME][row]
        return moment

    def _position(self, moment: datetime) -> int:
        return int(self.events.frame[col.TIME].search_sorted(moment, side="left"))

    def _part(self, first: int, last: int, *, past: "Dataset | None") -> "Dataset":
        events = Events(self.events.frame.slice(first, last - first))
        index = Index(self.catalog, events, self.users, self.log.slice(first, last))
        return replace(self, events=events, past=past, index=index)

    def _joined(self, first: "Dataset", second: "Dataset") -> "Dataset":
        events = Events(pl.concat([first.events.frame, second.events.frame], how="diagonal", rechunk=False))
        index = Index(self.catalog, events, self.users, EventLog.join(first.log, second.log))
        return replace(self, events=events, past=first.past, index=index)

    def _outside(self, found: str) -> NotEnoughDataError:
        covered = f"{_shown(self.start)} to {_shown(self.end)} UTC" if len(self.events) else "nothing"
        return NotEnoughDataError(
            found,
            expected=f"a moment within the data, which covers {covered}",
            remedy="choose a moment after the first event and not after the last",
        )

    def __repr__(self) -> str:
        """Name, sizes and time range in one line."""
        shoppers = self.events.frame[col.USER].n_unique()
        covered = f"{_shown(self.start)} to {_shown(self.end)} UTC" if len(self.events) else "no time"
        return (
            f"Dataset({self.name}: {shoppers:,} shoppers, {len(self.catalog):,} products, {len(self.events):,} events,"
            f" {covered})"
        )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
