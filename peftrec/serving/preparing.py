"""From a request to what the model reads: the platform with the products that the request describes, and its shopper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peftrec.backbone import Backbone
from peftrec.data.dataset import Dataset
from peftrec.data.histories import Histories
from peftrec.data.snapshot import Snapshot
from peftrec.errors import RequestError, UnknownUserError
from peftrec.model.platform import Platform, unit
from peftrec.model.scoring import snapshot_of
from peftrec.serving.loaded import Loaded
from peftrec.serving.requests import Product, Request, described, history_of, user_of
from peftrec.serving.shops import Shop


@dataclass(frozen=True)
class Row:
    """A request made ready.

    Attributes:
        request: As it was asked.
        loaded: Its adapter.
        shop: Where it shops.
        platform: The same, with the products that it describes behind those of the catalogue.
        snapshot: The platform now.
        history: Of its shopper.
        profile: (1, H) vector of the profile, zeros without one.
        scene: (1, H) vector of the scene, zeros without one.
        version: Reference of the version that answers; None where the backbone does by itself.
        allowed: (n_items,) what may be answered; None where that is all.
    """

    request: Request
    loaded: Loaded
    shop: Shop
    platform: Platform
    snapshot: Snapshot
    history: Histories
    profile: NDArray[np.float32]
    scene: NDArray[np.float32]
    version: str | None = None
    allowed: NDArray[np.bool_] | None = None


def check_fits(request: Request, dataset: Dataset) -> None:
    """Refuses what a platform cannot answer.

    Raises:
        RequestError: k is above the catalogue.
        UnknownUserError: A shopper is named where none is known.
    """
    if request.k > len(dataset.catalog):
        raise RequestError(
            f"k={request.k}",
            expected=f"at most {len(dataset.catalog):,}, the catalogue",
            remedy="ask for fewer",
        )
    if request.user is not None and not len(dataset.users):
        raise UnknownUserError(
            f"unknown shopper {request.user!r}",
            expected=f"none: {dataset.name!r} knows no shoppers yet",
            remedy="pass history=[...] or profile={...} instead",
        )


def prepare(request: Request, items: Sequence[Product] = (), *, loaded: Loaded, shop: Shop) -> Row:
    """Reads a request.

    Args:
        request: It fits the platform, see :func:`check_fits`.
        items: Products asked for beside the history; those described stand behind the history's.
        loaded: The adapter that answers.
        shop: Where the shopper is.
    """
    platform = shop.platform
    moment, base = platform.dataset.now, len(platform.text_of)
    fresh = [product for product in (*(request.history or ()), *items) if described(product)]
    new = [base + index for index in range(sum(map(described, request.history or ())))]
    history = history_of(request, platform.dataset, new, moment, channels=platform.channels)
    # Of somebody without a past nothing else is known than what is popular.
    past = len(history.item) > 0
    snapshot = snapshot_of(platform, loaded.adapter, moment) if past else platform.snapshot(moment)
    if fresh:
        texts = _texts(fresh, platform.backbone)
        vectors = unit(platform.backbone.encode(texts, progress=False))
        platform, snapshot = platform.with_new(vectors, texts), snapshot.with_new(len(fresh))
    scene = _scene(request, platform, history, moment) if loaded.adapter.scene else _nothing(platform)
    return Row(request, loaded, shop, platform, snapshot, history, _profile(request, platform), scene)


def id_of(item: Product) -> str:
    """The id of a product that is not described."""
    return item if isinstance(item, str) else str(item["item_id"])


def places(platform: Platform, items: Sequence[Product]) -> NDArray[np.int32]:
    """Indices of products asked for; those described are the last ones of the platform, as :func:`prepare` puts them."""
    at = iter(range(len(platform.text_of) - sum(map(described, items)), len(platform.text_of)))
    known = iter(platform.dataset.catalog.indices([id_of(item) for item in items if not described(item)]))
    return np.array([next(at) if described(item) else next(known) for item in items], np.int32)


def _texts(products: Sequence[Product], backbone: Backbone) -> list[str]:
    """Texts of described products, as the backbone reads them."""
    fields = [_worded(product) for product in products if not isinstance(product, str)]
    frame = pl.DataFrame(fields, schema=dict.fromkeys({key for entry in fields for key in entry}, pl.String))
    return backbone.templates.product.render(frame).to_list()


def _worded(product: Mapping[str, object]) -> dict[str, str | None]:
    """A description as a row of text columns, read as a catalogue is: numbers are no words, nothing is no word."""
    return {name: _word(value) for name, value in product.items()}


def _word(value: object) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, cast(Sequence[object], value)))
    return value if isinstance(value, str) else None


def _profile(request: Request, platform: Platform) -> NDArray[np.float32]:
    backbone = platform.backbone
    if request.profile:
        known = {name: [value] for name, value in request.profile.items() if value is not None}
        frame = pl.DataFrame({"user_id": [""], **known}, strict=False)
        return unit(backbone.encode(backbone.templates.profile.render(frame).to_list(), progress=False))
    if request.user is not None:
        return platform.profiles[platform.profile_of[[user_of(platform.dataset, request.user)]]]
    return _nothing(platform)


def _scene(request: Request, platform: Platform, history: Histories, moment: float) -> NDArray[np.float32]:
    if request.scene is not None:
        return unit(platform.backbone.encode([request.scene], progress=False))
    return platform.scenes(history.channel, moment)


def _nothing(platform: Platform) -> NDArray[np.float32]:
    return np.zeros((1, platform.backbone.hidden), np.float32)
