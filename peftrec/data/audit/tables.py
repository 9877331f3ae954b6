"""Two tables of events that somebody else split, as parts that can be audited."""

from collections.abc import Mapping

import polars as pl

from peftrec.data import columns as col
from peftrec.data.audit.report import AuditCheck
from peftrec.data.cleaning.report import CleaningReport
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.events import MADE_UP, named_events
from peftrec.data.index import Index
from peftrec.data.log import EventLog
from peftrec.data.profiles import Profiles
from peftrec.data.reading.places import naming_files
from peftrec.data.reading.tables import Table
from peftrec.data.reading.values import as_id, is_blank
from peftrec.errors import InvalidValueError

AS_THEY_ARE = CleaningRules(
    future_timestamp=False,
    cancelled=False,
    non_positive_quantity=False,
    negative_price=False,
    discount_out_of_range=False,
    negative_dwell=False,
    bot=False,
    outlier_user=False,
    price_unit=False,
    measured_quantity=False,
    html=False,
    mojibake=False,
    near_duplicate=False,
)
"""Only what cannot be read as an event is left out: cleaning must not tidy a leak away."""


def as_parts(
    train: Table,
    test: Table,
    *,
    columns: Mapping[str, str] | None,
    catalog: Table | None,
    catalog_columns: Mapping[str, str] | None,
    profiles: Table | None,
    profile_columns: Mapping[str, str] | None,
) -> tuple[Dataset, Dataset, AuditCheck]:
    """Past and future with one catalogue, one list of shoppers and one coding, and what reading them left out."""
    frames: list[pl.DataFrame] = []
    for name, table in (("train", train), ("test", test)):
        with naming_files(events=(table, columns)):
            frames.append(named_events(table, columns))
        _refuse_made_up(name, frames[-1])
    products = _products(frames) if catalog is None else catalog
    known = None
    if profiles is not None:
        with naming_files(profiles=(profiles, profile_columns)):
            known = Profiles.from_table(profiles, columns=profile_columns)
    with naming_files(events=(train, columns), catalogue=(catalog, catalog_columns)):
        past = Dataset.build(
            name="train",
            catalog=products,
            events=frames[0],
            profiles=known,
            catalog_columns=catalog_columns,
            rules=AS_THEY_ARE,
        )
    with naming_files(events=(test, columns)):
        future = Dataset.build(name="test", catalog=past.catalog, events=frames[1], profiles=known, rules=AS_THEY_ARE)
    past, future = _coded_alike(past, future)
    return past, future, _cleaning([part.report for part in (past, future) if part.report is not None])


def _products(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """A catalogue of nothing but the ids that come up."""
    ids = pl.concat([as_id(frame[col.ITEM], "events").to_frame() for frame in frames])
    ids = ids.filter(~is_blank(pl.col(col.ITEM))).unique().sort(col.ITEM)
    return ids.with_columns(pl.col(col.ITEM).alias(col.TITLE))


def _coded_alike(past: Dataset, future: Dataset) -> tuple[Dataset, Dataset]:
    users = pl.concat([past.users, future.users]).unique().sort()
    known = [*col.EVENTS_REQUIRED, *col.EVENTS_OPTIONAL]
    frames = [part.events.frame.select(pl.col(f"^({'|'.join(known)})$")) for part in (past, future)]
    log = EventLog.of(pl.concat(frames, how="diagonal"), users=users, items=past.catalog.ids)
    first, second = log.slice(0, len(past.events)), log.slice(len(past.events), len(log))
    one = Dataset(
        "train",
        past.catalog,
        past.events,
        past.profiles,
        report=past.report,
        index=Index(past.catalog, past.events, users, first),
    )
    two = Dataset(
        "test",
        past.catalog,
        future.events,
        past.profiles,
        report=future.report,
        past=one,
        index=Index(past.catalog, future.events, users, second),
    )
    return one, two


def _cleaning(reports: list[CleaningReport]) -> AuditCheck:
    rows, dropped = sum(report.rows_in for report in reports), sum(report.rows_dropped for report in reports)
    if not dropped:
        return AuditCheck("cleaning", "ok", f"all {rows:,} rows can be read as events")
    counts = [(report.name, count) for report in reports for count in report.counts if count.action == "dropped"]
    told = ", ".join(f"{name} {count.rule} {count.rows:,}" for name, count in counts if count.rows)
    name, shown = next((name, count.example) for name, count in counts if count.rows)
    return AuditCheck(
        "cleaning",
        "warning",
        f"{dropped:,} of {rows:,} rows were left out: {told}",
        dropped,
        dropped / rows,
        f"{name}, {shown}",
        "correct the rows; what is left out is not looked at",
    )


def _refuse_made_up(name: str, frame: pl.DataFrame) -> None:
    if MADE_UP in frame.columns:
        raise InvalidValueError(
            f"the {name} events have no column '{col.TIME}', only positions",
            expected="moments, as without them nothing says what comes before the cut",
            remedy="build one data set of all events with Dataset.build and cut it with leave_last_out()",
        )
