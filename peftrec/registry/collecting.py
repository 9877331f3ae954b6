"""Garbage collection: what of the deleted versions may go."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from peftrec.disk import worded_write_errors
from peftrec.errors import AdapterNotFoundError, CorruptAdapterError, PeftrecError, RegistryError, RegistryWriteError
from peftrec.registry.files import listed
from peftrec.registry.journal import now
from peftrec.registry.names import is_name
from peftrec.registry.state import State, write_state
from peftrec.registry.writing import AFTER, SIGNATURES, remove_version, turn

if TYPE_CHECKING:
    from peftrec.registry.store import Registry


@dataclass(frozen=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        removed: References of the versions removed.
        kept: Reference of each other deleted version, or name of an adapter that could not be looked into -> why it stays.
        bytes: Of the versions removed.
    """

    removed: tuple[str, ...]
    kept: Mapping[str, str]
    bytes: int


@dataclass
class _Family:
    """Who descends from whom, as far as manifests can be read; each is read once.

    Attributes:
        registry: Where.
        children: Parent -> its children.
        damaged: Version -> why its manifest cannot be read: it may descend from any.
        seen: Versions looked at.
    """

    registry: "Registry"
    children: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    damaged: dict[str, str] = field(default_factory=dict[str, str])
    seen: set[str] = field(default_factory=set[str])

    def look(self) -> None:
        """Reads the manifests of versions that came since the last look."""
        for name in filter(is_name, listed(self.registry.root)):
            try:
                numbers = self.registry.numbers(name, complete=False)
            except RegistryError as error:  # who may not be looked into may descend from any
                self.damaged[name] = error.found
                continue
            for number in numbers:
                if (reference := f"{name}@{number}") not in self.seen:
                    self._read(name, number, reference)

    def _read(self, name: str, number: str, reference: str) -> None:
        self.seen.add(reference)
        try:
            parent = self.registry.stored(name, number).manifest.parent
        except AdapterNotFoundError:  # another collector was faster
            return
        except CorruptAdapterError as error:
            self.damaged[reference] = error.found
            return
        if parent is not None:
            self.children.setdefault(parent, []).append(reference)

    def needs(self, reference: str, gone: set[str]) -> str:
        """Why a version is needed; empty where it is not."""
        children = [child for child in self.children.get(reference, ()) if child not in gone]
        if children:
            return f"{', '.join(children)} descends from it"
        others = [found for damaged, found in self.damaged.items() if damaged not in {*gone, reference}]
        return f"a damaged version may descend from it: {others[0]}" if others else ""


def collect(registry: "Registry", *, dry_run: bool) -> Collected:
    """See :meth:`peftrec.registry.Registry.gc`."""
    removed, kept, freed, family = list[str](), dict[str, str](), 0, _Family(registry)
    for name in sorted(filter(is_name, listed(registry.root))):
        if not (registry.root / name).is_dir():
            continue
        try:
            with contextlib.ExitStack() as stack:
                if not dry_run:
                    stack.enter_context(worded_write_errors(registry.root, RegistryWriteError, after=AFTER))
                    stack.enter_context(turn(registry.root / name))
                    _sweep_signatures(registry, name)
                state = registry.state(name)
                if state.deleted:
                    family.look()  # under the lock, which whoever publishes a child of this adapter needs as well
                for version in sorted(state.deleted, key=int):
                    reference = f"{name}@{version}"
                    if why := _reason(reference, state) or family.needs(reference, {*removed}):
                        kept[reference] = why
                        continue
                    freed += _size(registry, name, version)
                    removed.append(reference)
                    if not dry_run:
                        state = _removed(registry, name, version, state)
        except RegistryWriteError:
            raise
        except RegistryError as error:  # the others are collected all the same
            kept[name] = error.found
    return Collected(tuple(removed), kept, freed)


def _removed(registry: "Registry", name: str, version: str, state: State) -> State:
    """Without a version. A kill after the first step leaves it deleted and absent; the next collection says so."""
    folder = registry.root / name
    if (folder / version).exists():
        remove_version(folder, version)
    return write_state(folder, state, "remove", version=version)


def _reason(reference: str, state: State) -> str:
    """Why a deleted version stays, whoever descends from it; empty when it may go."""
    version = reference.partition("@")[2]
    until = state.deleted[version]
    if datetime.fromisoformat(state.moment) > now():
        return f"this clock says {now().isoformat(timespec='seconds')}, and the adapter was changed at {state.moment}"
    if datetime.fromisoformat(until) > now():
        return f"it can be restored until {until}"
    if users := state.users_of(version):
        return f"the alias {', '.join(users)} leads to it"
    return ""


def _sweep_signatures(registry: "Registry", name: str) -> None:
    """Signatures of versions that are gone, whose remover was killed."""
    numbers = {*registry.numbers(name, complete=False)}
    for entry in listed(registry.root / name):
        if entry.endswith(SIGNATURES) and entry.removesuffix(SIGNATURES) not in numbers:
            (registry.root / name / entry).unlink(missing_ok=True)


def _size(registry: "Registry", name: str, version: str) -> int:
    try:
        return sum(file.stat().st_size for file in (registry.root / name / version).iterdir())
    except (OSError, PeftrecError):
        return 0
