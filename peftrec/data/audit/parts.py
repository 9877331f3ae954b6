# pyright: basic
# scipy has no types; the rest of the package is checked strictly.
"""Whether two parts mean the same shoppers and products, and whether what is computed from a past reads it alone."""

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from peftrec.data import columns as col
from peftrec.data.audit.report import AuditCheck
from peftrec.data.dataset import Dataset
from peftrec.data.events import Events
from peftrec.data.histories import EVENT_ARRAYS, Histories
from peftrec.data.index import Index
from peftrec.data.log import EventLog
from peftrec.data.panel import Panel
from peftrec.data.promotions import Promotions
from peftrec.data.snapshot import ITEM_FEATURES, Snapshot

_CLOSE = 1e-5
_ONE_CUT = "cut both from one data set with split(at=...) or window(start=...)"


def codes(past: Dataset, future: Dataset) -> AuditCheck:
    """Shoppers and products whose index means somebody or something else in the other part."""
    for what, ours, theirs in (
        (col.USER, past.users, future.users),
        (col.ITEM, past.catalog.ids, future.catalog.ids),
    ):
        both = min(len(ours), len(theirs))
        other = (ours.head(both) != theirs.head(both)).arg_true()
        wrong = len(other) + abs(len(ours) - len(theirs))
        if wrong:
            at = int(other[0]) if len(other) else both
            shown = [f"'{ids[at]}'" if at < len(ids) else "nothing" for ids in (ours, theirs)]
            return AuditCheck(
                "codes",
                "leak",
                f"{wrong:,} indices of {what} do not mean the same in both parts",
                wrong,
                wrong / max(len(ours), len(theirs)),
                f"index {at} is {shown[0]} in the past and {shown[1]} in the future",
                _ONE_CUT,
            )
    return AuditCheck("codes", "ok", "an index means the same shopper and product in both parts")


def future_past(past: Dataset, future: Dataset) -> AuditCheck:
    """Whether the past that models read for the future is the past that they learn from, and no more."""
    name, known = "future_past", future.past
    if known is None:
        return AuditCheck(name, "warning", "the future has no past: shoppers would have no history", remedy=_ONE_CUT)
    late = len(known.log) - int(np.searchsorted(known.log.time, future.log.time[0]))
    if late > max(0, len(past.log) - int(np.searchsorted(past.log.time, future.log.time[0]))):
        return AuditCheck(
            name,
            "leak",
            f"future.past holds {late:,} events at or after the first event of the future",
            late,
            late / len(known.log),
            f"row {len(known.log) - late}: {known.events.frame[col.TIME][-late]:%Y-%m-%d %H:%M:%S}",
            _ONE_CUT,
        )
    if known is not past and not _part_of(known.log, past.log):
        found = (
            f"future.past, with {len(known.log):,} events, does not hold the past, with {len(past.log):,}, as one piece"
        )
        wrong = abs(len(known.log) - len(past.log))
        return AuditCheck(name, "warning", found, wrong, wrong / max(len(known.log), 1), remedy=_ONE_CUT)
    more = len(known.log) - len(past.log)
    return AuditCheck(name, "ok", "future.past is the past" + (f" and {more:,} events around it" if more else ""))


def newcomers(past: Dataset, future: Dataset) -> AuditCheck:
    """Products and shoppers that the log first meets in the future, which is no leak."""
    new = [len(np.setdiff1d(getattr(future.log, name), getattr(past.log, name))) for name in ("item", "user")]
    met = len(np.unique(future.log.item))
    return AuditCheck(
        "newcomers",
        "ok",
        f"{new[0]:,} products and {new[1]:,} shoppers first come up in the future; a past may know them from catalogue and"
        " profiles",
        new[0],
        new[0] / met,
    )


def features_as_of(past: Dataset, future: Dataset) -> tuple[AuditCheck, AuditCheck]:
    """Whether statistics, histories and promotions as of the cut are the same with and without the future in the log."""
    moment, plan = float(future.log.time[0]), past.promotions
    alone = past if plan is None else replace(past, promotions=_announced(plan, moment))
    whole = _whole(past, future)
    different = [*_snapshots(alone, whole, moment), *_histories(alone, whole, moment)]
    promoted = [name for name in different if name.startswith(col.PROMOTION_KINDS)]
    others = [name for name in different if name not in promoted]
    told = f"{len(different):,} of {len(ITEM_FEATURES) + len(_HISTORY)} numbers"
    check = AuditCheck("features", "ok", "statistics and histories as of the cut do not depend on what comes after it")
    if others:
        check = AuditCheck(
            "features",
            "leak",
            f"{told} as of the cut change when the future is in the log: {', '.join(others)}",
            len(others),
            len(others) / (len(ITEM_FEATURES) + len(_HISTORY)),
            others[0],
            "compute them from events before the moment alone, as Snapshot.at and Histories.of do",
        )
    return check, promotions(past, future, promoted)


def promotions(past: Dataset, future: Dataset, different: list[str] | None = None) -> AuditCheck:
    """Whether promotions announced after the cut are left unread.

    Args:
        past: Its promotions.
        future: Begins at the cut.
        different: Features of promotions that changed when later ones were there, if they were compared.
    """
    log, moment = past.promotion_log, float(future.log.time[0])
    if log is None:
        return AuditCheck("promotions", "skipped", "there are no promotions")
    later = np.flatnonzero(log.announced > moment)
    read = int(np.count_nonzero(log.known(moment).announced > moment))
    if not read and not different:
        return AuditCheck("promotions", "ok", f"{len(later):,} promotions were announced after the cut; none is read")
    shown = f"item_id '{past.catalog.ids[int(log.item[later[0]])]}'" if len(later) else ""
    found = f"{read or len(later):,} promotions announced after the cut are read"
    return AuditCheck(
        "promotions",
        "leak",
        found + (f": {', '.join(different)}" if different else ""),
        read or len(later),
        (read or len(later)) / len(log.item),
        shown,
        "read promotions through PromotionLog.known(moment)",
    )


def _announced(plan: Promotions, moment: float) -> Promotions:
    at = plan.frame[col.ANNOUNCED].to_physical().to_numpy() / 1e6 <= moment
    return Promotions(plan.frame.filter(pl.Series(at)))


def _whole(past: Dataset, future: Dataset) -> Dataset:
    """Both parts as one log, coded as they are."""
    log = EventLog.join(past.log, future.log)
    order = np.argsort(log.time, kind="stable")
    frames = [past.events.frame, future.events.frame]
    events = Events(pl.concat(frames, how="diagonal")[order])
    index = Index(future.catalog, events, future.users, log.take(order))
    return replace(future, events=events, past=None, index=index)


def _part_of(log: EventLog, part: EventLog) -> bool:
    """Whether a log begins or ends with ``part``: a past may have a past of its own, or end before the cut."""
    slices = (log.slice(0, len(part)), log.slice(len(log) - len(part), len(log))) if len(log) >= len(part) else ()
    names = ("user", "item", "time", "event")
    return any(all(np.array_equal(getattr(one, name), getattr(part, name)) for name in names) for one in slices)


def _snapshots(one: Dataset, two: Dataset, moment: float) -> list[str]:
    ours, theirs = Snapshot.at(one, moment), Snapshot.at(two, moment)
    different = [
        name for place, name in enumerate(ITEM_FEATURES) if not _same(ours.items[:, place], theirs.items[:, place])
    ]
    for name in ("buyers", "popular", "group_buyers"):
        different += [] if _same(getattr(ours, name), getattr(theirs, name)) else [name]
    pairs = {"channel_share": (ours.channel_share, theirs.channel_share)} | {
        f"panel {name}": (getattr(ours.panel, name), getattr(theirs.panel, name))
        for name in ("frequency", "recent", "affinity")
    }
    if not _same(_weights(ours.panel), _weights(theirs.panel)):
        different.append("panel factors")
    return [*different, *(name for name, matrices in pairs.items() if not _same_matrix(*matrices))]


def _weights(panel: Panel) -> NDArray[np.float32]:
    """By which the products with most told of themselves tell of each other: signs of factors mean nothing."""
    most = panel.factors[np.sort(np.argsort(-np.square(panel.factors).sum(axis=1), kind="stable")[:100])]
    return most @ most.T


_HISTORY = tuple(name for name in (*EVENT_ARRAYS, "channel") if name != "session")
"""Session codes have no meaning of their own, so parts may number them apart."""


def _histories(one: Dataset, two: Dataset, moment: float) -> list[str]:
    users = np.arange(len(one.users), dtype=np.int32)
    ours, theirs = Histories.of(one, users, moment=moment), Histories.of(two, users, moment=moment)
    if not np.array_equal(ours.offsets, theirs.offsets):
        return ["history length"]
    different = [f"history {name}" for name in _HISTORY if not _same(getattr(ours, name), getattr(theirs, name))]
    held = ours.coupons, theirs.coupons
    if None not in held:
        names = "offsets", "campaign", "left"
        same = all(_same(getattr(held[0], name), getattr(held[1], name)) for name in names)
        different += [] if same else ["coupons held"]
    return different


def _same(one: NDArray[np.generic], two: NDArray[np.generic]) -> bool:
    return one.shape == two.shape and np.allclose(one, two, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)


def _same_matrix(one: sparse.csr_matrix, two: sparse.csr_matrix) -> bool:
    if one.shape != two.shape:
        return False
    apart = abs(one - two)
    return not apart.nnz or float(apart.max()) <= _CLOSE
