"""Parameter-efficient tuners of the decoder. The only package that imports peft.

A tuner is a frozen dataclass of settings with the parts that :class:`Tuner` names, in a file of its own, made known by
:func:`register`.
"""

import logging

# peft imports bitsandbytes, which complains on machines without a kernel for 4-bit weights; nothing here has any.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

from peftrec.tuners.adalora import AdaLoRAConfig  # noqa: E402
from peftrec.tuners.bottleneck import BottleneckConfig  # noqa: E402
from peftrec.tuners.importing import import_peft  # noqa: E402
from peftrec.tuners.lora import LoRAConfig  # noqa: E402
from peftrec.tuners.neutral import BottleneckPair, Changes, LowRankPair, from_tensors, to_tensors  # noqa: E402
from peftrec.tuners.references import BiasOnlyConfig, FullConfig, HeadOnlyConfig  # noqa: E402
from peftrec.tuners.tuner import TUNERS, Arrays, Attached, Tuner, register, tuner_of  # noqa: E402

__all__ = [
    "TUNERS",
    "AdaLoRAConfig",
    "Arrays",
    "Attached",
    "BiasOnlyConfig",
    "BottleneckConfig",
    "BottleneckPair",
    "Changes",
    "FullConfig",
    "HeadOnlyConfig",
    "LoRAConfig",
    "LowRankPair",
    "Tuner",
    "from_tensors",
    "import_peft",
    "register",
    "to_tensors",
    "tuner_of",
]
