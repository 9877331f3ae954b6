"""Parameter-efficient tuners of the decoder. The only package that imports peft."""

import logging

# peft imports bitsandbytes, which complains on machines without a kernel for 4-bit weights; nothing here has any.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

from peftrec.tuners.lora import LoRAConfig  # noqa: E402
from peftrec.tuners.neutral import LowRank, LowRankPair  # noqa: E402

__all__ = ["LoRAConfig", "LowRank", "LowRankPair"]
