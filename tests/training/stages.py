"""Stages of the smallest kind, trained by the real loop."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from peftrec.training import TrainConfig
from peftrec.training.trainer import run_stage


def train_on(
    stage: nn.Module, values: Sequence[float], config: TrainConfig, *, folder: Path, name: str, rate: float
) -> None:
    """One epoch over numbers, which the stage gets as ``x``, one a step, in the order that the seed draws."""
    run_stage(
        stage,
        torch.utils.data.StackDataset(x=torch.tensor(values)),
        config,
        folder=folder,
        name=name,
        collate=lambda batch: {"x": torch.stack([one["x"] for one in batch])},  # pyright: ignore
        epochs=1,
        batch_size=1,
        learning_rate=rate,
        progress=False,
    )
