"""Slots for adapters: loaded on first use, evicted by bytes. Nothing about a request is kept here."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import torch

from peftrec.backbone.memory import give_back
from peftrec.errors import ConfigError, PeftrecError, RequestError
from peftrec.model.adapter import Adapter
from peftrec.serving.loaded import Loaded

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


_LOADS_BETWEEN = 256
"""Loads after which memory is given back, which takes milliseconds: each needs some megabytes for a moment, and threads that
load keep a dozen each."""


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
class SlotCounts:
    """What happened to slots so far, and what they hold.

    Attributes:
        hits: Adapters that were there when they were asked for.
        loads: Adapters read from the registry.
        evictions: Adapters that left for others.
        resident: Adapters held.
        pinned: Of these, those that do not leave.
        bytes: Of all that is held.
    """

    hits: int
    loads: int
    evictions: int
    resident: int
    pinned: int
    bytes: int


class Slots:
    """Adapters by ``name@version``, the least recently used leaving first, those pinned never.

    Whoever asks for an adapter that somebody else is just loading waits for that; nobody else waits. A load that fails is
    told to all who waited for it and changes nothing.

    Args:
        load: Reads one from the registry.
        budget: Bytes for all of them.
        device: Where they are held.
    """

    def __init__(self, load: Callable[[str], Adapter], budget: int, device: str | torch.device = "cpu") -> None:
        self._load, self.budget, self._device = load, budget, device
        self._held: OrderedDict[str, Loaded] = OrderedDict()
        self._coming: dict[str, Future[Loaded]] = {}
        self._pinned: dict[str, int] = {}
        self._lock = threading.Lock()
        self._bytes, self._loads, self._hits, self._evictions = 0, 0, 0, 0

    def get(self, reference: str) -> Loaded:
        """The adapter, loaded if need be. What a caller holds stays valid when its slot is given to another.

        Raises:
            RegistryError: It cannot be loaded; what is held stays.
            RequestError: It is larger than what the budget leaves beside the pinned ones.
        """
        with self._lock:
            if reference in self._held:
                self._held.move_to_end(reference)
                self._hits += 1
                return self._held[reference]
            coming, mine = self._coming.get(reference), Future[Loaded]()
            if coming is None:
                self._coming[reference] = mine
        if coming is not None:
            try:
                return coming.result()
            except PeftrecError as error:
                raise copy.copy(error) from error  # one object in many threads would gather all their traces
            except CancelledError:  # whoever loaded it was interrupted: that is no fault of the adapter
                return self.get(reference)
        try:
            loaded = Loaded.of(self._load(reference), self._device)  # outside the lock: others are served meanwhile
            due = self._admit(reference, loaded)
        except BaseException as error:
            with self._lock:
                self._coming.pop(reference, None)
            if isinstance(error, Exception):
                mine.set_exception(error)
            else:
                mine.cancel()
            raise
        mine.set_result(loaded)
        if due:
            give_back()
        return loaded

    def holds(self, reference: str) -> bool:
        """Whether an adapter is in memory; it counts as no use of it."""
        with self._lock:
            return reference in self._held

    def pin(self, reference: str) -> None:
        """Loads an adapter, if need be, and keeps it until :meth:`unpin` was called as often as this.

        Raises:
            RegistryError: It cannot be loaded.
            RequestError: The budget does not hold it beside the others that are pinned.
        """
        with self._lock:
            self._pinned[reference] = self._pinned.get(reference, 0) + 1
        try:
            self.get(reference)
        except BaseException:
            self.unpin(reference)
            raise

    def unpin(self, reference: str) -> None:
        """Lets a pinned adapter leave again when others need its place; nothing happens to one that is not pinned."""
        with self._lock:
            left = self._pinned.get(reference, 0) - 1
            if left > 0:
                self._pinned[reference] = left
            else:
                self._pinned.pop(reference, None)

    def counts(self) -> SlotCounts:
        """What happened so far."""
        with self._lock:
            pinned = sum(reference in self._held for reference in self._pinned)
            return SlotCounts(self._hits, self._loads, self._evictions, len(self._held), pinned, self._bytes)

    def _admit(self, reference: str, loaded: Loaded) -> bool:
        """Gives an adapter its place, and takes that of the least recently used ones which are not pinned.

        Returns:
            Whether it is time to give memory back.
        """
        size = loaded.size
        with self._lock:
            kept = sum(self._held[other].size for other in self._pinned if other in self._held)
            if size + kept > self.budget:
                beside = f", {kept:,} of them pinned" if kept else ""
                raise RequestError(
                    f"{reference} takes {size:,} bytes, the engine may hold {self.budget:,}{beside}",
                    expected="a budget for the pinned adapters and one more",
                    remedy=f"Engine(..., memory={kept + 2 * size})",
                )
            self._held[reference] = loaded
            del self._coming[reference]
            self._bytes += size
            self._loads += 1
            leaving = (other for other in list(self._held) if other != reference and other not in self._pinned)
            while self._bytes > self.budget:
                self._bytes -= self._held.pop(next(leaving)).size
                self._evictions += 1
            return self._loads % _LOADS_BETWEEN == 0
