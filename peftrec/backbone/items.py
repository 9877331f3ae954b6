"""The item table: every text that was ever encoded, on disk, shared by all shops, adapters and versions.

``vectors(texts)`` encodes what the table lacks, adds it as new segments and never rewrites what is there. The folder's
name comes from everything that decides a vector: weights, tokenizer, precision and the number of words read. Vectors
are kept in int8 with one step per row (a quarter of float32; the cosine to the exact vector is above 0.9998), so 10
million products of 384 floats take 4.0 GB.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from peftrec.backbone import segments
from peftrec.backbone.arithmetic import Precision
from peftrec.backbone.backbone import Backbone
from peftrec.backbone.encoder import progress_bar
from peftrec.backbone.segments import Segment
from peftrec.errors import ItemTableError

_Index = tuple[NDArray[np.bytes_], NDArray[np.int64], NDArray[np.int64]]

_ATTEMPTS = 3  # a damaged segment costs one more round; a disk that damages every one must not cost an endless loop
_POLL_S, _COURTESY_S = 0.01, 0.05  # a writer pauses longer between segments than another waits between looks
_PATIENCE_S = 600.0  # a writer that is stopped, not dead, must not stop the others for good
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)

CACHE_VARIABLE = "PEFTREC_CACHE"
"""Environment variable that names the folder for everything peftrec keeps between runs."""

SEGMENT_ROWS = 8192
"""Texts per segment: what a kill can cost, a few seconds of encoding."""


def cache_root() -> Path:
    """``$PEFTREC_CACHE``, or ``~/.cache/peftrec``."""
    cache = os.environ.get(CACHE_VARIABLE)
    return Path(cache).expanduser() if cache else Path.home() / ".cache" / "peftrec"


def default_root() -> Path:
    """``$PEFTREC_CACHE/items``, or ``~/.cache/peftrec/items``."""
    return cache_root() / "items"


class ItemTable:
    """Vectors of texts, kept in a folder that any number of processes may read and extend at once.

    Args:
        backbone: Encodes what the table lacks.
        root: Folder that holds the tables of all backbones; :func:`default_root` when left out.
        precision: Arithmetic of the encoder; tables of different precision are different tables. See :meth:`Backbone.encode`.
        segment_rows: Texts per segment.
    """

    def __init__(
        self,
        backbone: Backbone,
        root: str | Path | None = None,
        *,
        precision: Precision | None = None,
        segment_rows: int = SEGMENT_ROWS,
    ) -> None:
        self.backbone = backbone
        self.precision: Precision = precision or backbone.precision
        self.segment_rows = segment_rows
        self.folder = (default_root() if root is None else Path(root)) / _table_name(backbone, self.precision)
        self._segments: dict[str, Segment] = {}
        self._intact: set[str] = set()
        self._refused: set[str] = set()  # damaged, and maybe not set aside: the folder may be read-only
        self._sorted: _Index | None = None

    def __len__(self) -> int:
        """Distinct texts in the table, those of other writers included."""
        self._refresh()
        return len(self._index()[0])

    def vectors(self, texts: Sequence[str], *, progress: bool = True) -> NDArray[np.float32]:
        """One vector per text, in the order of ``texts``; each distinct text is encoded at most once, ever.

        Args:
            texts: Any texts, an empty one being read as ``[CLS] [SEP]``.
            progress: Show a bar when encoding takes longer than two seconds.

        Returns:
            (n, hidden) float32.

        Raises:
            ItemTableError: The folder cannot be read, or lacks a text and cannot be written.
        """
        keys, first, inverse = np.unique(segments.text_keys(texts), return_index=True, return_inverse=True)
        distinct = [texts[int(row)] for row in first]
        for _ in range(_ATTEMPTS):
            self._refresh()
            self._add(keys, distinct, progress=progress)
            found = self._gather(keys)
            if found is not None:
                return found[inverse]
        raise ItemTableError(
            f"the item table {self.folder} loses what is written to it",
            expected="segments that stay and read back as they were written",
            remedy=f"check the disk, or point {CACHE_VARIABLE} at another folder",
        )

    def _add(self, keys: NDArray[np.bytes_], texts: list[str], *, progress: bool) -> None:
        """Encodes and writes the texts that no segment holds, one segment at a time."""
        missing = np.flatnonzero(~np.isin(keys, self._index()[0]))
        if not len(missing):
            return
        with progress_bar(len(missing), show=progress) as bar:
            while len(missing):
                with self._turn():
                    new = self._refresh()  # another writer may have been here while this one waited
                    missing = missing[~np.isin(keys[missing], _joined(new))]
                    now, missing = missing[: self.segment_rows], missing[self.segment_rows :]
                    if len(now):
                        some = [texts[row] for row in now]
                        vectors = self.backbone.encode(some, precision=self.precision, progress=False)
                        segments.write_segment(self.folder, keys[now], vectors)
                bar.update(len(now))
                if len(missing):
                    time.sleep(_COURTESY_S)  # else this writer takes the lock again before another can
        self._refresh()

    def _gather(self, keys: NDArray[np.bytes_]) -> NDArray[np.float32] | None:
        """Reads the vectors of ``keys``; ``None`` when a segment turned out to be damaged or to be gone."""
        known, owner, row = self._index()
        place = np.searchsorted(known, keys)
        if not len(keys) or place.max() >= len(known) or (known[place] != keys).any():
            return None if len(keys) else np.empty((0, self.backbone.hidden), dtype=np.float32)
        vectors = np.empty((len(keys), self.backbone.hidden), dtype=np.float32)
        names = list(self._segments)
        for segment in np.unique(owner[place]):
            mine = np.flatnonzero(owner[place] == segment)
            if not self._trusted(names[segment]):
                return None
            vectors[mine] = self._segments[names[segment]].read(row[place[mine]])
        return vectors

    def _trusted(self, name: str) -> bool:
        """Checks a segment's vectors before their first use in this process."""
        if name not in self._intact:
            if not self._segments[name].intact():
                self._forget(name)
                self._refused.add(name)
                return False
            self._intact.add(name)
        return True

    def _refresh(self) -> list[Segment]:
        """Opens the segments that have appeared since the last look, forgets those that are gone; returns the new."""
        present = segments.names(self.folder)
        for name in set(self._segments) - set(present):
            self._forget(name)
        new: list[Segment] = []
        for name in present:
            if name in self._segments or name in self._refused:
                continue
            segment = segments.open_segment(self.folder, name)
            if segment is None:
                self._refused.add(name)
            else:
                self._segments[name] = segment
                self._sorted = None
                new.append(segment)
        return new

    def _forget(self, name: str) -> None:
        del self._segments[name]
        self._intact.discard(name)
        self._sorted = None

    def _index(self) -> _Index:
        """All distinct keys, sorted, with the segment (its position) and the row that hold each."""
        if self._sorted is not None:
            return self._sorted
        parts = list(self._segments.values())
        owner = np.repeat(np.arange(len(parts)), [len(part.keys) for part in parts])
        row = np.concatenate([np.arange(len(part.keys)) for part in parts] or [np.empty(0, np.int64)])
        keys, first = np.unique(_joined(parts), return_index=True)
        self._sorted = keys, owner[first], row[first]
        return self._sorted

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One writer at a time, so that two of them share the work instead of doing it twice.

        The lock is a courtesy: segments are safe without it. The system frees it when its holder is killed.
        """
        segments.prepare(self.folder)
        lock = FileLock(self.folder / ".lock", fallback_to_soft=False)  # a soft lock would outlive a killed holder
        try:
            lock.acquire(timeout=_PATIENCE_S, poll_interval=_POLL_S)
        except Timeout:
            pass  # go on: at worst, a text is encoded twice
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise segments.cannot("write", self.folder, error) from error
        try:
            yield
        finally:
            lock.release()


def _joined(parts: Sequence[Segment]) -> NDArray[np.bytes_]:
    return np.concatenate([part.keys for part in parts] or [np.empty(0, dtype=f"S{segments.KEY_BYTES}")])


def _table_name(backbone: Backbone, precision: str) -> str:
    facts = {
        "weights": backbone.encoder_fingerprint,
        "tokenizer": backbone.tokenizer_fingerprint,
        "precision": precision,
        "words": backbone.max_length,
        "pooling": "mean",
        "format": segments.FORMAT,
        **({"words_in_int8": True} if precision == "int8" else {}),  # tables from before read them in fp32
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
