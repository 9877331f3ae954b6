"""Adapters in memory, each in two flat tensors, and those of a batch put together layout by layout."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftrec.model.adapter import Adapter
from peftrec.model.mixed import Group, Mixture
from peftrec.tuners import BottleneckPair, Changes, LowRankPair

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each array of an adapter lies. Adapters that are made alike mostly share the object, and batches gain by it.

    Attributes:
        extras: Name -> number of its array.
        changes: Numbers in place of arrays.
        shapes: Of the arrays.
        halves: Which of them are held in half precision, one after the other; all others in single.
    """

    extras: Mapping[str, int]
    changes: Changes[int]
    shapes: tuple[Shape, ...]
    halves: tuple[bool, ...]

    @cached_property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Numbers in each array held in half precision, and in single."""
        counts = [math.prod(shape) for shape in self.shapes]
        halves = [count for count, half in zip(counts, self.halves, strict=True) if half]
        return halves, [count for count, half in zip(counts, self.halves, strict=True) if not half]

    @cached_property
    def starts(self) -> list[int]:
        """Of each array, where it begins among those of its precision."""
        found, ends = list[int](), {True: 0, False: 0}
        for shape, half in zip(self.shapes, self.halves, strict=True):
            found.append(ends[half])
            ends[half] += math.prod(shape)
        return found

    def arrays(self, half: Tensor, single: Tensor) -> list[Tensor]:
        """Takes one adapter's flat tensors apart, or a stack of them, (…, n) each: (…, *shape), nothing is copied."""
        halves, singles = self.sizes
        parts = [iter(torch.split(flat, sizes, dim=-1)) for flat, sizes in ((single, singles), (half, halves))]
        return [next(parts[kind]).unflatten(-1, shape) for kind, shape in zip(self.halves, self.shapes, strict=True)]


@lru_cache(maxsize=256)  # recipes to make adapters by are few, but what AdaLoRA leaves of ranks is its own each time
def _layout(
    extras: tuple[str, ...],
    low_rank: tuple[str, ...],
    bottlenecks: tuple[tuple[str, str], ...],
    differences: tuple[str, ...],
    shapes: tuple[Shape, ...],
    halves: tuple[bool, ...],
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
        halves,
    )


@dataclass(frozen=True, eq=False)
class Loaded:
    """One adapter, as small as its file: in half precision wherever that loses nothing.

    A thousand of them are a few thousand Python objects, so that collecting garbage takes no longer for them.

    Attributes:
        adapter: Settings, without arrays and facts.
        layout: Of the arrays.
        half: (n,) those that half precision holds.
        single: (m,) the others.
    """

    adapter: Adapter
    layout: Layout
    half: Tensor
    single: Tensor

    @classmethod
    def of(cls, adapter: Adapter, device: str | torch.device = "cpu") -> "Loaded":
        """Takes the arrays over, onto a device."""
        changes = adapter.changes
        arrays: list[NDArray[np.floating]] = [*adapter.extras.values(), *changes.arrays()]
        halves, flat = _compact(arrays)
        layout = _layout(
            tuple(adapter.extras),
            tuple(changes.low_rank),
            tuple((name, pair.activation) for name, pair in changes.bottlenecks.items()),
            tuple(changes.differences),
            tuple(value.shape for value in arrays),
            halves,
        )
        half, single = (torch.as_tensor(one).to(device) for one in flat)
        return cls(replace(adapter, changes=Changes(), extras={}, facts={}, learning_curve=()), layout, half, single)

    @property
    def extras(self) -> dict[str, Tensor]:
        """Matrices, as they are held."""
        arrays = self.layout.arrays(self.half, self.single)
        return {name: arrays[at] for name, at in self.layout.extras.items()}

    def extra(self, name: str) -> Tensor:
        """One of :attr:`extras`, in single precision."""
        at = self.layout.extras[name]
        start, shape = self.layout.starts[at], self.layout.shapes[at]
        flat = self.half if self.layout.halves[at] else self.single
        return flat[start : start + math.prod(shape)].view(shape).float()

    def restored(self) -> Adapter:
        """The adapter with its arrays again, in single precision."""
        arrays = [value.float().cpu().numpy() for value in self.layout.arrays(self.half, self.single)]
        extras = {name: arrays[at] for name, at in self.layout.extras.items()}
        return replace(self.adapter, changes=self.layout.changes.map(arrays.__getitem__), extras=extras)

    @cached_property
    def size(self) -> int:
        """Bytes of both tensors."""
        return self.half.nbytes + self.single.nbytes


def _compact(
    arrays: Sequence[NDArray[np.floating]],
) -> tuple[tuple[bool, ...], tuple[NDArray[np.float16], NDArray[np.float32]]]:
    """Which arrays half precision holds, those in one row, and the others in one row."""
    halves = {at for at, value in enumerate(arrays) if value.dtype == np.float16 or _is_half(value)}

    def joined(dtype: type[np.floating], which: Sequence[int]) -> NDArray[np.floating]:
        return np.concatenate([np.empty(0, dtype), *(arrays[at].ravel().astype(dtype, copy=False) for at in which)])

    kinds = tuple(at in halves for at in range(len(arrays)))
    others = [at for at, kind in enumerate(kinds) if not kind]
    return kinds, (joined(np.float16, sorted(halves)), joined(np.float32, others))  # pyright: ignore[reportReturnType]


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
        arrays = distinct[0].layout.arrays(distinct[0].half, distinct[0].single)
        changes = distinct[0].layout.changes.map(lambda at: arrays[at][None])
        own = torch.zeros(1, dtype=torch.long, device=distinct[0].half.device)
        return {name: arrays[at].float() for name, at in distinct[0].layout.extras.items()}, Mixture(
            [Group(changes, own)]
        )
    groups, stacks = list[Group](), list[dict[str, Tensor]]()
    for layout in {id(loaded.layout): loaded.layout for loaded in distinct}.values():
        alike = [loaded for loaded in distinct if loaded.layout is layout]
        half, single = _rows([one.half for one in alike]), _rows([one.single for one in alike])
        arrays = layout.arrays(half, single)
        place = {id(loaded): at for at, loaded in enumerate(alike)}
        at = [row for row, loaded in enumerate(rows) if id(loaded) in place]
        of_row = [place[id(rows[row])] for row in at]
        whole = of_row == list(range(len(of_row)))
        where, which = (torch.tensor(some, device=half.device) for some in (at, of_row))
        group = Group(layout.changes.map(arrays.__getitem__), where, None if whole else which)
        groups.append(group)
        stacks.append({name: group.spread(arrays[number]).float() for name, number in layout.extras.items()})
    if len(groups) == 1:
        return stacks[0], Mixture(groups)
    order = torch.cat([group.rows for group in groups]).argsort()
    return {name: torch.cat([stack[name] for stack in stacks])[order] for name in stacks[0]}, Mixture(groups)


def _rows(flats: Sequence[Tensor]) -> Tensor:
    """(A, n), not by ``torch.stack``, which refuses halves where bf16 is the arithmetic."""
    stack = torch.empty(len(flats), len(flats[0]), dtype=flats[0].dtype, device=flats[0].device)
    for row, flat in zip(stack, flats, strict=True):
        row.copy_(flat)
    return stack
