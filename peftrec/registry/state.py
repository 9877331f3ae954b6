"""What may change about an adapter: where its aliases point, tags, pins and deletions; and the journal of every change.

``aliases.json`` holds the present, ``history.jsonl`` how it came about, a line for each change, every line sealed over the one
before it. A change is written to the journal first and counts once ``aliases.json`` says so, in one rename: what a killed
writer left at the journal's end is cut off by the next one and seen by nobody.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from peftrec.disk import replace_durably
from peftrec.errors import CorruptAdapterError
from peftrec.registry.journal import HISTORY, Entry, append, line_of, lost, read_entries
from peftrec.registry.names import is_alias, is_number
from peftrec.registry.strict import SEAL, is_finite, is_moment, is_whole, once, seal
from peftrec.registry.writing import ALIASES, temporaries

STATE_VERSION = 2
_TEXT_LIMIT = 2000

Weights = Mapping[str, float]
"""Version -> its share of the shoppers; a single one has them all."""


@dataclass(frozen=True, kw_only=True)
class State:
    """The present of one adapter.

    Attributes:
        aliases: Alias -> version -> weight.
        pinned: Alias -> why it must not move.
        tags: Version -> its tags, sorted.
        deleted: Version -> moment, ISO 8601, from which it may be removed.
        newest: Highest number that a version ever had; none is given twice.
        step: Changes so far.
        history: Bytes of the journal that count.
        last: Seal of the journal's last entry.
    """

    aliases: Mapping[str, Weights] = field(default_factory=dict[str, Weights])
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    deleted: Mapping[str, str] = field(default_factory=dict[str, str])
    newest: int = 0
    step: int = 0
    history: int = 0
    last: str = ""

    def to_json(self) -> str:
        """The content of ``aliases.json``, sealed."""
        pointers = {
            alias: next(iter(weights)) if len(weights) == 1 else dict(weights)
            for alias, weights in self.aliases.items()
        }
        values = {**asdict(self), "aliases": pointers, "schema_version": STATE_VERSION}
        return json.dumps({**values, SEAL: seal(values)}, indent=1, sort_keys=True) + "\n"

    def users_of(self, version: str) -> list[str]:
        """Aliases that lead to a version, whatever its share."""
        return sorted(alias for alias, weights in self.aliases.items() if version in weights)


def read_state(folder: Path) -> State:
    """The state of an adapter's folder; an empty one where nothing was ever pointed to.

    Reads the form of before, a plain object of aliases and versions, too.

    Raises:
        CorruptAdapterError: The file is malformed or was changed by hand.
    """
    path = folder / ALIASES
    try:
        values: object = json.loads(path.read_bytes().decode(), object_pairs_hook=once)
    except (FileNotFoundError, NotADirectoryError):
        return State()
    except (OSError, ValueError, RecursionError) as error:
        raise _corrupt(path, f"cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise _corrupt(path, "is no JSON object")
    found = cast(dict[str, Any], values)
    if not isinstance(found.get("schema_version"), int):
        return State(aliases=_flat(path, found))
    if found["schema_version"] != STATE_VERSION:
        raise CorruptAdapterError(
            f"{path} has schema_version {found['schema_version']!r}",
            expected=f"schema_version {STATE_VERSION} or the plain form of before",
            remedy="install the peftrec that wrote it",
        )
    return _sealed_state(path, found)


def write_state(folder: Path, state: State, action: str, **details: object) -> State:
    """Records a change and makes it count; the folder's lock is held.

    Args:
        folder: Of the adapter.
        state: What is to be; its step and journal are those of the state that was read.
        action: What happened.
        details: See :class:`Entry`; those that are None are left out.

    Returns:
        The state as it was written.
    """
    journal = folder / HISTORY
    counted, last, step = state.history, state.last, state.step
    if not step and journal.exists():  # aliases.json was lost: the past is kept
        entries, counted = read_entries(journal, journal.read_bytes(), complete=False)
        last, step = (entries[-1][1], entries[-1][0].step) if entries else ("", 0)
    line, sealed = line_of(step + 1, last, action, details)
    written = replace(state, step=step + 1, history=counted + len(line), last=sealed)
    try:
        append(journal, counted, line)
        replace_durably(folder / ALIASES, written.to_json().encode(), temporaries=temporaries(folder))
    except BaseException:
        with contextlib.suppress(OSError, CorruptAdapterError):  # seen by nobody; but what failed should leave nothing
            if read_state(folder).step < written.step:
                os.truncate(journal, counted) if counted else journal.unlink()
        raise
    return written


def read_history(folder: Path) -> list[Entry]:
    """All changes that count, oldest first.

    Raises:
        CorruptAdapterError: The journal is shorter than ``aliases.json`` says, or an entry was changed.
    """
    state = read_state(folder)
    if not state.history:
        return []
    path = folder / HISTORY
    try:
        with path.open("rb") as file:
            content = file.read(state.history)
    except OSError as error:
        raise lost(path, f"cannot be read: {error.strerror or error}") from error
    if len(content) < state.history:
        raise lost(path, f"has {len(content):,} bytes, {ALIASES} counts {state.history:,}")
    entries, _ = read_entries(path, content, complete=True)
    if not entries or entries[-1][1] != state.last:
        raise lost(path, f"ends in another entry than {ALIASES} names")
    return [entry for entry, _ in entries]


def _flat(path: Path, values: Mapping[str, Any]) -> dict[str, Weights]:
    """The aliases of the form of before: ``{"production": "3"}``."""
    if not all(is_alias(alias) and isinstance(value, str) and is_number(value) for alias, value in values.items()):
        raise _corrupt(path, "is no object of aliases and versions")
    return {alias: {version: 1.0} for alias, version in values.items()}


def _sealed_state(path: Path, values: dict[str, Any]) -> State:
    told = values.pop(SEAL, None)
    try:
        if told != seal(values):
            raise _corrupt(path, f"was changed: field '{SEAL}' is not the digest of the other fields")
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, f"holds a value that JSON has not: {error}") from error
    if set(values) != {"schema_version", *State.__dataclass_fields__}:
        raise _corrupt(path, f"has the fields {', '.join(sorted(values))}")
    for name, good in _RULES.items():
        if not good(values[name]):
            raise _corrupt(path, f"field '{name}' holds {str(values[name])[:80]!r}")
    pointers = cast(dict[str, "str | dict[str, float]"], values["aliases"])
    aliases = {alias: {at: 1.0} if isinstance(at, str) else dict(at) for alias, at in pointers.items()}
    del values["schema_version"]
    return State(**cast(dict[str, Any], {**values, "aliases": aliases}))


def is_reason(value: object) -> bool:
    """Whether it is a text that a state can hold."""
    return isinstance(value, str) and len(value) <= _TEXT_LIMIT


def _all(value: object, key: Callable[[str], bool], good: Callable[[object], bool]) -> bool:
    """Whether it is an object of good keys and values."""
    return isinstance(value, dict) and all(
        key(name) and good(entry) for name, entry in cast(dict[str, object], value).items()
    )


def _is_aim(value: object) -> bool:
    return (isinstance(value, str) and is_number(value)) or (
        _all(value, is_number, lambda weight: is_finite(weight) and cast(float, weight) > 0)
        and len(cast(dict[str, float], value)) > 1
    )


def _are_tags(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(tag, str) and is_alias(tag) for tag in cast(list[object], value))


_RULES: dict[str, Callable[[object], bool]] = {
    "aliases": lambda value: _all(value, is_alias, _is_aim),
    "pinned": lambda value: _all(value, is_alias, is_reason),
    "tags": lambda value: _all(value, is_number, _are_tags),
    "deleted": lambda value: _all(value, is_number, is_moment),
    "newest": lambda value: is_whole(value, least=0),
    "step": lambda value: is_whole(value, least=1),
    "history": lambda value: is_whole(value, least=1),
    "last": lambda value: isinstance(value, str),
}


def _corrupt(path: Path, what: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{path} {what}",
        expected="aliases, pins, tags and deletions as peftrec writes them",
        remedy="restore it from a copy; or remove it and set the aliases again, which the history beside it tells",
    )
