"""Garbage collection: what of the deleted versions may go."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from peftrec.disk import worded_write_errors
from peftrec.errors import CorruptAdapterError, PeftrecError, RegistryError, RegistryWriteError
from peftrec.registry.journal import now
from peftrec.registry.state import State, write_state
from peftrec.registry.writing import remove_version, turn

if TYPE_CHECKING:
    from peftrec.registry.store import Registry


@dataclass(frozen=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        removed: References of the versions removed.
        kept: Reference of each other deleted version -> why it stays.
        bytes: Of the versions removed.
    """

    removed: tuple[str, ...]
    kept: dict[str, str]
    bytes: int


def collect(registry: "Registry", *, dry_run: bool) -> Collected:
    """See :meth:`peftrec.registry.Registry.gc`."""
    names = registry.names()
    states = {name: registry.state(name) for name in names}
    for name, state in states.items():
        _check_clock(registry, name, state)
    children, doubt = _children(registry, names) if any(state.deleted for state in states.values()) else ({}, "")
    removed, kept, freed = list[str](), dict[str, str](), 0
    for name in names:
        with worded_write_errors(registry.root, RegistryWriteError), turn(registry.root / name):
            state = registry.state(name)  # anew, under the lock
            for version, until in sorted(state.deleted.items(), key=lambda one: int(one[0])):
                reference = f"{name}@{version}"
                # A child that was published since the look at all manifests: only before the deletion, which then is newer.
                changed = states[name].deleted.get(version) != until
                if why := _reason(reference, until, state, children, doubt, changed=changed):
                    kept[reference] = why
                    continue
                freed += _size(registry, name, version)
                removed.append(reference)
                if not dry_run:
                    state = _removed(registry, name, version, state)
    return Collected(tuple(removed), kept, freed)


def _removed(registry: "Registry", name: str, version: str, state: State) -> State:
    """Without a version. A kill after the first step leaves it deleted and absent; the next collection says so."""
    folder = registry.root / name
    if (folder / version).exists():
        remove_version(folder, version)
    after = replace(
        state,
        deleted={other: until for other, until in state.deleted.items() if other != version},
        tags={other: tags for other, tags in state.tags.items() if other != version},
    )
    return write_state(folder, after, "remove", version=version)


def _reason(
    reference: str, until: str, state: State, children: dict[str, list[str]], doubt: str, *, changed: bool
) -> str:
    """Why a deleted version stays; empty when it may go."""
    if changed or datetime.fromisoformat(until) > now():
        return f"it can be restored until {until}"
    if users := state.users_of(reference.partition("@")[2]):
        return f"the alias {', '.join(users)} leads to it"
    if reference in children:
        return f"{', '.join(children[reference])} descends from it"
    return doubt


def _children(registry: "Registry", names: list[str]) -> tuple[dict[str, list[str]], str]:
    """Parent -> its children, and what is in doubt because a manifest cannot be read."""
    found, doubt = dict[str, list[str]](), ""
    for name in names:
        for number in registry.numbers(name):
            try:
                manifest = registry.manifest(name, number)
            except CorruptAdapterError as error:
                doubt = f"a damaged version may descend from it: {error.found}"
                continue
            if manifest.parent is not None:
                found.setdefault(manifest.parent, []).append(f"{name}@{number}")
    return found, doubt


def _check_clock(registry: "Registry", name: str, state: State) -> None:
    """Graces are told by clocks: one that stands before what was done already tells nothing."""
    if not state.deleted:
        return
    last = registry.history(name)[-1]
    if datetime.fromisoformat(last.moment) > now():
        raise RegistryError(
            f"this clock says {now().isoformat(timespec='seconds')}, {name} was changed at {last.moment}",
            expected="a clock that goes forward",
            remedy="set the clock right and collect again; nothing was removed",
        )


def _size(registry: "Registry", name: str, version: str) -> int:
    try:
        return sum(file.stat().st_size for file in (registry.root / name / version).iterdir())
    except (OSError, PeftrecError):
        return 0
