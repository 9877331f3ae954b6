"""The tensors of an adapter: which there are, of what shape, on which layers."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from peftrec.backbone import Backbone
from peftrec.errors import IncompatibleAdapterError
from peftrec.model import cross
from peftrec.model import extras as ops
from peftrec.tuners import Tuner

Form = Literal["decoder", "cross_encoder"]


def first_layer(backbone: Backbone) -> int:
    """Number of the decoder's lowest layer within the whole BERT."""
    return backbone.layers - backbone.decoder_layers


def expected_shapes(
    backbone: Backbone,
    config: Tuner | None,
    ranks: Mapping[str, int],
    *,
    form: Form = "decoder",
    newcomers: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that an adapter for this backbone holds, in both files.

    Args:
        backbone: Whose decoder is tuned.
        config: The tuner's, if there is one.
        ranks: Of the maps, for methods that choose them in training.
        form: Of the adapter.
        newcomers: Whether it tells of products never sold.
    """
    extras = (ops if form == "decoder" else cross).shapes(backbone.hidden)
    extras = {name: shape for name, shape in extras.items() if newcomers or name not in ops.OPTIONAL}
    layers = {number: backbone.bert.encoder.layer[number] for number in range(first_layer(backbone), backbone.layers)}
    return extras | ({} if config is None else config.shapes(layers, ranks))


def check_shapes(tensors: Mapping[str, NDArray[np.generic]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compares tensors with what is expected of them.

    Raises:
        IncompatibleAdapterError: One is missing, surplus or of another shape; all of them are named.
    """
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is not known" for name in tensors if name not in expected]
    problems += [
        f"{name} is {tensors[name].shape}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != tuple(shape)
    ]
    if problems:
        raise IncompatibleAdapterError(
            f"{len(problems)} tensors do not fit: {'; '.join(problems)}",
            expected="the tensors of an adapter trained on this backbone with this decoder depth",
            remedy="load the backbone and use the peftrec that the manifest names, or train the adapter again on these",
        )
