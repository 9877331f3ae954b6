"""What a request's reference means now: a version in the registry, or the backbone by itself."""

import logging
import os
import threading
import time

from peftrec.errors import AdapterNotFoundError, RegistryError
from peftrec.registry import Registry
from peftrec.registry.reading import PRODUCTION
from peftrec.serving.loaded import Loaded
from peftrec.serving.shops import Shops
from peftrec.serving.slots import Slots

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
            version = self._registry.resolve(reference, user=user)
        except AdapterNotFoundError as error:
            if "@" in reference or self._is_published(reference):
                raise
            if alone:
                return reference, None
            remedy = f"{error.remedy}; or {self._without_adapter(reference)}"
            raise AdapterNotFoundError(error.found, expected=error.expected, remedy=remedy) from error
        return version.partition("@")[0], version

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
    """Adapters for references: a version that cannot be served leaves the one serving that was there before it.

    Who names a version gets it or the error. Who names an adapter or an alias gets what it means now; if that is damaged, does
    not fit, is not signed or finds no room, the version that this reference had served last goes on, unless it was deleted, and
    the log says so. An alias that is split gives nobody the version of another share.

    Args:
        slots: Adapters in memory.
        registry: That they come from.
    """

    def __init__(self, slots: Slots, registry: Registry) -> None:
        self._slots, self._registry = slots, registry
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
        if before not in (None, version) and time.monotonic() < self._broken.get(version, 0.0):
            try:
                return self._slots.get(str(before)), str(before)
            except Exception:  # noqa: BLE001  # whatever became of it, the newer one is tried again
                self._broken.pop(version, None)
        try:
            loaded = self._slots.get(version)
        except Exception as error:  # noqa: BLE001  # also one for lack of memory: who follows an alias need not suffer from it
            found = self.instead(reference, version, error)
            with self._lock:
                self._broken[version] = time.monotonic() + RETRY_S
            return found
        if before != version and reference != version:
            with self._lock:
                self._served[reference] = version
                self._broken.pop(version, None)
        return loaded, version

    def is_warm(self, reference: str, version: str) -> bool:
        """Whether :meth:`get` would load nothing: the version is in memory, or another goes on for one that cannot be loaded."""
        before = self._served.get(reference)
        broken = before not in (None, version) and time.monotonic() < self._broken.get(version, 0.0)
        return self._slots.holds(str(before) if broken else version)

    def instead(self, reference: str, version: str | None, error: Exception) -> tuple[Loaded, str]:
        """What goes on for a reference that leads to a version which cannot be served.

        Args:
            reference: As it was asked.
            version: That it leads to, if that is known.
            error: Why that cannot be served; raised where nothing goes on.
        """
        before = self._served.get(reference)
        if before is None or before == version:
            raise error
        name, _, alias = reference.partition("@")
        try:
            self._registry.resolve(before)  # it is there, and nobody has deleted it
            loaded = self._slots.get(before)
            split = (alias or PRODUCTION) in self._registry.splits(name)
        except Exception:  # noqa: BLE001  # nothing else goes on either
            raise error from None
        if split:
            raise error
        _log.error(f"{version or reference} cannot be served, {before} goes on for {reference!r}: {error}")
        return loaded, before
