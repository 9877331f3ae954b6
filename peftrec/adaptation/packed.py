"""A BERT that reads texts of different lengths without their padding, as training does it.

A batch of B texts is W pieces wide, and a third of them may be padding. Nothing but attention needs the rectangle: maps, norms
and activations are given the pieces alone, one after the other, forth and back.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BertModel

from peftrec.model.decoder import Layer, finish

_STEP = 64  # pieces are rounded up to a multiple: oneDNN prepares itself for every shape of matrix, which takes milliseconds


@dataclass(frozen=True)
class Packing:
    """Where the pieces lie in their rectangle.

    Attributes:
        shape: (B, W).
        at: (n,) long, rising, the place of each piece among all B * W; some may be padding.
        padding: (B, 1, 1, W) bool, which pieces are; None where none is.
    """

    shape: torch.Size
    at: Tensor
    padding: Tensor | None

    @classmethod
    def of(cls, read: Mapping[str, Tensor]) -> "Packing":
        """Of what BERT reads: ``input_ids`` (B, W) and ``attention_mask`` where there is padding."""
        ids, mask = read["input_ids"], read.get("attention_mask")
        if mask is None:
            return cls(ids.shape, torch.arange(ids.numel(), device=ids.device), None)
        real = mask.flatten().bool()
        padded = (~real).nonzero()[:, 0]
        kept = real.clone()
        kept[padded[: -int(real.sum()) % _STEP]] = True
        return cls(ids.shape, kept.nonzero()[:, 0], ~mask.bool()[:, None, None])

    def spread(self, x: Tensor) -> Tensor:
        """(n, H) -> (B, W, H), zeros elsewhere."""
        return _moved(x, None, self.at, self.shape.numel()).unflatten(0, self.shape)

    def collect(self, x: Tensor) -> Tensor:
        """(B, W, H) -> (n, H)."""
        return _taken(x.flatten(0, 1), self.at)


def read_packed(bert: BertModel, read: Mapping[str, Tensor], places: Tensor | None = None) -> Tensor:
    """What BERT makes of texts; its layers drop nothing, whatever mode they are in.

    Args:
        bert: With whatever gradients it has.
        read: Its arguments: ``input_ids`` (B, W), and ``token_type_ids`` and ``attention_mask`` where they are needed.
        places: (m,) distinct places, among all B * W, of the pieces that are looked at. Behind the last attention nothing
            else is computed.

    Returns:
        (B, W, H) after the last layer, where what stands at padding means nothing; (m, H) where places are given.
    """
    packing = Packing.of(read)
    flat = {name: read[name].flatten()[packing.at][None] for name in ("input_ids", "token_type_ids") if name in read}
    x = bert.embeddings(**flat, position_ids=(packing.at % packing.shape[1])[None])[0]  # (n, H)
    layers = [Layer.of(layer) for layer in bert.encoder.layer]
    for layer in layers[:-1]:
        x = finish(layer, x, packing.collect(_attended(layer, x, packing)))
    attended = _attended(layers[-1], x, packing)
    if places is None:
        return packing.spread(finish(layers[-1], x, packing.collect(attended)))
    own = torch.searchsorted(packing.at, places)
    return finish(layers[-1], _taken(x, own), _taken(attended.flatten(0, 1), places))


def _attended(layer: Layer, x: Tensor, packing: Packing) -> Tensor:
    """(n, H) -> (B, W, H)."""

    def heads(values: Tensor) -> Tensor:
        return packing.spread(values).unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # (B, heads, W, width)

    query, key, value = (map_(x) for map_ in (layer.query, layer.key, layer.value))
    query = query * (1 / math.sqrt(query.shape[-1] // layer.heads))
    # Written out: on processors the fused attention's way back takes longer than this one's.
    scores = heads(query) @ heads(key).transpose(-1, -2)
    if packing.padding is not None:
        scores = scores.masked_fill(packing.padding, torch.finfo(scores.dtype).min)
    value = heads(value)
    return (scores.softmax(dim=-1, dtype=torch.float).to(value.dtype) @ value).transpose(1, 2).flatten(2)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    return _moved(x, places, None, len(places))


def _moved(x: Tensor, source: Tensor | None, target: Tensor | None, count: int) -> Tensor:
    found: Any = _Moved.apply(x, source, target, count)
    return found


class _Moved(torch.autograd.Function):
    """Rows taken from places of x, or put at places among ``count`` rows of zeros; none twice, so gradients just move back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source: Tensor | None, target: Tensor | None, count: int) -> Tensor:
        ctx.places, ctx.rows = (source, target), len(x)
        return _rows(x, source, target, count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        source, target = ctx.places
        return _rows(gradients[0], target, source, ctx.rows), None, None, None


def _rows(x: Tensor, source: Tensor | None, target: Tensor | None, count: int) -> Tensor:
    if source is not None:
        x = x.index_select(0, source)
    return x if target is None else x.new_zeros(count, x.shape[1]).index_copy_(0, target, x)
