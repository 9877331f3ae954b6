"""Product recommendation with one frozen BERT and one small adapter per shop.

The names below are loaded on first use, so that ``import peftrec`` costs nothing and what only reads tables or the
registry never waits for torch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peftrec.adaptation import AdaptConfig, LanguageConfig, ShoppingConfig, adapt
    from peftrec.backbone import Backbone
    from peftrec.data import Catalog, CleaningRules, Coupons, Dataset, Events, Profiles, Promotions, load_dataset
    from peftrec.evaluation import evaluate
    from peftrec.model import Adapter
    from peftrec.registry import Gate, Registry
    from peftrec.serving import Engine, Rules
    from peftrec.training import CrossEncoderConfig, TrainConfig, train_adapter, train_cross_encoder
    from peftrec.tuners import AdaLoRAConfig, BottleneckConfig, LoRAConfig

__version__ = "0.1.0"

__all__ = [
    "AdaLoRAConfig",
    "AdaptConfig",
    "Adapter",
    "Backbone",
    "BottleneckConfig",
    "Catalog",
    "CleaningRules",
    "Coupons",
    "CrossEncoderConfig",
    "Dataset",
    "Engine",
    "Events",
    "Gate",
    "LanguageConfig",
    "LoRAConfig",
    "Profiles",
    "Promotions",
    "Registry",
    "Rules",
    "ShoppingConfig",
    "TrainConfig",
    "__version__",
    "adapt",
    "evaluate",
    "load_dataset",
    "train_adapter",
    "train_cross_encoder",
]

_HOMES = {
    "AdaLoRAConfig": "peftrec.tuners",
    "AdaptConfig": "peftrec.adaptation",
    "Adapter": "peftrec.model",
    "Backbone": "peftrec.backbone",
    "BottleneckConfig": "peftrec.tuners",
    "Catalog": "peftrec.data",
    "CleaningRules": "peftrec.data",
    "Coupons": "peftrec.data",
    "CrossEncoderConfig": "peftrec.training",
    "Dataset": "peftrec.data",
    "Engine": "peftrec.serving",
    "Events": "peftrec.data",
    "Gate": "peftrec.registry",
    "LanguageConfig": "peftrec.adaptation",
    "LoRAConfig": "peftrec.tuners",
    "Profiles": "peftrec.data",
    "Promotions": "peftrec.data",
    "Registry": "peftrec.registry",
    "Rules": "peftrec.serving",
    "ShoppingConfig": "peftrec.adaptation",
    "TrainConfig": "peftrec.training",
    "adapt": "peftrec.adaptation",
    "evaluate": "peftrec.evaluation",
    "load_dataset": "peftrec.data",
    "train_adapter": "peftrec.training",
    "train_cross_encoder": "peftrec.training",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'peftrec' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value  # the next access finds it without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
