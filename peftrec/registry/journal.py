"""The journal of an adapter: a line for every change, each sealed over the one before it."""

import contextlib
import getpass
import json
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from peftrec.disk import sync_folder
from peftrec.errors import CorruptAdapterError
from peftrec.registry.strict import SEAL, is_moment, is_whole, once, seal

HISTORY = "history.jsonl"
_BLOCK = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change, as the journal tells it.

    Attributes:
        step: Its number, from 1 on; entries are in this order whatever clocks say.
        moment: ISO 8601, UTC, by the clock of the machine that wrote it.
        by: ``user@host``.
        action: Such as ``publish``, ``promote``, ``rollback``, ``delete``.
        details: What was changed: ``alias``, ``version``, ``before``, ``after``, ``reason``, ``evidence``, as far as there.
        previous: Seal of the entry before; empty for the first.
        seal: Sha256 of all of this.
    """

    step: int
    moment: str
    by: str
    action: str
    details: Mapping[str, Any]
    previous: str
    seal: str

    @classmethod
    def new(cls, step: int, previous: str, action: str, details: Mapping[str, object]) -> "Entry":
        """A change made now by this process.

        Raises:
            ValueError: ``details`` holds a value that is not finite.
            TypeError: It holds one that is none of JSON's.
        """
        moment, by = now().isoformat(timespec="milliseconds"), _writer()
        values = {"step": step, "moment": moment, "by": by, "action": action, "previous": previous, **details}
        return cls(
            step=step, moment=moment, by=by, action=action, details=details, previous=previous, seal=seal(values)
        )

    @classmethod
    def parse(cls, line: bytes) -> "Entry | None":
        """Reads a line; None where it is none, or was changed."""
        try:
            values: object = json.loads(line.decode(), object_pairs_hook=once) if line.endswith(b"\n") else None
            if not isinstance(values, dict):
                return None
            found = cast(dict[str, Any], values)
            told = found.pop(SEAL, None)
            if told != seal(found):
                return None
        except (ValueError, RecursionError):
            return None
        step, previous = found.pop("step", None), found.pop("previous", None)
        moment, by, action = (found.pop(name, None) for name in ("moment", "by", "action"))
        if not is_whole(step, least=1) or not is_moment(moment):
            return None
        if not isinstance(previous, str) or not isinstance(by, str) or not isinstance(action, str):
            return None
        return cls(
            step=step, moment=cast(str, moment), by=by, action=action, details=found, previous=previous, seal=told
        )

    def line(self) -> bytes:
        """The entry as the journal holds it."""
        values = {"step": self.step, "moment": self.moment, "by": self.by, "action": self.action, **self.details}
        return json.dumps({**values, "previous": self.previous, SEAL: self.seal}, sort_keys=True).encode() + b"\n"


def append(journal: Path, counted: int, lines: bytes) -> None:
    """Writes lines behind the bytes that count, over what a killed writer left there.

    An old copy of ``aliases.json`` that lacks a single change cannot be told from what a killed writer left, and that
    change is undone.

    Raises:
        CorruptAdapterError: The journal is shorter than that, or longer by more than one killed writer could have left.
    """
    there = os.path.lexists(journal)
    if there and not stat.S_ISREG(os.lstat(journal).st_mode):
        raise lost(journal, "is no plain file")
    with journal.open("r+b" if there else "xb") as file:
        if (size := file.seek(0, os.SEEK_END)) < counted:
            raise lost(journal, f"has {size:,} bytes, {counted:,} are counted")
        file.seek(counted)
        surplus = file.read().splitlines(keepends=True) if size > counted else []
        # A change is one line, the first one of a registry of before two.
        if sum(Entry.parse(line) is not None for line in surplus) > (1 if counted else 2):
            raise lost(journal, "tells of later changes than aliases.json, which seems to be an old copy")
        file.seek(counted)
        file.truncate()
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if not there:
        sync_folder(journal.parent)


def read_entries(journal: Path, *, counted: int, last: int | None = None) -> list[Entry]:
    """Entries of a journal, oldest first.

    Args:
        journal: The file.
        counted: Its bytes that count.
        last: Only so many, the newest; no more of the file is read than they take.

    Raises:
        CorruptAdapterError: The journal is shorter, or an entry was changed or is missing.
    """
    try:
        if not stat.S_ISREG(os.lstat(journal).st_mode):
            raise OSError("it is no plain file")
        with journal.open("rb") as file:
            if (size := file.seek(0, os.SEEK_END)) < counted:
                raise lost(journal, f"has {size:,} bytes, {counted:,} are counted")
            start = counted if last is not None else 0
            content = b""
            while True:
                file.seek(start)
                content = file.read(counted - start)
                if start == 0 or (last is not None and content.count(b"\n") > last):
                    break
                start = max(0, start - _BLOCK * (1 + (counted - start) // _BLOCK))
    except OSError as error:
        raise lost(journal, f"cannot be read: {error.strerror or error}") from error
    lines = content.splitlines(keepends=True)
    return _chained(journal, lines if last is None else lines[max(0, len(lines) - last) :], first=last is None)


def _chained(journal: Path, lines: Sequence[bytes], *, first: bool) -> list[Entry]:
    found = list[Entry]()
    for number, line in enumerate(lines, start=1):
        entry = Entry.parse(line)
        follows = entry is not None and (
            (entry.step, entry.previous) == (found[-1].step + 1, found[-1].seal)
            if found
            else not first or (entry.step, entry.previous) == (1, "")
        )
        if entry is None or not follows:
            raise lost(journal, f"line {number} of {len(lines)} was changed, or does not follow the line before it")
        found.append(entry)
    return found


def now() -> datetime:
    """The moment, by this machine's clock."""
    return datetime.now(UTC)


def _writer() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        user = "unknown"
    with contextlib.suppress(OSError):
        return f"{user}@{socket.gethostname()}"
    return user


def lost(path: Path, what: str) -> CorruptAdapterError:
    """The error for a journal that does not tell all."""
    return CorruptAdapterError(
        f"{path} {what}",
        expected="every change since the first, in order",
        remedy="restore it and the aliases.json beside it from one copy; `peftrec registry repair` makes aliases.json anew "
        "of a whole history",
    )
