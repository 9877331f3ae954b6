"""The item table on disk: immutable segments, each written once, complete or absent.

A table is a folder of segments; a segment is a folder::

    seg-<id>/keys.npy       (n, 16) uint8     blake2b of each text, sorted
    seg-<id>/vectors.npy    (n, hidden) int8  one rounded vector per row
    seg-<id>/steps.npy      (n, 1) float32    vector = row * step
    seg-<id>/segment.json   rows, hidden, and size and sha256 of the three files

It is written beside its final name, flushed to disk and renamed: a kill leaves the segment whole or leaves rubbish that
no reader looks at. Writers never touch each other's segments, so any number of processes may add to one table.
"""

import hashlib
import io
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peftrec.errors import ItemTableError

_LOG = logging.getLogger(__name__)
_PREFIX, _SCRATCH, _DAMAGED = "seg-", "tmp-", "bad-"
_KEYS, _VECTORS, _STEPS, _FACTS = "keys.npy", "vectors.npy", "steps.npy", "segment.json"

_ABANDONED_S = 3600.0

FORMAT = 1
"""Version of the layout above; a table of another version is another table."""

KEY_BYTES = 16


def text_keys(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """(n,) keys of 16 bytes, equal exactly for equal texts."""
    raw = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest() for text in texts
    )
    # As fixed-width bytes, keys sort and compare as one value; numpy ignores trailing zeros, which equal widths allow.
    return np.frombuffer(raw, dtype=f"S{KEY_BYTES}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A complete segment: its folder, its sorted keys and what its vectors must hash to."""

    folder: Path
    keys: NDArray[np.bytes_]
    digests: dict[str, str]

    def intact(self) -> bool:
        """Whether the vectors are what was written; if not, the segment is set aside. Reads the whole segment.

        Raises:
            ItemTableError: The files cannot be read.
        """
        for file in (_VECTORS, _STEPS):
            try:
                problem = None if _sha256(self.folder / file) == self.digests[file] else f"{file} has changed"
            except FileNotFoundError:
                problem = f"{file} is missing"
            except OSError as error:
                raise cannot("read", self.folder, error) from error
            if problem is not None:
                _set_aside(self.folder, problem)
                return False
        return True

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), hidden) float32; only the pages that hold these rows are read.

        The file is mapped for this call alone: a table may have more segments than a process may open files.

        Raises:
            ItemTableError: The files cannot be read.
        """
        try:
            vectors = np.load(self.folder / _VECTORS, mmap_mode="r", allow_pickle=False)
            steps = np.load(self.folder / _STEPS, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise cannot("read", self.folder, error) from error
        return vectors[rows].astype(np.float32) * steps[rows]


def names(table: Path) -> list[str]:
    """Names of the segments in a table, oldest first as far as names tell; a folder that is not there has none.

    Raises:
        ItemTableError: The folder cannot be read.
    """
    try:
        with os.scandir(table) as entries:
            return sorted(entry.name for entry in entries if entry.name.startswith(_PREFIX))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("read", table, error) from error


def open_segment(table: Path, name: str) -> Segment | None:
    """Opens a segment, checking its files' sizes and its keys' sha256; :meth:`Segment.intact` does the rest.

    A damaged segment is set aside under another name, so that its texts are encoded anew, and ``None`` is returned.

    Raises:
        ItemTableError: The files are there and cannot be read.
    """
    folder = table / name
    try:
        files = json.loads((folder / _FACTS).read_bytes())["files"]
        sizes = {file: (folder / file).stat().st_size for file in (_KEYS, _VECTORS, _STEPS)}
        wrong = [file for file, size in sizes.items() if size != files[file]["bytes"]]
        if not wrong and _sha256(folder / _KEYS) == files[_KEYS]["sha256"]:
            keys = np.load(folder / _KEYS, allow_pickle=False)
            digests = {file: facts["sha256"] for file, facts in files.items()}
            return Segment(folder, keys.view(f"S{KEY_BYTES}").reshape(-1), digests)
        problem = f"{(wrong or [_KEYS])[0]} is not what was written"
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    except OSError as error:  # too many open files, no permission: the segment itself may be well
        raise cannot("read", folder, error) from error
    _set_aside(folder, problem)
    return None


def prepare(table: Path) -> None:
    """Makes the table's folder and clears what killed writers left in it.

    Raises:
        ItemTableError: The folder cannot be made.
    """
    try:
        table.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot("write", table, error) from error
    sweep(table)


def write_segment(table: Path, keys: NDArray[np.bytes_], vectors: NDArray[np.float32]) -> str:
    """Adds a segment and returns its name.

    Args:
        table: The table's folder, made when absent.
        keys: (n,) from :func:`text_keys`, distinct.
        vectors: (n, hidden).

    Raises:
        ItemTableError: The folder is read-only or full; nothing is left behind.
    """
    name = uuid.uuid4().hex
    scratch = table / f"{_SCRATCH}{name}"
    order = np.argsort(keys, kind="stable")
    rows, steps = quantise(vectors[order])
    arrays = {
        _KEYS: np.frombuffer(keys[order].tobytes(), dtype=np.uint8).reshape(-1, KEY_BYTES),
        _VECTORS: rows,
        _STEPS: steps,
    }
    try:
        scratch.mkdir(parents=True)
        files = {file: _write(scratch / file, _npy(array)) for file, array in arrays.items()}
        facts = {"rows": len(rows), "hidden": rows.shape[1], "files": files}
        _write(scratch / _FACTS, json.dumps(facts, indent=1).encode())
        _flush_folder(scratch)
        scratch.rename(table / f"{_PREFIX}{name}")
        _flush_folder(table)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise cannot("write", table, error) from error
    return f"{_PREFIX}{name}"


def sweep(table: Path) -> None:
    """Removes what killed writers left behind; nothing younger than an hour, which may still be in the making."""
    for scratch in table.glob(f"{_SCRATCH}*"):
        try:
            if time.time() - scratch.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError:  # another process swept it first
            continue


def quantise(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rounds each row to int8 with its own step (n, 1); ``rows * steps`` is within half a step of ``vectors``."""
    steps = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / np.float32(127)
    return np.rint(vectors / steps).astype(np.int8), steps


def _set_aside(folder: Path, problem: str) -> None:
    _LOG.warning("item table: %s is damaged (%s); its texts will be encoded anew", folder, problem)
    try:
        folder.rename(folder.with_name(_DAMAGED + folder.name.removeprefix(_PREFIX)))
    except OSError:  # gone already, or the folder is read-only: skipping it is enough
        return


def _npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> dict[str, object]:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there, and NTFS journals renames
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot(verb: str, table: Path, error: OSError) -> ItemTableError:
    """The error of a folder that cannot be read or written, ready to be raised."""
    return ItemTableError(
        f"cannot {verb} the item table {table}: {error.strerror or error}",
        expected=f"a folder that this user can {verb}, on a disk with room",
        remedy="point PEFTREC_CACHE at another folder, or call Backbone.encode(), which keeps nothing on disk",
    )
