"""Does the past of a split know its future? One check for each way in which it can."""

from collections.abc import Mapping

from peftrec.data.audit.hindsight import catalogue_columns, catalogue_source, profile_columns
from peftrec.data.audit.parts import codes, features_as_of, future_past, newcomers, promotions
from peftrec.data.audit.report import AuditCheck, AuditReport
from peftrec.data.audit.tables import as_parts
from peftrec.data.audit.timing import Sides, copied_events, early_future, late_past, repeated_baskets, shared_visits
from peftrec.data.dataset import Dataset
from peftrec.data.reading.tables import Table
from peftrec.errors import NotEnoughDataError

_CODED_APART = "not looked at, as an index does not mean the same in both parts"


def audit(past: Dataset, future: Dataset, *, features: bool = True) -> AuditReport:
    """Looks for everything that the past of a split may know of its future.

    Events on the wrong side of the cut, events and visits on both sides, indices that mean somebody else in the other part,
    statistics and promotions that read beyond the cut, and columns of catalogue and profiles that know what was sold after
    it. A product that is first sold after the cut is no leak, and neither is a column that was true before, such as a price.
    A catalogue that was made in hindsight, by what its source says, and large baskets that come twice are warnings.

    Args:
        past: What a model learns from.
        future: What it is to predict.
        features: Also compute all statistics and histories twice, with and without the future; seconds on a million events.

    Raises:
        NotEnoughDataError: A part has no events.
    """
    _refuse_empty(past, future)
    sides, coded = Sides.of(past, future), codes(past, future)
    checks = [*_of_events(sides, past, future), coded, future_past(past, future)]
    if coded.severity == "ok":
        if features:
            checks += features_as_of(past, future)
        else:
            checks += [AuditCheck("features", "skipped", "not asked for"), promotions(past, future)]
        checks += [*_of_columns(past, future), catalogue_source(past, future)]
    else:
        names = ("features", "promotions", "newcomers", "catalogue_columns", "profile_columns", "catalogue_source")
        checks += [AuditCheck(name, "skipped", _CODED_APART) for name in names]
    return AuditReport(future.name, sides.cut.at, len(past.events), len(future.events), tuple(checks))


def audit_tables(
    train: Table,
    test: Table,
    *,
    columns: Mapping[str, str] | None = None,
    catalog: Table | None = None,
    catalog_columns: Mapping[str, str] | None = None,
    profiles: Table | None = None,
    profile_columns: Mapping[str, str] | None = None,
) -> AuditReport:
    """The same for a split that was made elsewhere, as two tables of events.

    Rows are taken as they are; those that cannot be read as events are left out and counted in the check ``cleaning``.

    Args:
        train: Events to learn from, in any form that ``Dataset.build`` takes.
        test: Events to predict.
        columns: Our name -> your name, for both tables of events.
        catalog: Products, to look for columns that know the future.
        catalog_columns: Our name -> your name.
        profiles: Shoppers' attributes, likewise.
        profile_columns: Our name -> your name.

    Raises:
        SchemaError: A column is missing, doubled or of a wrong type, or a file cannot be read.
        InvalidValueError: The events have no moments, only an order; an id of the catalogue or the profiles is missing or
            appears twice.
        NotEnoughDataError: A table is empty, or no row of it can be read.
    """
    past, future, cleaning = as_parts(
        train,
        test,
        columns=columns,
        catalog=catalog,
        catalog_columns=catalog_columns,
        profiles=profiles,
        profile_columns=profile_columns,
    )
    sides = Sides.of(past, future)
    checks = [cleaning, *_of_events(sides, past, future), *_of_columns(past, future)]
    return AuditReport(future.name, sides.cut.at, len(past.events), len(future.events), tuple(checks))


def _of_events(sides: Sides, past: Dataset, future: Dataset) -> list[AuditCheck]:
    moments = [late_past(sides), early_future(sides)]
    return [*moments, copied_events(sides, past, future), shared_visits(sides), repeated_baskets(sides)]


def _of_columns(past: Dataset, future: Dataset) -> list[AuditCheck]:
    return [newcomers(past, future), catalogue_columns(past, future), profile_columns(past, future)]


def _refuse_empty(past: Dataset, future: Dataset) -> None:
    for what, part in (("past", past), ("future", future)):
        if not len(part.events):
            raise NotEnoughDataError(
                f"the {what} of this split, '{part.name}', has no events",
                expected="events on both sides of the cut",
                remedy="cut at another moment, or choose a larger segment",
            )


__all__ = ["AuditCheck", "AuditReport", "audit", "audit_tables"]
