"""The decoder as one or several adapters change it: the very lines that evaluation and serving run.

Row by row another adapter: changes are stacked, ranks padded with zeros, and added to what the shared maps give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from peftrec.backbone.int8 import Int8Linear, each_product
from peftrec.model.decoder import Layer, Map
from peftrec.tuners import Changes
from peftrec.tuners.bottleneck import ACTIVATIONS, ATTENTION, BESIDE, OUTPUT
from peftrec.tuners.tuner import path


class MixedLinear:
    """A frozen linear map with another low-rank change for each row of the batch: ``y = W x + B_row (A_row x)``.

    Args:
        base: int8 or float.
        a: (B, rank, in), ranks padded with zeros; (1, rank, in) where all rows share one adapter. Of any type: what a call
            needs becomes that of the words within it, and stays in the cache.
        b: (B, out, rank) or (1, out, rank), likewise.
    """

    def __init__(self, base: nn.Module, a: Tensor, b: Tensor) -> None:
        self.base, self.a, self.b = base, a, b

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, out)."""
        return each([self], x)[0]

    def change(self, found: Tensor, inner: Tensor) -> None:
        """Adds to what the base gives, (B, T, out), what ``inner = A_row x``, (B, T, rank), is mapped to.

        In place: to write the change by itself, and the sum again, costs more than to compute it. Row by row, also where all
        rows share one adapter: so they have the same bits whoever else is in the batch.
        """
        inner, up = inner.to(found.dtype), self.b.to(found.dtype).transpose(1, 2)
        found.baddbmm_(inner, up.expand(len(found), -1, -1))


def each(maps: Sequence[Map], x: Tensor) -> list[Tensor]:
    """What several maps make of the same words, (B, T, in) -> (B, T, out) each.

    Where the shared weights are int8, words are rounded once for all; where they are bf16, converted once; and one product gives
    what the words are to all low-rank changes.
    """
    bases = [map_.base if isinstance(map_, MixedLinear) else map_ for map_ in maps]
    if all(isinstance(base, Int8Linear) for base in bases):
        found = each_product(cast(list[Int8Linear], bases), x)
    else:
        if isinstance(bases[0], nn.Linear) and bases[0].weight.is_floating_point():
            x = x.to(bases[0].weight.dtype)
        found = [base(x) for base in bases]
    changed = [(result, map_) for result, map_ in zip(found, maps, strict=True) if isinstance(map_, MixedLinear)]
    if changed:
        parts = [map_.a.to(x.dtype) for _, map_ in changed]
        a = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        inner = torch.split(x @ a.transpose(1, 2), [map_.a.shape[1] for _, map_ in changed], dim=-1)
        for (result, map_), part in zip(changed, inner, strict=True):
            map_.change(result, part)
    return found


@dataclass(frozen=True)
class MixedBottleneck:
    """Another small network for each row of the batch: ``up_row f_row(down_row x + c_row) + d_row``; zeros for rows without.

    Attributes:
        down: (B, width, H), widths padded with zeros; B may be 1, as everywhere here.
        down_bias: (B, 1, width).
        up: (B, H, width).
        up_bias: (B, 1, H).
        chosen: (B, 1, 1) long, index into ``activations``.
        activations: Those of the adapters at hand.
    """

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    chosen: Tensor
    activations: tuple[str, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H)."""
        down, down_bias, up, up_bias = (one.to(x.dtype) for one in (self.down, self.down_bias, self.up, self.up_bias))
        inner = x @ down.transpose(1, 2) + down_bias
        found = ACTIVATIONS[self.activations[0]](inner)
        for at, name in enumerate(self.activations[1:], start=1):
            found = torch.where(self.chosen == at, ACTIVATIONS[name](inner), found)
        return found @ up.transpose(1, 2) + up_bias


@dataclass(frozen=True)
class Group:
    """Adapters whose changes have the same places and shapes.

    Attributes:
        changes: Stacked, (A, ...) each.
        rows: (R,) long, the rows of the batch that one of them is for.
        of_row: (R,) long, which one it is; None where row r has number r.
    """

    changes: Changes[Tensor]
    rows: Tensor
    of_row: Tensor | None = None

    def spread(self, stack: Tensor) -> Tensor:
        """(A, n, m) of the adapters -> (R, n, m) of the rows."""
        return stack if self.of_row is None else stack[self.of_row]


class Mixture:
    """The changes of a batch, place by place.

    Args:
        groups: Together they have every row once; one adapter alone, with one row, stands for all rows there are.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self.size = sum(len(group.rows) for group in groups)

    @classmethod
    def of(cls, rows: Sequence[Changes[Tensor]]) -> "Mixture":
        """Of each row; rows that share an adapter share the object.

        They need not know of each other's shapes: each adapter is a group of its own.
        """
        distinct = {id(row): row for row in rows}
        groups = list[Group]()
        for key, changes in distinct.items():
            own = [at for at, row in enumerate(rows) if id(row) == key] if len(distinct) > 1 else [0]
            one = changes.map(lambda value: value[None])
            device = next((array.device for array in one.arrays()), None)
            at = torch.tensor(own, device=device)
            groups.append(Group(one, at, None if len(own) == 1 else torch.zeros_like(at)))
        return cls(groups)

    def linear(self, base: nn.Module, name: str) -> Map:
        """A shared linear map with what each row changes of it."""
        pairs = [group.changes.low_rank.get(name) for group in self.groups]
        if not any(pairs):
            return base
        a, b = self._stack([None if pair is None else (pair.a, pair.b.transpose(1, 2)) for pair in pairs])
        return MixedLinear(base, a, b.transpose(1, 2))

    def bottleneck(self, name: str) -> MixedBottleneck | None:
        """What each row adds at a place; None where no row adds anything."""
        pairs = [group.changes.bottlenecks.get(name) for group in self.groups]
        if not any(pairs):
            return None
        names = tuple(dict.fromkeys(pair.activation for pair in pairs if pair is not None))
        down, up, inner, bias = self._stack(
            [
                None
                if pair is None
                else (pair.down, pair.up.transpose(1, 2), pair.down_bias.transpose(1, 2), pair.up_bias)
                for pair in pairs
            ]
        )
        chosen = torch.zeros(self.size, 1, 1, dtype=torch.long, device=down.device)
        for group, pair in zip(self.groups, pairs, strict=True):
            if pair is not None:
                chosen[group.rows] = names.index(pair.activation)
        return MixedBottleneck(down, inner.transpose(1, 2), up.transpose(1, 2), bias, chosen, names)

    def _stack(self, of_groups: Sequence[Sequence[Tensor] | None]) -> list[Tensor]:
        """Matrices of the groups as one for each row of the batch, padded with zeros, where a group has none as well."""
        if len(of_groups) == 1 and of_groups[0] is not None:  # nothing to pad, so nothing to copy
            return [self.groups[0].spread(matrix) for matrix in of_groups[0]]
        present = [one for one in of_groups if one is not None]
        stacks: list[Tensor] = []
        for at, like in enumerate(present[0]):
            dtypes = {one[at].dtype for one in present}
            shape = (self.size, max(one[at].shape[1] for one in present), like.shape[2])
            stack = like.new_zeros(shape, dtype=dtypes.pop() if len(dtypes) == 1 else torch.float)
            for group, one in zip(self.groups, of_groups, strict=True):
                if one is not None:
                    stack[group.rows, : one[at].shape[1]] = group.spread(one[at])
            stacks.append(stack)
        return stacks


def mixed_layers(
    base: nn.ModuleList, mixture: Mixture, *, first_layer: int, words: torch.dtype | None = None
) -> list[Layer]:
    """The decoder with each row's own tuner; differences are not looked at, see :func:`with_differences`.

    Args:
        base: The shared layers.
        mixture: Of one row for each of the batch, or of one for all.
        first_layer: Number of the decoder's lowest layer within the whole BERT.
        words: What words travel in, see :class:`Layer`.
    """

    def layer(number: int, module: nn.Module) -> Layer:
        def linear(place: str) -> Map:
            return mixture.linear(module.get_submodule(place), path(number, place))

        def behind(place: str) -> Map:
            return then(linear(f"{place}.dense"), mixture.bottleneck(path(number, place)))

        return Layer(
            query=linear("attention.self.query"),
            key=linear("attention.self.key"),
            value=linear("attention.self.value"),
            attention_output=behind(ATTENTION),
            attention_norm=module.get_submodule("attention.output.LayerNorm"),
            intermediate=linear("intermediate.dense"),
            activation=module.get_submodule("intermediate.intermediate_act_fn"),
            output=behind(OUTPUT),
            parallel=mixture.bottleneck(path(number, BESIDE)),
            output_norm=module.get_submodule("output.LayerNorm"),
            heads=int(module.get_submodule("attention.self").num_attention_heads),  # pyright: ignore[reportArgumentType]
            each=each,
            words=words,
        )

    return [layer(first_layer + index, module) for index, module in enumerate(base)]


@dataclass(frozen=True)
class Then:
    """A map with a bottleneck behind it, and the way past that."""

    map: Map
    bottleneck: Map

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, out)."""
        x = self.map(x)
        return x + self.bottleneck(x)


def then(map_: Map, bottleneck: Map | None) -> Map:
    """A map with a bottleneck behind it, if there is one."""
    return map_ if bottleneck is None else Then(map_, bottleneck)


def with_differences(decoder: nn.ModuleList, changes: Changes[Tensor], *, first_layer: int) -> nn.ModuleList:
    """Adds the differences of a reference to a decoder of its own, in place."""
    own = {path(first_layer + int(at), place): value for at, place, value in _named(decoder)}
    with torch.no_grad():
        for name, difference in changes.differences.items():
            own[name] += difference
    return decoder


def _named(decoder: nn.ModuleList) -> list[tuple[str, str, nn.Parameter]]:
    return [(*name.partition(".")[::2], value) for name, value in decoder.named_parameters()]
