"""Seconds of what a benchmark does, and the rows that they end in."""

import gc
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np
import psutil
import torch

from peftrec.backbone.memory import give_back


def median(action: Callable[[], object], times: int) -> float:
    """Median seconds, after one that does not count."""
    action()
    taken: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def alternately(*actions: Callable[[], object], times: int) -> list[float]:
    """Median seconds of actions in turns, so that a slow minute hits all alike."""
    taken: list[list[float]] = [[] for _ in actions]
    for turn in range(times + 1):
        for action, into in zip(actions, taken, strict=True):
            begun = time.perf_counter()
            action()
            if turn:  # the first does not count
                into.append(time.perf_counter() - begun)
    return [float(np.median(one)) for one in taken]


def resident() -> int:
    """Bytes that this process holds, freed ones given back before: else what others freed would hide what comes."""
    gc.collect()
    give_back()
    return psutil.Process().memory_info().rss


@contextmanager
def growth() -> Generator[list[int]]:
    """How many bytes this process holds at most above what it held at the beginning, freed ones given back before."""
    before, most = resident(), [0]
    process, stop = psutil.Process(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            most[0] = max(most[0], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for bfloat16; emulated, it would take minutes and tell nothing."""
    knows = torch.cpu.get_capabilities()
    return any(knows.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def row(system: str, metric: str, value: float, unit: str, *, adapters: int | None = None) -> dict[str, object]:
    """One figure of a benchmark on The Complete Journey."""
    told: dict[str, object] = {"system": system, "dataset": "completejourney", "slice": "all", "metric": metric}
    told |= {"value": float(value), "low": None, "high": None, "unit": unit}
    return told | ({} if adapters is None else {"adapters": adapters})
