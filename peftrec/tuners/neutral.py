"""The neutral form of a trained tuner: plain arrays that serving reads without peft."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LowRankPair:
    """A change of one linear map: ``y = W x + b (a x)``.

    Attributes:
        a: (rank, in) float32.
        b: (out, rank) float32, the method's scale folded in.
    """

    a: NDArray[np.float32]
    b: NDArray[np.float32]


@dataclass(frozen=True)
class LowRank:
    """All pairs of a tuner.

    Attributes:
        pairs: Keyed by the linear map's path in the whole BERT, such as ``encoder.layer.3.attention.self.query``.
    """

    pairs: dict[str, LowRankPair]

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each tuned map."""
        return {name: len(pair.a) for name, pair in self.pairs.items()}

    def to_peft(self, scale: float) -> dict[str, NDArray[np.float16]]:
        """Tensors under peft's names, half precision, the scale taken out of ``b`` again."""
        tensors: dict[str, NDArray[np.float16]] = {}
        for name, pair in self.pairs.items():
            tensors[f"{PEFT_PREFIX}{name}.lora_A.weight"] = pair.a.astype(np.float16)
            tensors[f"{PEFT_PREFIX}{name}.lora_B.weight"] = (pair.b / scale).astype(np.float16)
        return tensors

    @classmethod
    def from_peft(cls, tensors: dict[str, NDArray[np.floating]], scale: float) -> "LowRank":
        """Reads tensors under peft's names."""
        names = [key.removeprefix(PEFT_PREFIX).removesuffix(".lora_A.weight") for key in tensors if "lora_A" in key]
        return cls(
            {
                name: LowRankPair(
                    np.asarray(tensors[f"{PEFT_PREFIX}{name}.lora_A.weight"], np.float32),
                    np.asarray(tensors[f"{PEFT_PREFIX}{name}.lora_B.weight"], np.float32) * np.float32(scale),
                )
                for name in names
            }
        )
