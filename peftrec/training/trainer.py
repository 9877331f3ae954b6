"""Three short trainings on ``transformers.Trainer``: the retrieval map, the feature network, then the decoder on top.

The forest beside the feature network comes from LightGBM.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments

from peftrec.errors import ConfigError
from peftrec.model.purchase import PurchaseModel
from peftrec.model.quantiles import encoded
from peftrec.training import parallel
from peftrec.training.callbacks import Guard, show
from peftrec.training.checkpoints import COMMON, KeepingTrainer, Patience, ended, last_checkpoint
from peftrec.training.config import TrainConfig
from peftrec.training.reporting import OneRunPerStage
from peftrec.training.rows import Labelled, RowDataset
from peftrec.training.stages import FeatureStage, RetrievalStage
from peftrec.tuners import Arrays, Attached, Tuner

RETRIEVAL, FEATURE_PATH, DECODER = "retrieval", "features", "decoder"
"""Names of the stages, on their bars and of their folders of checkpoints."""

RETRIEVAL_EPOCHS = 8


class FeatureBlocks(TorchDataset[dict[str, Tensor]]):
    """Inputs of the feature network in half precision, fetched a whole batch at a time."""

    def __init__(self, model: PurchaseModel, labelled: Labelled, *, progress: bool) -> None:
        features, labels, weight = labelled
        extras = {name: value.detach() for name, value in model.extras.items()}
        self.inputs = torch.empty(len(labels), 2 * features.shape[1], dtype=torch.float16)
        blocks = torch.arange(len(labels)).split(2**16)
        for rows in tqdm(blocks, desc="reading numbers", unit="block", disable=not progress, leave=False):
            self.inputs[rows] = encoded(extras, torch.from_numpy(features[rows.numpy()]).float()).half()
        self.labels, self.weight = torch.from_numpy(labels).float(), torch.from_numpy(weight)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, index: list[int]) -> dict[str, Tensor]:
        at = torch.tensor(index)
        return {"inputs": self.inputs[at].float(), "weight": self.weight[at], "labels": self.labels[at]}


class RetrievalRows(TorchDataset[dict[str, Tensor]]):
    """The rows' history means and first purchases, fetched a whole batch at a time."""

    def __init__(self, rows: RowDataset) -> None:
        self.rows, self.means = rows, torch.from_numpy(rows.means())

    def __len__(self) -> int:
        return len(self.means)

    def __getitems__(self, index: list[int]) -> dict[str, Tensor]:
        return {"mean": self.means[torch.tensor(index)], **self.rows.collate_retrieval(index)}


class TunedRows(Protocol):
    """Rows that make batches of themselves."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[int, int]: ...

    def collate(self, chosen: list[tuple[int, int]], /) -> dict[str, Any]:
        """A batch of some rows."""
        ...


def as_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """For datasets that fetch whole batches: there is nothing left to collate."""
    return batch


def run_stage(
    stage: nn.Module,
    dataset: TorchDataset,
    config: TrainConfig,
    *,
    folder: Path,
    name: str,
    collate: Callable[[Sequence[object]], dict[str, object]],
    epochs: float,
    batch_size: int,
    learning_rate: float,
    rates: Mapping[str, float] | None = None,
    validation: TorchDataset | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    settled: int = 0,
    bf16: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> Trainer:
    """Trains the parameters of ``stage`` that require gradients, with a cosine schedule; keeps the best by evaluation.

    Where ``torchrun`` started several processes, each reads its share of every batch. Checkpoints are written where there is
    something to evaluate on; a resumed training ends in the same weights, if what
    ``collate`` draws depends on its rows alone: batches are fetched ahead of the step that reads them.

    Args:
        stage: Trained in place.
        dataset: Its rows.
        config: Of the training.
        folder: Of the checkpoints, in a folder ``name``.
        name: On the bar and in errors.
        collate: Makes a batch of rows.
        epochs: Passes over the rows.
        batch_size: Rows per step.
        learning_rate: Peak rate.
        rates: Peak rates of their own, by the beginning of a parameter's name.
        validation: Rows that the best state is chosen on.
        callbacks: Further ones.
        settled: Step from which on a state may be the best.
        bf16: Run matrix products in bfloat16.
        resume: Continue from the last whole checkpoint, if there is one.
        progress: Show a bar.

    Raises:
        TrainingError: A gradient or loss became no number, or a checkpoint could not be written.
    """
    size, place = len(dataset), folder / name  # pyright: ignore[reportArgumentType]
    steps, progress = steps_of(size, epochs=epochs, batch_size=batch_size), progress and parallel.is_first()
    trainer = KeepingTrainer(
        model=stage,
        args=arguments(
            config,
            folder=place,
            steps=steps,
            every=max(1, min(steps_of(size, epochs=1, batch_size=batch_size), steps) // 4),
            settled=settled,
            batch_size=batch_size,
            rows=size,
            learning_rate=learning_rate,
            checks=validation is not None,
            bf16=bf16,
            progress=progress,
        ),
        train_dataset=dataset,
        eval_dataset=validation,
        data_collator=collate,  # pyright: ignore[reportArgumentType]
        optimizers=(_optimizer(stage, learning_rate, config.weight_decay, rates) if rates else None, None),
        callbacks=[
            *callbacks,
            Guard(name, place),
            OneRunPerStage(),
            *([] if validation is None else [Patience(config.patience)]),
        ],
    )
    show(trainer, name, progress=progress)
    kept = parallel.of_first(lambda: last_checkpoint(place)) if resume else None
    over = None if kept is None else ended(stage, kept, steps=steps, patience=config.patience)
    if over is None:
        trainer.train(resume_from_checkpoint=kept)
    else:
        trainer.state = over
    return trainer


def steps_of(rows: int, *, epochs: float, batch_size: int) -> int:
    """Steps of a training, at least one; of whole batches, see :func:`arguments`."""
    return max(1, round(epochs * max(1, rows // batch_size)))


def arguments(
    config: TrainConfig,
    *,
    folder: Path,
    steps: int,
    every: int,
    settled: int,
    batch_size: int,
    rows: int,
    learning_rate: float,
    checks: bool,
    bf16: bool,
    progress: bool,
) -> TrainingArguments:
    """What the Trainer of a stage is told; it looks and writes a checkpoint every so many steps, where ``checks`` says so.

    Steps are of whole batches, or of all rows where they are fewer: what is left of a pass cannot be shared out evenly.
    """
    return TrainingArguments(
        **{**COMMON, "max_grad_norm": config.clip_norm, "report_to": list(config.report_to)},
        run_name=f"{config.run_name or 'training'}, {folder.name}",
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=min(parallel.share(batch_size), max(1, rows // parallel.processes())),
        dataloader_drop_last=rows >= parallel.processes(),
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup_share * steps),
        bf16=bf16,
        use_cpu=True,  # rows, candidates and statistics live there
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=min(every, 20),
        eval_strategy="steps" if checks else "no",
        eval_steps=every if checks else None,
        eval_delay=min(settled, steps // every * every),  # a training that never looks keeps no best state
        save_strategy="steps" if checks else "no",
        save_steps=every,
        load_best_model_at_end=checks,
        metric_for_best_model="eval_loss" if checks else None,
        greater_is_better=False if checks else None,
        disable_tqdm=not progress,
    )


def _optimizer(stage: nn.Module, rate: float, decay: float, rates: Mapping[str, float]) -> torch.optim.Optimizer:
    """AdamW as transformers makes it, decay on matrices alone, with rates by the beginning of a parameter's name."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, value in stage.named_parameters():
        if value.requires_grad:
            own = next((own for start, own in rates.items() if name.startswith(start)), rate)
            whole = min(value.shape) > 1 and value.ndim > 1
            groups.setdefault((own, decay if whole else 0.0), []).append(value)
    return torch.optim.AdamW(
        [{"params": found, "lr": own, "weight_decay": weight} for (own, weight), found in groups.items()]
    )


def train_retrieval(
    model: PurchaseModel,
    rows: TorchDataset,
    config: TrainConfig,
    *,
    folder: Path,
    progress: bool,
    batch_size: int = 256,
) -> None:
    """Fits the map that retrieval goes through; ``rows`` hands out whole batches, as :class:`RetrievalRows` does."""
    run_stage(
        RetrievalStage(model),
        rows,
        config,
        folder=folder,
        name=RETRIEVAL,
        collate=as_is,  # pyright: ignore[reportArgumentType]
        epochs=RETRIEVAL_EPOCHS,
        batch_size=parallel.rounded(batch_size),
        learning_rate=2 * config.learning_rate,
        progress=progress,
    )


def train_network(
    model: PurchaseModel, table: FeatureBlocks, config: TrainConfig, *, folder: Path, progress: bool
) -> None:
    """Fits the feature network on what the statistics of the features make of them."""
    batch_size = min(4096, max(128, len(table) // 256 // 64 * 64))  # a small platform needs its steps as well
    run_stage(
        FeatureStage(model, config),
        table,
        config,
        folder=folder,
        name=FEATURE_PATH,
        collate=as_is,  # pyright: ignore[reportArgumentType]
        epochs=config.feature_epochs,
        batch_size=parallel.rounded(batch_size),
        learning_rate=config.feature_learning_rate,
        progress=progress,
    )


def attach(
    tuner: Tuner, decoder: nn.ModuleList, config: TrainConfig, *, rows: int, start: Arrays | None, first_layer: int
) -> Attached:
    """Puts a tuner on a decoder that will be trained on so many rows.

    Raises:
        ConfigError: It fits neither decoder nor length of the training, or cannot begin with ``start``.
    """
    steps = steps_of(rows, epochs=config.epochs, batch_size=config.batch_size)
    attached = tuner.attach(decoder, seed=config.seed, steps=steps)
    if start is not None:
        if attached.load is None:
            raise ConfigError(
                f"values to start '{tuner.method}' from",
                expected="a method that can go on from what it ended in, such as LoRA",
                remedy="leave start out, or tune with LoRAConfig",
            )
        attached.load(start, first_layer)
    return attached


def run_tuned(
    stage: nn.Module,
    attached: Attached,
    train: TunedRows,
    validation: TunedRows,
    config: TrainConfig,
    *,
    name: str,
    learning_rate: float | None,
    folder: Path,
    resume: bool = False,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Fits a stage whose ``model.decoder`` holds a tuner, and returns the log.

    Args:
        stage: See :func:`run_stage`.
        attached: The tuner at work, which may have callbacks, and a step from which on a state may be the best.
        train: Rows that make batches of themselves.
        validation: Those held out. Few shoppers: none may be, and then none stops early.
        config: Of the training.
        name: Of the stage.
        learning_rate: Of the tuner, if it has one of its own.
        folder: For checkpoints.
        resume: Go on from them.
        progress: Show a bar.
    """
    trainer = run_stage(
        stage,
        train,
        config,
        folder=folder,
        name=name,
        collate=train.collate,  # pyright: ignore[reportArgumentType]
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        rates={"model.decoder.": learning_rate} if learning_rate else None,
        callbacks=attached.callbacks,
        settled=attached.settled,
        validation=validation if len(validation) else None,
        bf16=config.precision == "bf16",
        resume=resume,
        progress=progress,
    )
    return trainer.state.log_history
