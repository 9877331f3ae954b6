"""The platforms that an engine knows: their products as of now, and what finds the closest of them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peftrec.data.catalog import Catalog
from peftrec.data.dataset import Dataset
from peftrec.data.reading.tables import Table
from peftrec.errors import ConfigError, NotEnoughDataError, RequestError
from peftrec.model.platform import Platform
from peftrec.serving.index import EXACT_UP_TO, ItemIndex, has_faiss, index_folder

SEARCHES = ("auto", "exact", "faiss")


@dataclass(frozen=True, eq=False)
class Shop:
    """One platform at one moment. What changes is a new one: a request keeps the shop that it began with.

    Attributes:
        platform: Catalogue, log and vectors.
        gone: (n_items,) bool, products that are sold no more: histories may hold them, answers do not.
        index: Finds what is closest; None where all products are looked at.
    """

    platform: Platform
    gone: NDArray[np.bool_] = field(repr=False)
    index: ItemIndex | None = None

    @property
    def catalog(self) -> Catalog:
        """All products, those that are gone as well."""
        return self.platform.dataset.catalog

    @property
    def popularity(self) -> NDArray[np.float32]:
        """(n_items,) log of one plus the buyers of the last four weeks."""
        return self.platform.snapshot(self.platform.dataset.now).popularity

    def with_products(self, table: Table) -> "Shop":
        """The same with products that are new or have changed; those that were gone are back."""
        products = Catalog.from_table(table).frame  # once: a table may be a stream
        before, catalog = len(self.catalog), self.catalog.updated(products)
        platform = self.platform.with_catalog(catalog)
        given = catalog.indices(products["item_id"].to_list())
        gone = np.concatenate([self.gone, np.zeros(len(catalog) - before, bool)])
        gone[given] = False
        index = None if self.index is None else self.index.with_fresh(given)
        return Shop(platform, gone, index)

    def without_products(self, ids: Sequence[str]) -> "Shop":
        """The same without some products."""
        gone = self.gone.copy()
        gone[self.catalog.indices(ids)] = True
        if gone.all():
            raise NotEnoughDataError(
                f"all {len(gone):,} products would be gone",
                expected="at least one product that is sold",
                remedy="add products first, with engine.update_products(...)",
            )
        return replace(self, gone=gone)


class Shops:
    """Platforms by the name of their adapter.

    Args:
        search: ``exact`` looks at all products; ``faiss`` has an index for every platform; ``auto`` one for those with more than
            100,000 distinct texts, where faiss is installed.
        root: Where indices are kept.

    Raises:
        ConfigError: An unknown search, or ``faiss`` without faiss.
    """

    def __init__(self, search: str, root: Path) -> None:
        if search not in SEARCHES:
            raise ConfigError(f"index={search!r}", expected=f"one of {', '.join(SEARCHES)}", remedy="leave it out")
        self._search, self._root = search, root
        self._shops: dict[str, Shop] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def __contains__(self, name: str) -> bool:
        """Whether there is such a platform."""
        return name in self._shops

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return iter(self._shops)

    def get(self, name: str) -> Shop:
        """The platform as it is now.

        Raises:
            RequestError: There is no such platform.
        """
        shop = self._shops.get(name)
        if shop is None:
            raise RequestError(
                f"no platform is attached for the adapter {name!r}",
                expected=f"one of {', '.join(self) or 'none: nothing is attached yet'}",
                remedy=f'engine.attach(dataset, adapter="{name}")',
            )
        return shop

    def platform(self, dataset: Dataset) -> Platform | None:
        """What was read of a data set before: several adapters of one platform share it."""
        return next((shop.platform for shop in self._shops.values() if shop.platform.dataset is dataset), None)

    def attach(self, name: str, platform: Platform) -> None:
        """Takes a platform up, in place of one of this name."""
        with self._turn:
            same = next(
                (shop for shop in self._shops.values() if shop.platform is platform and not shop.gone.any()), None
            )
            shop = same or self._indexed(name, Shop(platform, np.zeros(len(platform.text_of), bool)))
            self._put(name, shop)

    def change(self, name: str, changed: Callable[[Shop], Shop]) -> None:
        """Puts a changed platform in the place of one, at once for all requests that come; one change at a time.

        Raises:
            RequestError: There is no such platform.
        """
        with self._turn:
            shop = changed(self.get(name))
            if shop.index is None or shop.index.is_worn:
                shop = self._indexed(name, shop)
            self._put(name, shop)

    def _put(self, name: str, shop: Shop) -> None:
        with self._lock:
            self._shops = {**self._shops, name: shop}

    def _indexed(self, name: str, shop: Shop) -> Shop:
        if self._search == "exact" or (
            self._search == "auto" and (len(shop.platform.vectors) <= EXACT_UP_TO or not has_faiss())
        ):
            return replace(shop, index=None)
        folder = index_folder(self._root, name, shop.platform.backbone.encoder_fingerprint)
        platform = shop.platform
        return replace(shop, index=ItemIndex.build(platform.vectors, platform.text_of, shop.popularity, folder))
