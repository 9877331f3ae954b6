"""Training adapters."""

from peftrec.training.adversarial import Adversarial
from peftrec.training.config import Augmentation, TrainConfig
from peftrec.training.objectives import Auxiliary
from peftrec.training.train import train_adapter

__all__ = ["Adversarial", "Augmentation", "Auxiliary", "TrainConfig", "train_adapter"]
