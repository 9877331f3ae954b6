"""What an engine is asked and what it answers."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import cast

import numpy as np
from numpy.typing import NDArray

from peftrec.data.columns import EVENT_TYPES
from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY, PURCHASE, Histories
from peftrec.data.log import GAP, kind_of
from peftrec.errors import RequestError, UnknownUserError
from peftrec.serving.rules import Rules

Product = str | Mapping[str, object]
"""A product id, or a description such as ``{"title": "copper kettle", "category": "kitchen"}`` of one the catalogue lacks."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One shopper at one platform.

    Attributes:
        adapter: ``name``, ``name@version`` or ``name@alias``.
        user: Id of a shopper whose past the platform's log holds.
        history: Products bought, oldest first: ids, or mappings with ``item_id`` (or a description) and optionally
            ``days_ago``, ``event``, ``quantity``, ``price``, ``discount``, ``dwell_seconds``, ``channel`` and
            ``session_id``. A plain list counts as one purchase a day, the last one today; events without a session are
            one visit as long as half an hour never passes between two of them.
        scene: The moment and the way in words, such as "Saturday evening, December, mobile app", for an adapter that
            reads scenes; that of the platform's last event where it is left out.
        profile: Attributes of the shopper, such as ``{"age": "45-54"}``.
        k: How many products to recommend.
        exclude_bought: Leave out what the shopper bought before.
        rules: What the shop wants shown, such as what is in stock, see :class:`Rules`.
        split_by: What an alias that leads to several versions draws by, such as the id of a shopper whose history comes with the
            request; ``user`` when left out. Without either the version of the largest share answers.
    """

    adapter: str
    user: str | None = None
    history: Sequence[Product] | None = None
    profile: Mapping[str, object] | None = None
    scene: str | None = None
    k: int = 10
    exclude_bought: bool = False
    rules: Rules | None = None
    split_by: str | None = None

    def __post_init__(self) -> None:
        k, user, profile = cast(object, self.k), cast(object, self.user), cast(object, self.profile)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise RequestError(f"k={self.k!r}", expected="a whole number of at least 1", remedy="ask for k=10")
        for field, value in (("user", user), ("split_by", cast(object, self.split_by))):
            if value is not None and not isinstance(value, str):
                raise RequestError(
                    f"{field}={value!r}, a {type(value).__name__}",
                    expected="an id as text; ids are text throughout, whatever the table held",
                    remedy=f"write {field}={str(value)!r}",
                )
        if self.rules is not None and not isinstance(cast(object, self.rules), Rules):
            raise RequestError(
                f"rules={self.rules!r}", expected="Rules", remedy='write rules=Rules(exclude=frozenset({"17"}))'
            )
        if self.user is not None and self.history is not None:
            raise RequestError(
                "both user and history",
                expected="one of them",
                remedy="leave user out to use the history that you pass",
            )
        history = cast(object, self.history)
        if history is not None and (isinstance(history, str | Mapping) or not isinstance(history, Sequence)):
            one = f"write history=[{history!r}]" if isinstance(history, str | Mapping) else "write history=['17', '4']"
            raise RequestError(f"history={history!r}", expected="a list of products", remedy=one)
        if not isinstance(cast(object, self.adapter), str):
            raise RequestError(
                f"adapter={self.adapter!r}",
                expected="text such as 'grocery', 'grocery@3' or 'grocery@canary'",
                remedy="pass its name",
            )
        if self.scene is not None and not isinstance(cast(object, self.scene), str):
            raise RequestError(
                f"scene={self.scene!r}", expected="text", remedy="write scene='Saturday evening, December, mobile app'"
            )
        for product in self.history or ():
            check_product(product)
            _refuse_unknown_fields(product)
        if profile is not None and not _has_names(profile):
            raise RequestError(
                f"profile={profile!r}", expected="attributes by name", remedy='write profile={"age": "45-54"}'
            )

    @property
    def drawn_by(self) -> str | None:
        """What an alias that leads to several versions draws by."""
        return self.user if self.split_by is None else self.split_by


@dataclass(frozen=True)
class Recommendation:
    """One product of an answer.

    Attributes:
        item_id: Its id.
        title: Its title.
        probability: That this shopper buys it within the horizon the adapter was trained for.
        adapter: ``name@version`` that answered, whatever alias was asked for; None where the backbone did by itself.
    """

    item_id: str
    title: str
    probability: float
    adapter: str | None = None


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


def check_products(items: Sequence[Product]) -> None:
    """Refuses an empty list of products, or one that holds something else.

    Raises:
        RequestError: With what it is.
    """
    if isinstance(items, str) or not len(items):
        raise RequestError(
            f"items={items!r}", expected="a list of at least one product", remedy="pass ids or descriptions"
        )
    for item in items:
        check_product(item)


FIELDS = ("days_ago", "event", "quantity", "price", "discount", "dwell_seconds", "channel", "session_id")
"""What an entry of a history may say beside the product."""


def _refuse_unknown_fields(product: Product) -> None:
    """A description may have any field; where the product is named by its id, others are mistakes."""
    if isinstance(product, str) or "item_id" not in product:
        return
    unknown = [name for name in product if name not in ("item_id", *FIELDS)]
    if unknown:
        close = get_close_matches(unknown[0], FIELDS, n=1)
        raise RequestError(
            f"a field {unknown[0]!r} in the history",
            expected=f"item_id and any of {', '.join(FIELDS)}",
            remedy=f"write {close[0]!r}" if close else "leave it out",
        )


def _has_names(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in cast(Mapping[object, object], value))


def described(product: Product) -> bool:
    """Whether a product is given by its text rather than by its id."""
    return not isinstance(product, str) and "item_id" not in product


def history_of(
    request: Request, dataset: Dataset, new: Sequence[int], moment: float, *, channels: Sequence[str] = ()
) -> Histories:
    """The past of a request's shopper.

    Args:
        request: With a user, a history or neither.
        dataset: The platform's.
        new: Indices of the described products of the history, in order.
        moment: Seconds since the epoch.
        channels: Names of the platform's channels, by code.

    Raises:
        UnknownUserError: The platform has no such shopper.
        UnknownItemError: The catalogue has no such product.
        RequestError: A field of the history is of a wrong kind.
    """
    if request.user is not None:
        return Histories.of(dataset, np.array([user_of(dataset, request.user)]), moment=moment)
    history: list[Product] = list(request.history or ())
    ids = [str(entry if isinstance(entry, str) else entry["item_id"]) for entry in history if not described(entry)]
    known, fresh = iter(dataset.catalog.indices(ids)), iter(new)
    item = np.array([next(fresh) if described(entry) else next(known) for entry in history], np.int32)
    age = np.array([_number(entry, "days_ago", len(history) - 1 - at) for at, entry in enumerate(history)], np.float64)
    order = np.argsort(-age, kind="stable")
    history, age = [history[int(at)] for at in order], age[order]
    session, page, entry = _visits(history, age)

    def numbers(field: str, otherwise: float, highest: float = np.inf) -> NDArray[np.float32]:
        return np.array([_number(entry, field, otherwise, highest) for entry in history], np.float32)

    return Histories(
        offsets=np.array([0, len(history)], np.int64),
        item=item[order],
        age=age,
        event=np.array([_event(entry) for entry in history], np.int8),
        quantity=numbers("quantity", 1),
        price=numbers("price", np.nan),
        discount=numbers("discount", 0, highest=1),
        session=session,
        dwell=numbers("dwell_seconds", np.nan),
        page=page,
        entry=entry,
        channel=np.array([_main_channel(history, channels)], np.int32),
    )


def _main_channel(history: Sequence[Product], channels: Sequence[str]) -> int:
    """Code of the platform's channel that most events name, the first of equals; -1 where none does."""
    named = [entry.get("channel") for entry in history if not isinstance(entry, str)]
    known = [channels.index(name) for name in named if isinstance(name, str) and name in channels]
    return max(sorted(set(known)), key=known.count, default=-1)


def _visits(
    history: Sequence[Product], age: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int8]]:
    """Visit, position in its path and kind of its entry channel, of each event; oldest first."""
    visits: dict[object, tuple[int, list[int]]] = {}
    last: object = None
    for at, entry in enumerate(history):
        named = None if isinstance(entry, str) else entry.get("session_id")
        rested = at == 0 or (age[at - 1] - age[at]) * DAY > GAP
        last = ("named", str(named)) if named is not None else at if rested or last is None else last
        visits.setdefault(last, (len(visits), []))[1].append(at)
    session, page, entry = (
        np.zeros(len(history), np.int64),
        np.ones(len(history), np.float32),
        np.full(len(history), -1),
    )
    for code, members in visits.values():
        session[members], page[members] = code, np.arange(1, len(members) + 1)
        entry[members] = _entry(history[members[0]])
    return session, page, entry.astype(np.int8)


def _entry(product: Product) -> int:
    channel = None if isinstance(product, str) else product.get("channel")
    if channel is None:
        return -1
    if not isinstance(channel, str):
        raise RequestError(
            f"channel={channel!r} in the history", expected="the name of a channel", remedy="write channel='email'"
        )
    return kind_of(channel)


def user_of(dataset: Dataset, user: str) -> int:
    """Index of a platform's shopper.

    Raises:
        UnknownUserError: It has no such shopper.
    """
    users = dataset.users
    at = bisect_left(users, user)  # polars' own search starts a query, which takes a millisecond
    if at >= len(users) or users[at] != user:
        raise UnknownUserError(
            f"unknown shopper {user!r}",
            expected=f"ids of the {len(users):,} shoppers of {dataset.name!r}, such as {users[0]!r}",
            remedy="correct the id, or pass history=[...] or profile={...} of a new shopper instead",
        )
    return at


def _number(entry: Product, field: str, otherwise: float, highest: float = np.inf) -> float:
    value = otherwise if isinstance(entry, str) else entry.get(field, otherwise)
    if value is otherwise:
        return otherwise
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not np.isfinite(value)
        or not 0 <= value <= highest
    ):
        raise RequestError(
            f"{field}={value!r} in the history",
            expected="a finite number, 0 or more" if highest == np.inf else f"a number from 0 to {highest:g}",
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
