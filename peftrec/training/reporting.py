"""Where a training is told of while it runs: TensorBoard, Weights & Biases, or what else ``transformers`` knows."""

import os
from collections.abc import Sequence

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from peftrec.errors import ConfigError, MissingExtraError

TENSORBOARD, WANDB = "tensorboard", "wandb"


def check_report_to(names: Sequence[str], *, kept: bool) -> None:
    """Refuses places that are not known or not installed.

    Args:
        names: As in ``TrainConfig.report_to``.
        kept: Whether the training's folder stays when it ends.

    Raises:
        ConfigError: A name that transformers does not know, or TensorBoard's files would be deleted with the folder.
        MissingExtraError: The package is not installed.
    """
    known = sorted({*INTEGRATION_TO_CALLBACK})
    for name in names:
        if name not in known:
            raise ConfigError(
                f"report_to={name!r}",
                expected=f"some of {', '.join(known)}",
                remedy="correct the name, or leave it out",
            )
        if name not in get_available_reporting_integrations():
            raise MissingExtraError(
                f"report_to={name!r}, which is not installed",
                expected=f"the package {name}",
                remedy=f"pip install {name}",
            )
    if TENSORBOARD in names and not kept and not os.environ.get("TENSORBOARD_LOGGING_DIR"):
        raise ConfigError(
            "report_to='tensorboard' for a training in a temporary folder, which takes the files with it",
            expected="a folder that stays",
            remedy="pass train_adapter(..., folder=...), or set TENSORBOARD_LOGGING_DIR",
        )


class OneRunPerStage(TrainerCallback):
    """Ends the run of Weights & Biases with its stage: the next one counts its steps anew."""

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """After the reporter's own."""
        if WANDB in (args.report_to or ()):
            import wandb

            wandb.finish()
