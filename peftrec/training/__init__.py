"""Training adapters."""

from peftrec.training.config import TrainConfig
from peftrec.training.train import train_adapter

__all__ = ["TrainConfig", "train_adapter"]
