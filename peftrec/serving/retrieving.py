"""How close products are to the shoppers of a batch."""

import threading
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from peftrec.backbone.arithmetic import product
from peftrec.model.candidates import best_of
from peftrec.model.platform import Platform
from peftrec.serving.loaded import Loaded
from peftrec.serving.preparing import Row


class Retrieval:
    """How close a platform's products are to one shopper: ``sharpness * u . W z + beta * log(1 + buyers)``.

    Args:
        row: The request.
        query: (H,) ``sharpness * u W^T``.
        beta: The adapter's.
        texts: (texts,) products of the query and the vectors of the catalogue's texts; None where an index finds them.
    """

    def __init__(
        self, row: Row, query: NDArray[np.float32], beta: float, texts: NDArray[np.float32] | None = None
    ) -> None:
        self._row, self._query, self._beta, self._texts = row, query, beta, texts

    def of(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        """(m,) how close some products are."""
        return product(self._row.platform.items(items), self._query) + self._sold(items)

    def top(self, row: int, count: int, allowed: NDArray[np.bool_]) -> NDArray[np.int32]:
        """See :meth:`peftrec.model.candidates.Closest.top`; there is one row. What a request describes is never among them."""
        del row
        shop, allowed = self._row.shop, allowed[: len(self._row.shop.catalog)]
        if shop.index is not None:
            young = not self._row.snapshot.buyers.any()  # read as if nothing was sold
            beta = 0.0 if young else self._beta
            return shop.index.top(self._query, beta, count, allowed, self.of)
        texts = product(shop.platform.vectors, self._query) if self._texts is None else self._texts
        return best_of(texts[shop.platform.text_of] + self._sold(slice(len(allowed))), count, allowed)

    def _sold(self, items: NDArray[np.integer] | slice) -> NDArray[np.float32]:
        """What it adds that products sell."""
        return np.multiply(self._row.snapshot.popularity[items], self._beta, dtype=np.float32)


def retrievals(rows: Sequence[Row], vectors: Tensor) -> list[Retrieval]:
    """One for each row of a batch.

    Args:
        rows: Whose adapters read products.
        vectors: (B, H) of the shoppers, in single precision.
    """
    queries, betas = np.empty((len(rows), vectors.shape[1]), np.float32), list[float]()
    for at, (row, vector) in enumerate(zip(rows, vectors.cpu().numpy(), strict=True)):
        extras = [row.loaded.extra(name).cpu().numpy() for name in ("item_map", "sharpness", "popularity")]
        queries[at] = extras[1].item() * product(extras[0], vector)
        betas.append(extras[2].item())
    texts: dict[int, NDArray[np.float32]] = {}
    searched = [at for at, row in enumerate(rows) if row.shop.index is None]
    for shop in {id(rows[at].shop): rows[at].shop for at in searched}.values():  # one matrix product for each platform
        own = [at for at in searched if rows[at].shop is shop]
        texts.update(zip(own, product(queries[own], shop.platform.vectors.T), strict=True))
    return [Retrieval(row, queries[at], betas[at], texts.get(at)) for at, row in enumerate(rows)]


class Norms:
    """Lengths of a platform's vectors under adapters' maps, remembered for as long as both live: (texts,) float32."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[Loaded, WeakKeyDictionary[Platform, NDArray[np.float32]]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def __call__(self, loaded: Loaded, platform: Platform) -> NDArray[np.float32]:
        """Those of one adapter that reads products."""
        with self._lock:
            known = self._found.setdefault(loaded, WeakKeyDictionary())
            if platform in known:
                return known[platform]
        mapped = product(platform.vectors, loaded.extra("item_map").cpu().numpy())
        norms = np.maximum(np.linalg.norm(mapped, axis=1), 1e-12)
        with self._lock:
            known[platform] = norms
        return norms


def most_similar(row: Row, at: int, count: int, norms: Norms) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Products of the catalogue closest to one under the adapter's map, best first; of equals, those of lower index first.

    Args:
        row: The request.
        at: Index of that product, behind the catalogue's where the request describes it.
        count: How many, less where fewer are sold.
        norms: Remembered.

    Returns:
        (m,) indices, without products that are gone and that one itself, and their (m,) cosines.
    """
    cosine = _cosines(row, at, norms)
    allowed = ~row.shop.gone
    if at < len(allowed):
        allowed[at] = False
    found = best_of(cosine, count, allowed)
    found = found[np.lexsort((found, -cosine[found]))]
    return found, cosine[found]


def _cosines(row: Row, at: int, norms: Norms) -> NDArray[np.float32]:
    """(n_items,) of every product."""
    platform, vector = row.shop.platform, row.platform.items(np.array([at]))[0]
    if row.loaded.adapter.form == "cross_encoder":
        found = product(platform.vectors, vector)
    else:
        whole = row.loaded.extra("item_map").cpu().numpy()
        mapped = product(vector, whole)
        found = product(platform.vectors, product(whole, mapped))
        found /= np.linalg.norm(mapped) * norms(row.loaded, platform)
    return found[platform.text_of]
