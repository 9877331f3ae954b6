"""Training adapters."""

from peftrec.training.config import Augmentation, TrainConfig
from peftrec.training.train import train_adapter

__all__ = ["Augmentation", "TrainConfig", "train_adapter"]
