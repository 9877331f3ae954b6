"""An adapter: everything one platform adds to the shared backbone, as plain arrays."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

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
from peftrec.model import extras as ops
from peftrec.model import forest
from peftrec.model.candidates import CandidateConfig
from peftrec.model.purchase import PurchaseModel
from peftrec.tuners import LoRAConfig, LowRank
from peftrec.tuners import lora as lora_tuner

if TYPE_CHECKING:
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
        """What its manifest tells of data, metrics, protocol, seed, privacy and versions."""
        ...


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter, or with :meth:`of_backbone` what a backbone that knows shopping does without one.

    Attributes:
        backbone: The backbone it was trained on. Not part of the files; they hold its fingerprints.
        config: The tuner's; None where there is no tuner, and ``low_rank`` is empty.
        low_rank: The tuner in neutral form, values that half precision can hold.
        extras: Event embeddings, feature maps and heads, see :mod:`peftrec.model.extras`.
        candidates: Products per source of the candidate generator.
        history: Longest history, in distinct products.
        scene: Whether the decoder reads a word about the moment and the channel.
        facts: What the manifest tells of data, metrics, protocol, seed and versions.
        learning_curve: The training log: dicts with ``step``, ``loss``, ``eval_loss``.
    """

    backbone: Backbone = field(repr=False)
    config: LoRAConfig | None
    low_rank: LowRank = field(repr=False)
    extras: Mapping[str, NDArray[np.float32]] = field(repr=False)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    history: int = 128
    scene: bool = False
    facts: Mapping[str, object] = field(default_factory=dict, repr=False)
    learning_curve: tuple[Mapping[str, float], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, model: PurchaseModel, backbone: Backbone, config: LoRAConfig, **settings: object) -> "Adapter":
        """Exports a trained model; what it holds is rounded to half precision, here as in the files.

        Args:
            model: With a tuner attached by :func:`peftrec.tuners.lora.attach`.
            backbone: The one it stands on.
            config: The tuner's.
            settings: Further attributes of the class.
        """
        low_rank = lora_tuner.export(model.decoder, config, first_layer=first_layer(backbone))
        extras = {name: _stored(name, value.detach().float().cpu().numpy()) for name, value in model.extras.items()}
        tensors = low_rank.to_peft(config.scale)
        return cls(
            backbone=backbone,
            config=config,
            low_rank=LowRank.from_peft({name: np.asarray(value) for name, value in tensors.items()}, config.scale),
            extras={name: value.astype(np.float32) for name, value in extras.items()},
            **settings,  # pyright: ignore[reportArgumentType]
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
        _check_shapes(shopping.extras, ops.shapes(backbone.hidden))
        extras = {name: np.require(value, np.float32, "W") for name, value in shopping.extras.items()}
        read = _reading(shopping.settings)
        return cls(backbone=backbone, config=None, low_rank=LowRank({}), extras=extras, **read)

    def model(self) -> PurchaseModel:
        """A fresh model with this adapter attached through peft, in evaluation mode."""
        decoder = self.backbone.decoder()
        if self.config is not None:
            lora_tuner.attach(decoder, self.config, seed=0)
            lora_tuner.load(decoder, self.low_rank, self.config, first_layer=first_layer(self.backbone))
        extras = {name: torch.from_numpy(np.array(value)) for name, value in self.extras.items()}
        return PurchaseModel(decoder, extras).eval()

    def recommender(self, *, precision: str | None = None, name: str = "peftrec") -> "AdapterRecommender":
        """This adapter as :func:`peftrec.evaluate` sees it, run in float arithmetic through peft's own modules."""
        from peftrec.model.scoring import AdapterRecommender  # it imports this module

        return AdapterRecommender(self, precision=precision, name=name)

    def with_facts(self, **facts: object) -> "Adapter":
        """The same adapter with more to tell in its manifest, such as metrics after an evaluation."""
        return replace(self, facts={**self.facts, **facts})

    def files(self) -> dict[str, bytes]:
        """The files of a version, by name; ``peft.PeftModel.from_pretrained`` opens the first two on a ``BertModel``.

        Raises:
            RegistryError: There is no tuner, see :meth:`of_backbone`: the backbone's own folder holds all there is.
        """
        if self.config is None:
            raise RegistryError(
                f"this adapter has no tuner: it is the backbone {self.backbone.name!r} itself",
                expected="a trained adapter",
                remedy="attach the platform to an engine, which serves it by the backbone as long as nothing is published"
                " under its name; or train an adapter and publish that",
            )
        config = lora_tuner.peft_config(
            self.config, first_layer=first_layer(self.backbone), layers=self.backbone.decoder_layers
        ).to_dict()
        config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        config["base_model_name_or_path"] = self.backbone.name
        # peft warns of fields that it does not know, so ours travel in the header of our own file.
        settings = {
            "tuner": self.config.describe(),
            "candidates": asdict(self.candidates),
            "history": self.history,
            "scene": self.scene,
            "numbers": numbers_digest(),
            "learning_curve": [dict(point) for point in self.learning_curve],
        }
        extras = {name: _stored(name, value) for name, value in self.extras.items()}
        return {
            CONFIG_FILE: json.dumps(config, indent=1, sort_keys=True, default=str).encode(),
            TUNER_FILE: save_tensors(dict(self.low_rank.to_peft(self.config.scale)), {"format": "pt"}),
            DECODER_FILE: save_tensors(extras, {"format": "pt", SETTINGS_KEY: json.dumps(settings)}),
        }

    def describe(self) -> dict[str, object]:
        """The manifest's fields that only the adapter knows."""
        return {
            "method": "none" if self.config is None else self.config.method,
            "base_model": self.backbone.name,
            "decoder_layers": self.backbone.decoder_layers,
            "ranks": self.low_rank.ranks,
            "fingerprints": {
                "backbone": self.backbone.fingerprint,
                "tokenizer": self.backbone.tokenizer_fingerprint,
                "template": self.backbone.template_fingerprint,
            },
            **self.facts,
        }

    @classmethod
    def load(cls, folder: Folder, backbone: Backbone) -> "Adapter":
        """Reads a published version; nothing is kept unless every tensor has the shape this backbone needs.

        Raises:
            CorruptAdapterError: A file is malformed.
            IncompatibleAdapterError: A tensor is missing, surplus or of another shape, all of them are named; or it was
                trained on other numbers about shoppers and products than this version of peftrec computes.
        """
        settings = _settings(folder.read(DECODER_FILE))
        config = settings["config"]
        tuner, extras = load_tensors(folder.read(TUNER_FILE)), load_tensors(folder.read(DECODER_FILE))
        _check_shapes({**tuner, **extras}, expected_shapes(backbone, config))
        values = {name: value.astype(np.float32) for name, value in extras.items()}
        if any(not np.isfinite(value).all() for value in (*values.values(), *tuner.values())):
            raise CorruptAdapterError(
                "a tensor holds values that are no numbers",
                expected="finite weights",
                remedy="train and publish the adapter again; do not serve this version",
            )
        if not forest.is_whole({name: torch.from_numpy(values[name]) for name in forest.SHAPES}, len(FEATURES)):
            raise CorruptAdapterError(
                "a tree of the forest leads to a node or a number that does not exist",
                expected="trees whose nodes stay within their tables",
                remedy="train and publish the adapter again; do not serve this version",
            )
        low_rank = LowRank.from_peft({name: np.asarray(value) for name, value in tuner.items()}, config.scale)
        return cls(backbone=backbone, low_rank=low_rank, extras=values, facts=folder.facts, **settings)


def numbers_digest() -> str:
    """sha256 of the names, in order, of all numbers that a model reads: weights mean nothing for others."""
    return hashlib.sha256(json.dumps([FEATURES, EVENT_FEATURES, ENTRIES]).encode()).hexdigest()


def first_layer(backbone: Backbone) -> int:
    """Number of the decoder's lowest layer within the whole BERT."""
    return backbone.layers - backbone.decoder_layers


def expected_shapes(backbone: Backbone, config: LoRAConfig | None) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that an adapter for this backbone holds, in both files."""
    shapes: dict[str, tuple[int, ...]] = dict(ops.shapes(backbone.hidden))
    for index in range(first_layer(backbone), backbone.layers):
        layer = backbone.bert.encoder.layer[index]
        for name in () if config is None else config.targets:
            path = lora_tuner.TARGETS[name]
            linear = layer.get_submodule(path)
            prefix = f"base_model.model.encoder.layer.{index}.{path}"
            shapes[f"{prefix}.lora_A.weight"] = (config.rank, linear.in_features)  # pyright: ignore
            shapes[f"{prefix}.lora_B.weight"] = (linear.out_features, config.rank)  # pyright: ignore
    return shapes


def _stored(name: str, value: NDArray[np.floating]) -> NDArray[np.floating]:
    return value.astype(np.float32 if name in ops.EXACT else np.float16)


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
    config: LoRAConfig
    learning_curve: tuple[Mapping[str, float], ...]


def _settings(content: bytes) -> _Settings:
    """Reads the settings from the header of the decoder's file: eight bytes of length, then JSON."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        settings = json.loads(header["__metadata__"][SETTINGS_KEY])
        tuner = {**settings["tuner"], "targets": tuple(settings["tuner"]["targets"])}
        numbers = settings["numbers"]
        found = _Settings(
            config=LoRAConfig(**tuner),
            **_reading(settings),
            learning_curve=tuple(map(dict, settings["learning_curve"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptAdapterError(
            f"{DECODER_FILE}: {error!r}",
            expected=f"a '{SETTINGS_KEY}' entry in the file's metadata with the settings and numbers of a training",
            remedy="publish the adapter again with peftrec, or restore the file",
        ) from error
    _check_numbers(numbers, "the adapter was trained on")
    return found


def _check_numbers(numbers: object, told: str) -> None:
    """Refuses weights for other numbers than :func:`numbers_digest` stands for."""
    if numbers != numbers_digest():
        raise IncompatibleAdapterError(
            f"{told} other numbers about shoppers and products than this peftrec computes",
            expected=f"names of features with the digest {numbers_digest()[:12]}, not {str(numbers)[:12]}",
            remedy="use the peftrec version that it was made with, or make it again with this one",
        )


def _check_shapes(tensors: Mapping[str, NDArray[np.generic]], expected: Mapping[str, tuple[int, ...]]) -> None:
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is not known" for name in tensors if name not in expected]
    problems += [
        f"{name} is {tensors[name].shape}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != tuple(shape)
    ]
    if problems:
        raise IncompatibleAdapterError(
            f"{len(problems)} tensors do not fit: {'; '.join(problems)}",
            expected="the tensors of an adapter trained on this backbone with this decoder depth",
            remedy="load the backbone and use the peftrec that the manifest names, or train the adapter again on these",
        )
