"""The engine: many adapters on one frozen backbone, each named by the request that wants it."""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import nn
from transformers import BertModel

from peftrec.backbone import Backbone
from peftrec.backbone.encoder import encoder_for
from peftrec.backbone.int8 import int8_linears
from peftrec.data.dataset import Dataset
from peftrec.data.histories import DAY, Ragged
from peftrec.data.snapshot import PLANNED_WEEKS
from peftrec.errors import AdapterNotFoundError, ConfigError, RegistryError, RequestError
from peftrec.model.adapter import Adapter, first_layer
from peftrec.model.candidates import describe
from peftrec.model.cross import PairReader, retrieval_extras
from peftrec.model.cross_scoring import CrossRecommender
from peftrec.model.mixed import mixed_layers
from peftrec.model.nearest import nearest
from peftrec.model.platform import Platform, unit
from peftrec.model.purchase import Reading
from peftrec.model.scoring import AdapterRecommender, Reader, retrieval
from peftrec.registry import Registry
from peftrec.serving.answers import best, chance, named
from peftrec.serving.loading import load_adapter
from peftrec.serving.pairs import score_pairs, told
from peftrec.serving.preparing import Row, check_fits, id_of, prepare
from peftrec.serving.requests import Product, Recommendation, Request, check_product, described
from peftrec.serving.rules import Allowed, Rules
from peftrec.serving.slots import Loaded, Slots, parse_bytes, stacked

_log = logging.getLogger(__name__)

PRECISIONS = ("int8", "bf16", "fp32")


class Engine:
    """Serves every adapter of a registry from one backbone.

    An adapter is an argument of a request and never a state of the engine: what one request asks for, fails at or loads
    cannot be seen by another. References without a version follow the registry's aliases from request to request, so that
    a published version takes over between two requests.

    A backbone that was adapted to shopping serves a platform by itself as long as no adapter is published under the
    platform's name; a reference with a version or an alias always means an adapter.

    Args:
        backbone: Shared by all.
        registry: A registry or its folder.
        memory: For resident adapters, such as ``"512MB"``; the least recently used leave first.
        precision: ``int8``, ``bf16`` or ``fp32`` arithmetic of the decoder.
        batch: Requests decoded at once.

    Raises:
        ConfigError: An unknown precision or amount of memory, or no batch.
        IncompatibleAdapterError: The backbone was adapted to other numbers than this version of peftrec computes.
    """

    def __init__(
        self,
        backbone: Backbone,
        registry: Registry | str | Path = "adapters",
        *,
        memory: str | int = "512MB",
        precision: str = "int8",
        batch: int = 32,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(
                f"precision={precision!r}", expected=f"one of {', '.join(PRECISIONS)}", remedy="leave it out"
            )
        if batch < 1:
            raise ConfigError(f"batch={batch!r}", expected="a whole number of at least 1", remedy="leave it out")
        self.backbone, self.precision, self.batch = backbone, precision, batch
        self.registry = registry if isinstance(registry, Registry) else Registry(registry)
        self.slots = Slots(self._load, parse_bytes(memory))
        decoder = backbone.decoder()
        self._decoder = int8_linears(decoder) if precision == "int8" else decoder
        self._own = None if backbone.shopping is None else Loaded.of(Adapter.of_backbone(backbone))
        self._bert: BertModel | None = None
        self._platforms: dict[str, Platform] = {}
        self._allowed = Allowed()
        self._lock = threading.Lock()

    def attach(self, dataset: Dataset, *, adapter: str | None = None, progress: bool = False) -> None:
        """Gives the engine a platform's catalogue and log, which recommendations are drawn from.

        Args:
            dataset: Catalogue, log and profiles up to now. A shop without a log is at the present hour.
            adapter: Name of the adapter that serves this platform; the dataset's name when left out.
            progress: Show a bar while products are encoded.
        """
        platform = Platform.of(dataset, self.backbone, progress=progress)
        moment = dataset.now
        platform.snapshot(moment)
        plan = dataset.promotion_log
        if plan is not None and len(plan.end) and plan.end.max() < moment + (PLANNED_WEEKS - 1) * 7 * DAY:
            ends, now = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}" for time in (plan.end.max(), moment))
            _log.warning(
                f"the promotions of '{dataset.name}' end on {ends}, but adapters read {PLANNED_WEEKS} weeks ahead of {now}: no"
                " product looks promoted in weeks without a plan, and probabilities are less exact; attach the plan too"
            )
        with self._lock:
            self._platforms = {**self._platforms, (adapter or dataset.name).partition("@")[0]: platform}

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
            decoded = [row for row in rows if row.loaded.adapter.form == "decoder"]
            reader, readings = self._read(decoded)
            found = iter(readings)
            for row in rows:
                if row.loaded.adapter.form == "cross_encoder":
                    answers.append(self._recommend_by_words(row))
                    continue
                reading = next(found)
                near = retrieval(reading, row.loaded.extras, row.platform, row.snapshot)
                candidates = named(row, near)
                logits = reader(row).score(reading, row.platform, candidates)[0]
                answers.append(best(row, candidates.items.values, logits, near[0]))
        return answers

    def _recommend_by_words(self, row: Row) -> list[Recommendation]:
        tokens = told(row)
        near = nearest(retrieval_extras(row.loaded.extras), row.platform, tokens, row.snapshot)(np.arange(1))
        items = named(row, near).items.values
        return best(row, items, score_pairs(self._pair_reader(row.loaded), row, tokens, items), near[0])

    def _pair_reader(self, loaded: Loaded) -> PairReader:
        """A cross-encoder with an adapter; its BERT, in this engine's arithmetic, is made when first asked for."""
        with self._lock:
            if self._bert is None:
                self._bert = encoder_for(self.backbone.bert, "int8" if self.precision == "int8" else "fp32")
        first = first_layer(self.backbone)
        layers = mixed_layers(self._bert.encoder.layer[first:], [loaded.changes], first_layer=first)
        return PairReader(self._bert, layers, loaded.extras, bf16=self.precision == "bf16")

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
        if isinstance(items, str) or not len(items):
            raise RequestError(
                f"items={items!r}", expected="a list of at least one product", remedy="pass ids or descriptions"
            )
        for item in items:
            check_product(item)
        request = Request(adapter=adapter, user=user, history=history, profile=profile, scene=scene, split_by=split_by)
        row = self._prepare(request, items)
        at = iter(range(len(row.platform.text_of) - sum(map(described, items)), len(row.platform.text_of)))
        known = iter(row.platform.dataset.catalog.indices([id_of(item) for item in items if not described(item)]))
        chosen = np.array([next(at) if described(item) else next(known) for item in items], np.int32)
        if row.loaded.adapter.form == "cross_encoder":
            logits = score_pairs(self._pair_reader(row.loaded), row, told(row), chosen)
            return [float(value) for value in chance(logits)]
        reader, readings = self._read([row])
        candidates = describe(row.history, row.snapshot, Ragged.join([chosen]))
        logits = reader(row).score(readings[0], row.platform, candidates)[0]
        return [float(value) for value in chance(logits)]

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
        map_ = row.loaded.extras.get("item_map")  # a cross-encoder has none
        vectors = row.platform.vectors if map_ is None else unit(row.platform.vectors @ map_.numpy())
        cosine = (vectors @ vectors[row.platform.text_of[at]])[row.platform.text_of[:base]]
        if at < base:
            cosine[at] = -np.inf
        order = np.argsort(-cosine, kind="stable")[:k]
        return [(catalog.ids[int(index)], float(cosine[index])) for index in order if np.isfinite(cosine[index])]

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
        name, version = self._resolve(adapter)
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
        loaded = self._loaded(self._resolve(adapter)[1])
        if loaded.adapter.form == "cross_encoder":
            served = CrossRecommender(loaded.adapter, name=f"peftrec {self.precision}")
            served.reader = self._pair_reader(loaded)
            return served
        layers = mixed_layers(self._layers, [loaded.changes], first_layer=first_layer(self.backbone))
        served = AdapterRecommender(loaded.adapter, name=f"peftrec {self.precision}")
        served.reader = Reader(layers, loaded.extras, bf16=self.precision == "bf16")
        return served

    def _load(self, reference: str) -> Adapter:
        # It was found when the request began; that it was deleted since is no matter to this request.
        return load_adapter(self.registry.opened(*reference.split("@")), self.backbone)

    def _resolve(self, reference: str, user: str | None = None) -> tuple[str, str | None]:
        """Name and version that a reference means to a shopper; no version where the backbone serves a shop by itself."""
        alone = self._own is not None and reference in self._platforms
        # One look into one folder, however many adapters there are; the registry looks at all of them for its error.
        if alone and not os.path.isdir(self.registry.root / reference):
            return reference, None
        try:
            version = self.registry.open(reference, user=user)
        except AdapterNotFoundError as error:
            if "@" in reference or self._published(reference):
                raise
            if alone:
                return reference, None
            remedy = f"{error.remedy}; or {self._without_adapter(reference)}"
            raise AdapterNotFoundError(error.found, expected=error.expected, remedy=remedy) from error
        return version.name, version.reference

    def _published(self, name: str) -> bool:
        """Whether there is any version of an adapter: an alias that leads nowhere is no reason to serve something else."""
        try:
            self.registry.newest(name)
        except RegistryError as error:
            return not isinstance(error, AdapterNotFoundError)
        return True

    def _without_adapter(self, name: str) -> str:
        """What would let the backbone serve a platform itself."""
        if self._own is None:
            return "load a backbone that was adapted with peftrec.adapt: it serves platforms without an adapter"
        return f'engine.attach(dataset, adapter="{name}"), and the backbone serves it without an adapter'

    def _loaded(self, version: str | None) -> Loaded:
        """The adapter of a version, or what the backbone does without one."""
        return self._own if version is None and self._own is not None else self.slots.get(str(version))

    def _prepare(self, request: Request, items: Sequence[Product] = ()) -> Row:
        name, version = self._resolve(request.adapter, request.user if request.split_by is None else request.split_by)
        platform = self._platforms.get(name)
        if platform is None:
            raise RequestError(
                f"no platform is attached for the adapter {name!r}",
                expected=f"one of {', '.join(self._platforms) or 'none: nothing is attached yet'}",
                remedy=f'engine.attach(dataset, adapter="{name}")',
            )
        check_fits(request, platform.dataset)
        row = prepare(request, items, loaded=self._loaded(version), platform=platform)
        if request.rules is None:
            return row
        catalog = platform.dataset.catalog
        beyond = np.zeros(len(row.platform.text_of) - len(catalog), bool)  # what the request describes is not for sale
        return replace(row, allowed=np.concatenate([self._allowed(catalog, request.rules), beyond]))

    def _read(self, rows: Sequence[Row]):
        """Reads all shoppers of a batch at once; returns what scores one of them, and each one's reading."""
        from peftrec.serving.batch import Part, read_mixed

        def reader(row: Row) -> Reader:
            layers = mixed_layers(self._layers, [row.loaded.changes], first_layer=first_layer(self.backbone))
            return Reader(layers, row.loaded.extras, bf16=self.precision == "bf16")

        if not rows:
            return reader, list[Reading]()
        layers = mixed_layers(
            self._layers, [row.loaded.changes for row in rows], first_layer=first_layer(self.backbone)
        )
        batch = Reader(layers, stacked([row.loaded for row in rows]), bf16=self.precision == "bf16")
        parts = [
            Part(row.history, row.platform, row.snapshot, row.profile, row.scene, row.loaded.adapter.history)
            for row in rows
        ]
        return reader, read_mixed(batch, parts)

    @property
    def _layers(self) -> nn.ModuleList:
        return self._decoder  # pyright: ignore[reportReturnType]  # int8_linears returns what it was given
