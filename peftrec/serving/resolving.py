"""What a request's reference means now: a version in the registry, or the backbone by itself."""

import logging
import os
import threading
import time

from peftrec.errors import AdapterNotFoundError, RegistryError, RequestError
from peftrec.registry import Registry
from peftrec.serving.shops import Shops
from peftrec.serving.slots import Loaded, Slots

_log = logging.getLogger(__name__)

RETRY_S = 10.0
"""After so many seconds a version that could not be loaded is tried again for those who follow an alias."""


class References:
    """Looks references up, from request to request, so that what is promoted takes over between two of them.

    Args:
        registry: Of adapters.
        shops: The platforms at hand.
        alone: Whether the backbone serves a platform for which no adapter is published.
    """

    def __init__(self, registry: Registry, shops: Shops, *, alone: bool) -> None:
        self._registry, self._shops, self._alone = registry, shops, alone

    def resolve(self, reference: str, user: str | None = None) -> tuple[str, str | None]:
        """Name and version that a reference means to a shopper; no version where the backbone serves a shop by itself.

        Raises:
            AdapterNotFoundError: No such adapter, version or alias, and the backbone cannot serve the platform itself.
        """
        alone = self._alone and reference in self._shops
        # One look into one folder, however many adapters there are; the registry looks at all of them for its error.
        if alone and not os.path.isdir(self._registry.root / reference):
            return reference, None
        try:
            version = self._registry.open(reference, user=user)
        except AdapterNotFoundError as error:
            if "@" in reference or self._is_published(reference):
                raise
            if alone:
                return reference, None
            remedy = f"{error.remedy}; or {self._without_adapter(reference)}"
            raise AdapterNotFoundError(error.found, expected=error.expected, remedy=remedy) from error
        return version.name, version.reference

    def _is_published(self, name: str) -> bool:
        """Whether there is any version of an adapter: an alias that leads nowhere is no reason to serve something else."""
        try:
            self._registry.newest(name)
        except RegistryError as error:
            return not isinstance(error, AdapterNotFoundError)
        return True

    def _without_adapter(self, name: str) -> str:
        """What would let the backbone serve a platform itself."""
        if not self._alone:
            return "load a backbone that was adapted with peftrec.adapt: it serves platforms without an adapter"
        return f'engine.attach(dataset, adapter="{name}"), and the backbone serves it without an adapter'


class Following:
    """Adapters for references: a version that cannot be loaded leaves the one serving that was there before it.

    Who names a version gets it or the error. Who names an adapter or an alias gets what it means now; if that is damaged, does
    not fit or finds no room, the version that this reference had served last goes on, and the log says so.

    Args:
        slots: Adapters in memory.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._served: dict[str, str] = {}
        self._broken: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(self, reference: str, version: str) -> tuple[Loaded, str]:
        """The adapter that answers, and its version.

        Args:
            reference: As it was asked.
            version: ``name@version`` that it means now.

        Raises:
            RegistryError: The version cannot be loaded, and nothing was served under this reference before.
            RequestError: There is no room for it, likewise.
        """
        before = self._served.get(reference)
        follows = before is not None and before != version and reference != version
        if follows and time.monotonic() < self._broken.get(version, 0.0):
            return self._slots.get(str(before)), str(before)
        try:
            loaded = self._slots.get(version)
        except (RegistryError, RequestError) as error:
            if not follows:
                raise
            _log.error(f"{version} cannot be served, {before} goes on for {reference!r}: {error.found}")
            with self._lock:
                self._broken[version] = time.monotonic() + RETRY_S
            return self._slots.get(str(before)), str(before)
        if before != version:
            with self._lock:
                self._served[reference] = version
                self._broken.pop(version, None)
        return loaded, version
