"""The behaviour decoder: BERT's upper layers read a shopper as a sentence whose words are products.

Shopper-side words see each other. A candidate sees the shopper side and itself, never another candidate, so its score does
not depend on what else is ranked, and the shopper side is computed once however many candidates follow.

The functions here take their linear maps as callables: training hands in ``BertLayer`` modules with a tuner attached,
serving hands in int8 maps with a different adapter per row. Both run these very lines, but for attention, which is fused
where nobody asks for gradients: on a processor the backward pass of fused attention takes five times as long in bf16.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # its usual name

Map = Callable[[Tensor], Tensor]
Each = Callable[[Sequence[Map], Tensor], list[Tensor]]
"""What several maps make of the same words."""


TILE = 32
"""Keys that fused attention is given at once."""


def one_by_one(maps: Sequence[Map], x: Tensor) -> list[Tensor]:
    """Each by itself."""
    return [map_(x) for map_ in maps]


@dataclass(frozen=True)
class Layer:
    """One transformer layer as the maps it is made of, each (B, T, in) -> (B, T, out).

    ``parallel`` is added to the output's; ``each`` applies maps that read the same words, and may spare what they do alike;
    ``words`` is what they travel in, from the lowest layer on, and as they come where it is None.
    """

    query: Map
    key: Map
    value: Map
    attention_output: Map
    attention_norm: Map
    intermediate: Map
    activation: Map
    output: Map
    output_norm: Map
    heads: int
    parallel: Map | None = None
    each: Each = one_by_one
    words: torch.dtype | None = None

    @classmethod
    def of(cls, layer: nn.Module, *, words: torch.dtype | None = None) -> "Layer":
        """Takes apart a ``transformers`` ``BertLayer``, tuned or not."""
        attention = layer.attention
        return cls(
            query=attention.self.query,
            key=attention.self.key,
            value=attention.self.value,
            attention_output=attention.output.dense,
            attention_norm=attention.output.LayerNorm,
            intermediate=layer.intermediate.dense,
            activation=layer.intermediate.intermediate_act_fn,
            output=layer.output.dense,
            output_norm=layer.output.LayerNorm,
            heads=attention.self.num_attention_heads,
            parallel=getattr(layer, "parallel", None),
            words=words,
        )


class Memory(NamedTuple):
    """What a layer remembers of the shopper side: keys and values, each (B, heads, N or more, width), zeros behind the words."""

    key: Tensor
    value: Tensor


def _split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, T, H) -> (B, heads, T, width)


def _filling(words: int) -> int:
    """How many zeros to put behind keys and values, up to whole tiles where nobody asks for gradients.

    How many words other rows of a batch have then changes nothing, or a last bit here and there, and fused attention in
    bfloat16 is no slower.
    """
    return 0 if torch.is_grad_enabled() else -words % TILE


def _hidden(mask: Tensor, filling: int) -> Tensor:
    """(B, 1, 1, N + filling) bool, True where there is no word."""
    return F.pad(~mask, (0, filling), value=True)[:, None, None, :]


def _joined(attended: Tensor) -> Tensor:
    return attended.transpose(1, 2).flatten(2)  # (B, heads, T, width) -> (B, T, H)


def _travelling(layers: Sequence[Layer], x: Tensor) -> Tensor:
    return x.to(layers[0].words) if layers and layers[0].words else x


def finish(layer: Layer, x: Tensor, attended: Tensor) -> Tensor:
    """Everything after attention: two residual sums, post-norm, as BERT has them; all of (…, H)."""
    x = layer.attention_norm(layer.attention_output(attended) + x)
    read = layer.output(layer.activation(layer.intermediate(x)))
    return layer.output_norm((read if layer.parallel is None else read + layer.parallel(x)) + x)


def read_shopper(
    layers: Sequence[Layer], x: Tensor, mask: Tensor, *, asked: slice = slice(None)
) -> tuple[Tensor, list[Memory]]:
    """Runs the shopper side.

    Args:
        layers: Lowest first.
        x: (B, N, H) words.
        mask: (B, N) bool, True where there is a word.
        asked: Words whose output is asked for; the last layer computes nothing but keys and values for the others.

    Returns:
        (B, asked, H) output, and each layer's memory for the candidates.
    """
    memories: list[Memory] = []
    x, filling = _travelling(layers, x), _filling(mask.shape[1])
    hidden = _hidden(mask, filling)
    for number, layer in enumerate(layers, start=1):
        last = number == len(layers)
        maps = [layer.key, layer.value] if last else [layer.key, layer.value, layer.query]
        key, value, *found = (_split(one, layer.heads) for one in layer.each(maps, x))
        key, value = (F.pad(one, (0, 0, 0, filling)) for one in (key, value))
        memories.append(Memory(key, value))
        if last:
            x = x[:, asked].contiguous()
            found = [_split(layer.query(x), layer.heads)]
        query = found[0]
        x = finish(layer, x, _joined(_shopper_attention(query, key, value, hidden)))
    return x, memories


def read_candidates(layers: Sequence[Layer], x: Tensor, mask: Tensor, memories: list[Memory]) -> Tensor:
    """Runs candidates against the shopper side's memory.

    Args:
        layers: Lowest first, the same as for the shopper side.
        x: (B, M, H) candidate words.
        mask: (B, N) bool of the shopper side, at least one word in each row.
        memories: From :func:`read_shopper`.

    Returns:
        (B, M, H).
    """
    x = _travelling(layers, x)
    hidden = _hidden(mask, memories[0].key.shape[2] - mask.shape[1])
    for layer, memory in zip(layers, memories, strict=True):
        maps = [layer.query, layer.key, layer.value]
        query, key, value = (_split(one, layer.heads) for one in layer.each(maps, x))
        x = finish(layer, x, _joined(_candidate_attention(query, key, value, memory, hidden)))
    return x


def _shopper_attention(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
    """(B, heads, T, width) of T words that see all that are not ``hidden`` (B, 1, 1, N)."""
    if not query.is_cpu or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query, key, value, attn_mask=~hidden)
    scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-1, -2)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1).to(value.dtype) @ value


def _candidate_attention(query: Tensor, key: Tensor, value: Tensor, memory: Memory, hidden: Tensor) -> Tensor:
    """What candidates see, (B, heads, M, width): the shopper side, and each of them itself.

    The shopper side goes through the fused attention where nobody asks for gradients: no matrix of M x N weights is written.
    The logarithm of its denominator says how much of the sum it is (as Dao et al., 2022, put blocks of keys together).
    """
    scale = 1 / math.sqrt(query.shape[-1])
    itself = (query * key).sum(-1, keepdim=True, dtype=torch.float32) * scale  # (B, heads, M, 1)
    if query.is_cpu and not torch.is_grad_enabled():
        bias = hidden.new_zeros(hidden.shape, dtype=query.dtype).masked_fill_(hidden, -torch.inf)
        # The one kernel that tells the denominator has no public name.
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        shopper, logsumexp = fused(query, memory.key, memory.value, 0.0, False, attn_mask=bias, scale=scale)
        share = torch.sigmoid(itself - logsumexp.unsqueeze(-1)).to(value.dtype)
        return torch.lerp(shopper, value, share)
    scores = (query @ memory.key.transpose(-1, -2)).masked_fill(hidden, -torch.inf) * scale  # (B, heads, M, N)
    weight = torch.softmax(torch.cat([scores.float(), itself], dim=-1), dim=-1).to(value.dtype)
    return weight[..., :-1] @ memory.value + weight[..., -1:] * value
