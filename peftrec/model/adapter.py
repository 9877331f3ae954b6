"""An adapter: everything one platform adds to the shared backbone, as plain arrays."""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from peftrec.backbone import Backbone
from peftrec.data.features import FEATURES
from peftrec.data.log import ENTRIES
from peftrec.data.tokens import EVENT_FEATURES
from peftrec.errors import ConfigError, CorruptAdapterError, IncompatibleAdapterError, RegistryError
from peftrec.halves import is_finite, to_single
from peftrec.model import cross, forest, microscaling
from peftrec.model import extras as ops
from peftrec.model.candidates import CandidateConfig
from peftrec.model.decoder import Layer
from peftrec.model.mixed import Mixture, mixed_layers, with_differences
from peftrec.model.purchase import PurchaseModel
from peftrec.model.shapes import Form, check_shapes, expected_shapes, first_layer
from peftrec.tuners import Arrays, Changes, Tuner, from_tensors, to_tensors, tuner_of

if TYPE_CHECKING:
    from peftrec.model.cross_scoring import CrossRecommender
    from peftrec.model.scoring import AdapterRecommender

CONFIG_FILE, TUNER_FILE, DECODER_FILE = "adapter_config.json", "adapter_model.safetensors", "decoder.safetensors"
SETTINGS_KEY = "peftrec"


class Folder(Protocol):
    """Reads the files of one published version; the registry's ``Version`` is one."""

    def read(self, file: str) -> bytes:
        """The content of a file, its digest checked."""
        ...

    @property
    def facts(self) -> Mapping[str, object]:
        """What its manifest tells beside how to load it: data, metrics, learning curve, versions and so on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter, or with :meth:`of_backbone` what a backbone that knows shopping does without one.

    Attributes:
        backbone: The backbone it was trained on. Not part of the files; they hold its fingerprints.
        config: The tuner's; None where there is no tuner, and ``changes`` are empty.
        changes: The tuner in neutral form, values that half precision can hold.
        extras: Event embeddings, feature maps and heads, see :mod:`peftrec.model.extras`; or those of the other form.
        candidates: Products per source of the candidate generator.
        history: Longest history, in distinct products.
        scene: Whether the decoder reads a word about the moment and the channel.
        silent: Whether it reads no statistics of the platform's products, since it was trained on too few rows to know what
            they mean. Shoppers without a past get what is popular all the same, since nothing else is known of them.
        form: What the tuner stands on: ``decoder``, or ``cross_encoder``, see :mod:`peftrec.model.cross`.
        words: Of a cross-encoder's sentence at most.
        facts: What the manifest tells of data, metrics, protocol, seed and versions.
        learning_curve: The training log: dicts with ``step``, ``loss``, ``eval_loss``.
    """

    backbone: Backbone = field(repr=False)
    config: Tuner | None
    changes: Arrays = field(repr=False)
    extras: Mapping[str, NDArray[np.float32]] = field(repr=False)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    history: int = 128
    scene: bool = False
    silent: bool = False
    form: Form = "decoder"
    words: int = cross.WORDS
    facts: Mapping[str, object] = field(default_factory=dict, repr=False)
    learning_curve: tuple[Mapping[str, float], ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        model: PurchaseModel | cross.CrossEncoder,
        backbone: Backbone,
        config: Tuner,
        changes: Arrays,
        **settings: object,
    ) -> "Adapter":
        """Exports a trained model, see :meth:`rounded`.

        Args:
            model: Its extras are taken over.
            backbone: The one it stands on.
            config: The tuner's.
            changes: What :attr:`peftrec.tuners.Attached.export` read off the model's decoder.
            settings: Further attributes of the class.
        """
        extras = {name: value.detach().float().cpu().numpy() for name, value in model.extras.items()}
        exported = cls(backbone=backbone, config=config, changes=changes, extras=extras, **settings)  # pyright: ignore[reportArgumentType]
        return exported.rounded()

    def rounded(self) -> "Adapter":
        """What files and an engine's memory hold of it without loss: half precision, and of large matrices a byte a value.

        So what was evaluated is what is served.

        Raises:
            RegistryError: It has no tuner, see :meth:`of_backbone`.
        """
        config = self._tuner()
        tensors = to_tensors(self.changes, config.scale)
        if config.servable:
            tensors = {name: _for_bytes(value) for name, value in tensors.items()}
        extras = {name: _stored(name, value) for name, value in self.extras.items()}
        whole = (*ops.FIXED, *ops.NEAR_IDENTITY)
        extras = {name: value if name in whole else _for_bytes(value) for name, value in extras.items()}
        return replace(
            self,
            changes=_read_changes(tensors, config),
            extras={name: value.astype(np.float32) for name, value in extras.items()},
        )

    @classmethod
    def of_backbone(cls, backbone: Backbone) -> "Adapter":
        """What an adapted backbone serves any platform with, as an adapter without a tuner. It cannot be published.

        Raises:
            ConfigError: The backbone knows nothing of shopping.
            IncompatibleAdapterError: It was adapted to other numbers about shoppers and products than this version of
                peftrec computes, or a matrix is missing, surplus or of another shape.
        """
        shopping = backbone.shopping
        if shopping is None:
            raise ConfigError(
                f"the backbone {backbone.name!r} knows nothing of shopping",
                expected="a backbone that was adapted to shopping, which serves platforms without an adapter",
                remedy="adapt it once with peftrec.adapt(backbone, datasets, folder=...), or train an adapter",
            )
        _check_numbers(shopping.settings.get("numbers"), f"the backbone {backbone.name!r} was adapted to")
        told = ops.completed(shopping.extras)
        check_shapes(told, ops.shapes(backbone.hidden))
        extras = {name: np.require(value, np.float32, "W") for name, value in told.items()}
        read = _reading(shopping.settings)
        return cls(backbone=backbone, config=None, changes=Changes(), extras=extras, **read)

    def layers(self) -> list[Layer]:
        """Fresh layers with this adapter's changes, for :class:`peftrec.model.scoring.Reader` or a ``PairReader``."""
        first, changes, backbone = first_layer(self.backbone), self.changes.map(torch.as_tensor), self.backbone
        layers = backbone.decoder() if self.form == "decoder" else backbone.upper_layers()
        return mixed_layers(
            with_differences(layers, changes, first_layer=first), Mixture.of([changes]), first_layer=first
        )

    def recommender(
        self, *, precision: str | None = None, name: str = "peftrec"
    ) -> "AdapterRecommender | CrossRecommender":
        """This adapter as :func:`peftrec.evaluate` sees it, run in float arithmetic."""
        # Both import this module.
        from peftrec.model.cross_scoring import CrossRecommender
        from peftrec.model.scoring import AdapterRecommender

        kind = AdapterRecommender if self.form == "decoder" else CrossRecommender
        return kind(self, precision=precision, name=name)

    def with_facts(self, **facts: object) -> "Adapter":
        """The same adapter with more to tell in its manifest, such as metrics after an evaluation."""
        return replace(self, facts={**self.facts, **facts})

    def files(self) -> dict[str, bytes]:
        """The files of a version, by name; ``peft.PeftModel.from_pretrained`` opens the first two on a ``BertModel``.

        Raises:
            RegistryError: There is no tuner, see :meth:`of_backbone`: the backbone's own folder holds all there is.
        """
        tuner = self._tuner()
        config = tuner.config_file(self.changes, self.backbone.name)
        # peft warns of fields that it does not know, so ours travel in the header of our own file.
        settings = {
            "tuner": {"method": tuner.method, **tuner.describe()},
            "ranks": self.changes.ranks,
            "candidates": asdict(self.candidates),
            "history": self.history,
            "scene": self.scene,
            "silent": self.silent,
            "form": self.form,
            "words": self.words,
            "numbers": numbers_digest(),
            "learning_curve": [dict(point) for point in self.learning_curve],
        }
        untold = () if self.candidates.newcomers else ops.OPTIONAL
        extras = {name: _stored(name, value) for name, value in self.extras.items() if name not in untold}
        return {
            CONFIG_FILE: json.dumps(config, indent=1, sort_keys=True, default=str).encode(),
            TUNER_FILE: save_tensors(dict(to_tensors(self.changes, tuner.scale)), {"format": "pt"}),
            DECODER_FILE: save_tensors(extras, {"format": "pt", SETTINGS_KEY: json.dumps(settings)}),
        }

    def _tuner(self) -> Tuner:
        if self.config is None:
            raise RegistryError(
                f"this adapter has no tuner: it is the backbone {self.backbone.name!r} itself",
                expected="a trained adapter",
                remedy="attach the platform to an engine, which serves it by the backbone as long as nothing is published"
                " under its name; or train an adapter and publish that",
            )
        return self.config

    def describe(self) -> dict[str, object]:
        """The manifest's fields that only the adapter knows."""
        method = "none" if self.config is None else self.config.method
        # Of a version whose manifest had no learning curve yet, the file of the decoder does.
        curve = self.facts.get("learning_curve") or [_finite(point) for point in self.learning_curve]
        return {
            "method": method if self.form == "decoder" else f"{method} (cross-encoder)",
            "base_model": self.backbone.name,
            "decoder_layers": self.backbone.decoder_layers,
            "ranks": self.changes.ranks,
            "fingerprints": {
                "backbone": self.backbone.fingerprint,
                "tokenizer": self.backbone.tokenizer_fingerprint,
                "template": self.backbone.template_fingerprint,
            },
            **self.facts,
            "learning_curve": curve,
        }

    @classmethod
    def load(cls, folder: Folder, backbone: Backbone, *, stored: bool = False) -> "Adapter":
        """Reads a published version; nothing is kept unless every tensor has the shape this backbone needs.

        Args:
            folder: Of the version.
            backbone: That it was trained on.
            stored: Leave arrays in the precision that the files have them in, mostly half; else all are single.

        Raises:
            CorruptAdapterError: A file is malformed.
            IncompatibleAdapterError: A tensor is missing, surplus or of another shape, all of them are named; or it was
                trained on other numbers about shoppers and products than this version of peftrec computes.
        """
        decoder = folder.read(DECODER_FILE)
        settings, ranks = _settings(decoder)
        config, form, words = settings["config"], settings["form"], settings["words"]
        if not cross.LEAST_WORDS <= words <= backbone.bert.config.max_position_embeddings and form == "cross_encoder":
            raise CorruptAdapterError(
                f"{DECODER_FILE}: sentences of {words} words",
                expected=f"{cross.LEAST_WORDS} to {backbone.bert.config.max_position_embeddings}, as this BERT reads them",
                remedy="restore the file, or train and publish the adapter again",
            )
        tuner, extras = load_tensors(folder.read(TUNER_FILE)), load_tensors(decoder)
        shapes = expected_shapes(backbone, config, ranks, form=form, newcomers=settings["candidates"].newcomers > 0)
        check_shapes({**tuner, **extras}, shapes)
        if not all(map(is_finite, (*extras.values(), *tuner.values()))):
            raise CorruptAdapterError(
                "a tensor holds values that are no numbers",
                expected="finite weights",
                remedy="train and publish the adapter again; do not serve this version",
            )
        if form == "decoder" and not forest.is_whole(extras, len(FEATURES)):
            raise CorruptAdapterError(
                "a tree of the forest leads to a node or a number that does not exist",
                expected="trees whose nodes stay within their tables",
                remedy="train and publish the adapter again; do not serve this version",
            )
        extras = ops.completed(extras) if form == "decoder" else extras
        # A file gives its tensors in another order at each reading; adapters in the same one are put together at once.
        tuner, extras = dict(sorted(tuner.items())), dict(sorted(extras.items()))
        values = extras if stored else {name: to_single(value) for name, value in extras.items()}
        changes = _read_changes(tuner, config, stored=stored)
        return cls(backbone=backbone, changes=changes, extras=values, facts=folder.facts, **settings)


def _finite(point: Mapping[str, float]) -> dict[str, float]:
    """An entry of a training log as a manifest may hold it: a loss that overflowed is left out."""
    return {name: value for name, value in point.items() if np.isfinite(value)}


@functools.cache
def numbers_digest() -> str:
    """sha256 of the names, in order, of all numbers that a model reads: weights mean nothing for others."""
    return hashlib.sha256(json.dumps([FEATURES, EVENT_FEATURES, ENTRIES]).encode()).hexdigest()


def _read_changes(tensors: Mapping[str, NDArray[np.floating]], config: Tuner, *, stored: bool = False) -> Arrays:
    return from_tensors(tensors, config.scale, activation=config.activation, stored=stored)


def _stored(name: str, value: NDArray[np.floating]) -> NDArray[np.floating]:
    if name == "forest_threshold":
        return forest.thresholds_in_half(value)
    return value.astype(np.float32 if name in ops.EXACT else np.float16)


def _for_bytes(value: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of a matrix, the nearest one that an engine can hold in bytes."""
    return microscaling.rounded(value.astype(np.float32)).astype(value.dtype) if microscaling.fits(value) else value


class _Reading(TypedDict):
    candidates: CandidateConfig
    history: int
    scene: bool


def _reading(settings: Mapping[str, Any]) -> _Reading:
    """How shoppers are read and what is named for them, from plain values."""
    return _Reading(
        candidates=CandidateConfig(**settings["candidates"]),
        history=int(settings["history"]),
        scene=bool(settings.get("scene", False)),
    )


class _Settings(_Reading):
    config: Tuner
    silent: bool
    form: Form
    words: int
    learning_curve: tuple[Mapping[str, float], ...]


def _settings(content: bytes) -> tuple[_Settings, dict[str, int]]:
    """Reads settings and ranks from the header of the decoder's file: eight bytes of length, then JSON."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        settings = json.loads(header["__metadata__"][SETTINGS_KEY])
        numbers = settings["numbers"]
        ranks = {str(name): int(rank) for name, rank in settings.get("ranks", {}).items()}
        form = settings.get("form", "decoder")
        if form not in get_args(Form):
            raise ValueError(f"form {form!r}")
        found = _Settings(
            config=tuner_of(settings["tuner"]),
            **_reading(settings),
            silent=bool(settings.get("silent", False)),
            form=form,
            words=int(settings.get("words", cross.WORDS)),
            learning_curve=tuple(map(dict, settings["learning_curve"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, ConfigError) as error:
        raise CorruptAdapterError(
            f"{DECODER_FILE}: {error!r}",
            expected=f"a '{SETTINGS_KEY}' entry in the file's metadata with the settings and numbers of a training",
            remedy="publish the adapter again with peftrec, or restore the file",
        ) from error
    if form == "decoder":  # the other one reads no numbers
        _check_numbers(numbers, "the adapter was trained on")
    return found, ranks


def _check_numbers(numbers: object, told: str) -> None:
    """Refuses weights for other numbers than :func:`numbers_digest` stands for."""
    if numbers != numbers_digest():
        raise IncompatibleAdapterError(
            f"{told} other numbers about shoppers and products than this peftrec computes",
            expected=f"names of features with the digest {numbers_digest()[:12]}, not {str(numbers)[:12]}",
            remedy="use the peftrec version that it was made with, or make it again with this one",
        )
