"""Adapting a backbone, once, to the products and the shoppers of all platforms."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from peftrec.adaptation.config import LanguageConfig
from peftrec.adaptation.language import adapt_language
from peftrec.adaptation.shopping import ShoppingConfig, adapt_shopping, check_shoppers
from peftrec.backbone import Backbone, refuse_occupied
from peftrec.backbone.fingerprint import weights_fingerprint
from peftrec.backbone.saving import FACTS_FILE, remove_unfinished
from peftrec.data.dataset import Dataset
from peftrec.errors import ConfigError, NotEnoughDataError
from peftrec.model.adapter import numbers_digest
from peftrec.training import parallel
from peftrec.training.train import data_facts, versions
from peftrec.training.workspace import claim, discard, is_of, workspace

ENCODER = "encoder"
"""Folder, beside the checkpoints, of the backbone between the two stages."""

LEFT = ENCODER, f".{ENCODER}.*.new"
"""What an adaptation leaves beside its checkpoints; the second where a kill fell into the writing of the first."""


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Settings of :func:`peftrec.adapt`.

    Attributes:
        language: Of the stage that reads product texts; ``None`` leaves the encoder as it is.
        shopping: Of the stage that reads shoppers; ``None`` leaves the decoder to be the encoder's upper layers.
    """

    language: LanguageConfig | None = field(default_factory=LanguageConfig)
    shopping: ShoppingConfig | None = field(default_factory=ShoppingConfig)

    def __post_init__(self) -> None:
        if self.language is None and self.shopping is None:
            raise ConfigError(
                "language=None and shopping=None",
                expected="at least one stage",
                remedy="leave one of them at its default",
            )


def adapt(
    backbone: Backbone,
    datasets: Sequence[Dataset],
    config: AdaptConfig | None = None,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Backbone:
    """Takes a backbone to the world of products and shoppers; the one that is given stays as it is.

    First the whole BERT learns the language of the platforms' products (:func:`adapt_language`), then the decoder, whole,
    learns shopping on their pooled logs (:func:`adapt_shopping`). The result is frozen for good: adapters of any platform
    start from it, and a platform that it has never seen is served without one.

    Args:
        backbone: Any BERT, or one that was adapted before.
        datasets: The platforms, each cut where its test window begins (:meth:`Dataset.split`); their names differ.
        config: See :class:`AdaptConfig`.
        folder: Where the result is saved (:meth:`Backbone.save`); it is only returned when left out. Checkpoints are kept
            beside it, in ``<folder>.work``, until it is there.
        resume: Continue from the checkpoints of the very same adaptation, if there are any; the result is the same as if
            it had never been interrupted. Where the folder holds that adaptation's result already, it is loaded.
        progress: Show bars.

    Returns:
        The adapted backbone; the same for the same data, settings and seed on the same machine.

    Raises:
        NotEnoughDataError: No platforms, or one with too few texts or shoppers.
        ConfigError: Two platforms have the same name, the checkpoints or the folder are those of another adaptation, or
            ``torchrun`` started several processes.
        TrainingError: A loss or gradient became no number, a checkpoint could not be written, or another process adapts
            into the same folder.
        BackboneWriteError: There is something else in the folder's place, or the disk is full or read-only.
    """
    parallel.refuse("adapt()")
    config = config or AdaptConfig()
    _check(datasets, config)
    backbone.check_float()
    digest = _run_digest(backbone, datasets, config)
    start = replace(backbone, origin=_origin(backbone, datasets, digest))
    if folder is None:
        with workspace(None) as checkpoints:
            return _adapted(start, datasets, config, checkpoints, resume=False, progress=progress)
    place = Path(folder).expanduser().resolve()
    work = place.with_name(f"{place.name}.work")
    if resume and (place / FACTS_FILE).is_file():
        return _finished(start, place, work)
    refuse_occupied(place)
    with workspace(work) as checkpoints:
        claim(checkpoints, digest, resume=resume)
        found = _adapted(start, datasets, config, checkpoints, resume=resume, progress=progress)
        found = replace(found, name=place.name)
        remove_unfinished(place)
        found.save(place)
        discard(checkpoints, *LEFT)
    return found


def _adapted(
    start: Backbone,
    datasets: Sequence[Dataset],
    config: AdaptConfig,
    work: Path,
    *,
    resume: bool,
    progress: bool,
) -> Backbone:
    found = start
    if config.language is not None:
        found = _language(found, datasets, config.language, work, resume=resume, progress=progress)
    if config.shopping is not None:
        found = _shopping(found, datasets, config.shopping, work, resume=resume, progress=progress)
    return found


def _language(
    start: Backbone,
    datasets: Sequence[Dataset],
    config: LanguageConfig,
    work: Path,
    *,
    resume: bool,
    progress: bool,
) -> Backbone:
    if resume and (work / ENCODER / FACTS_FILE).is_file():
        done = _again(start, work / ENCODER)
        if done.origin.get("run") == start.origin["run"]:
            return done
    result = adapt_language(start, datasets, config, folder=work, resume=resume, progress=progress)
    stage = {"stage": "language", "objectives": asdict(config), "steps": result.steps, "log": _last(result.history)}
    # A decoder of its own has read other vectors: it is dropped, and the shopping stage makes a new one.
    adapted = replace(
        start,
        name=f"{start.name}-adapted",
        bert=result.bert,
        encoder_fingerprint=weights_fingerprint(result.bert),
        shopping=None,
        origin={**start.origin, "stages": [stage]},
    )
    shutil.rmtree(work / ENCODER, ignore_errors=True)
    adapted.save(work / ENCODER)
    return adapted


def _again(start: Backbone, folder: Path) -> Backbone:
    """What was saved in a folder, as if it had just been made of ``start``."""
    return Backbone.load(folder, decoder_layers=start.decoder_layers).to(start.device)


def _shopping(
    backbone: Backbone,
    datasets: Sequence[Dataset],
    config: ShoppingConfig,
    work: Path,
    *,
    resume: bool,
    progress: bool,
) -> Backbone:
    result = adapt_shopping(backbone, datasets, config, folder=work, resume=resume, progress=progress)
    stage = {"stage": "shopping", "objectives": _told(config), "steps": result.steps, "log": _last(result.curve)}
    before = backbone.origin.get("stages", [])
    stages = [*before, stage] if isinstance(before, list) else [stage]
    return replace(backbone, shopping=result.shopping, origin={**backbone.origin, "stages": stages})


def _origin(backbone: Backbone, datasets: Sequence[Dataset], digest: str) -> dict[str, object]:
    parent = {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "tokenizer": backbone.tokenizer_fingerprint,
        "origin": dict(backbone.origin),
    }
    return {
        "parents": [parent],
        "data": [{**data_facts(dataset), "sample": dataset.catalog.sample} for dataset in datasets],
        "run": digest,
        "versions": versions(),
        "stages": [],
    }


def _told(config: ShoppingConfig) -> dict[str, object]:
    """The settings as plain values; an augmentation, which may hold a dictionary or a model, in words."""
    augmentation = config.training.augmentation
    told = asdict(replace(config, training=replace(config.training, augmentation=None)))
    told = json.loads(json.dumps(told))  # as a file gives it back: lists for tuples
    told["training"]["augmentation"] = None if augmentation is None else repr(augmentation)
    return told


def _last(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The last value of every loss that was logged; those that stand for the whole run differ where it was resumed."""
    found: dict[str, float] = {}
    for entry in history:
        found |= {name: float(value) for name, value in entry.items() if name == "loss" or name.startswith("eval_")}
    return {name: value for name, value in found.items() if not name.endswith(("_per_second", "_runtime"))}


def _run_digest(backbone: Backbone, datasets: Sequence[Dataset], config: AdaptConfig) -> str:
    """sha256 of all that decides what an adaptation ends in."""
    parts = [
        backbone.fingerprint,
        backbone.tokenizer_fingerprint,
        backbone.template_fingerprint,
        numbers_digest(),
        *(f"{dataset.name} {dataset.digest}" for dataset in datasets),
        repr(config),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _finished(start: Backbone, place: Path, work: Path) -> Backbone:
    found, digest = _again(start, place), str(start.origin["run"])
    if found.origin.get("run") != digest:
        raise ConfigError(
            f"{place} holds another backbone",
            expected="the result of the very same adaptation: data, backbone, settings and seed",
            remedy="name another folder",
        )
    if is_of(work, digest):  # a kill came between the result and the end
        with workspace(work) as checkpoints:
            discard(checkpoints, *LEFT)
    return found


def _check(datasets: Sequence[Dataset], config: AdaptConfig) -> None:
    names = [dataset.name for dataset in datasets]
    if not names:
        raise NotEnoughDataError(
            "no platforms to adapt the backbone on", expected="at least one data set", remedy="pass datasets=[shop, …]"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"two platforms are named '{twice[0]}'",
            expected="platforms of different names",
            remedy="rename one: dataclasses.replace(dataset, name=...), on the command line --platform ALIAS:NAME=PATH",
        )
    for dataset in datasets if config.shopping is not None else ():
        check_shoppers(dataset, config.shopping)
