"""One training in several processes, as ``torchrun`` starts them: who is first, and what all must agree on.

Every process reads the data and names candidates; each step's rows are shared out among them. Losses divide by what all hold
together (:mod:`peftrec.model.losses`), so that their mean is the loss of one process with the whole batch.
"""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TypeVar, cast

import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from peftrec.errors import ConfigError, TrainingError
from peftrec.model.losses import processes

Value = TypeVar("Value")

PATIENCE = timedelta(days=1)
"""How long processes wait for the first one, which fits trees for all."""


def join() -> None:
    """Meets the other processes, where there are any; the training's rows live on the CPU, so they talk over gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState(cpu=True, backend="gloo", timeout=PATIENCE)


def refuse(what: str) -> None:
    """Refuses to run where ``torchrun`` started several processes.

    Raises:
        ConfigError: It did.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        raise ConfigError(
            f"{what} in {count} processes", expected="one process", remedy="start it with python instead of torchrun"
        )


def is_first() -> bool:
    """Whether this is the one that writes files and shows bars."""
    return not _together() or dist.get_rank() == 0


def of_first(make: Callable[[], Value]) -> Value:
    """What the first process makes, for all.

    Raises:
        TrainingError: It could not, in the other processes; in the first one the error itself.
    """
    if not _together():
        return make()
    made, failed = None, None
    if is_first():
        try:
            made = make()
        except Exception as error:  # noqa: BLE001  # whatever it is, the others must not wait for ever; it is raised below
            failed = error
    told = [made, None if failed is None else (str(failed) or repr(failed)).splitlines()[0]]
    dist.broadcast_object_list(told)
    if failed is not None:
        raise failed
    if told[1] is not None:
        raise TrainingError(
            f"the first process stopped: {told[1]}",
            expected="a first process that goes on",
            remedy="see its own error",
        )
    return cast(Value, told[0])


def same(value: str) -> bool:
    """Whether all processes hold what the first one does."""
    if not _together():
        return True
    found: list[str | None] = [None] * processes()
    dist.all_gather_object(found, value)
    return len({*found}) == 1


def agree(tensors: Mapping[str, Tensor]) -> None:
    """Gives all processes the first one's values, in place."""
    if _together():
        for name in sorted(tensors):
            dist.broadcast(tensors[name].detach(), src=0)


def wait() -> None:
    """Until all have come here."""
    if _together():
        dist.barrier()


def rounded(batch_size: int) -> int:
    """The next size that can be shared out evenly."""
    return -(-batch_size // processes()) * processes()


def share(batch_size: int) -> int:
    """A process's part of a step.

    Raises:
        ConfigError: The step's rows cannot be shared out evenly.
    """
    count = processes()
    if batch_size % count:
        raise ConfigError(
            f"batch_size={batch_size} over {count} processes",
            expected="as many rows for each",
            remedy=f"set batch_size={-(-batch_size // count) * count}, or start another number of processes",
        )
    return batch_size // count


def _together() -> bool:
    return processes() > 1
