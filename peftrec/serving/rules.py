"""What a shop wants recommended, whatever a shopper would buy: stock, prices, categories, variety."""

import threading
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.backbone.arithmetic import product
from peftrec.data import Catalog
from peftrec.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Business rules of a recommendation. Make them once and pass them with many requests: what they allow is remembered.

    Attributes:
        available: Ids of the products that can be bought now; all when left out. Ids that the catalogue lacks are passed over: a
            stock list is often newer than it, or names products that cleaning merged with others.
        exclude: Ids of products that are not to be shown.
        least_price: Products without a known price are left out where this or ``most_price`` is given.
        most_price: In the catalogue's currency.
        categories: Only products of these categories.
        most_of_category: At most so many products of one category in an answer; any number when left out.
        diversity: 0 ranks by probability alone, towards 1 products ever less like those before them (maximal marginal
            relevance, Carbonell and Goldstein, 1998): each place goes to the largest
            ``(1 - diversity) * p / p_best - diversity * (cosine to the most similar product above)``.

    Raises:
        RequestError: A value that cannot be a rule.
    """

    available: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    least_price: float | None = None
    most_price: float | None = None
    categories: frozenset[str] | None = None
    most_of_category: int | None = None
    diversity: float = 0.0

    def __post_init__(self) -> None:
        for name in ("available", "exclude", "categories"):
            value = cast(object, getattr(self, name))
            if value is not None:
                object.__setattr__(self, name, _texts(name, value))
        for name in ("least_price", "most_price"):
            value = cast(object, getattr(self, name))
            if value is not None and not _is_number(value, 0, np.inf):
                raise RequestError(
                    f"{name}={value!r}", expected="a number, 0 or more", remedy="correct it or leave it out"
                )
        if None not in (self.least_price, self.most_price) and cast(float, self.least_price) > cast(
            float, self.most_price
        ):
            raise RequestError(
                f"least_price={self.least_price:g} above most_price={self.most_price:g}",
                expected="a range that holds a price",
                remedy="exchange them",
            )
        if not _is_number(self.diversity, 0, 1) or self.diversity == 1:
            raise RequestError(f"diversity={self.diversity!r}", expected="0 to below 1", remedy="try diversity=0.3")
        most = cast(object, self.most_of_category)
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise RequestError(
                f"most_of_category={most!r}", expected="a whole number of at least 1", remedy="correct it"
            )

    def allowed(self, catalog: Catalog) -> NDArray[np.bool_]:
        """Which products may be shown.

        Args:
            catalog: Of the platform.

        Returns:
            (n_items,) in the catalogue's order.

        Raises:
            RequestError: The catalogue knows none of the products that are available or none of those excluded, as if they were
                another shop's. Or it has no prices or categories, but a rule is about them; or no such category.
        """
        found = np.ones(len(catalog), bool)
        if self.available is not None:
            found &= _known(catalog, "available", self.available)
        if self.exclude:
            found &= ~_known(catalog, "exclude", self.exclude)
        if self.least_price is not None or self.most_price is not None:
            price = _column(catalog, "price").cast(pl.Float64).fill_null(np.nan).to_numpy()
            least, most = self.least_price or 0.0, np.inf if self.most_price is None else self.most_price
            found &= (price >= least) & (price <= most)  # a price that is not known is NaN and neither
        if self.categories is not None:
            category = _column(catalog, "category")
            if unknown := sorted(self.categories - {*category.unique()}):
                raise RequestError(
                    f"no product of the category {unknown[0]!r}",
                    expected=f"one of the catalogue's, such as {', '.join(map(repr, category.drop_nulls()[:1])) or 'none'}",
                    remedy="correct it, or leave it out",
                )
            found &= category.is_in(sorted(self.categories)).fill_null(value=False).to_numpy()
        return found

    def ranked(
        self, chance: NDArray[np.floating], vectors: NDArray[np.float32], category: NDArray[np.int64], k: int
    ) -> list[int]:
        """Places of the products that are shown, best first.

        Args:
            chance: (m,) probabilities of the allowed candidates, falling.
            vectors: (m, H) unit vectors.
            category: (m,) codes of their categories; each product its own where there are none.
            k: At most so many.
        """
        shown, open_ = list[int](), np.ones(len(chance), bool)
        relevance = (1 - self.diversity) * chance / max(float(chance.max(initial=0)), 1e-12)
        closest: NDArray[np.floating] | None = None
        counts: dict[int, int] = {}
        while len(shown) < k and open_.any():
            value = relevance if closest is None else relevance - self.diversity * closest
            value = np.where(open_, value, -np.inf)
            best = int(value.argmax())  # of equals the likelier, which stands first
            open_[best] = False
            code = int(category[best])
            if self.most_of_category is not None and counts.get(code, 0) >= self.most_of_category:
                continue
            counts[code] = counts.get(code, 0) + 1
            shown.append(best)
            if self.diversity:
                cosine = product(vectors, vectors[best])
                closest = cosine if closest is None else np.maximum(closest, cosine)
        return shown


class Allowed:
    """What rules allow in a catalogue, remembered for the rules used last: stock lists are long."""

    def __init__(self, *, most: int = 64) -> None:
        self._most, self._lock = most, threading.Lock()
        self._found: WeakKeyDictionary[Catalog, OrderedDict[Rules, NDArray[np.bool_]]] = WeakKeyDictionary()

    def __call__(self, catalog: Catalog, rules: Rules) -> NDArray[np.bool_]:
        """See :meth:`Rules.allowed`."""
        with self._lock:
            known = self._found.setdefault(catalog, OrderedDict())
            if rules in known:
                known.move_to_end(rules)
                return known[rules]
        found = rules.allowed(catalog)  # outside the lock: others are served meanwhile
        with self._lock:
            known[rules] = found
            while len(known) > self._most:
                known.popitem(last=False)
        return found


def categories_of(catalog: Catalog, items: NDArray[np.int32]) -> NDArray[np.int64]:
    """(m,) codes of products' categories; a product without one is its own."""
    if "category" not in catalog.frame.columns:
        return np.arange(len(items))
    codes: dict[object, int] = {}
    names = catalog.frame["category"].gather(items).to_list()
    return np.array(
        [codes.setdefault((at,) if name is None else name, len(codes)) for at, name in enumerate(names)], np.int64
    )


def _texts(name: str, value: object) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Collection):
        raise RequestError(f"{name}={value!r}", expected="a list of texts", remedy=f"write {name}=[{value!r}]")
    texts = cast(Collection[object], value)
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise RequestError(
            f"{wrong[0]!r} in {name}", expected="texts; ids are text throughout", remedy=f"write {str(wrong[0])!r}"
        )
    return frozenset(cast(Collection[str], texts))


def _known(catalog: Catalog, rule: str, ids: frozenset[str]) -> NDArray[np.bool_]:
    """Which of the catalogue's products are named."""
    named = catalog.ids.is_in(sorted(ids)).to_numpy()
    if ids and not named.any():
        raise RequestError(
            f"none of the {len(ids):,} ids of {rule} is in the catalogue, such as {min(ids)!r}",
            expected=f"ids such as {catalog.ids[0]!r}",
            remedy="pass the ids of this platform, as text",
        )
    return named


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most and value < np.inf


def _column(catalog: Catalog, name: str) -> pl.Series:
    if name not in catalog.frame.columns:
        raise RequestError(
            f"a rule about the {name}, which the catalogue does not tell",
            expected=f"a catalogue with a column {name!r}",
            remedy="leave the rule out, or build the dataset with that column",
        )
    return catalog.frame[name]
