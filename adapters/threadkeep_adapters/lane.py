"""Threads that run blocking calls for event loops: what `run_in_executor` does, at about two thirds of its price.

A hop to another thread and back is most of what a call on a local database costs, so that this is worth its lines;
docs/benchmarks.md has the numbers.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_Settle: TypeAlias = "Callable[[asyncio.Future[Any], Any], None]"
_Job: TypeAlias = "tuple[asyncio.AbstractEventLoop, asyncio.Future[Any], Callable[[], Any], threading.Lock | None]"


class LaneBusyError(Exception):
    """A call waited for a thread of its lane as long as it was to wait, and was not begun."""


@dataclass(slots=True)
class _Queue:
    """What a lane shares with its threads, which must not keep the lane itself alive."""

    jobs: SimpleQueue[_Job | None] = field(default_factory=SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    idle: int = 0
    """Threads that wait for a job that has not been given yet."""


class Lane:
    """At most so many threads, with one queue. Calls begin in the order given; with one thread they end in it too.

    A thread starts when a call finds none idle. They are daemons, so that a lane that nobody closes holds up no exit.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._most = threads
        self._name = name
        self._queue = _Queue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        weakref.finalize(self, _stop, self._queue, threads).atexit = False

    async def run(self, work: Callable[[], T], wait: float | None = None) -> T:
        """What `work` returns or raises, in a thread of this lane. Cancelled before it began, it does not begin.

        With `wait`, it begins within so many seconds, or raises LaneBusyError and does not begin.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        # Whoever takes it, the thread or the timer, has the call.
        claim = None if wait is None else threading.Lock()
        with self._queue.lock:
            if self._closed:
                raise RuntimeError("the lane is closed")
            if self._queue.idle:
                self._queue.idle -= 1
            elif len(self._threads) < self._most:
                self._start()
            self._queue.jobs.put((loop, future, work, claim))
        if wait is None or claim is None:
            return await future
        timer = loop.call_later(wait, _give_up, future, claim)
        try:
            return await future
        finally:
            timer.cancel()

    def close(self) -> None:
        """Let what was given end, then the threads. Safe to repeat. Blocks."""
        with self._queue.lock:
            if not self._closed:
                self._closed = True
                _stop(self._queue, len(self._threads))
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=_serve, args=(self._queue,), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)


class Ending:
    """The closing of lanes, and of what is used in them. It blocks, so that it is done in a thread too; and it is done
    to its end, though whoever waits for it is cancelled."""

    def __init__(self, close: Callable[[], None]) -> None:
        """`close` closes what is used in the lanes, when they have ended. It is safe to repeat."""
        self._close = close
        self._lanes: list[Lane] = []
        self._turn = threading.Lock()

    def take(self, *lanes: Lane | None) -> None:
        """Lanes that nobody is given any more: they are to be closed first."""
        self._lanes += [lane for lane in lanes if lane is not None]

    async def wait(self) -> None:
        """Close, and wait until that is done: by this call, or by an earlier one that was cancelled."""
        try:
            closing = asyncio.get_running_loop().run_in_executor(None, self._in_turn)
        except RuntimeError:
            # The interpreter is ending and starts no thread any more.
            self._in_turn()
        else:
            await asyncio.shield(closing)

    def _in_turn(self) -> None:
        with self._turn:
            while self._lanes:
                self._lanes.pop().close()
            self._close()


def _stop(queue: _Queue, threads: int) -> None:
    for _ in range(threads):
        queue.jobs.put(None)


def _serve(queue: _Queue) -> None:
    get, lock = queue.jobs.get, queue.lock
    while (job := get()) is not None:
        loop, future, work, claim = job
        del job
        is_wanted = not future.cancelled() and (claim is None or claim.acquire(blocking=False))
        settle, outcome = _do(work) if is_wanted else (_succeed, None)
        with lock:
            queue.idle += 1
        # The loop may have ended without waiting.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, future, outcome)
        # Nothing of a job is to live on while this thread waits for the next.
        del loop, future, work, claim, settle, outcome


def _give_up(future: asyncio.Future[Any], claim: threading.Lock) -> None:
    if claim.acquire(blocking=False):
        _fail(future, LaneBusyError())


def _do(work: Callable[[], Any]) -> tuple[_Settle, Any]:
    try:
        return _succeed, work()
    except BaseException as error:  # noqa: BLE001 -- it is raised again where the call is awaited
        return _fail, error


def _succeed(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
