"""Adapters in memory: loaded on first use, evicted by bytes, stacked per batch. Nothing about a request is kept here."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftrec.errors import ConfigError, RequestError
from peftrec.model.adapter import Adapter
from peftrec.model.decoder import Layer

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(memory: str | int) -> int:
    """Bytes of ``512MB``, ``2GiB`` or a plain number.

    Raises:
        ConfigError: It is no positive amount.
    """
    text = str(memory).strip().upper().replace(" ", "")
    for unit, factor in _UNITS.items():
        number = text.removesuffix(unit)
        if number != text and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return int(float(number) * factor)
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise ConfigError(
        f"memory={memory!r}", expected="an amount such as '512MB', '2GiB' or 500000000", remedy="try '512MB'"
    )


@dataclass(frozen=True)
class Loaded:
    """One adapter as tensors.

    Attributes:
        adapter: Settings and facts.
        low_rank: Path of a linear map -> A (rank, in) and B (out, rank), scale folded in.
        extras: Matrices.
    """

    adapter: Adapter
    low_rank: dict[str, tuple[Tensor, Tensor]]
    extras: dict[str, Tensor]

    @classmethod
    def of(cls, adapter: Adapter) -> "Loaded":
        """Takes the arrays over."""
        pairs = adapter.low_rank.pairs.items()
        return cls(
            adapter,
            {name: (torch.as_tensor(pair.a), torch.as_tensor(pair.b)) for name, pair in pairs},
            {name: torch.as_tensor(value) for name, value in adapter.extras.items()},
        )

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        pairs = sum(a.nbytes + b.nbytes for a, b in self.low_rank.values())
        return pairs + sum(value.nbytes for value in self.extras.values())


class Slots:
    """Adapters by ``name@version``, the least recently used leaving first.

    Args:
        load: Reads one from the registry.
        budget: Bytes for all of them.
    """

    def __init__(self, load: Callable[[str], Adapter], budget: int) -> None:
        self._load, self.budget = load, budget
        self._held: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()
        self.loads, self.hits, self.evictions = 0, 0, 0

    def get(self, reference: str) -> Loaded:
        """The adapter, loaded if need be. What a caller holds stays valid when its slot is given to another.

        Raises:
            RegistryError: It cannot be loaded; what is held stays.
            RequestError: It is larger than the whole budget.
        """
        with self._lock:
            if reference in self._held:
                self._held.move_to_end(reference)
                self.hits += 1
                return self._held[reference]
        loaded = Loaded.of(self._load(reference))  # outside the lock: others are served meanwhile
        if loaded.size > self.budget:
            raise RequestError(
                f"{reference} takes {loaded.size:,} bytes, the engine may hold {self.budget:,}",
                expected="a budget for at least one adapter",
                remedy=f"Engine(..., memory={2 * loaded.size})",
            )
        with self._lock:
            self.loads += 1
            self._held[reference] = loaded
            while self.size > self.budget:
                self._held.popitem(last=False)
                self.evictions += 1
        return loaded

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(loaded.size for loaded in self._held.values())


class MixedLinear:
    """A frozen linear map with another low-rank change for each row of the batch: ``y = W x + B_row (A_row x)``.

    Args:
        base: int8 or float.
        a: (B, rank, in), ranks padded with zeros; (1, rank, in) where all rows share one adapter.
        b: (B, out, rank) or (1, out, rank).
    """

    def __init__(self, base: nn.Module, a: Tensor, b: Tensor) -> None:
        self.base, self.a, self.b = base, a, b

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, out)."""
        return self.base(x) + (x @ self.a.transpose(1, 2)) @ self.b.transpose(1, 2)


def mixed_layers(base: nn.ModuleList, rows: Sequence[Loaded], *, first_layer: int) -> list[Layer]:
    """The decoder with each row's own tuner.

    Args:
        base: The shared layers.
        rows: One adapter per row of the batch.
        first_layer: Number of the decoder's lowest layer within the whole BERT.
    """
    distinct = {id(loaded): loaded for loaded in rows}
    place = {key: index for index, key in enumerate(distinct)}
    of_row = torch.tensor([place[id(loaded)] for loaded in rows] if len(distinct) > 1 else [0])

    def mixed(layer: int, path: str) -> MixedLinear | nn.Module:
        module = base[layer].get_submodule(path)
        name = f"encoder.layer.{first_layer + layer}.{path}"
        pairs = [loaded.low_rank.get(name) for loaded in distinct.values()]
        present = [pair for pair in pairs if pair is not None]
        if not present:
            return module
        rank = max(len(a) for a, _ in present)
        width, out = present[0][0].shape[1], present[0][1].shape[0]
        a, b = torch.zeros(len(pairs), rank, width), torch.zeros(len(pairs), out, rank)
        for index, pair in enumerate(pairs):
            if pair is not None:
                a[index, : len(pair[0])], b[index, :, : len(pair[0])] = pair
        return MixedLinear(module, a[of_row], b[of_row])

    return [
        Layer(
            query=mixed(index, "attention.self.query"),
            key=mixed(index, "attention.self.key"),
            value=mixed(index, "attention.self.value"),
            attention_output=mixed(index, "attention.output.dense"),
            attention_norm=base[index].get_submodule("attention.output.LayerNorm"),
            intermediate=mixed(index, "intermediate.dense"),
            activation=base[index].get_submodule("intermediate.intermediate_act_fn"),
            output=mixed(index, "output.dense"),
            output_norm=base[index].get_submodule("output.LayerNorm"),
            heads=int(base[index].get_submodule("attention.self").num_attention_heads),  # pyright: ignore[reportArgumentType]
        )
        for index in range(len(base))
    ]


def stacked(rows: Sequence[Loaded]) -> dict[str, Tensor]:
    """The extras of each row, (B, rows, columns); those of one adapter alone stay matrices."""
    if all(loaded is rows[0] for loaded in rows):
        return dict(rows[0].extras)
    return {name: torch.stack([loaded.extras[name] for loaded in rows]) for name in rows[0].extras}
