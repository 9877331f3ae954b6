"""Adapters in memory, each in a few flat tensors, and those of a batch put together layout by layout."""

import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, compress, islice
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.model.adapter import Adapter
from peftrec.model.microscaling import BLOCK, bytes_of, fits, halves_of, whole_blocks
from peftrec.model.mixed import Group, Mixture
from peftrec.tuners import BottleneckPair, Changes, LowRankPair

Shape = tuple[int, ...]
Kind = Literal["byte", "half", "single"]
"""What an array is held in: bytes with a step for every few, see :mod:`peftrec.model.microscaling`; half or single precision."""

Flats = Mapping[Kind, Tensor]
"""The arrays of each kind, one after the other: (…, n)."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each array of an adapter lies. Adapters that are made alike mostly share the object, and batches gain by it.

    Attributes:
        extras: Name -> number of its array.
        changes: Numbers in place of arrays.
        shapes: Of the arrays.
        kinds: What each of them is held in.
    """

    extras: Mapping[str, int]
    changes: Changes[int]
    shapes: tuple[Shape, ...]
    kinds: tuple[Kind, ...]

    @cached_property
    def sizes(self) -> dict[Kind, list[int]]:
        """Numbers in each array of a kind; bytes come in whole blocks."""
        sizes: dict[Kind, list[int]] = {kind: [] for kind in get_args(Kind)}
        for kind, shape in zip(self.kinds, self.shapes, strict=True):
            size = math.prod(shape)
            sizes[kind].append(whole_blocks(size) if kind == "byte" else size)
        return sizes

    @cached_property
    def starts(self) -> list[int]:
        """Of each array, where it begins among those of its kind."""
        ahead = {kind: accumulate(sizes, initial=0) for kind, sizes in self.sizes.items()}
        return [next(ahead[kind]) for kind in self.kinds]

    def arrays(self, flats: Flats) -> list[Tensor]:
        """Takes the flat tensors of one adapter apart, or of a stack of them: (…, *shape), nothing is copied."""
        parts = {kind: iter(torch.split(flat, self.sizes[kind], dim=-1)) for kind, flat in flats.items()}
        return [
            next(parts[kind])[..., : math.prod(shape)].unflatten(-1, shape)
            for kind, shape in zip(self.kinds, self.shapes, strict=True)
        ]


@lru_cache(maxsize=256)  # recipes to make adapters by are few, but what AdaLoRA leaves of ranks is its own each time
def _layout(
    extras: tuple[str, ...],
    low_rank: tuple[str, ...],
    bottlenecks: tuple[tuple[str, str], ...],
    differences: tuple[str, ...],
    shapes: tuple[Shape, ...],
    kinds: tuple[Kind, ...],
) -> Layout:
    numbers = iter(range(len(shapes)))
    return Layout(
        {name: next(numbers) for name in extras},
        Changes(
            {name: LowRankPair(next(numbers), next(numbers)) for name in low_rank},
            {name: BottleneckPair(*islice(numbers, 4), activation) for name, activation in bottlenecks},  # pyright: ignore[reportCallIssue]
            {name: next(numbers) for name in differences},
        ),
        shapes,
        kinds,
    )


@dataclass(frozen=True, eq=False)
class Loaded:
    """One adapter, smaller than its file: in bytes or in half precision wherever that loses nothing.

    A thousand of them are a few thousand Python objects, so that collecting garbage takes no longer for them.

    Attributes:
        adapter: Settings, without arrays and facts.
        layout: Of the arrays.
        counts: (b,) int8, of those that are held in bytes.
        exponents: (b / BLOCK,) int8, of their steps.
        half: (n,) those that half precision holds.
        single: (m,) the others.
    """

    adapter: Adapter
    layout: Layout
    counts: Tensor
    exponents: Tensor
    half: Tensor
    single: Tensor

    @classmethod
    def of(cls, adapter: Adapter, device: str | torch.device = "cpu") -> "Loaded":
        """Takes the arrays over, onto a device."""
        changes = adapter.changes
        arrays: list[NDArray[np.floating]] = [*adapter.extras.values(), *changes.arrays()]
        kinds, flat = _compact(arrays)
        layout = _layout(
            tuple(adapter.extras),
            tuple(changes.low_rank),
            tuple((name, pair.activation) for name, pair in changes.bottlenecks.items()),
            tuple(changes.differences),
            tuple(value.shape for value in arrays),
            kinds,
        )
        bare = replace(adapter, changes=Changes(), extras={}, facts={}, learning_curve=())
        return cls(bare, layout, *(_in_one_block(flat) if torch.device(device).type == "cpu" else _moved(flat, device)))

    @property
    def flats(self) -> dict[Kind, Tensor]:
        """As numbers to compute with, what is held in bytes in half precision."""
        return {"byte": halves_of(self.counts, self.exponents), "half": self.half, "single": self.single}

    @property
    def extras(self) -> dict[str, Tensor]:
        """Matrices, in half or single precision."""
        arrays = self.layout.arrays(self.flats)
        return {name: arrays[at] for name, at in self.layout.extras.items()}

    def extra(self, name: str) -> Tensor:
        """One of :attr:`extras`, in single precision."""
        at = self.layout.extras[name]
        start, shape, kind = self.layout.starts[at], self.layout.shapes[at], self.layout.kinds[at]
        end = start + math.prod(shape)
        if kind != "byte":
            return (self.half if kind == "half" else self.single)[start:end].view(shape).float()
        blocks = slice(start // BLOCK, whole_blocks(end) // BLOCK)
        flat = halves_of(self.counts[start : whole_blocks(end)], self.exponents[blocks])
        return flat[: end - start].view(shape).float()

    def restored(self) -> Adapter:
        """The adapter with its arrays again, in single precision."""
        arrays = [value.float().cpu().numpy() for value in self.layout.arrays(self.flats)]
        extras = {name: arrays[at] for name, at in self.layout.extras.items()}
        return replace(self.adapter, changes=self.layout.changes.map(arrays.__getitem__), extras=extras)

    @cached_property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(one.nbytes for one in (self.counts, self.exponents, self.half, self.single))


def _compact(arrays: Sequence[NDArray[np.floating]]) -> tuple[tuple[Kind, ...], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """What each array can be held in without loss, and all of them so: counts, exponents, halves, singles."""
    kinds: list[Kind] = ["half" if value.dtype == np.float16 or _is_half(value) else "single" for value in arrays]
    tried = [at for at, kind in enumerate(kinds) if kind == "half" and fits(arrays[at])]
    counts, exponents, lossless = bytes_of(_blocks([arrays[at] for at in tried]))
    sizes = [whole_blocks(arrays[at].size) // BLOCK for at in tried]
    whole = [bool(one.all()) for one in torch.split(lossless, sizes)]
    for at, holds in zip(tried, whole, strict=True):
        kinds[at] = "byte" if holds else "half"
    if not all(whole):
        counts = torch.cat([counts[:0], *compress(torch.split(counts, [BLOCK * size for size in sizes]), whole)])
        exponents = torch.cat([exponents[:0], *compress(torch.split(exponents, sizes), whole)])
    halves, singles = (
        _joined(dtype, [value for value, kind in zip(arrays, kinds, strict=True) if kind == name])
        for dtype, name in ((np.float16, "half"), (np.float32, "single"))
    )
    return tuple(kinds), (counts, exponents, halves, singles)


def _moved(flats: Sequence[Tensor], device: str | torch.device) -> list[Tensor]:
    return [one.to(device) for one in flats]


def _in_one_block(flats: Sequence[Tensor]) -> list[Tensor]:
    """Copies in memory that is asked of the system for this adapter alone, and goes back to it when the adapter leaves.

    Between what comes and goes while others load, a thousand adapters would take twice the memory that they need.
    """
    block = mmap.mmap(-1, max(1, sum(one.nbytes for one in flats)))
    found, start = dict[int, Tensor](), 0
    # The largest values first, so that each begins at a multiple of its own size.
    for at in sorted(range(len(flats)), key=lambda at: -flats[at].itemsize):
        found[at] = torch.empty_like(flats[at])
        if flats[at].numel():
            own = torch.frombuffer(block, dtype=flats[at].dtype, count=flats[at].numel(), offset=start)
            found[at] = own.copy_(flats[at])
        start += flats[at].nbytes
    return [found[at] for at in range(len(flats))]


def _joined(dtype: type[np.floating], arrays: Sequence[NDArray[np.floating]]) -> Tensor:
    parts: list[NDArray[np.floating]] = [value.ravel().astype(dtype, copy=False) for value in arrays]
    return torch.as_tensor(np.concatenate([np.empty(0, dtype), *parts]))


def _blocks(arrays: Sequence[NDArray[np.floating]]) -> Tensor:
    """In half precision, each filled up to whole blocks with zeros."""
    filled = [part for value in arrays for part in (value, np.zeros(-value.size % BLOCK, np.float16))]
    return _joined(np.float16, filled)


def _is_half(value: NDArray[np.floating]) -> bool:
    """Whether half precision loses nothing of single."""
    if (np.ascontiguousarray(value, np.float32).view(np.uint32) & 0x1FFF).any():
        return False  # digits that it has no place for; seen without a conversion, which takes numpy long
    with np.errstate(over="ignore"):
        return bool((value.astype(np.float16) == value).all())


def together(rows: Sequence[Loaded]) -> tuple[dict[str, Tensor], Mixture]:
    """The adapters of a batch, ready for use.

    Args:
        rows: The adapter of each row.

    Returns:
        The extras of each row, (B, rows, columns), or matrices where all rows share one adapter, in single precision; and what
        they change, as it is held.
    """
    distinct = list({id(loaded): loaded for loaded in rows}.values())
    if len(distinct) == 1:
        arrays = distinct[0].layout.arrays(distinct[0].flats)
        changes = distinct[0].layout.changes.map(lambda at: arrays[at][None])
        own = torch.zeros(1, dtype=torch.long, device=distinct[0].half.device)
        return {name: arrays[at].float() for name, at in distinct[0].layout.extras.items()}, Mixture(
            [Group(changes, own)]
        )
    groups, stacks = list[Group](), list[dict[str, Tensor]]()
    for layout in {id(loaded.layout): loaded.layout for loaded in distinct}.values():
        alike = [loaded for loaded in distinct if loaded.layout is layout]
        arrays = layout.arrays(_stacked(alike))
        place = {id(loaded): at for at, loaded in enumerate(alike)}
        at = [row for row, loaded in enumerate(rows) if id(loaded) in place]
        of_row = [place[id(rows[row])] for row in at]
        whole = of_row == list(range(len(of_row)))
        where, which = (torch.tensor(some, device=rows[0].half.device) for some in (at, of_row))
        group = Group(layout.changes.map(arrays.__getitem__), where, None if whole else which)
        groups.append(group)
        stacks.append({name: group.spread(arrays[number]).float() for name, number in layout.extras.items()})
    if len(groups) == 1:
        return stacks[0], Mixture(groups)
    order = torch.cat([group.rows for group in groups]).argsort()
    return {name: torch.cat([stack[name] for stack in stacks])[order] for name in stacks[0]}, Mixture(groups)


def _stacked(alike: Sequence[Loaded]) -> dict[Kind, Tensor]:
    """The flat tensors of adapters of one layout, (A, n) of each kind."""
    blocks = halves_of(torch.cat([one.counts for one in alike]), torch.cat([one.exponents for one in alike]))
    return {
        "byte": blocks.view(len(alike), -1),
        "half": _rows([one.half for one in alike]),
        "single": _rows([one.single for one in alike]),
    }


def _rows(flats: Sequence[Tensor]) -> Tensor:
    """(A, n), not by ``torch.stack``, which refuses halves where bf16 is the arithmetic."""
    stack = torch.empty(len(flats), len(flats[0]), dtype=flats[0].dtype, device=flats[0].device)
    for row, flat in zip(stack, flats, strict=True):
        row.copy_(flat)
    return stack
