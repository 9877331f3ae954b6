"""Training adapters."""

from peftrec.training.adversarial import Adversarial
from peftrec.training.config import Augmentation, TrainConfig
from peftrec.training.cross import CrossEncoderConfig, train_cross_encoder
from peftrec.training.objectives import Auxiliary
from peftrec.training.train import train_adapter

__all__ = [
    "Adversarial",
    "Augmentation",
    "Auxiliary",
    "CrossEncoderConfig",
    "TrainConfig",
    "train_adapter",
    "train_cross_encoder",
]
