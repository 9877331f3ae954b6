"""``transformers.Trainer`` for batches that come ready, with each objective in the log."""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from peftrec.adaptation.batches import Batches, only
from peftrec.adaptation.config import LanguageConfig
from peftrec.adaptation.stage import TERMS
from peftrec.disk import worded_write_errors
from peftrec.errors import TrainingError
from peftrec.training.callbacks import Guard, Trim, show
from peftrec.training.checkpoints import COMMON, KeepingTrainer, last_checkpoint
from peftrec.training.workspace import RUN_FILE, claim

LOGGED_STEPS = 10
"""Steps that an entry of the log averages."""
History = tuple[Mapping[str, float], ...]


def train_language(
    stage: nn.Module,
    train: Batches,
    validation: Batches | None,
    config: LanguageConfig,
    *,
    folder: Path,
    digest: str,
    resume: bool,
    progress: bool,
) -> History:
    """Trains the parameters of ``stage`` that require gradients, one batch a step, with a cosine schedule.

    Args:
        stage: Keeps in ``terms`` what its last loss was made of; trained in place.
        train: All batches.
        validation: Those of the texts held out, looked at twice in each epoch.
        config: Rates and precision.
        folder: Of the checkpoints; its name is the stage's.
        digest: Of all that decides what the training ends in.
        resume: Continue from the last whole checkpoint, if there is one; else all are removed.
        progress: Show a bar.

    Returns:
        The log: ``step``, ``loss`` and each objective's on training batches since the entry before, or the same with
        ``eval_`` before it on the texts held out.

    Raises:
        ConfigError: The checkpoints to resume from are those of another training.
        TrainingError: A gradient or loss became no number, or a checkpoint could not be written; the message names the
            step and the last whole checkpoint.
    """
    if not (resume and (folder / RUN_FILE).is_file()):
        shutil.rmtree(folder, ignore_errors=True)
    with worded_write_errors(folder, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
    claim(folder, digest, resume=resume)
    trainer = _Trainer(
        model=stage,
        args=_arguments(stage, train, validation, config, folder=folder, progress=progress),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=only,  # pyright: ignore[reportArgumentType]
        callbacks=[Guard(folder.name, folder), Trim()],
    )
    show(trainer, folder.name, progress=progress)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder) if resume else None)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
    return tuple({name: value for name, value in entry.items() if _tells(name)} for entry in entries)


def _tells(name: str) -> bool:
    return name == "step" or name.removeprefix("eval_") in ("loss", *TERMS)


def _arguments(
    stage: nn.Module,
    train: Batches,
    validation: Batches | None,
    config: LanguageConfig,
    *,
    folder: Path,
    progress: bool,
) -> TrainingArguments:
    return TrainingArguments(
        **COMMON | {"label_names": ["joint"]},  # what every batch has, for there to be a loss to evaluate
        output_dir=str(folder),
        max_steps=len(train),
        per_device_train_batch_size=1,  # an entry of the dataset is a whole batch
        per_device_eval_batch_size=1,
        train_sampling_strategy="sequential",
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup_share * len(train)),
        bf16=config.precision == "bf16",
        use_cpu=next(stage.parameters()).device.type == "cpu",
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=min(LOGGED_STEPS, config.checkpoint_steps),
        eval_strategy="no" if validation is None else "steps",
        eval_steps=max(1, train.per_epoch // 2),
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        disable_tqdm=not progress,
    )


class _Trainer(KeepingTrainer):
    """Takes the gradient of one pass through BERT after the other, and adds what the loss was made of to the log."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.sums: dict[str, list[Tensor]] = defaultdict(list)

    def training_step(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Gradients add up over the parts of a batch, so that what the passes keep for them is never held together."""
        losses = [
            super(_Trainer, self).training_step(model, {name: part}, *args, **kwargs) for name, part in inputs.items()
        ]
        return torch.stack(losses).sum()

    def compute_loss(self, model: nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        stage: Any = self.model
        prefix = "" if stage.training else "eval_"
        for name, value in stage.terms.items():
            self.sums[prefix + name].append(value)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        prefix = "eval_" if "eval_loss" in logs else ""
        for name in [name for name in self.sums if name.startswith("eval_") == bool(prefix)]:
            logs[name] = float(torch.stack(self.sums.pop(name)).mean())
        super().log(logs, start_time)
