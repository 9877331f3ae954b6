"""Adapters in memory, each in a few flat tensors, and those of a batch put together layout by layout."""

import math
import mmap
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.model.adapter import Adapter
from peftrec.model.microscaling import BLOCK, bytes_of, fill, fits, values_of, whole_blocks
from peftrec.model.mixed import Group, Mixture
from peftrec.tuners import BottleneckPair, Changes, LowRankPair

Shape = tuple[int, ...]
Kind = Literal["byte", "half", "single"]
"""What an array is held in: bytes with a step for every few, see :mod:`peftrec.model.microscaling`; half or single precision."""


@dataclass(frozen=True, eq=False)
class Places:
    """Where some arrays lie, those of each kind one after the other.

    Attributes:
        shapes: Of the arrays.
        kinds: What each of them is held in.
    """

    shapes: tuple[Shape, ...]
    kinds: tuple[Kind, ...]

    @property
    def starts(self) -> list[int]:
        """Of each array, where it begins among those of its kind."""
        return self._placed[0]

    @property
    def total(self) -> dict[Kind, int]:
        """Numbers of each kind."""
        return self._placed[1]

    @cached_property
    def _placed(self) -> tuple[list[int], dict[Kind, int]]:
        """Bytes come in whole blocks."""
        starts, total = list[int](), dict[Kind, int].fromkeys(get_args(Kind), 0)
        for kind, shape in zip(self.kinds, self.shapes, strict=True):
            size = math.prod(shape)
            starts.append(total[kind])
            total[kind] += whole_blocks(size) if kind == "byte" else size
        return starts, total

    @cached_property
    def _strides(self) -> list[Shape]:
        return [tuple(math.prod(shape[at + 1 :]) for at in range(len(shape))) for shape in self.shapes]

    def apart(self, flats: Mapping[Kind, Tensor]) -> list[Tensor]:
        """Takes the flat tensors of A adapters apart, (A, n) of each kind: (A, *shape), nothing is copied."""
        return [
            flats[kind].as_strided((len(flats[kind]), *shape), (flats[kind].stride(0), *strides), start)
            for kind, shape, strides, start in zip(self.kinds, self.shapes, self._strides, self.starts, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each array of an adapter lies. Adapters that are made alike mostly share the object, and batches gain by it.

    Attributes:
        names: Of the extras.
        changes: Numbers in place of arrays.
        of_extras: The extras' arrays, which come first.
        of_changes: Those of the changes.
    """

    names: tuple[str, ...]
    changes: Changes[int]
    of_extras: Places
    of_changes: Places


@lru_cache(maxsize=256)  # recipes to make adapters by are few, but what AdaLoRA leaves of ranks is its own each time
def _layout(
    extras: tuple[str, ...],
    low_rank: tuple[str, ...],
    bottlenecks: tuple[tuple[str, str], ...],
    differences: tuple[str, ...],
    shapes: tuple[Shape, ...],
    kinds: tuple[Kind, ...],
) -> Layout:
    numbers, ours = iter(range(len(shapes))), len(extras)
    return Layout(
        extras,
        Changes(
            {name: LowRankPair(next(numbers), next(numbers)) for name in low_rank},
            {name: BottleneckPair(*islice(numbers, 4), activation) for name, activation in bottlenecks},  # pyright: ignore[reportCallIssue]
            {name: next(numbers) for name in differences},
        ),
        Places(shapes[:ours], kinds[:ours]),
        Places(shapes[ours:], kinds[ours:]),
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
    def extras(self) -> dict[str, Tensor]:
        """Matrices, in single precision."""
        return {name: value[0] for name, value in _extras([self]).items()}

    def extra(self, name: str) -> Tensor:
        """One of :attr:`extras`."""
        places, at = self.layout.of_extras, self.layout.names.index(name)
        start, shape, kind = places.starts[at], places.shapes[at], places.kinds[at]
        end = start + math.prod(shape)
        if kind != "byte":
            return (self.half if kind == "half" else self.single)[start:end].view(shape).float()
        blocks = slice(start // BLOCK, whole_blocks(end) // BLOCK)
        flat = values_of(self.counts[start : whole_blocks(end)], self.exponents[blocks])
        return flat[: end - start].view(shape)

    def restored(self) -> Adapter:
        """The adapter with its arrays again, in single precision."""
        changes = _changes([self], torch.float32).map(lambda value: value[0].cpu().numpy())
        extras = {name: value.cpu().numpy() for name, value in self.extras.items()}
        return replace(self.adapter, changes=changes, extras=extras)

    @cached_property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(one.nbytes for one in (self.counts, self.exponents, self.half, self.single))


def _compact(arrays: Sequence[NDArray[np.floating]]) -> tuple[tuple[Kind, ...], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """What each array can be held in without loss, and all of them so: counts, exponents, halves, singles."""
    kinds: list[Kind] = ["half" if value.dtype == np.float16 or _is_half(value) else "single" for value in arrays]
    tried = [at for at, kind in enumerate(kinds) if kind == "half" and fits(arrays[at])]
    held, counts, exponents = bytes_of([arrays[at].astype(np.float16, copy=False) for at in tried])
    for at, holds in zip(tried, held, strict=True):
        kinds[at] = "byte" if holds else "half"
    halves, singles = (
        _joined(dtype, [value for value, kind in zip(arrays, kinds, strict=True) if kind == name])
        for dtype, name in ((np.float16, "half"), (np.float32, "single"))
    )
    return tuple(kinds), (counts, exponents, halves, singles)


def _moved(flats: Sequence[Tensor], device: str | torch.device) -> list[Tensor]:
    return [one.to(device) for one in flats]


_AT_ONCE = 4 * 2**20
"""Up to so many bytes, memory is there from the first: page by page, when each is touched, takes twice as long. Python's lock is
held meanwhile, for half a millisecond, so that more is not asked for at once."""


def _in_one_block(flats: Sequence[Tensor]) -> list[Tensor]:
    """Copies in memory that is asked of the system for this adapter alone, and goes back to it when the adapter leaves.

    Between what comes and goes while others load, a thousand adapters would take twice the memory that they need.
    """
    block = _memory(max(1, sum(one.nbytes for one in flats)))
    found, start = dict[int, Tensor](), 0
    # The largest values first, so that each begins at a multiple of its own size.
    for at in sorted(range(len(flats)), key=lambda at: -flats[at].itemsize):
        found[at] = torch.empty_like(flats[at])
        if flats[at].numel():
            own = torch.frombuffer(block, dtype=flats[at].dtype, count=flats[at].numel(), offset=start)
            found[at] = own.copy_(flats[at])
        start += flats[at].nbytes
    return [found[at] for at in range(len(flats))]


def _memory(size: int) -> mmap.mmap:
    """Bytes of this process alone."""
    if sys.platform != "linux":
        return mmap.mmap(-1, size)
    at_once = mmap.MAP_POPULATE if size <= _AT_ONCE else 0
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | at_once)


def _joined(dtype: type[np.floating], arrays: Sequence[NDArray[np.floating]]) -> Tensor:
    parts: list[NDArray[np.floating]] = [value.ravel().astype(dtype, copy=False) for value in arrays]
    return torch.as_tensor(np.concatenate([np.empty(0, dtype), *parts]))


def _is_half(value: NDArray[np.floating]) -> bool:
    """Whether half precision loses nothing of single."""
    if (np.ascontiguousarray(value, np.float32).view(np.uint32) & 0x1FFF).any():
        return False  # digits that it has no place for; seen without a conversion, which takes numpy long
    with np.errstate(over="ignore"):
        return bool((value.astype(np.float16) == value).all())


def extras_of(rows: Sequence[Loaded]) -> dict[str, Tensor]:
    """The extras of each row, (B, rows, columns), or matrices where all rows share one adapter, in single precision."""
    if len(set(map(id, rows))) == 1:
        return rows[0].extras
    groups = _groups(rows)
    stacks = [
        {name: value if of_row is None else value[of_row] for name, value in _extras(alike).items()}
        for alike, _, of_row in groups
    ]
    if len(groups) == 1:
        return stacks[0]
    order = torch.cat([at for _, at, _ in groups]).argsort()
    return {name: torch.cat([stack[name] for stack in stacks])[order] for name in stacks[0]}


def mixture_of(rows: Sequence[Loaded], dtype: torch.dtype = torch.half) -> Mixture:
    """What each row's adapter changes, in a type but for what half precision does not hold."""
    return Mixture([Group(_changes(alike, dtype), at, of_row) for alike, at, of_row in _groups(rows)])


def _groups(rows: Sequence[Loaded]) -> list[tuple[list[Loaded], Tensor, Tensor | None]]:
    """Adapters of one layout each, the rows that they are for, and which of them it is, as :class:`Group` has both."""
    device, distinct = rows[0].half.device, list({id(loaded): loaded for loaded in rows}.values())
    if len(distinct) == 1:  # one stands for all rows
        return [(distinct, torch.zeros(1, dtype=torch.long, device=device), None)]
    groups = list[tuple[list[Loaded], Tensor, Tensor | None]]()
    for layout in {id(loaded.layout): loaded.layout for loaded in distinct}.values():
        alike = [loaded for loaded in distinct if loaded.layout is layout]
        place = {id(loaded): at for at, loaded in enumerate(alike)}
        at = [row for row, loaded in enumerate(rows) if id(loaded) in place]
        of_row = [place[id(rows[row])] for row in at]
        whole = of_row == list(range(len(of_row)))
        where, which = (torch.tensor(some, device=device) for some in (at, of_row))
        groups.append((alike, where, None if whole else which))
    return groups


def _extras(alike: Sequence[Loaded]) -> dict[str, Tensor]:
    """Of adapters of one layout, (A, rows, columns) each, in single precision."""
    layout = alike[0].layout
    return dict(zip(layout.names, _stacked(alike, layout.of_extras, torch.float32), strict=True))


def _changes(alike: Sequence[Loaded], dtype: torch.dtype) -> Changes[Tensor]:
    """Of adapters of one layout, (A, …) each."""
    layout = alike[0].layout
    return layout.changes.map(_stacked(alike, layout.of_changes, dtype, behind=layout.of_extras.total).__getitem__)


def _stacked(
    alike: Sequence[Loaded], places: Places, dtype: torch.dtype, *, behind: Mapping[Kind, int] | None = None
) -> list[Tensor]:
    """Some arrays of adapters of one layout, (A, *shape) each: numbers of each kind ``behind`` those that come first.

    Adapter by adapter on a processor: what one holds stays in the cache, and all of them together would not.
    """
    flats = dict[Kind, Tensor]()
    device = alike[0].half.device
    for kind, size in places.total.items():
        start = behind[kind] if behind else 0
        at, blocks = slice(start, start + size), slice(start // BLOCK, (start + size) // BLOCK)
        own = torch.float32 if kind == "single" and dtype == torch.half else dtype
        flats[kind] = flat = torch.empty(len(alike), size, dtype=own, device=device)
        if kind == "byte" and device.type != "cpu":
            counts, exponents = [one.counts[at] for one in alike], [one.exponents[blocks] for one in alike]
            fill(flat.view(-1), torch.cat(counts), torch.cat(exponents))
            continue
        for row, one in zip(flat, alike, strict=True):
            if kind == "byte":
                fill(row, one.counts[at], one.exponents[blocks])
            else:
                row.copy_((one.half if kind == "half" else one.single)[at])
    return places.apart(flats)
