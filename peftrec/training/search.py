"""Searching settings of the decoder's stage with Optuna, through the search of ``transformers.Trainer``."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import Trainer
from transformers.trainer_utils import BestRun

from peftrec.backbone import Backbone
from peftrec.errors import ConfigError, MissingExtraError
from peftrec.model.purchase import PurchaseModel
from peftrec.model.shapes import first_layer
from peftrec.training.callbacks import Guard, show
from peftrec.training.checkpoints import KeepingTrainer
from peftrec.training.config import TrainConfig
from peftrec.training.platform_rows import PlatformRows
from peftrec.training.stages import DecoderStage
from peftrec.training.train import Prepared
from peftrec.training.trainer import arguments, attach, steps_of
from peftrec.tuners import Tuner

if TYPE_CHECKING:
    import optuna

SEARCHED = frozenset(
    {
        "learning_rate",
        "weight_decay",
        "clip_norm",
        "label_smoothing",
        "feature_drop",
        "adversarial",
        "listwise_weight",
        "retrieval_weight",
        "auxiliary_weighting",
    }
)
"""Settings of ``TrainConfig`` that a trial may choose: those that what is prepared does not depend on."""

STUDY = "decoder"

Suggest = Callable[["optuna.Trial"], tuple[Tuner, dict[str, Any]]]


@dataclass(frozen=True)
class Found:
    """The best of a search.

    Attributes:
        tuner: Its settings.
        config: Those of the training.
        loss: On the shoppers held out, at the end of the trial.
        trials: Settings and loss of each trial, as Optuna names them, in their order.
    """

    tuner: Tuner
    config: TrainConfig
    loss: float
    trials: tuple[tuple[dict[str, Any], float], ...]


def search(
    prepared: Prepared, backbone: Backbone, suggest: Suggest, *, trials: int = 20, progress: bool = True
) -> Found:
    """Trains the decoder's stage again and again, each time with other settings.

    Shoppers held out from the past decide, so that no test window is looked at::

        def suggest(trial):
            tuner = LoRAConfig(rank=trial.suggest_categorical("rank", [4, 8, 16]))
            return tuner, {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 2e-3, log=True)}

    Args:
        prepared: From :func:`peftrec.training.train.prepare`; retrieval and numbers are fitted once for all trials.
        backbone: The one it was prepared with.
        suggest: Chooses a tuner and settings out of :data:`SEARCHED` for a trial.
        trials: How many.
        progress: Show a bar for each.

    Raises:
        MissingExtraError: Optuna is not installed.
        ConfigError: Nobody is held out, a trial chooses a setting that cannot be searched, or a tuner that takes part in the
            training's steps, such as AdaLoRA.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "a search of settings without Optuna", expected="the package optuna", remedy="pip install optuna"
        ) from error
    backbone.check_float()
    if not len(prepared.validation):
        raise ConfigError(
            "a search without shoppers held out",
            expected="some to compare settings by",
            remedy="raise TrainConfig.validation_share when preparing",
        )
    storage, config = optuna.storages.InMemoryStorage(), prepared.source.config
    with tempfile.TemporaryDirectory(prefix="peftrec-") as folder:
        found = _trainer(prepared, backbone, suggest, folder=Path(folder), progress=progress).hyperparameter_search(
            backend="optuna",
            direction="minimize",
            hp_space=lambda trial: _arguments_of(replace(config, **_checked(suggest(trial)[1]))),
            compute_objective=lambda metrics: metrics["eval_loss"],
            n_trials=trials,
            sampler=optuna.samplers.TPESampler(seed=config.seed),
            study_name=STUDY,
            storage=storage,
        )
    best = cast(BestRun, found)  # one objective, one best
    tuner, settings = suggest(optuna.trial.FixedTrial(best.hyperparameters))  # pyright: ignore[reportArgumentType]
    study = optuna.load_study(study_name=STUDY, storage=storage)
    done = tuple((trial.params, float(trial.value)) for trial in study.trials if trial.value is not None)
    return Found(tuner, replace(config, **settings), min(loss for _, loss in done), done)


def _arguments_of(config: TrainConfig) -> dict[str, Any]:
    """What of a trial's settings the Trainer itself reads."""
    return {
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip_norm,
    }


def _trainer(prepared: Prepared, backbone: Backbone, suggest: Suggest, *, folder: Path, progress: bool) -> Trainer:
    source: PlatformRows = prepared.source
    config, rows = source.config, len(prepared.train)
    steps = steps_of(rows, epochs=config.epochs, batch_size=config.batch_size)

    def made(trial: "optuna.Trial | None" = None) -> DecoderStage:
        if trial is None:  # the Trainer asks once before the search
            return DecoderStage(PurchaseModel(backbone.decoder(), prepared.extras), config)
        tuner, settings = suggest(trial)
        chosen = replace(config, **_checked(settings))
        decoder = backbone.decoder()
        attached = attach(tuner, decoder, chosen, rows=rows, start=None, first_layer=first_layer(backbone))
        if attached.callbacks or tuner.learning_rate is not None:
            raise ConfigError(
                f"a trial with '{tuner.method}', which takes part in the training's steps or has a rate of its own",
                expected="LoRA or bottlenecks, or heads or biases alone, at the rate of the training",
                remedy="leave the tuner's learning_rate out, or compare such tuners with train_adapter",
            )
        return DecoderStage(PurchaseModel(decoder, prepared.extras), chosen, attached)

    trainer = KeepingTrainer(
        model_init=made,  # pyright: ignore[reportArgumentType]
        args=arguments(
            config,
            folder=folder,
            steps=steps,
            every=steps,
            settled=0,
            batch_size=config.batch_size,
            rows=rows,
            learning_rate=config.learning_rate,
            checks=False,
            bf16=config.precision == "bf16",
            progress=progress,
        ),
        train_dataset=prepared.train,
        eval_dataset=prepared.validation,
        data_collator=prepared.train.collate,  # pyright: ignore[reportArgumentType]
        callbacks=[Guard("search", folder)],
    )
    show(trainer, "search", progress=progress)
    return trainer


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted({*settings} - SEARCHED):
        raise ConfigError(
            f"a trial that chooses {', '.join(unknown)}",
            expected=f"some of {', '.join(sorted(SEARCHED))}",
            remedy="prepare again with other values of the settings that fitted numbers depend on",
        )
    return settings
