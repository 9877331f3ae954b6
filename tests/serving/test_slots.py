"""Slots with adapters of known size: who leaves, who stays, who waits for whom."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from peftrec.errors import AdapterNotFoundError, RequestError
from peftrec.model import Adapter
from peftrec.serving import slots as slots_module
from peftrec.serving.slots import SlotCounts, Slots
from peftrec.tuners import Changes


@dataclass(frozen=True)
class Sized:
    """As much of an adapter as a slot looks at: a hundred bytes, of values that half precision does not hold."""

    name: str
    changes: Changes[NDArray[np.float32]] = field(default_factory=Changes)
    extras: dict[str, NDArray[np.float32]] = field(default_factory=lambda: {"x": np.full(25, 0.1, np.float32)})
    facts: dict[str, object] = field(default_factory=dict)
    learning_curve: tuple[object, ...] = ()


def sized(name: str) -> Adapter:
    if name.startswith("missing"):
        raise AdapterNotFoundError(name, expected="", remedy="")
    return cast(Adapter, Sized(name))


def test_the_least_recently_used_leaves():
    slots = Slots(sized, 300)
    for name in ("a", "b", "c", "a", "d"):
        slots.get(name)
    assert slots.counts() == SlotCounts(hits=1, loads=4, evictions=1, resident=3, pinned=0, bytes=300)
    slots.get("a")
    slots.get("c")
    slots.get("d")
    assert slots.counts().hits == 4  # it was b that left
    assert slots.counts().loads == 4


def test_what_is_pinned_stays():
    slots = Slots(sized, 300)
    slots.pin("a")
    slots.pin("a")
    for name in "bcdef":
        slots.get(name)
    before = slots.counts()
    assert (before.pinned, before.resident) == (1, 3)
    slots.get("a")
    assert slots.counts().loads == before.loads
    slots.unpin("a")
    for name in "ghi":
        slots.get(name)
    assert slots.counts().pinned == 1  # pinned twice, let go once
    slots.unpin("a")
    for name in "jkl":
        slots.get(name)
    assert slots.counts().pinned == 0
    loads = slots.counts().loads
    slots.get("a")
    assert slots.counts().loads == loads + 1
    slots.unpin("never pinned")


def test_a_budget_that_pinned_ones_fill():
    slots = Slots(sized, 250)
    slots.pin("a")
    slots.pin("b")
    with pytest.raises(RequestError, match=r"c takes 100 bytes, the engine may hold 250, 200 of them pinned"):
        slots.get("c")
    with pytest.raises(RequestError):
        slots.pin("c")
    assert slots.counts() == SlotCounts(hits=0, loads=2, evictions=0, resident=2, pinned=2, bytes=200)
    slots.unpin("a")
    slots.get("c")
    assert slots.counts().resident == 2


def test_one_loads_and_the_others_wait():
    begun, go, calls = threading.Event(), threading.Event(), list[str]()

    def slowly(name: str) -> Adapter:
        calls.append(name)
        if name == "slow":
            begun.set()
            assert go.wait(10)
        return sized(name)

    slots = Slots(slowly, 1000)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(slots.get, "slow")
        assert begun.wait(10)
        others = [pool.submit(slots.get, "slow") for _ in range(2)]
        assert pool.submit(slots.get, "fast").result(10) is not None  # is not stalled by it
        go.set()
        assert {id(one.result(10)) for one in others} == {id(first.result(10))}
    assert calls.count("slow") == 1


def test_a_load_that_fails_is_told_to_all_who_wait_and_tried_again():
    begun, go, fails = threading.Event(), threading.Event(), [True]

    def once(name: str) -> Adapter:
        begun.set()
        assert go.wait(10)
        return sized("missing" if fails.pop() else name) if fails else sized(name)

    slots = Slots(once, 1000)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(slots.get, "a")
        assert begun.wait(10)
        waiting = slots._coming["a"]  # pyright: ignore[reportPrivateUsage]
        go.set()
        assert isinstance(first.exception(10), AdapterNotFoundError)
    assert waiting.exception(10) is first.exception()
    assert slots.counts() == SlotCounts(0, 0, 0, 0, 0, 0)
    assert slots.get("a") is not None
    assert slots.counts().resident == 1


def test_a_failed_load_changes_nothing():
    slots = Slots(sized, 250)
    slots.get("a")
    before = slots.counts()
    for call in (slots.get, slots.pin):
        with pytest.raises(AdapterNotFoundError):
            call("missing")
    assert slots.counts() == before
    slots.get("b")
    slots.get("c")
    assert slots.counts().evictions == 1


def test_many_threads_keep_the_budget():
    slots = Slots(sized, 500)
    names = [f"n{number}" for number in range(12)]
    rng = np.random.default_rng(0)
    wanted = [names[int(at)] for at in rng.integers(len(names), size=600)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(slots.get, wanted))
    assert [cast(Any, one.adapter).name for one in found] == wanted
    counts = slots.counts()
    assert counts.bytes == 100 * counts.resident <= 500
    assert counts.loads - counts.evictions == counts.resident


def test_an_interrupted_load_is_taken_up_by_who_waits():
    begun, go, calls = threading.Event(), threading.Event(), list[str]()

    def interrupted(name: str) -> Adapter:
        calls.append(name)
        if len(calls) == 1:
            begun.set()
            assert go.wait(10)
            raise KeyboardInterrupt
        return sized(name)

    slots = Slots(interrupted, 1000)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(slots.get, "a")
        assert begun.wait(10)
        second = pool.submit(slots.get, "a")
        go.set()
        assert isinstance(first.exception(10), KeyboardInterrupt)
        assert second.result(10) is not None
    assert slots.counts().resident == 1


def test_memory_is_given_back_every_so_many_loads(monkeypatch: pytest.MonkeyPatch):
    given = list[int]()
    monkeypatch.setattr(slots_module, "_LOADS_BETWEEN", 3)
    slots = Slots(sized, 10_000)
    monkeypatch.setattr(slots_module, "give_back", lambda: given.append(slots.counts().loads))
    for name in "abacdefg":
        slots.get(name)
    assert given == [3, 6]
