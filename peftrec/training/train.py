"""Training one adapter, from a platform's log to neutral arrays."""

import hashlib
import platform as machine
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from peftrec.backbone import Backbone
from peftrec.data.dataset import Dataset
from peftrec.model import extras as ops
from peftrec.model.adapter import Adapter, numbers_digest
from peftrec.model.extras import Extras
from peftrec.model.platform import Platform
from peftrec.model.purchase import PurchaseModel
from peftrec.model.shapes import first_layer
from peftrec.training import parallel
from peftrec.training.augmenting import text_variants
from peftrec.training.checks import check_candidates, check_log
from peftrec.training.config import TrainConfig
from peftrec.training.feature_path import events_of, fit_feature_path, labelled_of
from peftrec.training.inherited import adjust, is_young
from peftrec.training.newcomers import learn_newcomers
from peftrec.training.objectives import check_tasks
from peftrec.training.platform_rows import PlatformRows, candidates_bar
from peftrec.training.reporting import check_report_to
from peftrec.training.rows import RowDataset
from peftrec.training.stages import DecoderStage
from peftrec.training.trainer import DECODER, RetrievalRows, attach, run_tuned, train_retrieval
from peftrec.training.workspace import claim, workspace
from peftrec.tuners import Arrays, LoRAConfig, Tuner

KEPT = ("step", "loss", "eval_loss")
"""What an adapter keeps of each entry of the log."""


def train_adapter(
    dataset: Dataset,
    backbone: Backbone,
    tuner: Tuner | None = None,
    config: TrainConfig | None = None,
    *,
    start: Arrays | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Adapter:
    """Trains a platform's adapter on everything its log holds; the backbone stays as it is.

    Shoppers are read at several moments of the past; the label of a candidate is whether it was bought within the horizon
    after that moment. The retrieval map is fitted first, then forest and feature network, then tuner and decoder extras
    on top of them. That last stage leaves some shoppers out, stops early on their last horizon of the log, and keeps its
    best state.

    Args:
        dataset: The platform; evaluate on what comes after it (:meth:`Dataset.split`).
        backbone: Frozen.
        tuner: ``LoRAConfig``, ``AdaLoRAConfig``, ``BottleneckConfig``, or a reference to compare with; LoRA of rank 16 when left
            out.
        config: See :class:`TrainConfig`.
        start: Values that the tuner begins with, such as those of :func:`peftrec.tuners.import_peft` or an adapter's
            ``changes``, instead of fresh ones that change nothing.
        folder: Keeps checkpoints here; a temporary folder when left out.
        resume: Continue from the checkpoints in ``folder``, if there are any; else they are removed.
        progress: Show bars.

    Returns:
        The adapter; the same for the same data, settings and seed on the same machine.

    Raises:
        NotEnoughDataError: Too few shoppers with a history and a later purchase.
        TrainingError: The log says nothing about an auxiliary task, no candidate was bought or all were, a number about them is
            none, no gradient but zero, a loss became no number, AdaLoRA took no rank, a checkpoint could not be written,
            or another training is at work in ``folder``.
        ConfigError: A setting cannot work, or ``folder`` holds the checkpoints of another training.
    """
    parallel.join()
    check_log(dataset)
    backbone.check_float()
    progress = progress and parallel.is_first()
    tuner, config = tuner or LoRAConfig(), (config or TrainConfig()).on(dataset)
    parallel.share(config.batch_size)  # before anything takes long
    check_report_to(config.report_to, kept=folder is not None)
    check_tasks(config.auxiliary, dataset.log, dataset=dataset.name)
    with workspace(folder) as place:
        claim(place, run_digest(dataset, backbone, tuner, start, config), resume=resume)
        source = PlatformRows.for_adapter(Platform.of(dataset, backbone, progress=progress), config)
        # Tried on a decoder of its own: what does not fit is told before numbers are fitted for minutes.
        attach(tuner, backbone.decoder(), config, rows=source.count, start=start, first_layer=first_layer(backbone))
        prepared = prepare(source, backbone, folder=place, progress=progress)
        return tune(prepared, backbone, tuner, start=start, folder=place, resume=resume, progress=progress)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A platform whose retrieval and numbers are fitted: all that comes before the decoder, and is the same for all tuners.

    Attributes:
        source: The platform's rows.
        extras: What decoder and tuner are trained on top of.
        train: With candidates.
        validation: The latest rows of shoppers held out.
    """

    source: PlatformRows
    extras: dict[str, torch.Tensor]
    train: RowDataset
    validation: RowDataset


def prepare(source: PlatformRows, backbone: Backbone, *, folder: Path, progress: bool = True) -> Prepared:
    """Fits the retrieval map and the feature path, and names candidates as serving would."""
    config, platform = source.config, source.platform
    model = PurchaseModel(backbone.decoder(), starting_extras(backbone, seed=config.seed))
    train_retrieval(model, RetrievalRows(source.rows(source.parts)), config, folder=folder, progress=progress)
    choose_popularity(model.extras, source)
    with candidates_bar(source.shoppers, show=progress) as bar:
        offered = source.offered(model.extras, bar)
    check_candidates(offered, platform=platform.dataset.name)
    if config.candidates.newcomers:
        offered = learn_newcomers(model, platform, offered)
    variants = text_variants(platform, backbone, config.augmentation, source.rng, progress=progress)
    if backbone.shopping is not None and is_young(offered):
        adjust(model, offered, config)
    else:
        # Passed on without a name here: what is fitted lets go of half a gigabyte of numbers as soon as it can.
        fit_feature_path(
            model,
            labelled_of(offered),
            events_of(offered),
            config,
            source.rng,
            folder=folder,
            progress=progress,
        )
    extras = {name: value.detach().clone() for name, value in model.extras.items()}
    return Prepared(source, extras, source.rows(offered, variants=variants), source.validation(offered))


def tune(
    prepared: Prepared,
    backbone: Backbone,
    tuner: Tuner,
    *,
    start: Arrays | None = None,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
) -> Adapter:
    """Trains tuner and decoder extras on top of what is prepared, which stays as it is."""
    config, decoder = prepared.source.config, backbone.decoder()
    attached = attach(tuner, decoder, config, rows=len(prepared.train), start=start, first_layer=first_layer(backbone))
    model = PurchaseModel(decoder, prepared.extras)
    log = run_tuned(
        DecoderStage(model, config, attached),
        attached,
        prepared.train,
        prepared.validation,
        config,
        name=DECODER,
        learning_rate=tuner.learning_rate,
        folder=folder,
        resume=resume,
        progress=progress,
    )
    return Adapter.of(
        model,
        backbone,
        tuner,
        attached.export(first_layer(backbone)),
        candidates=config.candidates,
        history=config.history,
        scene=config.scene,
        silent=prepared.source.silent,
        facts={"data": data_facts(prepared.source.platform.dataset), "seed": config.seed, "versions": versions()},
        learning_curve=curve_of(log),
    )


def curve_of(log: Sequence[Mapping[str, float]]) -> tuple[Mapping[str, float], ...]:
    """What an adapter keeps of a training's log."""
    return tuple({name: point[name] for name in KEPT if name in point} for point in log)


def run_digest(dataset: Dataset, backbone: Backbone, tuner: Tuner, start: Arrays | None, config: object) -> str:
    """sha256 of all that decides what a training ends in."""
    begun = hashlib.sha256(b"".join(array.tobytes() for array in start.arrays())).hexdigest() if start else ""
    parts = [
        dataset.digest,
        backbone.fingerprint,
        backbone.template_fingerprint,
        numbers_digest(),
        repr(tuner),
        begun,
        repr(config),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def starting_extras(backbone: Backbone, *, seed: int) -> dict[str, torch.Tensor]:
    """What training starts from: what the backbone has learned about shopping, where it has, else :func:`ops.initial`."""
    if backbone.shopping is not None:
        extras = Adapter.of_backbone(backbone).extras  # checked
        return {name: torch.from_numpy(np.array(value)) for name, value in extras.items()}
    generator = torch.Generator().manual_seed(seed)
    return ops.initial(backbone.hidden, gain=_input_length(backbone), generator=generator)


def _input_length(backbone: Backbone) -> float:
    """Usual length of a word where the decoder begins: what layer normalisation makes of any vector."""
    lowest = first_layer(backbone)
    norm = backbone.bert.encoder.layer[lowest - 1].output.LayerNorm if lowest else backbone.bert.embeddings.LayerNorm
    return float((norm.weight.pow(2).sum() + norm.bias.pow(2).sum()).sqrt())


def choose_popularity(extras: nn.ParameterDict, source: PlatformRows, *, reads: Extras | None = None) -> None:
    """Sets the weight of log popularity that finds most first purchases of held-out shoppers; it stays if none does.

    Args:
        extras: Whose weight is set.
        source: The platform's rows.
        reads: What retrieval reads, where ``extras`` do not hold it.
    """
    now = float(extras["popularity"].detach())
    found = source.popularity_hits(extras if reads is None else reads)
    extras["popularity"].data.fill_(max((now, *found), key=lambda beta: found.get(beta, 0)))


def data_facts(dataset: Dataset) -> dict[str, object]:
    """What a manifest tells of the data that something was trained on; of a catalogue alone, language can be learned."""
    source, promotions, log = dataset.source, dataset.promotion_log, dataset.log
    return {
        "dataset": dataset.name,
        "source": source.name if source else "not stated",
        "licence": source.licence if source else "not stated",
        "note": source.note if source else "",
        "digest": dataset.digest,
        "start": dataset.start.isoformat() if len(log) else None,
        "end": dataset.end.isoformat() if len(log) else None,
        "shoppers": len(np.unique(log.user)),
        "products": len(dataset.catalog),
        "events": len(dataset.events),
        "promotions": len(promotions.known(float(log.time[-1])).item) if promotions is not None and len(log) else 0,
        "cleaning": None if dataset.report is None else dataset.report.to_dict(),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide what a training ends in."""
    names = ("peftrec", "torch", "transformers", "peft", "safetensors", "numpy")
    return {"python": machine.python_version(), **{name: version(name) for name in names}}
