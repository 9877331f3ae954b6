"""What a backbone has learned about shopping: a decoder of its own, and the values that adapters start from."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from torch import nn

from peftrec.errors import BackboneNotFoundError

DECODER_FILE = "decoder.safetensors"
_SETTINGS, _LAYER, _EXTRA = "peftrec", "layer.", "extras."


def read_by(origin: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Facts of the data sets with events in the shopping stages of a backbone's ``origin``.

    A language stage makes a new decoder: what came before it is not looked at.
    """
    stages = {stage.get("stage") for stage in origin.get("stages", ())}
    data = origin.get("data", ()) if "shopping" in stages else ()
    earlier = () if "language" in stages else origin.get("parents", ())
    before = [facts for parent in earlier for facts in read_by(parent.get("origin", {}))]
    return [*before, *(facts for facts in data if facts.get("events"))]


@dataclass(frozen=True, eq=False)
class Shopping:
    """A decoder, whole, that has read the shoppers of pooled platforms, and all that it needs beside its layers.

    Attributes:
        decoder: ``BertLayer`` modules, lowest first, float32, frozen.
        extras: Event embeddings, feature maps, heads, by name, see :mod:`peftrec.model.extras`; adapters start from them.
        settings: What else reading a shopper needs, as plain values: ``history``, ``candidates``, ``scene``, ``numbers``.
    """

    decoder: nn.ModuleList
    extras: Mapping[str, NDArray[np.float32]]
    settings: Mapping[str, object]

    @property
    def fingerprint(self) -> str:
        """Sha256 of the settings and of every tensor: name, shape and bytes, sorted by name."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode())
        for name, value in sorted(self._tensors().items()):
            digest.update(f"\n{name} {value.dtype} {value.shape}\n".encode())
            digest.update(np.ascontiguousarray(value).data)
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """The content of ``decoder.safetensors``."""
        metadata = {"format": "pt", _SETTINGS: json.dumps(self.settings, sort_keys=True)}
        return save_tensors({name: np.ascontiguousarray(value) for name, value in self._tensors().items()}, metadata)

    @classmethod
    def from_bytes(cls, content: bytes, layers: nn.ModuleList) -> "Shopping":
        """Reads ``decoder.safetensors``.

        Args:
            content: Of the file.
            layers: Layers of the right shape, whose values are replaced, such as a copy of the encoder's upper layers.

        Raises:
            BackboneNotFoundError: The file is damaged, or its layers have other shapes.
        """
        try:
            tensors = load_tensors(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            settings = json.loads(header["__metadata__"][_SETTINGS])
            own = {name.removeprefix(_LAYER): value for name, value in tensors.items() if name.startswith(_LAYER)}
            layers.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in own.items()}, strict=True)
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            told = str(error).strip().splitlines()
            raise BackboneNotFoundError(
                f"{DECODER_FILE} cannot be read: {told[0] if told else type(error).__name__}",
                expected="the decoder of an adapted backbone, as it was saved",
                remedy="copy the folder again, or adapt the backbone again",
            ) from error
        extras = {name.removeprefix(_EXTRA): value for name, value in tensors.items() if name.startswith(_EXTRA)}
        return cls(layers.eval().requires_grad_(False), extras, settings)

    def layers(self) -> nn.ModuleList:
        """A fresh copy of the decoder."""
        return copy.deepcopy(self.decoder)

    def _tensors(self) -> dict[str, NDArray[np.generic]]:
        layers = {f"{_LAYER}{name}": value.detach().cpu().numpy() for name, value in self.decoder.state_dict().items()}
        return {**layers, **{f"{_EXTRA}{name}": np.asarray(value) for name, value in self.extras.items()}}
