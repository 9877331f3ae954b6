"""What else than purchases the decoder may learn to foretell: clicks, favourites, carts, quantities, seconds spent.

Such auxiliary tasks shape what the decoder makes of a shopper and a product (multi-task learning, Caruana, 1997). Their heads
live in training alone: an adapter answers how probable a purchase is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

from peftrec.data.columns import EVENT_TYPES
from peftrec.data.histories import PURCHASE
from peftrec.data.log import EventLog
from peftrec.errors import ConfigError, TrainingError
from peftrec.model.candidates import Candidates

EVENTS = ("click", "favourite", "cart")
"""Tasks that ask whether an event happens within the horizon."""

AMOUNTS = ("quantity", "dwell")
"""Tasks that ask how much: log(1 + units) of what is bought, log(1 + seconds) of what is looked at, where the log tells."""

TASKS = (*EVENTS, *AMOUNTS)
WEIGHTINGS = ("fixed", "uncertainty")


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """One task beside the purchase.

    Attributes:
        task: ``click``, ``favourite`` or ``cart``, as binary classification; ``quantity`` or ``dwell``, as regression.
        weight: Of its loss beside the purchase loss.
    """

    task: str
    weight: float = 0.1

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(f"task={self.task!r}", expected=f"one of {', '.join(TASKS)}", remedy="correct the name")
        if not 0 < self.weight < float("inf"):
            raise ConfigError(f"weight={self.weight!r}", expected="a number above 0", remedy="the default is 0.1")


def check_tasks(tasks: Sequence[Auxiliary], log: EventLog, *, dataset: str) -> None:
    """Refuses tasks that a log says nothing about.

    Raises:
        TrainingError: Names the first of them.
    """
    for one in tasks:
        told = (
            bool(np.isfinite(log.dwell).any())
            if one.task == "dwell"
            else bool((log.quantity[log.event == PURCHASE] != 1).any())
            if one.task == "quantity"
            else bool((log.event == EVENT_TYPES.index(one.task)).any())
        )
        if not told:
            raise TrainingError(
                f"the auxiliary task '{one.task}' on '{dataset}', whose log holds nothing about it",
                expected="events of that kind, or the column quantity or dwell_seconds",
                remedy="leave the task out, or map the column when the data is read",
            )


def targets_of(
    tasks: Sequence[Auxiliary],
    log: EventLog,
    users: NDArray[np.int32],
    candidates: Candidates,
    *,
    moment: float,
    horizon: float,
    n_items: int,
) -> NDArray[np.float32]:
    """(C, tasks) what each candidate's shopper does with it within the horizon: 0 or 1, or an amount, NaN where unknown.

    Args:
        tasks: The columns.
        log: Of the platform.
        users: (B,) of the rows.
        candidates: Of the rows.
        moment: Begin of the horizon, seconds since the epoch.
        horizon: Its length in seconds.
        n_items: Products of the catalogue.
    """
    window = slice(*np.searchsorted(log.time, [moment, moment + horizon]))
    keys = log.user[window].astype(np.int64) * n_items + log.item[window]
    asked = users[candidates.items.rows].astype(np.int64) * n_items + candidates.items.values
    found = np.empty((len(asked), len(tasks)), np.float32)
    for column, one in enumerate(tasks):
        if one.task in EVENTS:
            found[:, column] = np.isin(asked, keys[log.event[window] == EVENT_TYPES.index(one.task)])
        else:
            amount = log.dwell[window] if one.task == "dwell" else log.quantity[window]
            counts = np.isfinite(amount) if one.task == "dwell" else log.event[window] == PURCHASE
            found[:, column] = _amounts(asked, keys[counts], amount[counts])
    return found


def _amounts(asked: NDArray[np.int64], keys: NDArray[np.int64], amount: NDArray[np.float32]) -> NDArray[np.float32]:
    """log(1 + sum of the amounts of each key), NaN for those that are not there."""
    distinct, of = np.unique(keys, return_inverse=True)
    sums = np.append(np.log1p(np.bincount(of, weights=np.maximum(amount, 0), minlength=len(distinct))), np.nan)
    at = np.searchsorted(distinct, asked)
    known = at < len(distinct)
    known[known] = distinct[at[known]] == asked[known]
    return sums[np.where(known, at, len(distinct))].astype(np.float32)


class AuxiliaryHeads(nn.Module):
    """A linear map of the decoder's output for each task, and their weighted loss.

    Args:
        tasks: See :class:`Auxiliary`.
        hidden: Width H of the decoder.
        weighting: ``fixed``, or ``uncertainty``: each loss is divided by a variance that is learned with it, which costs its
            logarithm (Kendall, Gal and Cipolla, 2018, https://arxiv.org/abs/1705.07115).
        seed: Of the maps.
    """

    def __init__(self, tasks: Sequence[Auxiliary], hidden: int, *, weighting: str, seed: int) -> None:
        super().__init__()
        self.tasks, self.weighting = tuple(tasks), weighting
        random = torch.Generator().manual_seed(seed)
        self.map = nn.Linear(hidden, len(self.tasks))
        self.map.weight.data.normal_(std=hidden**-0.5, generator=random)
        nn.init.zeros_(self.map.bias)
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)), requires_grad=weighting == "uncertainty")

    def forward(self, output: Tensor, targets: Tensor, weight: Tensor, *, over: Tensor) -> Tensor:
        """The loss, but for :meth:`cost`.

        Args:
            output: (B, W, H) of the decoder.
            targets: (B, W, tasks), NaN where unknown.
            weight: (B, W) how many candidates each stands for, 0 for padding.
            over: (tasks,) divisors for :func:`known` of the whole batch, of which these rows may be a part.
        """
        found, total = self.map(output).float(), output.new_zeros(())
        for column, one in enumerate(self.tasks):
            target = targets[..., column]
            there = weight * target.isfinite()
            binary = one.task in EVENTS
            each = F.binary_cross_entropy_with_logits if binary else F.mse_loss
            loss = (each(found[..., column], target.nan_to_num(), reduction="none") * there).sum()
            scale = (1.0 if binary else 0.5) * torch.exp(-self.log_variance[column])
            total = total + one.weight * scale * loss / over[column]
        return total

    def cost(self) -> Tensor:
        """What the variances cost, which do not depend on any row."""
        weights = self.log_variance.new_tensor([one.weight for one in self.tasks])
        return 0.5 * (weights * self.log_variance).sum()


def known(targets: Tensor, weight: Tensor) -> Tensor:
    """(tasks,) how many candidates each task's loss is a mean over.

    Args:
        targets: (B, M, tasks), NaN where unknown.
        weight: (B, M) how many candidates each stands for, 0 for those that no task asks about.
    """
    return (weight[..., None] * targets.isfinite()).sum(dim=(0, 1))
