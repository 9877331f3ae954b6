"""The journal of an adapter: a line for every change, each sealed over the one before it."""

import contextlib
import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from peftrec.disk import sync_folder
from peftrec.errors import CorruptAdapterError
from peftrec.registry.strict import SEAL, once, seal

HISTORY = "history.jsonl"
MOVES = ("publish", "install", "promote", "split")
"""Actions that give an alias a new aim; a rollback takes one away again."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change, as the journal tells it.

    Attributes:
        step: Its number, from 1 on; entries are in this order whatever clocks say.
        moment: ISO 8601, UTC, by the clock of the machine that wrote it.
        by: ``user@host``.
        action: Such as ``publish``, ``promote``, ``rollback``, ``delete``.
        details: What was changed: ``alias``, ``version``, ``before``, ``after``, ``reason``, ``evidence``, as far as there.
    """

    step: int
    moment: str
    by: str
    action: str
    details: Mapping[str, Any]


def line_of(step: int, previous: str, action: str, details: Mapping[str, object]) -> tuple[bytes, str]:
    """A change as a line, and its seal.

    Args:
        step: Its number.
        previous: Seal of the line before; empty for the first.
        action: What happened.
        details: See :class:`Entry`; those that are None are left out.
    """
    values: dict[str, object] = {
        "step": step,
        "moment": now().isoformat(timespec="milliseconds"),
        "by": _writer(),
        "action": action,
        "previous": previous,
        **{name: value for name, value in details.items() if value is not None},
    }
    sealed = seal(values)
    return json.dumps({**values, SEAL: sealed}, sort_keys=True).encode() + b"\n", sealed


def now() -> datetime:
    """The moment, by this machine's clock."""
    return datetime.now(UTC)


def aims_of(entries: Iterable[Entry], alias: str) -> list[Mapping[str, float]]:
    """What an alias led to, version -> weight, the present last, as a stack: a rollback took the one above it away."""
    aims = list[Mapping[str, float]]()
    for entry in entries:
        if entry.details.get("alias") != alias:
            continue
        if entry.action in MOVES:
            if not aims and entry.details.get("before"):  # set before there was a history
                aims.append(entry.details["before"])
            aims.append(entry.details["after"])
        elif entry.action == "rollback":
            aims.pop()
        elif entry.action == "remove_alias":
            aims.clear()
    return aims


def append(journal: Path, counted: int, line: bytes) -> None:
    """Writes a line behind the bytes that count, over what a killed writer left there."""
    there = journal.exists()
    with journal.open("r+b" if there else "xb") as file:
        file.truncate(counted)
        file.seek(counted)
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if not there:
        sync_folder(journal.parent)


def read_entries(path: Path, content: bytes, *, complete: bool) -> tuple[list[tuple[Entry, str]], int]:
    """Entries with their seals, and the bytes that they take; stops at what is torn unless all must be ``complete``.

    Raises:
        CorruptAdapterError: It must be complete and is not.
    """
    found, taken, previous = list[tuple[Entry, str]](), 0, ""
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        entry = _entry(line, step=number, previous=previous)
        if entry is None:
            if complete:
                raise lost(path, f"line {number} was changed, or does not follow the line before it")
            break
        found.append(entry)
        taken, previous = taken + len(line), entry[1]
    return found, taken


def _entry(line: bytes, *, step: int, previous: str) -> tuple[Entry, str] | None:
    try:
        values: object = json.loads(line.decode(), object_pairs_hook=once) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    found = cast(dict[str, Any], values)
    told = found.pop(SEAL, None)
    with contextlib.suppress(ValueError, RecursionError):
        good = told == seal(found) and found.pop("step") == step and found.pop("previous") == previous
        texts = [found.pop(name, None) for name in ("moment", "by", "action")]
        if good and all(isinstance(text, str) for text in texts):
            moment, by, action = cast(list[str], texts)
            return Entry(step=step, moment=moment, by=by, action=action, details=found), cast(str, told)
    return None


def _writer() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def lost(path: Path, what: str) -> CorruptAdapterError:
    """The error for a journal that does not tell all."""
    return CorruptAdapterError(
        f"{path} {what}",
        expected="every change since the first, in order",
        remedy="restore it from a copy; versions and aliases are served all the same",
    )
