"""Adapters in memory: loaded on first use, evicted by bytes, stacked per batch. Nothing about a request is kept here."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peftrec.errors import ConfigError, RequestError
from peftrec.model.adapter import Adapter
from peftrec.tuners import Changes

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(memory: str | int) -> int:
    """Bytes of ``512MB``, ``2GiB`` or a plain number.

    Raises:
        ConfigError: It is no positive amount.
    """
    text = str(memory).strip().upper().replace(" ", "")
    for unit, factor in _UNITS.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return int(float(number) * factor)
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise ConfigError(
        f"memory={memory!r}", expected="an amount such as '512MB', '2GiB' or 500000000", remedy="try '512MB'"
    )


@dataclass(frozen=True)
class Loaded:
    """One adapter as tensors.

    Attributes:
        adapter: Settings and facts.
        changes: Its tuner's.
        extras: Matrices.
    """

    adapter: Adapter
    changes: Changes[Tensor]
    extras: dict[str, Tensor]

    @classmethod
    def of(cls, adapter: Adapter) -> "Loaded":
        """Takes the arrays over."""
        extras = {name: torch.as_tensor(value) for name, value in adapter.extras.items()}
        return cls(adapter, adapter.changes.map(torch.as_tensor), extras)

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(value.nbytes for value in (*self.changes.arrays(), *self.extras.values()))


class Slots:
    """Adapters by ``name@version``, the least recently used leaving first.

    Args:
        load: Reads one from the registry.
        budget: Bytes for all of them.
    """

    def __init__(self, load: Callable[[str], Adapter], budget: int) -> None:
        self._load, self.budget = load, budget
        self._held: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self.loads, self.hits, self.evictions = 0, 0, 0

    def get(self, reference: str) -> Loaded:
        """The adapter, loaded if need be. What a caller holds stays valid when its slot is given to another.

        Raises:
            RegistryError: It cannot be loaded; what is held stays.
            RequestError: It is larger than the whole budget.
        """
        with self._lock:
            if reference in self._held:
                self._held.move_to_end(reference)
                self.hits += 1
                return self._held[reference]
        loaded = Loaded.of(self._load(reference))  # outside the lock: others are served meanwhile
        if loaded.size > self.budget:
            raise RequestError(
                f"{reference} takes {loaded.size:,} bytes, the engine may hold {self.budget:,}",
                expected="a budget for at least one adapter",
                remedy=f"Engine(..., memory={2 * loaded.size})",
            )
        with self._lock:
            self.loads += 1
            self._held[reference] = loaded
            while self.size > self.budget:
                self._held.popitem(last=False)
                self.evictions += 1
        return loaded

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(loaded.size for loaded in self._held.values())


def stacked(rows: Sequence[Loaded]) -> dict[str, Tensor]:
    """The extras of each row, (B, rows, columns); those of one adapter alone stay matrices."""
    if all(loaded is rows[0] for loaded in rows):
        return dict(rows[0].extras)
    return {name: torch.stack([loaded.extras[name] for loaded in rows]) for name in rows[0].extras}
