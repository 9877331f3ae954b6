"""What an engine is asked and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from peftrec.data.columns import EVENT_TYPES
from peftrec.data.dataset import Dataset
from peftrec.data.histories import PURCHASE, Histories
from peftrec.errors import RequestError

Product = str | Mapping[str, object]
"""A product id, or a description such as ``{"title": "copper kettle", "category": "kitchen"}`` of one the catalogue lacks."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One shopper at one platform.

    Attributes:
        adapter: ``name``, ``name@version`` or ``name@alias``.
        user: Id of a shopper whose past the platform's log holds.
        history: Products bought, oldest first: ids, or mappings with ``item_id`` (or a description) and optionally
            ``days_ago``, ``event`` and ``quantity``. A plain list counts as one purchase a day, the last one today.
        profile: Attributes of the shopper, such as ``{"age": "45-54"}``.
        k: How many products to recommend.
        exclude_bought: Leave out what the shopper bought before.
    """

    adapter: str
    user: str | None = None
    history: Sequence[Product] | None = None
    profile: Mapping[str, object] | None = None
    k: int = 10
    exclude_bought: bool = False

    def __post_init__(self) -> None:
        k, user, profile = cast(object, self.k), cast(object, self.user), cast(object, self.profile)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise RequestError(f"k={self.k!r}", expected="a whole number of at least 1", remedy="ask for k=10")
        if user is not None and not isinstance(user, str):
            raise RequestError(
                f"user={user!r}, a {type(user).__name__}",
                expected="an id as text; ids are text throughout, whatever the table held",
                remedy=f"write user={str(user)!r}",
            )
        if self.user is not None and self.history is not None:
            raise RequestError(
                "both user and history",
                expected="one of them",
                remedy="leave user out to use the history that you pass",
            )
        if isinstance(self.history, str):
            raise RequestError(
                f"history={self.history!r}", expected="a list of products", remedy=f"write history=[{self.history!r}]"
            )
        for product in self.history or ():
            check_product(product)
        if profile is not None and not _has_names(profile):
            raise RequestError(
                f"profile={profile!r}", expected="attributes by name", remedy='write profile={"age": "45-54"}'
            )


@dataclass(frozen=True)
class Recommendation:
    """One product of an answer.

    Attributes:
        item_id: Its id.
        title: Its title.
        probability: That this shopper buys it within the horizon the adapter was trained for.
    """

    item_id: str
    title: str
    probability: float


def check_product(product: object) -> None:
    """Refuses what is neither an id nor a description.

    Raises:
        RequestError: With what it is.
    """
    if isinstance(product, str):
        return
    if not product or not _has_names(product):
        raise RequestError(
            f"{product!r}, a {type(product).__name__}, as a product",
            expected="an id as text, or a description such as {'title': 'copper kettle'}",
            remedy=f"write {str(product)!r} if it is an id",
        )


def _has_names(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in cast(Mapping[object, object], value))


def described(product: Product) -> bool:
    """Whether a product is given by its text rather than by its id."""
    return not isinstance(product, str) and "item_id" not in product


def history_of(request: Request, dataset: Dataset, new: Sequence[int], moment: float) -> Histories:
    """The past of a request's shopper.

    Args:
        request: With a user, a history or neither.
        dataset: The platform's.
        new: Indices of the described products of the history, in order.
        moment: Seconds since the epoch.

    Raises:
        UnknownUserError: The platform has no such shopper.
        UnknownItemError: The catalogue has no such product.
        RequestError: A field of the history is of a wrong kind.
    """
    if request.user is not None:
        return Histories.of(dataset, _user(dataset, request.user), moment=moment)
    history = list(request.history or ())
    ids = [str(entry if isinstance(entry, str) else entry["item_id"]) for entry in history if not described(entry)]
    known, fresh = iter(dataset.catalog.indices(ids)), iter(new)
    item = np.array([next(fresh) if described(entry) else next(known) for entry in history], np.int32)
    age = np.array([_number(entry, "days_ago", len(history) - 1 - at) for at, entry in enumerate(history)], np.float64)
    order = np.argsort(-age, kind="stable")
    count = len(history)
    return Histories(
        offsets=np.array([0, count], np.int64),
        item=item[order],
        age=age[order],
        event=np.array([_event(entry) for entry in history], np.int8)[order],
        quantity=np.array([_number(entry, "quantity", 1) for entry in history], np.float32)[order],
        price=np.full(count, np.nan, np.float32),
        discount=np.zeros(count, np.float32),
        session=np.floor(age[order]).astype(np.int64),
        channel=np.array([-1], np.int32),
    )


def _user(dataset: Dataset, user: str) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    from peftrec.errors import UnknownUserError

    at = int(dataset.users.search_sorted(user))
    if at >= len(dataset.users) or dataset.users[at] != user:
        raise UnknownUserError(
            f"unknown shopper {user!r}",
            expected=f"ids of the {len(dataset.users):,} shoppers of {dataset.name!r}, such as {dataset.users[0]!r}",
            remedy="correct the id, or pass history=[...] or profile={...} of a new shopper instead",
        )
    return np.array([at], np.int32)


def _number(entry: Product, field: str, otherwise: float) -> float:
    value = otherwise if isinstance(entry, str) else entry.get(field, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
        raise RequestError(
            f"{field}={value!r} in the history",
            expected="a finite number, 0 or more",
            remedy=f"correct or leave out {field}",
        )
    return float(value)


def _event(entry: Product) -> int:
    value = "purchase" if isinstance(entry, str) else entry.get("event", "purchase")
    if value not in EVENT_TYPES:
        raise RequestError(
            f"event={value!r} in the history",
            expected=f"one of {', '.join(EVENT_TYPES)}",
            remedy="leave it out for purchase",
        )
    return PURCHASE if value == "purchase" else EVENT_TYPES.index(str(value))
