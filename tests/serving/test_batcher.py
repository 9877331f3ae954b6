"""Batches of callers who know nothing of each other, on an engine that does what it is told."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from peftrec.errors import AdapterNotFoundError, ConfigError, CorruptAdapterError, OverloadedError, UnknownUserError
from peftrec.serving import Batcher, Recommendation
from peftrec.serving.requests import Request


class Echo:
    """Answers with the shopper's id; holds each batch until it is let go, if it is told to."""

    def __init__(self, *, batch: int = 4, held: bool = False) -> None:
        self.batch, self.batches = batch, list[list[str]]()
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        if not held:
            self.go.set()

    def recommend_batch(self, requests: Sequence[Request]) -> list[list[Recommendation]]:
        users = [str(request.user) for request in requests]
        self.batches.append(users)
        self.begun.release()
        assert self.go.wait(10)
        if "nobody" in users:
            raise UnknownUserError("nobody", expected="", remedy="")
        return [[Recommendation(user, "", 0.5)] for user in users]

    def is_warm(self, request: Request) -> bool:
        return True

    def warm(self, request: Request) -> None:
        raise AssertionError("nothing is to be loaded")


class Cold(Echo):
    """Has some adapters in memory; loads others when it is let, and those that are damaged never."""

    def __init__(self, *, batch: int = 4) -> None:
        super().__init__(batch=batch)
        self.held, self.loading, self.load = {"tea"}, threading.Semaphore(0), threading.Event()

    def is_warm(self, request: Request) -> bool:
        if request.adapter == "unknown":
            raise AdapterNotFoundError("unknown", expected="", remedy="")
        return request.adapter in self.held

    def warm(self, request: Request) -> None:
        self.loading.release()
        assert self.load.wait(10)
        if request.adapter == "damaged":
            raise CorruptAdapterError("damaged", expected="", remedy="")
        self.held.add(request.adapter)

    def recommend_batch(self, requests: Sequence[Request]) -> list[list[Recommendation]]:
        if any(request.adapter in ("unknown", "damaged") for request in requests):
            raise AdapterNotFoundError("unknown", expected="", remedy="")
        return super().recommend_batch(requests)


def ask(user: str) -> Request:
    return Request(adapter="tea", user=user)


def test_what_comes_while_the_engine_is_busy_is_its_next_batch():
    engine = Echo(held=True)
    with Batcher(engine, wait_ms=0) as batcher:
        first = batcher.submit(ask("a"))
        assert engine.begun.acquire(timeout=10)
        others = [batcher.submit(ask(user)) for user in "bcdef"]
        engine.go.set()
        assert [one.result(10)[0].item_id for one in (first, *others)] == list("abcdef")
    assert engine.batches == [["a"], ["b", "c", "d", "e"], ["f"]]


def test_a_full_batch_waits_for_nobody():
    engine = Echo(batch=2)
    with Batcher(engine, wait_ms=60_000) as batcher:
        begun = time.monotonic()
        found = [batcher.submit(ask(user)) for user in "ab"]
        assert [one.result(10)[0].item_id for one in found] == ["a", "b"]
        assert time.monotonic() - begun < 30
    assert engine.batches == [["a", "b"]]


def test_one_alone_waits_no_longer_than_it_must():
    with Batcher(Echo(), wait_ms=300) as batcher:
        begun = time.monotonic()
        assert batcher.recommend(ask("a"))[0].item_id == "a"
        assert 0.25 < time.monotonic() - begun < 30


def test_a_deadline_shorter_than_the_wait_is_kept():
    engine = Echo()
    with Batcher(engine, wait_ms=60_000) as batcher:
        assert batcher.recommend(ask("a"), deadline=2.0)[0].item_id == "a"


def test_what_waited_for_a_busy_engine_waits_no_longer():
    engine = Echo(held=True, batch=8)
    with Batcher(engine, wait_ms=500) as batcher:
        batcher.submit(ask("a"))
        assert engine.begun.acquire(timeout=10)
        late = batcher.submit(ask("b"))
        time.sleep(0.6)
        engine.go.set()
        begun = time.monotonic()
        assert late.result(10)[0].item_id == "b"
        assert time.monotonic() - begun < 0.4


class Panic(BaseException):
    """As a library in another language raises."""


def test_a_panic_is_told_and_the_next_request_answered():
    class Panics(Echo):
        def recommend_batch(self, requests: Sequence[Request]) -> list[list[Recommendation]]:
            if any(request.user == "panic" for request in requests):
                raise Panic
            return super().recommend_batch(requests)

    with Batcher(Panics(), wait_ms=0) as batcher:
        assert isinstance(batcher.submit(ask("panic")).exception(10), Panic)
        assert batcher.recommend(ask("a"))[0].item_id == "a"


def test_an_engine_that_answers_too_little():
    class Short(Echo):
        def recommend_batch(self, requests: Sequence[Request]) -> list[list[Recommendation]]:
            return []

    with Batcher(Short(), wait_ms=0) as batcher:
        assert isinstance(batcher.submit(ask("a")).exception(10), RuntimeError)


def test_who_cancelled_takes_no_place():
    engine = Echo(held=True)
    with Batcher(engine, wait_ms=0, most_waiting=2) as batcher:
        batcher.submit(ask("a"))
        assert engine.begun.acquire(timeout=10)
        assert all(batcher.submit(ask(user)).cancel() for user in "bc")
        kept = batcher.submit(ask("d"))
        engine.go.set()
        assert kept.result(10)[0].item_id == "d"


def test_a_request_that_fails_fails_alone():
    engine = Echo(held=True)
    with Batcher(engine, wait_ms=0) as batcher:
        batcher.submit(ask("first"))
        assert engine.begun.acquire(timeout=10)
        found = [batcher.submit(ask(user)) for user in ("a", "nobody", "b")]
        engine.go.set()
        assert found[0].result(10)[0].item_id == "a"
        assert isinstance(found[1].exception(10), UnknownUserError)
        assert found[2].result(10)[0].item_id == "b"


def test_the_one_who_fails_is_found_by_halves():
    engine = Echo(batch=32, held=True)
    with Batcher(engine, wait_ms=0) as batcher:
        batcher.submit(ask("first"))
        assert engine.begun.acquire(timeout=10)
        found = [batcher.submit(ask("nobody" if at == 20 else str(at))) for at in range(32)]
        engine.go.set()
        for at, one in enumerate(found):
            if at == 20:
                assert isinstance(one.exception(10), UnknownUserError)
            else:
                assert one.result(10)[0].item_id == str(at)
    assert sorted(len(batch) for batch in engine.batches[1:]) == sorted([32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1])


def test_a_full_queue_refuses_at_once():
    engine = Echo(held=True)
    with Batcher(engine, wait_ms=0, most_waiting=2) as batcher:
        first = batcher.submit(ask("a"))
        assert engine.begun.acquire(timeout=10)
        waiting = [batcher.submit(ask(user)) for user in "bc"]
        with pytest.raises(OverloadedError, match="2 requests are waiting"):
            batcher.submit(ask("d"))
        engine.go.set()
        assert [one.result(10)[0].item_id for one in (first, *waiting)] == ["a", "b", "c"]
        assert batcher.recommend(ask("e"))[0].item_id == "e"


def test_nobody_is_answered_after_the_deadline():
    engine = Echo(held=True)
    with Batcher(engine, wait_ms=0) as batcher:
        batcher.submit(ask("a"))
        assert engine.begun.acquire(timeout=10)
        late, patient = batcher.submit(ask("late"), deadline=0.0), batcher.submit(ask("patient"), deadline=60)
        engine.go.set()
        assert patient.result(10)[0].item_id == "patient"
        with pytest.raises(OverloadedError, match="after its deadline"):
            late.result(10)
    assert ["patient"] in engine.batches


def test_what_is_cancelled_is_not_asked():
    engine = Echo(held=True)
    with Batcher(engine, wait_ms=0) as batcher:
        batcher.submit(ask("a"))
        assert engine.begun.acquire(timeout=10)
        gone, kept = batcher.submit(ask("gone")), batcher.submit(ask("kept"))
        assert gone.cancel()
        engine.go.set()
        assert kept.result(10)[0].item_id == "kept"
        with pytest.raises(CancelledError):
            gone.result(10)
    assert engine.batches == [["a"], ["kept"]]


def test_closing_answers_who_waits_and_takes_nobody_else():
    engine = Echo(held=True)
    batcher = Batcher(engine, wait_ms=0)
    found = [batcher.submit(ask(user)) for user in "abc"]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    engine.go.set()
    closing.join(10)
    assert not closing.is_alive()
    assert [one.result(0)[0].item_id for one in found] == ["a", "b", "c"]
    with pytest.raises(OverloadedError, match="closed"):
        batcher.submit(ask("d"))
    batcher.close()


def test_many_threads_get_their_own_answers():
    engine = Echo(batch=8)
    users = [f"u{number}" for number in range(500)]
    with Batcher(engine) as batcher, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda user: batcher.recommend(ask(user))[0].item_id, users))
    assert found == users
    assert sorted(user for batch in engine.batches for user in batch) == sorted(users)
    assert max(map(len, engine.batches)) <= 8
    assert len(engine.batches) < 500


def test_who_must_be_loaded_for_keeps_nobody_else_waiting():
    engine = Cold()
    with Batcher(engine, wait_ms=0) as batcher:
        cold = [batcher.submit(Request(adapter=name, user=name)) for name in ("coffee", "damaged", "unknown")]
        assert engine.loading.acquire(timeout=10)
        assert batcher.recommend(ask("a"), deadline=10)[0].item_id == "a"
        assert isinstance(cold[2].exception(10), AdapterNotFoundError)
        assert not cold[0].done()
        engine.load.set()
        assert cold[0].result(10)[0].item_id == "coffee"
        assert isinstance(cold[1].exception(10), AdapterNotFoundError)
        assert batcher.recommend(Request(adapter="coffee", user="b"))[0].item_id == "b"


def test_who_is_loaded_for_counts_as_waiting_and_is_answered_when_it_closes():
    engine = Cold()
    batcher = Batcher(engine, wait_ms=0, most_waiting=1)
    cold = batcher.submit(Request(adapter="coffee", user="b"))
    assert engine.loading.acquire(timeout=10)
    with pytest.raises(OverloadedError, match="1 requests are waiting"):
        batcher.submit(ask("a"))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    engine.load.set()
    assert cold.result(10)[0].item_id == "b"
    closing.join(10)
    assert not closing.is_alive()


def test_who_cancelled_while_its_adapter_was_loaded_is_not_asked():
    engine = Cold()
    with Batcher(engine, wait_ms=0) as batcher:
        cold = batcher.submit(Request(adapter="coffee", user="b"))
        assert engine.loading.acquire(timeout=10)
        assert cold.cancel()
        engine.load.set()
        assert batcher.recommend(ask("a"))[0].item_id == "a"
    assert ["b"] not in engine.batches


@pytest.mark.parametrize("settings", [{"wait_ms": -1}, {"wait_ms": float("nan")}, {"most_waiting": 0}])
def test_settings_that_cannot_work(settings: dict[str, float]):
    with pytest.raises(ConfigError):
        Batcher(Echo(), **settings)  # pyright: ignore[reportArgumentType]
