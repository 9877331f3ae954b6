"""Parameter-efficient tuners of the decoder. The only package that imports peft."""

from peftrec.tuners.lora import LoRAConfig
from peftrec.tuners.neutral import LowRank, LowRankPair

__all__ = ["LoRAConfig", "LowRank", "LowRankPair"]
