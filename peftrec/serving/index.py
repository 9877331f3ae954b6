"""Which products are closest to a shopper, without looking at all of them: one approximate index per platform.

What is looked for is the largest ``q . z + b * log(1 + buyers)``, with ``q`` of the shopper and ``b`` of the adapter. So a
product is the vector ``x = [z, scale * log(1 + buyers)]`` and a question ``[q, b / scale]``, whatever the adapter. Largest
inner products become smallest distances when each ``x`` is lifted onto a sphere of radius m, ``[x, sqrt(m^2 - |x|^2)]``
(Bachrach et al., 2014, "Speeding Up the Xbox Recommender System Using a Euclidean Transformation for Inner-Product
Spaces"), which inverted lists split evenly. faiss keeps one byte for each dimension and reads the lists from a memory-mapped
file; what it names is ranked anew with exact vectors. Products that came or changed since the index was built are looked at
one by one.
"""

import contextlib
import hashlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftrec.disk import sync_folder
from peftrec.errors import ConfigError

if TYPE_CHECKING:
    import faiss

_log = logging.getLogger(__name__)

EXACT_UP_TO = 100_000
"""Distinct texts of products that are all looked at: up to here it takes no more time than an index, and nothing is missed."""

FEW = 2_048
"""Allowed products, where rules leave no more, that are looked at one by one."""

_FORMAT = 1
_SCALE = 0.3  # popularity then weighs in distances about what vectors of length 1 do: lists are split by both
_PER_LIST = 64
_PROBED = 0.10  # share of the lists that are read
_WIDER = 3  # times as many products as asked for are ranked anew: bytes round
_KEPT, _ABANDONED_S = 3, 3600.0

Scorer = Callable[[NDArray[np.integer]], NDArray[np.float32]]
"""Exact scores (m,) of products (m,)."""


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Approximate search over one platform's products.

    Attributes:
        lists: faiss' index over all products there were when it was built.
        fresh: Products that it does not know, or knows with other words; rising.
    """

    lists: "faiss.IndexIVF" = field(repr=False)
    fresh: NDArray[np.int32]

    @classmethod
    def build(
        cls, vectors: NDArray[np.float32], text_of: NDArray[np.int32], popularity: NDArray[np.float32], folder: Path
    ) -> "ItemIndex":
        """Reads the index from ``folder`` if it was built before of the same products, else builds and writes it there.

        Args:
            vectors: (texts, H) unit vectors of distinct product texts.
            text_of: (n_items,) the text of each product.
            popularity: (n_items,) log of one plus the buyers of the last four weeks.
            folder: Where indices of this platform are kept, the latest three; they are mapped, not read into memory. Where
                it cannot be written the index stays in memory.

        Raises:
            ConfigError: faiss is not installed.
        """
        faiss = _faiss()
        digest = hashlib.sha256(f"{_FORMAT} {faiss.__version__}".encode())
        for part in (vectors, text_of, popularity):
            digest.update(f"{part.shape} {part.dtype}".encode())
            digest.update(np.ascontiguousarray(part).data)
        path = folder / f"{digest.hexdigest()[:32]}.faiss"
        lists = _mapped(path)
        if lists is None:
            lists = _built(vectors, text_of, popularity)
            if _written(lists, path):
                lists = _mapped(path) or lists
        return cls(lists, np.empty(0, np.int32))

    def with_fresh(self, items: NDArray[np.int32]) -> "ItemIndex":
        """The same, with products that came or changed since: they are looked at one by one."""
        return replace(self, fresh=np.union1d(self.fresh, items).astype(np.int32))

    def __len__(self) -> int:
        """Products that the lists hold."""
        return int(self.lists.ntotal)

    @property
    def is_worn(self) -> bool:
        """Whether so many products are fresh that building anew pays."""
        return len(self.fresh) > max(FEW, len(self) // 20)

    def top(
        self,
        query: NDArray[np.float32],
        beta: float,
        count: int,
        allowed: NDArray[np.bool_],
        score: Scorer,
    ) -> NDArray[np.int32]:
        """The ``count`` best of the allowed products, nearly always all of them, best first.

        Args:
            query: (H,) q above.
            beta: b above.
            count: How many; fewer come back where fewer are allowed.
            allowed: (n_items,) the products that may be named; those behind the platform's last one may not.
            score: Exact scores.
        """
        known = allowed[: len(self)].copy()
        known[self.fresh[self.fresh < len(self)]] = False
        fresh = self.fresh[allowed[self.fresh]]
        if np.count_nonzero(known) <= max(FEW, _WIDER * count):
            found = np.flatnonzero(known)
        else:
            found = self._searched(query, beta, _WIDER * count, known)
        found = np.concatenate([found, fresh]).astype(np.int32)
        scores = score(found)
        return found[np.lexsort((found, -scores))[:count]]

    def _searched(
        self, query: NDArray[np.float32], beta: float, count: int, known: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        faiss: Any = _faiss()  # its types lack what its wrappers for Python take
        asked = np.concatenate([query, [beta / _SCALE, 0]]).astype(np.float32)[None]
        chosen = faiss.IDSelectorBitmap(np.packbits(known, bitorder="little"))
        lists = max(1, math.ceil(_PROBED * self.lists.nlist))
        while True:
            told = faiss.SearchParametersIVF(sel=chosen, nprobe=lists)
            found = self.lists.search(asked, count, params=told)[1][0]
            found = found[found >= 0]
            if len(found) == count or lists >= self.lists.nlist:
                return found
            lists = min(4 * lists, self.lists.nlist)  # rules that leave little in the lists that were read


def index_folder(root: Path, platform: str, fingerprint: str) -> Path:
    """Where the indices of a platform lie that a backbone reads."""
    return root / hashlib.sha256(f"{platform} {fingerprint}".encode()).hexdigest()[:24]


def _built(
    vectors: NDArray[np.float32], text_of: NDArray[np.int32], popularity: NDArray[np.float32]
) -> "faiss.IndexIVF":
    faiss, count, hidden = _faiss(), len(text_of), vectors.shape[1]
    shelf = _SCALE * popularity.astype(np.float32)
    radius = math.sqrt(1 + float(shelf.max(initial=0)) ** 2)
    lists = max(1, min(int(4 * math.sqrt(count)), count // _PER_LIST))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatL2(hidden + 2), hidden + 2, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2, False
    )
    index.own_fields = False
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = 0, 8, _PER_LIST

    def lifted(items: NDArray[np.integer]) -> NDArray[np.float32]:
        flat = np.concatenate([vectors[text_of[items]], shelf[items, None]], axis=1)
        rest = np.maximum(radius**2 - (flat.astype(np.float64) ** 2).sum(axis=1), 0)
        return np.concatenate([flat, np.sqrt(rest)[:, None]], axis=1, dtype=np.float32)

    sample = np.random.default_rng(0).permutation(count)[: lists * _PER_LIST]
    index.train(lifted(np.sort(sample)))
    for start in range(0, count, 65_536):  # never all in single precision at once
        index.add(lifted(np.arange(start, min(start + 65_536, count))))
    return index


def _mapped(path: Path) -> "faiss.IndexIVF | None":
    """The index in a file, its lists left on disk; None where there is none that can be read."""
    if not path.is_file():
        return None
    faiss = _faiss()
    try:
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:  # what faiss raises for every damage
        _log.warning(f"the index {path} cannot be read and is built anew: {str(error).splitlines()[0][:200]}")
        return None
    return index


def _written(index: "faiss.IndexIVF", path: Path) -> bool:
    """Writes an index, whole or not at all, and removes old ones and what killed writers left."""
    part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _faiss().write_index(index, str(part))
            with part.open("rb+") as file:
                os.fsync(file.fileno())  # else a power cut could leave a file of the right size without its content
            part.replace(path)
            sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        _log.warning(f"the index stays in memory, since {path.parent} cannot be written: {str(error).splitlines()[0]}")
        return False
    _swept(path.parent)
    return True


def _swept(folder: Path) -> None:
    """Keeps the newest indices; whoever has mapped an older one keeps that."""
    ages: dict[Path, float] = {}
    for one in folder.iterdir():
        with contextlib.suppress(OSError):  # another process sweeps too
            ages[one] = one.stat().st_mtime
    whole = sorted((one for one in ages if one.suffix == ".faiss"), key=lambda one: -ages[one])
    parts = [one for one in ages if one.suffix == ".part" and time.time() - ages[one] > _ABANDONED_S]
    for one in (*whole[_KEPT:], *parts):
        with contextlib.suppress(OSError):
            one.unlink()


@cache
def has_faiss() -> bool:
    """Whether faiss is installed."""
    try:
        _faiss()
    except ConfigError:
        return False
    return True


def _faiss():
    try:
        import faiss
    except ImportError as error:
        raise ConfigError(
            "faiss is not installed",
            expected="faiss for an index over many products",
            remedy='pip install "peftrec[index]", or look at all products with Engine(..., index="exact")',
        ) from error
    return faiss
