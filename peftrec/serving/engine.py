"""The engine: many adapters on one frozen backbone, each named by the request that wants it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peftrec.backbone import Backbone
from peftrec.backbone.items import cache_root
from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY
from peftrec.data.reading.tables import Table
from peftrec.data.snapshot import PLANNED_WEEKS
from peftrec.errors import ConfigError, CorruptAdapterError, RequestError, UntrustedAdapterError
from peftrec.model.adapter import Adapter
from peftrec.model.cross import retrieval_extras
from peftrec.model.cross_scoring import CrossRecommender
from peftrec.model.nearest import history_means, nearest
from peftrec.model.platform import Platform
from peftrec.model.scoring import AdapterRecommender
from peftrec.registry import Registry
from peftrec.serving.answers import best, chance, named
from peftrec.serving.decoding import Decoding
from peftrec.serving.loaded import Loaded
from peftrec.serving.loading import load_adapter
from peftrec.serving.pairs import score_pairs, told
from peftrec.serving.preparing import Row, check_fits, id_of, places, prepare
from peftrec.serving.requests import Product, Recommendation, Request, check_product, check_products, described
from peftrec.serving.resolving import Following, References
from peftrec.serving.retrieving import Norms, most_similar, retrievals
from peftrec.serving.rules import Allowed, Rules
from peftrec.serving.shops import Shop, Shops
from peftrec.serving.slots import Slots, parse_bytes

_log = logging.getLogger(__name__)


class Engine:
    """Serves every adapter of a registry from one backbone.

    An adapter is an argument of a request and never a state of the engine: what one request asks for, fails at or loads
    cannot be seen by another. References without a version follow the registry's aliases from request to request, so that
    a published version takes over between two requests. One that cannot be loaded leaves the version before it serving.

    A backbone that was adapted to shopping serves a platform by itself as long as no adapter is published under the
    platform's name; a reference with a version or an alias always means an adapter.

    Args:
        backbone: Shared by all.
        registry: A registry or its folder.
        memory: For resident adapters, such as ``"512MB"``; the least recently used leave first.
        precision: ``int8``, ``bf16`` or ``fp32`` arithmetic of the decoder; ``auto`` chooses by the backbone's device. Each is
            checked against fp32 as the engine starts, see :func:`peftrec.serving.precision.decoder_for`.
        batch: Requests decoded at once.
        index: How the products closest to a shopper are found: ``exact`` looks at all, ``faiss`` asks an approximate index,
            ``auto`` does that for platforms with more than 100,000 distinct texts if faiss is installed.

    Raises:
        ConfigError: An unknown precision, index or amount of memory, or no batch; or the precision says something else than
            fp32 on this backbone.
        IncompatibleAdapterError: The backbone was adapted to other numbers than this version of peftrec computes.
    """

    def __init__(
        self,
        backbone: Backbone,
        registry: Registry | str | Path = "adapters",
        *,
        memory: str | int = "512MB",
        precision: str = "auto",
        batch: int = 32,
        index: str = "auto",
    ) -> None:
        if type(batch) is not int or batch < 1:
            raise ConfigError(f"batch={batch!r}", expected="a whole number of at least 1", remedy="leave it out")
        self.backbone, self.batch = backbone, batch
        self._decoding = Decoding(backbone, precision)
        self.registry = registry if isinstance(registry, Registry) else Registry(registry)
        self.slots = Slots(self._load, parse_bytes(memory), backbone.device)
        self._following = Following(self.slots, self.registry)
        self._own = None if backbone.shopping is None else Loaded.of(Adapter.of_backbone(backbone), backbone.device)
        self._shops = Shops(index, cache_root() / "index")
        self._references = References(self.registry, self._shops, alone=self._own is not None)
        self._allowed, self._norms = Allowed(), Norms()

    @property
    def precision(self) -> str:
        """Arithmetic of the decoder."""
        return self._decoding.precision

    def attach(self, dataset: Dataset, *, adapter: str | None = None, progress: bool = False) -> None:
        """Gives the engine a platform's catalogue and log, which recommendations are drawn from.

        Args:
            dataset: Catalogue, log and profiles up to now. A shop without a log is at the present hour. One that is attached
                already, under another name, is not read again.
            adapter: Name of the adapter that serves this platform; the dataset's name when left out.
            progress: Show a bar while products are encoded.

        Raises:
            ConfigError: ``index="faiss"``, and faiss is not installed.
        """
        platform = self._shops.platform(dataset) or Platform.of(dataset, self.backbone, progress=progress)
        moment = dataset.now
        platform.snapshot(moment)
        plan = dataset.promotion_log
        if plan is not None and len(plan.end) and plan.end.max() < moment + (PLANNED_WEEKS - 1) * 7 * DAY:
            ends, now = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}" for time in (plan.end.max(), moment))
            _log.warning(
                f"the promotions of '{dataset.name}' end on {ends}, but adapters read {PLANNED_WEEKS} weeks ahead of {now}: no"
                " product looks promoted in weeks without a plan, and probabilities are less exact; attach the plan too"
            )
        self._shops.attach((adapter or dataset.name).partition("@")[0], platform)

    def update_products(self, adapter: str, products: Table) -> None:
        """Adds products to a platform, or tells new things of some: from the next request on they are recommended.

        Only texts that were never read before are encoded, and the log is not read again: what it says of products stays as it
        was when the platform was attached.

        Args:
            adapter: Name of the platform's adapter, as it was attached.
            products: A table as for :meth:`peftrec.Catalog.from_table`, such as ``{"item_id": ["9"], "title": ["kettle"]}``. Rows
                of known ids replace what the catalogue says of them; removed ones come back.

        Raises:
            RequestError: No such platform is attached.
            SchemaError, InvalidValueError, NotEnoughDataError: As :meth:`peftrec.Catalog.updated`; nothing has changed then.
        """
        self._shops.change(adapter.partition("@")[0], lambda shop: shop.with_products(products))

    def remove_products(self, adapter: str, ids: Sequence[str]) -> None:
        """Recommends products of a platform no more, from the next request on; histories may still hold them.

        Raises:
            RequestError: No such platform is attached.
            UnknownItemError: The catalogue has no such product; nothing has changed then.
            NotEnoughDataError: No product would be left.
        """
        self._shops.change(adapter.partition("@")[0], lambda shop: shop.without_products(ids))

    def recommend(
        self,
        adapter: str,
        *,
        user: str | None = None,
        history: Sequence[Product] | None = None,
        profile: Mapping[str, object] | None = None,
        scene: str | None = None,
        k: int = 10,
        exclude_bought: bool = False,
        rules: Rules | None = None,
        split_by: str | None = None,
    ) -> list[Recommendation]:
        """The ``k`` products that a shopper most probably buys next, best first.

        Fewer where the adapter's candidate sources name fewer: some hundreds for a shopper without a history.
        See :class:`Request` for the arguments. A shopper without any history gets what is popular, seen through the profile
        where one is given. Where hardly anything was sold yet, what is close in meaning takes its place, and ``k`` products
        come back if the catalogue has them. Of products with equal probability, those closer to the shopper come first.

        Raises:
            AdapterNotFoundError: No such adapter, version or alias, and the backbone cannot serve the platform itself.
            UnknownUserError: The platform has no such shopper.
            UnknownItemError: The catalogue has no such product.
            RequestError: k is below 1 or above the catalogue, or no platform is attached for the adapter.
        """
        request = Request(
            adapter=adapter,
            user=user,
            history=history,
            profile=profile,
            scene=scene,
            k=k,
            exclude_bought=exclude_bought,
            rules=rules,
            split_by=split_by,
        )
        return self.recommend_batch([request])[0]

    def recommend_batch(self, requests: Sequence[Request]) -> list[list[Recommendation]]:
        """Answers several requests, of any mixture of adapters, in one pass; the same answers as one by one."""
        answers: list[list[Recommendation]] = []
        for start in range(0, len(requests), self.batch):
            rows = [self._prepare(request) for request in requests[start : start + self.batch]]
            decoded = iter(self._recommend([row for row in rows if row.loaded.adapter.form == "decoder"]))
            worded = (row.loaded.adapter.form == "cross_encoder" for row in rows)
            answers += [
                self._recommend_by_words(row) if by_words else next(decoded)
                for row, by_words in zip(rows, worded, strict=True)
            ]
        return answers

    def _recommend(self, rows: Sequence[Row]) -> list[list[Recommendation]]:
        if not rows:
            return []
        batch = self._decoding.read(rows)
        near = retrievals(rows, batch.vectors)
        found = batch.named(near)
        logits = batch.score(found)
        items = [one.items.values for one in found]
        return [
            best(row, own, said, one.of(own)) for row, own, said, one in zip(rows, items, logits, near, strict=True)
        ]

    def _recommend_by_words(self, row: Row) -> list[Recommendation]:
        tokens = told(row)
        near = nearest(retrieval_extras(row.loaded.extras), row.platform, tokens, row.snapshot)(np.arange(1))
        items = named(row, near).items.values
        logits = score_pairs(self._decoding.pair_reader(row.loaded), row, tokens, items)
        return best(row, items, logits, near.values[0][items])

    def score(
        self,
        adapter: str,
        items: Sequence[Product],
        *,
        user: str | None = None,
        history: Sequence[Product] | None = None,
        profile: Mapping[str, object] | None = None,
        scene: str | None = None,
        split_by: str | None = None,
    ) -> list[float]:
        """Purchase probabilities of given products, in their order; a product may be new, given by its text alone.

        Raises:
            RequestError: ``items`` is empty. Otherwise as :meth:`recommend`.
        """
        request = Request(adapter=adapter, user=user, history=history, profile=profile, scene=scene, split_by=split_by)
        return self.score_batch([request], [items])[0]

    def score_batch(self, requests: Sequence[Request], items: Sequence[Sequence[Product]]) -> list[list[float]]:
        """Purchase probabilities of each request's own products, of any mixture of adapters; the same as one by one.

        Raises:
            RequestError: There are not as many lists of products as requests, or one is empty. Otherwise as :meth:`recommend`.
        """
        if len(requests) != len(items):
            raise RequestError(
                f"{len(items)} lists of products for {len(requests)} requests",
                expected="one for each request",
                remedy="pass requests and items of one length",
            )
        for own in items:
            check_products(own)
        found: list[list[float]] = []
        for start in range(0, len(requests), self.batch):
            some = slice(start, start + self.batch)
            rows = [self._prepare(request, own) for request, own in zip(requests[some], items[some], strict=True)]
            chosen = [places(row.platform, own) for row, own in zip(rows, items[some], strict=True)]
            logits = iter(self._logits(rows, chosen))
            found += [[float(value) for value in chance(next(logits))] for _ in rows]
        return found

    def _logits(self, rows: Sequence[Row], chosen: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Purchase logits of given products, whatever the form of each row's adapter."""
        decoded = [at for at, row in enumerate(rows) if row.loaded.adapter.form == "decoder"]
        own = [rows[at] for at in decoded]
        logits = dict[int, NDArray[np.float32]]()
        if own:
            batch = self._decoding.read(own)
            logits.update(zip(decoded, batch.score(batch.described([chosen[at] for at in decoded])), strict=True))
        for at, row in enumerate(rows):
            if at not in logits:
                logits[at] = score_pairs(self._decoding.pair_reader(row.loaded), row, told(row), chosen[at])
        return [logits[at] for at in range(len(rows))]

    def embed(
        self,
        adapter: str,
        *,
        user: str | None = None,
        history: Sequence[Product] | None = None,
        profile: Mapping[str, object] | None = None,
        scene: str | None = None,
        split_by: str | None = None,
    ) -> NDArray[np.float32]:
        """A shopper as a vector in the space of products: for a vector database, for segments, for finding similar shoppers.

        Returns:
            (hidden,) float32. Its product with the unit vectors of products, as :meth:`peftrec.Backbone.encode` gives them,
            ranks them by what the adapter finds close to the shopper, popularity left aside. Vectors of one version
            compare with each other; those of another live elsewhere.

        Raises:
            As :meth:`recommend`.
        """
        request = Request(adapter=adapter, user=user, history=history, profile=profile, scene=scene, split_by=split_by)
        row = self._prepare(request)
        if row.loaded.adapter.form == "cross_encoder":
            return history_means(row.platform, told(row))[0]
        vector = self._decoding.read([row]).vectors[0]
        return (row.loaded.extra("item_map") @ vector).cpu().numpy()

    def similar(self, adapter: str, item: Product, *, k: int = 10) -> list[tuple[str, float]]:
        """The products closest in meaning to one, with the cosine of their vectors under the adapter's map, best first.

        Raises:
            UnknownItemError: The catalogue has no such product; describe it instead.
            RequestError: k is below 1 or above the catalogue.
        """
        check_product(item)
        row = self._prepare(Request(adapter=adapter, k=k), [item])
        catalog, base = row.platform.dataset.catalog, len(row.platform.dataset.catalog)
        at = base if described(item) else int(catalog.indices([id_of(item)])[0])
        found, cosine = most_similar(row, at, k, self._norms)
        return [(catalog.ids[int(index)], float(value)) for index, value in zip(found, cosine, strict=True)]

    def is_warm(self, request: Request) -> bool:
        """Whether a request's adapter is in memory, as :class:`peftrec.serving.Batcher` asks before it lets others wait for it.

        Raises:
            AdapterNotFoundError: No such adapter, version or alias, and the backbone cannot serve the platform itself.
        """
        _, version = self._references.resolve(request.adapter, request.drawn_by)
        return version is None or self._following.is_warm(request.adapter, version)

    def warm(self, request: Request) -> None:
        """Loads the adapter of a request to come; nothing happens to one that is in memory.

        Raises:
            RegistryError: It cannot be loaded, and nothing was served under this reference before.
            RequestError: No platform is attached for it, or there is no room.
        """
        self._answering(request)

    def pin(self, adapter: str) -> str:
        """Keeps an adapter in memory, whatever others need its place, until :meth:`unpin` is called as often.

        Args:
            adapter: In any form that requests take; the version that it means now is kept, wherever an alias moves.

        Returns:
            ``name@version``, for :meth:`unpin`.

        Raises:
            RegistryError: It cannot be loaded.
            RequestError: The engine's memory does not hold it beside the others that are pinned, or there is no adapter to pin:
                the backbone serves the platform by itself.
        """
        name, version = self._references.resolve(adapter)
        if version is None:
            raise RequestError(
                f"no adapter is published as {name!r}",
                expected="an adapter; the backbone, which serves this platform by itself, never leaves",
                remedy="publish one, or pin nothing",
            )
        self.slots.pin(version)
        return version

    def unpin(self, version: str) -> None:
        """Lets a pinned adapter leave again when others need its place; ``version`` is what :meth:`pin` returned."""
        self.slots.unpin(version)

    def recommender(self, adapter: str) -> AdapterRecommender | CrossRecommender:
        """One adapter as :func:`peftrec.evaluate` sees it, in the arithmetic that this engine serves it with."""
        _, version = self._references.resolve(adapter)
        loaded = self._own if version is None and self._own is not None else self.slots.get(str(version))
        name = f"peftrec {self.precision}"
        if loaded.adapter.form == "cross_encoder":
            served = CrossRecommender(loaded.restored(), name=name)
            served.reader = self._decoding.pair_reader(loaded)
            return served
        served = AdapterRecommender(loaded.restored(), name=name)
        served.reader = self._decoding.reader([loaded])
        return served

    def _load(self, reference: str) -> Adapter:
        # It was found when the request began; that it was deleted since is no matter to this request.
        return load_adapter(self.registry.opened(*reference.split("@")), self.backbone)

    def _answering(self, request: Request) -> tuple[Shop, Loaded, str | None]:
        """Platform, what answers, and its version: an adapter, or what the backbone does without one.

        Nothing is loaded for a platform that is not attached.
        """
        try:
            name, version = self._references.resolve(request.adapter, request.drawn_by)
        except (CorruptAdapterError, UntrustedAdapterError) as error:
            shop = self._shops.get(request.adapter.partition("@")[0])
            return shop, *self._following.instead(request.adapter, None, error)
        shop = self._shops.get(name)
        if version is None and self._own is not None:
            return shop, self._own, None
        return shop, *self._following.get(request.adapter, str(version))

    def _prepare(self, request: Request, items: Sequence[Product] = ()) -> Row:
        shop, loaded, version = self._answering(request)
        check_fits(request, shop.platform.dataset)
        row = replace(prepare(request, items, loaded=loaded, shop=shop), version=version)
        if request.rules is None and not shop.gone.any():
            return row
        allowed = ~shop.gone if request.rules is None else self._allowed(shop.catalog, request.rules) & ~shop.gone
        beyond = np.zeros(len(row.platform.text_of) - len(allowed), bool)  # what the request describes is not for sale
        return replace(row, allowed=np.concatenate([allowed, beyond]))
