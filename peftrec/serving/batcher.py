"""Batches out of callers who know nothing of each other: a short wait, a deadline, and a queue that is not endless."""

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol

from peftrec.errors import ConfigError, OverloadedError
from peftrec.serving.requests import Recommendation, Request

Answer = list[Recommendation]

LOADERS = 2
"""Adapters that are loaded at the same time, beside the thread that answers."""


class Answers(Protocol):
    """What a batcher asks; :class:`peftrec.Engine` is one."""

    batch: int

    def recommend_batch(self, requests: list[Request]) -> list[Answer]:
        """Answers in the order of the requests, the same as one by one."""
        ...

    def is_warm(self, request: Request) -> bool:
        """Whether a request can be answered without loading anything first."""
        ...

    def warm(self, request: Request) -> None:
        """Loads what a request needs."""
        ...


@dataclass(frozen=True)
class _Waiting:
    """One request in the queue.

    Attributes:
        request: What is asked.
        answer: To come.
        since: When it came, on the monotonic clock.
        until: When its answer is wanted, on the same clock.
        warmed: Whether what it needs has been loaded for it, or could not be.
    """

    request: Request
    answer: "Future[Answer]"
    since: float
    until: float
    warmed: bool = False


class Batcher:
    """Hands requests of many threads to an engine, as many at once as have come within a short time.

    An engine answers several requests in one pass in less time than one after the other, and with the same answers. A request
    that cannot be answered gets its own error; the others of its batch are answered. One whose adapter must be loaded first
    waits for that alone: those behind it go before it. Use it in a ``with`` block, or close it.

    Args:
        engine: That answers, and whose ``batch`` is the most that is asked at once.
        wait_ms: How long the first of a batch waits for others. An engine that is busy waits for nobody: what came meanwhile
            is its next batch.
        most_waiting: Requests that may wait; more are refused at once, so that callers can go elsewhere.

    Raises:
        ConfigError: A time below 0, or a queue for nobody.
    """

    def __init__(self, engine: Answers, *, wait_ms: float = 2.0, most_waiting: int = 1024) -> None:
        if not 0 <= wait_ms < float("inf") or most_waiting < 1:
            raise ConfigError(
                f"wait_ms={wait_ms!r}, most_waiting={most_waiting!r}",
                expected="a wait of 0 or more milliseconds, and a queue for at least one request",
                remedy="leave them out",
            )
        self._engine, self._wait, self._most = engine, wait_ms / 1e3, most_waiting
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed, self._loading = False, 0
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="peftrec loader")
        self._worker = threading.Thread(target=self._work, name="peftrec batcher", daemon=True)
        self._worker.start()

    def submit(self, request: Request, *, deadline: float | None = None) -> "Future[Answer]":
        """Puts a request into the queue.

        Args:
            request: What is asked. Cancelling the future before its batch begins takes it out again.
            deadline: Seconds from now after which the answer is of no use; one that has not been begun by then is not begun.

        Returns:
            The answer to come, or the error: what :meth:`peftrec.Engine.recommend` raises, or ``OverloadedError`` after the
            deadline.

        Raises:
            OverloadedError: The queue is full, or the batcher is closed.
        """
        now = time.monotonic()
        waiting = _Waiting(request, Future(), now, float("inf") if deadline is None else now + deadline)
        with self._changed:
            if self._closed:
                raise _closed()
            if len(self._waiting) + self._loading >= self._most:
                self._waiting = deque(one for one in self._waiting if not one.answer.cancelled() and one.until >= now)
            if len(self._waiting) + self._loading >= self._most:
                raise OverloadedError(
                    f"{len(self._waiting) + self._loading:,} requests are waiting",
                    expected=f"less than {self._most:,}",
                    remedy="try again later, ask another server, or raise most_waiting",
                )
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.answer

    def recommend(self, request: Request, *, deadline: float | None = None) -> Answer:
        """The answer to a request, waited for; see :meth:`submit`."""
        return self.submit(request, deadline=deadline).result()

    def close(self) -> None:
        """Takes no more requests, answers those that wait and ends the thread. A second call does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join()
        self._loaders.shutdown()

    def __enter__(self) -> "Batcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._answer(batch)
        finally:  # whatever ended the thread, nobody waits for it for good
            with self._changed:
                self._closed = True
                self._changed.wait_for(lambda: not self._loading)
                left = list(self._waiting)
                self._waiting.clear()
            for one in left:
                if one.answer.set_running_or_notify_cancel():
                    one.answer.set_exception(_closed())

    def _next(self) -> list[_Waiting] | None:
        """The next batch: when it is full, or its first request has waited as long as it may; None when there is none to come.

        What waited while the engine was busy waits no longer, and nobody is waited for beyond half of a deadline.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or (self._closed and not self._loading))
            while self._waiting and not self._closed and len(self._waiting) < self._engine.batch:
                soonest = min(min(one.since + self._wait, (one.since + one.until) / 2) for one in self._waiting)
                if (left := soonest - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            if not self._waiting:
                return None if self._closed and not self._loading else []
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._engine.batch))]

    def _answer(self, batch: list[_Waiting]) -> None:
        ready = [one for one in batch if one.warmed or self._is_warm(one)]
        wanted = [one for one in ready if one.answer.set_running_or_notify_cancel() and not _is_late(one)]
        self._settle(wanted)

    def _settle(self, wanted: list[_Waiting]) -> None:
        """Answers requests at once; where that fails, each half by itself, until the one that is to blame is alone."""
        if not wanted:
            return
        found = self._asked(wanted)
        if isinstance(found, list):
            for one, answer in zip(wanted, found, strict=True):
                one.answer.set_result(answer)
        elif len(wanted) == 1:
            wanted[0].answer.set_exception(found)
        else:
            half = len(wanted) // 2
            for some in (wanted[:half], wanted[half:]):
                self._settle([one for one in some if not _is_late(one)])

    def _is_warm(self, waiting: _Waiting) -> bool:
        """Whether a request can go on; if not, what it needs is loaded elsewhere, and then it comes first."""
        try:
            if self._engine.is_warm(waiting.request):
                return True
        except BaseException:  # noqa: BLE001  # the engine tells it again, to the one who waits
            return True
        with self._changed:
            self._loading += 1
        self._loaders.submit(self._warm, waiting)
        return False

    def _warm(self, waiting: _Waiting) -> None:
        try:
            if not waiting.answer.cancelled():
                self._engine.warm(waiting.request)
        except BaseException:  # noqa: BLE001  # likewise
            pass
        finally:
            with self._changed:
                self._loading -= 1
                self._waiting.appendleft(replace(waiting, warmed=True))
                self._changed.notify()

    def _asked(self, wanted: list[_Waiting]) -> "list[Answer] | BaseException":
        """The engine's answers, or what it raised: whatever that is, it belongs to somebody who waits for it."""
        try:
            answers = self._engine.recommend_batch([one.request for one in wanted])
        except BaseException as error:  # noqa: BLE001  # libraries in other languages panic with these
            return error
        if len(answers) != len(wanted):
            return RuntimeError(f"{len(answers)} answers to {len(wanted)} requests")
        return answers


def _is_late(waiting: _Waiting) -> bool:
    """Whether a request's deadline is over, which is then told."""
    if (late := time.monotonic() - waiting.until) <= 0:
        return False
    waiting.answer.set_exception(
        OverloadedError(
            f"a request had its turn {1e3 * late:.0f} ms after its deadline",
            expected="its turn before that",
            remedy="allow more time, or send less at once",
        )
    )
    return True


def _closed() -> OverloadedError:
    return OverloadedError("the batcher is closed", expected="an open one", remedy="make a new Batcher")
