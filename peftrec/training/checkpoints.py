"""Checkpoints: which of them are whole, how a resumed training goes on from one, and what a full disk leaves."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.data_loader import prepare_data_loader
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from peftrec.errors import TrainingError
from peftrec.training import parallel

COMMON: Mapping[str, Any] = {
    "lr_scheduler_type": "cosine",
    "max_grad_norm": 1.0,
    "save_total_limit": 2,
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "prediction_loss_only": True,
    "dataloader_pin_memory": False,
    "report_to": [],
}
"""``TrainingArguments`` of every stage."""


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; what a kill left half-written after it is removed."""
    found = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))  # transformers writes it last
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)  # another process may do the same
        else:
            return str(path)
    return None


def without_gain(history: Sequence[Mapping[str, float]]) -> int:
    """Evaluations since the best one."""
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def ended(stage: nn.Module, checkpoint: str, *, steps: int, patience: int) -> TrainerState | None:
    """The state of a training that was over when its last checkpoint was written, its best weights loaded into ``stage``.

    Args:
        stage: What was trained.
        checkpoint: The last whole one.
        steps: Of the whole training.
        patience: Evaluations without improvement after which it stopped.

    Returns:
        None where there is more to train; ``stage`` is as before then.
    """
    state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
    best = _best(Path(checkpoint).parent, state)
    if best is None or (state.global_step < steps and without_gain(state.log_history) < patience):
        return None
    stage.load_state_dict(load_file(best / SAFE_WEIGHTS_NAME))
    return state


def _best(folder: Path, state: TrainerState) -> Path | None:
    best = folder / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
    return best if best.is_dir() else None


class Patience(EarlyStoppingCallback):
    """Early stopping that a resumed training goes on with: transformers would begin to count anew.

    It would also look for the best checkpoint where the folder was before it was moved.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Counts what the log of a resumed training holds."""
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = without_gain(state.log_history)
        best = _best(Path(args.output_dir or ""), state)
        state.best_model_checkpoint = None if best is None else str(best)


class KeepingTrainer(Trainer):
    """Leaves no half-written checkpoint, and the one before as it was; where several processes train, each evaluates all."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The rows that all processes evaluate: they are few, and what is left of them would not share out evenly."""
        loader = DataLoader(
            self.eval_dataset,  # pyright: ignore[reportArgumentType]
            batch_size=self.args.eval_batch_size,
            collate_fn=self.data_collator,
        )
        return prepare_data_loader(loader, num_processes=1, process_index=0, put_on_device=False)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As it is, but for what it gathers from other processes, which hold the same."""
        self.gather_function = self._own
        return super().evaluation_loop(*args, **kwargs)

    def _own(self, values: Any) -> Any:
        state = self.accelerator.gradient_state  # the last batch counts as often as it has rows
        own = values[: state.remainder] if state.end_of_dataloader and state.remainder > 0 else values
        parallel.agree({"loss": own})  # to the last bit, so that all stop at the same step
        return own

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have errors of their own
            folder = Path(self.args.output_dir or "")
            if not self.args.should_save:  # the process that writes tells why it could not
                raise
            shutil.rmtree(folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}", ignore_errors=True)
            kept = last_checkpoint(folder)
            raise TrainingError(
                f"training, {folder.name}: the checkpoint of step {self.state.global_step} cannot be written to {folder}:"
                f" {str(error).splitlines()[0]}",
                expected="a folder that this user can write, on a disk with room for three checkpoints",
                remedy="make room and go on with resume=True; "
                + (f"the state before is in {kept}" if kept else "no checkpoint had been written yet"),
            ) from error
