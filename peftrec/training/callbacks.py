"""What watches a training: a guard against numbers that are none, a bar, and one that hands memory back."""

import math
from pathlib import Path
from typing import NoReturn

import psutil
from torch import nn
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from peftrec.backbone.memory import give_back
from peftrec.errors import TrainingError
from peftrec.training.checkpoints import last_checkpoint

SILENT_STEPS = 8
"""Steps from the first one on that may have no gradient at all before training stops."""


class Guard(TrainerCallback):
    """Stops before a gradient that is no number reaches the weights, as soon as a logged loss is none, and where nothing moves.

    Args:
        stage: Named in the error.
        folder: Of its checkpoints.
    """

    def __init__(self, stage: str, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        self.moved = False

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: object,
    ) -> None:
        """Looks at the gradients, which are clipped by now."""
        weights = [] if model is None else model.parameters()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not norm.isfinite():
            self._stop(f"a gradient that is no number in step {state.global_step + 1}")
        self.moved = self.moved or bool(norm > 0)
        if not self.moved and state.global_step + 1 >= min(SILENT_STEPS, state.max_steps):
            raise TrainingError(
                f"training, {self.stage}: all gradients were zero in {state.global_step + 1} steps",
                expected="weights that the loss depends on",
                remedy="see whether any product is left that shoppers have not bought: the decoder learns from those alone; or"
                " set a listwise_weight or retrieval_weight above 0",
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Looks at what is logged."""
        values = [value for name, value in (logs or {}).items() if name in ("loss", "eval_loss", "grad_norm")]
        if any(not math.isfinite(value) for value in values):
            self._stop(f"a loss or gradient that is no number at step {state.global_step}: {logs}")

    def _stop(self, found: str) -> NoReturn:
        kept = last_checkpoint(self.folder)
        raise TrainingError(
            f"training, {self.stage}: {found}",
            expected="finite losses and gradients",
            remedy="lower the learning rate, or use precision='fp32'; "
            + (f"the state before is in {kept}" if kept else "no checkpoint had been written yet"),
        )


class Trim(TrainerCallback):
    """Hands memory that nothing uses back to the system, whenever so many bytes of it may have come together.

    The C library keeps what was freed for what is asked for next. Batches of ever other widths leave gaps that fit nothing
    that comes, and the process grows for as long as it trains. Only glibc can be told to; each time costs the next step
    some tenths of a second, in which the system hands pages out anew.

    Args:
        slack: Bytes that the process may hold above what it held when memory was last handed back.
    """

    def __init__(self, slack: int = 2**30) -> None:
        self._slack, self._least = slack, 0
        self._process = psutil.Process()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Does so."""
        if self._process.memory_info().rss > self._least + self._slack:
            give_back()
            self._least = self._process.memory_info().rss


class Bar(ProgressCallback):
    """One bar per stage that says which and shows the losses, where transformers prints a line for each."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage
        self.shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Names the stage."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(f"training, {self.stage}")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        """Shows the losses."""
        self.shown |= {name: f"{value:.4f}" for name, value in (logs or {}).items() if name in ("loss", "eval_loss")}
        if self.training_bar is not None:
            self.training_bar.set_postfix(self.shown)


def show(trainer: Trainer, stage: str, *, progress: bool) -> None:
    """Has a trainer show one bar, or nothing at all."""
    trainer.remove_callback(PrinterCallback)  # without a bar, transformers would print every log entry
    if progress:
        trainer.remove_callback(DEFAULT_PROGRESS_CALLBACK)  # another one in notebooks
        trainer.add_callback(Bar(stage))
