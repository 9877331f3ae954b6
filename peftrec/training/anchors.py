"""The moments of a log that training looks at: who had a history then, and what they bought after it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY, PURCHASE, Histories, Ragged
from peftrec.errors import NotEnoughDataError
from peftrec.training.config import TrainConfig

HOUR = 3600.0


@dataclass(frozen=True)
class Anchor:
    """All shoppers who had a history at one moment and bought something within the horizon after it.

    Attributes:
        moment: Seconds since the epoch.
        users: (B,) user indices.
        histories: Of the users, before the moment.
        bought: The distinct products each then bought, rising.
        first: Those among them that the shopper had not bought before.
    """

    moment: float
    users: NDArray[np.int32]
    histories: Histories
    bought: Ragged
    first: Ragged

    def take(self, rows: NDArray[np.int64]) -> "Anchor":
        """Some of the shoppers."""
        bought, first = (Ragged.join([values[row] for row in rows]) for values in (self.bought, self.first))
        return Anchor(self.moment, self.users[rows], self.histories.take(rows), bought, first)


def moments(end: float, start: float, config: TrainConfig) -> list[float]:
    """Anchors, latest first, each at least one horizon after the first event and one before the end of the log."""
    last = end - config.horizon
    # A scene names weekday and part of the day: each anchor lies on others, or they would say nothing.
    stride = config.stride + (DAY + 5 * HOUR if config.scene else 0)
    wanted = [last - step * stride for step in range(config.anchors)]
    early = start + config.horizon
    return [moment for moment in wanted if moment >= early] or ([last] if last > start else [])


def anchor(dataset: Dataset, moment: float, config: TrainConfig) -> Anchor:
    """Reads one moment: who had a history, and what they bought within the horizon."""
    log, n_items = dataset.log, len(dataset.catalog)
    begin, end = np.searchsorted(log.time, [moment, moment + config.horizon])
    purchase = log.event[begin:end] == PURCHASE
    keys = np.unique(log.user[begin:end][purchase].astype(np.int64) * n_items + log.item[begin:end][purchase])
    known = np.unique(log.user[:begin])
    users = np.intersect1d(keys // n_items, known).astype(np.int32)
    histories = Histories.of(dataset, users, moment=moment)
    old_item = histories.item[histories.event == PURCHASE]
    old_row = histories.row[histories.event == PURCHASE]
    keys = keys[np.isin(keys // n_items, users)]
    new = keys[~np.isin(keys, users[old_row].astype(np.int64) * n_items + old_item)]
    return Anchor(moment, users, histories, _by_user(keys, users, n_items), _by_user(new, users, n_items))


def _by_user(keys: NDArray[np.int64], users: NDArray[np.int32], n_items: int) -> Ragged:
    offsets = np.searchsorted(keys, np.append(users.astype(np.int64), np.iinfo(np.int32).max) * n_items)
    return Ragged(offsets.astype(np.int64), (keys % n_items).astype(np.int32))


def anchors_of(dataset: Dataset, config: TrainConfig) -> list[Anchor]:
    """The moments of a log that training looks at, latest first; ``config`` as :meth:`TrainConfig.on` made it.

    Raises:
        NotEnoughDataError: The log is too short, or too few shoppers buy again.
    """
    log = dataset.log
    times = moments(float(log.time[-1]) + 1, float(log.time[0]), config) if len(log) else []
    if not times:
        raise NotEnoughDataError(
            f"{dataset!r} covers less than one horizon of {config.horizon / DAY:g} days and a history before it",
            expected=f"events over more than {config.horizon / DAY:g} days",
            remedy="use a longer log or a shorter TrainConfig.horizon_days, or serve it with an adapted backbone alone",
        )
    anchors = [anchor(dataset, moment, config) for moment in times]
    check_enough(anchors)
    return [one for one in anchors if len(one.users)]


def check_enough(anchors: list[Anchor], *, shoppers_needed: int = 20) -> None:
    """Refuses to train on too few shoppers.

    Raises:
        NotEnoughDataError: With the counts found.
    """
    most = max((len(one.users) for one in anchors), default=0)
    if most < shoppers_needed:
        raise NotEnoughDataError(
            f"{most} shoppers with a history and a purchase within the horizon after it",
            expected=f"at least {shoppers_needed}",
            remedy="train on a longer log, shorten TrainConfig.horizon_days, or serve this platform with another's adapter",
        )
