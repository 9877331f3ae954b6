"""Serving on a GPU: latency, throughput and memory of the decoder with 1, 32 and 1,000 adapters.

In fp32, bf16 and int8 (bitsandbytes), for MiniLM's weights and for a BERT of base size with random ones, since speed and memory
do not depend on what weights say. Words of 32 shoppers with 128 products of history and of 200 candidates each; adapters are
LoRA of rank 16 on every map of the decoder, resident in half precision, and other ones at every turn. Peak memory is what
torch has allocated and reserved since the weights were loaded, weights and adapters included.

It runs only where there is a GPU, and writes ``results/gpu.json`` with the device's name::

    python benchmarks/gpu.py
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from results import write
from transformers import BertConfig, BertModel

from peftrec import Backbone
from peftrec.model import Adapter
from peftrec.model.decoder import read_candidates, read_shopper
from peftrec.model.mixed import Mixture, mixed_layers
from peftrec.model.shapes import first_layer
from peftrec.serving.loaded import Loaded, mixture_of
from peftrec.serving.precision import PRECISIONS, decoder_for, words_dtype
from peftrec.tuners import Changes, LoRAConfig
from peftrec.tuners.maps import TARGETS
from peftrec.tuners.neutral import LowRankPair
from peftrec.tuners.tuner import path

ADAPTERS = (1, 32, 1_000)
BATCH, HISTORY, CANDIDATES, RANK = 32, 128, 200, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=50, help="measured batches of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: nothing is measured, and nothing is written")
    device = torch.device("cuda")
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, load in (
            ("minilm-l6", lambda: Backbone.load("minilm-l6")),
            ("bert-base", lambda: base(Path(folder))),
        ):
            backbone = load().to(device)
            for precision in PRECISIONS:
                rows += measured(backbone, name, precision, turns=options.turns, seed=options.seed)
    for row in rows:
        print(
            f"{row['dataset']!s:10} {row['system']!s:14} {row['adapters']!s:>5} {row['metric']!s:24} {row['value']:.5g}"
        )
    told = {"device": torch.cuda.get_device_name(device)}
    write("gpu", [row | told for row in rows], seed=options.seed)


def base(folder: Path) -> Backbone:
    """A BERT of base size, 12 layers of width 768, with random weights and MiniLM's tokenizer."""
    tokenizer = Backbone.load("minilm-l6").tokenizer
    config = BertConfig(vocab_size=len(tokenizer))
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Backbone.load(folder)


def measured(
    backbone: Backbone,
    name: str,
    precision: str,
    *,
    adapters: Sequence[int] = ADAPTERS,
    batch: int = BATCH,
    history: int = HISTORY,
    candidates: int = CANDIDATES,
    turns: int,
    seed: int,
) -> list[dict[str, object]]:
    """Rows of one backbone, on its device, in one precision."""
    device, rows = backbone.device, list[dict[str, object]]()
    _forget(device)
    decoder, _ = decoder_for(backbone, precision)
    travel = words_dtype(precision, device)
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(batch, history + 3, backbone.hidden, generator=generator).to(device)
    products = torch.randn(batch, candidates, backbone.hidden, generator=generator).to(device)
    mask = torch.ones(batch, history + 3, dtype=torch.bool, device=device)
    first = first_layer(backbone)

    def run(chosen: Sequence[Loaded], count: int) -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            mixture = mixture_of(chosen, travel or torch.half) if chosen else Mixture([])
            layers = mixed_layers(decoder, mixture, first_layer=first, words=travel)
            _, memories = read_shopper(layers, words[:count], mask[:count])
            read_candidates(layers, products[:count], mask[:count], memories)

    alone = float(np.median(_timed(lambda: run([], batch), turns, device)))
    rows.append(_row(name, precision, 0, "scores_per_second", batch * candidates / alone, "1/s"))
    for count in adapters:
        held = [_adapter(backbone, seed + number, device) for number in range(count)]
        turn = iter(range(10**9))

        def mixed(held: list[Loaded] = held, turn: Iterator[int] = turn) -> None:
            begun = next(turn) * batch
            run([held[(begun + row) % len(held)] for row in range(batch)], batch)

        def one(held: list[Loaded] = held, turn: Iterator[int] = turn) -> None:
            run([held[next(turn) % len(held)]], 1)

        seconds = float(np.median(_timed(mixed, turns, device)))
        single = 1e3 * np.array(_timed(one, turns, device))
        rows += [
            _row(name, precision, count, "scores_per_second", batch * candidates / seconds, "1/s"),
            _row(name, precision, count, "mixed_overhead_over_base", seconds / alone - 1, ""),
            _row(name, precision, count, "request_p50_ms", float(np.percentile(single, 50)), "ms"),
            _row(name, precision, count, "request_p99_ms", float(np.percentile(single, 99)), "ms"),
        ]
        if device.type == "cuda":
            for metric, taken in (
                ("memory_allocated", torch.cuda.max_memory_allocated(device)),
                ("memory_reserved", torch.cuda.max_memory_reserved(device)),
            ):
                rows.append(_row(name, precision, count, metric, taken, "bytes"))
    return rows


def _adapter(backbone: Backbone, seed: int, device: torch.device) -> Loaded:
    """LoRA of rank 16 on every map of the decoder, and nothing else, as an engine holds it."""
    generator, pairs = torch.Generator().manual_seed(seed), dict[str, LowRankPair[NDArray[np.float32]]]()
    for at, layer in enumerate(backbone.decoder().cpu(), start=first_layer(backbone)):
        for place in TARGETS.values():
            linear = layer.get_submodule(place)
            a = torch.randn(RANK, int(linear.in_features), generator=generator) / 50  # pyright: ignore
            b = torch.randn(int(linear.out_features), RANK, generator=generator) / 50  # pyright: ignore
            pairs[path(at, place)] = LowRankPair(a.half().float().numpy(), b.half().float().numpy())
    adapter = Adapter(backbone=backbone, config=LoRAConfig(rank=RANK), changes=Changes(pairs), extras={})
    return Loaded.of(adapter, device)


def _timed(action: Callable[[], object], turns: int, device: torch.device) -> list[float]:
    """Seconds of each turn, three that do not count before them; a GPU is waited for."""
    taken: list[float] = []
    for turn in range(turns + 3):
        begun = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn >= 3:
            taken.append(time.perf_counter() - begun)
    return taken


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _row(name: str, precision: str, adapters: int, metric: str, value: float, unit: str) -> dict[str, object]:
    row: dict[str, object] = {"system": f"peftrec {precision}", "dataset": name, "slice": "all", "metric": metric}
    return row | {"value": float(value), "low": None, "high": None, "unit": unit, "adapters": adapters}


if __name__ == "__main__":
    main()
