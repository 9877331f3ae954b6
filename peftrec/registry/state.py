"""What may change about an adapter: where its aliases lead, tags, pins and deletions; each change is an entry of the journal.

``aliases.json`` holds the present, ``history.jsonl`` how it came about. A change is written to the journal first and counts once
``aliases.json`` says so, in one rename: what a killed writer left at the journal's end is cut off by the next one and
seen by nobody. The present follows from the journal alone, see :func:`applied`, so it can be made anew.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import reduce
from pathlib import Path
from typing import Any, cast

from peftrec.disk import replace_durably
from peftrec.errors import CorruptAdapterError
from peftrec.registry.files import read_plain
from peftrec.registry.journal import HISTORY, Entry, append, lost, read_entries
from peftrec.registry.names import is_alias, is_number
from peftrec.registry.strict import SEAL, is_finite, is_moment, is_whole, once, seal
from peftrec.registry.writing import ALIASES, temporaries

STATE_VERSION = 2
AIMS = 32
"""Earlier aims of an alias that are remembered for rollbacks."""
SIZE_LIMIT = 64 * 1024 * 1024
_TEXT_LIMIT = 2000

Weights = Mapping[str, float]
"""Version -> its share of the shoppers; a single one has them all."""


@dataclass(frozen=True, kw_only=True)
class State:
    """The present of one adapter.

    Attributes:
        aliases: Alias -> version -> weight.
        aims: Alias -> where it led before, the latest last, at most :data:`AIMS`.
        pinned: Alias -> why it must not move.
        tags: Version -> its tags, sorted.
        deleted: Version -> moment, ISO 8601, from which it may be removed.
        removed: Ranges of versions that were removed, ``(first, last)``, rising.
        newest: Highest number that a version ever had; none is given twice.
        step: Changes so far.
        history: Bytes of the journal that count.
        last: Seal of the journal's last entry.
        moment: Of the last entry.
    """

    aliases: Mapping[str, Weights] = field(default_factory=dict[str, Weights])
    aims: Mapping[str, Sequence[Weights]] = field(default_factory=dict[str, Sequence[Weights]])
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    deleted: Mapping[str, str] = field(default_factory=dict[str, str])
    removed: Sequence[Sequence[int]] = ()
    newest: int = 0
    step: int = 0
    history: int = 0
    last: str = ""
    moment: str = ""

    def to_json(self) -> str:
        """The content of ``aliases.json``, sealed."""
        values = {**json.loads(json.dumps(asdict(self))), "schema_version": STATE_VERSION}
        values["aliases"] = {alias: _written(weights) for alias, weights in self.aliases.items()}
        values["aims"] = {alias: [_written(weights) for weights in aims] for alias, aims in self.aims.items()}
        return json.dumps({**values, SEAL: seal(values)}, indent=1, sort_keys=True) + "\n"

    def users_of(self, version: str) -> list[str]:
        """Aliases that lead to a version, whatever its share."""
        return sorted(alias for alias, weights in self.aliases.items() if version in weights)

    def was_removed(self, version: str) -> bool:
        """Whether a version was here and is gone for good."""
        return any(first <= int(version) <= last for first, last in self.removed)


def applied(state: State, entry: Entry) -> State:
    """The present after one more change; what the journal and its seal count is left as it was.

    Raises:
        KeyError, TypeError, ValueError: The entry does not say what its action needs.
    """
    told, action = entry.details, entry.action
    alias, version = told.get("alias"), told.get("version")
    if action in ("publish", "install", "found"):
        state = replace(state, newest=max(state.newest, int(told["version"])))
        return state if alias is None else _pointed(state, alias, {told["version"]: 1.0})
    if action == "begin":
        aliases = {alias: _read(aim) for alias, aim in told["aliases"].items()}
        return replace(state, aliases=aliases, newest=int(told["newest"]))
    if action in ("promote", "split"):
        return _pointed(state, told["alias"], _read(told["after"]))
    if action == "rollback":
        aims = {**state.aims, told["alias"]: state.aims[told["alias"]][:-1]}
        return replace(state, aliases={**state.aliases, told["alias"]: _read(told["after"])}, aims=aims)
    if action == "remove_alias":
        return replace(state, aliases=_without(state.aliases, alias), aims=_without(state.aims, alias))
    if action == "pin":
        return replace(state, pinned={**state.pinned, told["alias"]: told["reason"]})
    if action == "unpin":
        return replace(state, pinned=_without(state.pinned, alias))
    if action == "tag":
        return replace(
            state, tags={at: tags for at, tags in {**state.tags, told["version"]: told["after"]}.items() if tags}
        )
    if action == "delete":
        deleted = {**state.deleted, told["version"]: told["until"]}
        return replace(state, deleted=deleted, newest=max(state.newest, int(told["version"])))
    if action == "restore":
        return replace(state, deleted=_without(state.deleted, version))
    if action == "remove":
        removed = _with_number(state.removed, int(told["version"]))
        return replace(
            state, deleted=_without(state.deleted, version), tags=_without(state.tags, version), removed=removed
        )
    if action == "sign":
        return state
    raise ValueError(f"action {action!r}")


def read_state(folder: Path) -> State:
    """The state of an adapter's folder; an empty one where nothing was ever written.

    Reads the form of before, a plain object of aliases and versions, too, where there is no history.

    Raises:
        CorruptAdapterError: The file is malformed, was changed by hand, or is missing beside a history.
    """
    path = folder / ALIASES
    found = _values(path)
    if not _is_sealed(found) and os.path.lexists(folder / HISTORY):
        found = _values(path)  # once more: its first change may have come between the two looks
        if found is None:
            raise _corrupt(path, f"is missing beside {HISTORY}")
        if not _is_sealed(found):
            raise _corrupt(path, f"has no seal, but there is a {HISTORY}")
    if found is None:
        return State()
    if not _is_sealed(found):
        return State(aliases=_flat(path, found))
    if found["schema_version"] != STATE_VERSION:
        raise CorruptAdapterError(
            f"{path} has schema_version {str(found['schema_version'])[:80]}",
            expected=f"schema_version {STATE_VERSION} or the plain form of before",
            remedy="install the peftrec that wrote it",
        )
    return _sealed_state(path, found)


def write_state(folder: Path, state: State, action: str, **details: object) -> State:
    """Records a change and makes it count; the folder's lock is held.

    Args:
        folder: Of the adapter.
        state: As it was read; where there is no history yet, ``newest`` tells what was there before.
        action: What happens, see :func:`applied`.
        details: See :class:`Entry`; those that are None are left out.

    Returns:
        The state as it was written.

    Raises:
        CorruptAdapterError: The journal is damaged.
    """
    entries, place = list[Entry](), temporaries(folder)
    if not state.step:  # sealed first, so that a journal never stands beside what has no seal
        replace_durably(folder / ALIASES, state.to_json().encode(), temporaries=place)
    if not state.step and (state.aliases or state.newest):  # a registry of before: where its history begins
        aliases = {alias: _written(weights) for alias, weights in state.aliases.items()}
        entries.append(Entry.new(1, "", "begin", {"aliases": aliases, "newest": state.newest}))
    told = {name: value for name, value in details.items() if value is not None}
    entries.append(Entry.new(state.step + len(entries) + 1, entries[-1].seal if entries else state.last, action, told))
    lines = b"".join(entry.line() for entry in entries)
    written = _counted(reduce(applied, entries, state), entries[-1], state.history + len(lines))
    journal = folder / HISTORY
    try:
        append(journal, state.history, lines)
        replace_durably(folder / ALIASES, written.to_json().encode(), temporaries=place)
    except CorruptAdapterError:  # the journal is not what it should be: nothing of it may be cut off
        raise
    except BaseException:
        with contextlib.suppress(OSError, CorruptAdapterError):  # seen by nobody; but what failed should leave nothing
            if _stands_before(folder, written.step):
                os.truncate(journal, state.history) if state.history else journal.unlink()
        raise
    return written


def repaired(folder: Path) -> State:
    """Makes ``aliases.json`` anew of the journal; the lock is held.

    Where it is intact and not an old copy it stays, and what a killed writer left at the journal's end is cut off. Else
    every whole line counts.

    Raises:
        CorruptAdapterError: The journal is not whole.
    """
    journal = folder / HISTORY
    try:
        content = read_plain(journal, limit=2**40)
    except OSError as error:
        raise lost(journal, f"cannot be read: {error.strerror or error}") from error
    with contextlib.suppress(CorruptAdapterError):
        intact = read_state(folder)
        if intact.step and read_history(folder, last=1):
            append(journal, intact.history, b"")  # raises where the journal tells of later changes
            return intact
    counted = content.rfind(b"\n") + 1
    entries = read_entries(journal, counted=counted)
    if not entries:
        raise lost(journal, "is empty")
    try:
        state = _counted(reduce(applied, entries, State()), entries[-1], counted)
        _sealed_state(journal, json.loads(state.to_json()))  # before anything is replaced
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, CorruptAdapterError) as error:
        raise lost(journal, f"holds an entry that says too little: {error!r}") from error
    append(journal, counted, b"")
    replace_durably(folder / ALIASES, state.to_json().encode(), temporaries=temporaries(folder))
    return read_state(folder)


def read_history(folder: Path, *, last: int | None = None) -> list[Entry]:
    """All changes that count, oldest first, or the ``last`` ones.

    Raises:
        CorruptAdapterError: The journal is shorter than ``aliases.json`` says, or an entry was changed.
    """
    state = read_state(folder)
    if not state.history:
        return []
    entries = read_entries(folder / HISTORY, counted=state.history, last=last)
    if not entries or entries[-1].seal != state.last:
        raise lost(folder / HISTORY, f"ends in another entry than {ALIASES} names")
    return entries


def is_reason(value: object) -> bool:
    """Whether it is a text that a state can hold."""
    return isinstance(value, str) and len(value) <= _TEXT_LIMIT


def _values(path: Path) -> dict[str, Any] | None:
    """What ``aliases.json`` holds; None where there is none."""
    try:
        values: object = json.loads(read_plain(path, limit=SIZE_LIMIT).decode(), object_pairs_hook=once)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _corrupt(path, f"cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise _corrupt(path, "is no JSON object")
    return cast(dict[str, Any], values)


def _is_sealed(values: Mapping[str, Any] | None) -> bool:
    return values is not None and isinstance(values.get("schema_version"), int)


def _stands_before(folder: Path, step: int) -> bool:
    """Whether a change does not count yet."""
    if not os.path.lexists(folder / ALIASES):
        return True
    try:
        values = json.loads((folder / ALIASES).read_bytes())
    except (OSError, ValueError):
        return False
    return not isinstance(values, dict) or cast(dict[str, Any], values).get("step", 0) < step


def _counted(state: State, entry: Entry, history: int) -> State:
    return replace(state, step=entry.step, history=history, last=entry.seal, moment=entry.moment)


def _pointed(state: State, alias: str, weights: Weights) -> State:
    before = state.aliases.get(alias)
    if before == weights:
        return state
    aims = state.aims
    if before is not None:
        aims = {**aims, alias: [*aims.get(alias, ()), before][-AIMS:]}
    return replace(state, aliases={**state.aliases, alias: weights}, aims=aims)


def _without(values: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    return {other: value for other, value in values.items() if other != name}


def _with_number(ranges: Sequence[Sequence[int]], number: int) -> list[list[int]]:
    """Ranges with one more number, neighbours joined."""
    joined = list[list[int]]()
    for first, last in sorted([*map(tuple, ranges), (number, number)]):
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    return joined


def _written(weights: Weights) -> "str | dict[str, float]":
    return next(iter(weights)) if len(weights) == 1 else dict(weights)


def _read(aim: "str | Mapping[str, float]") -> Weights:
    return {aim: 1.0} if isinstance(aim, str) else dict(aim)


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
    if set(values) != {"schema_version", *(one.name for one in fields(State))}:
        raise _corrupt(path, f"has the fields {', '.join(sorted(values))[:200]}")
    for name, good in _RULES.items():
        if not good(values[name]):
            raise _corrupt(path, f"field '{name}' holds {str(values[name])[:80]!r}")
    if len({bool(values[name]) for name in ("step", "history", "moment", "last")}) > 1:
        raise _corrupt(path, f"counts {values['step']} changes in {values['history']} bytes of {HISTORY}")
    values["aliases"] = {alias: _read(aim) for alias, aim in values["aliases"].items()}
    values["aims"] = {alias: [_read(aim) for aim in aims] for alias, aims in values["aims"].items()}
    del values["schema_version"]
    return State(**values)


def _all(value: object, key: Callable[[str], bool], good: Callable[[object], bool]) -> bool:
    """Whether it is an object of good keys and values."""
    return isinstance(value, dict) and all(
        key(name) and good(entry) for name, entry in cast(dict[str, object], value).items()
    )


def _each(value: object, good: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(good(entry) for entry in cast(list[object], value))


def _is_aim(value: object) -> bool:
    return (isinstance(value, str) and is_number(value)) or (
        _all(value, is_number, lambda weight: is_finite(weight) and cast(float, weight) > 0)
        and len(cast(dict[str, float], value)) > 1
    )


def _is_range(value: object) -> bool:
    return _each(value, lambda number: is_whole(number, least=1)) and len(cast(list[int], value)) == 2


_RULES: dict[str, Callable[[object], bool]] = {
    "aliases": lambda value: _all(value, is_alias, _is_aim),
    "aims": lambda value: _all(value, is_alias, lambda aims: _each(aims, _is_aim)),
    "pinned": lambda value: _all(value, is_alias, is_reason),
    "tags": lambda value: _all(
        value, is_number, lambda tags: _each(tags, lambda tag: isinstance(tag, str) and is_alias(tag))
    ),
    "deleted": lambda value: _all(value, is_number, is_moment),
    "removed": lambda value: _each(value, _is_range),
    "newest": lambda value: is_whole(value, least=0) and cast(int, value) < 10**18,
    "step": lambda value: is_whole(value, least=0),
    "history": lambda value: is_whole(value, least=0) and cast(int, value) < 2**53,
    "last": lambda value: isinstance(value, str),
    "moment": lambda value: value == "" or is_moment(value),
}


def _corrupt(path: Path, what: str) -> CorruptAdapterError:
    return CorruptAdapterError(
        f"{path} {what}",
        expected="aliases, pins, tags and deletions as peftrec writes them",
        remedy=f"make it anew of the history beside it: peftrec registry repair {path.parent.name}",
    )
