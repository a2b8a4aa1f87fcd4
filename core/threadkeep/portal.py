"""An event loop in a thread of its own, through which plain code calls coroutines; `blocking` stands on it."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import suppress
from typing import Any, Final, TypeVar

from threadkeep.errors import InvalidInput, StoreClosed, StoreError

T = TypeVar("T")


class Portal:
    """Runs coroutines on its own loop, for any number of threads, also for those that run a loop themselves.

    `close` is awaited on the loop when the portal is closed. The loop's thread starts with the first call; a portal
    that nobody closes is closed when the interpreter ends or when it is garbage.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close
        # Reentrant, because an abandoned iterator may be collected while its own thread is in here.
        self._lock = threading.RLock()
        self._closed = False
        self._loop: _Loop | None = None
        _open.add(self)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, or its exception as it is.

        Raises StoreClosed after `close`, also where closing cut the coroutine off; InvalidInput on the portal's own
        thread, which would wait for itself; StoreError in a process forked from the one that made the portal's loop.
        """
        future = self._submit(work)
        try:
            result, error = future.result()
        except CancelledError:
            if self._closed:
                raise StoreClosed from None
            raise
        except BaseException:
            future.cancel()
            raise
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only beside an error, or where T is None

    def iterate(self, source: AsyncIterator[T]) -> Generator[T, None, None]:
        """The items of an asynchronous iterator, each fetched when it is asked for. Raises as `call`.

        All steps run in one task. An iterator that is abandoned closes its source.
        """
        asked: asyncio.Queue[Future[T] | None] = asyncio.Queue()
        pump = self._submit(_pump(source, asked))
        idle = True
        try:
            while True:
                answer: Future[T] = Future()
                ends: tuple[Future[Any], ...] = (answer, pump)
                idle = False
                self._started()
                self._ask(asked, answer)
                wait(ends, return_when=FIRST_COMPLETED)
                if not answer.done():
                    raise StoreClosed
                try:
                    item = answer.result()
                except StopAsyncIteration:
                    return
                idle = True
                yield item
        finally:
            if not idle:
                pump.cancel()
            elif self._loop is not None:
                with suppress(StoreClosed):
                    self._ask(asked, None)
                if self._loop.thread.is_alive() and not self._loop.is_here:
                    wait([pump])
                if pump.done() and not pump.cancelled() and (error := pump.result()[1]) is not None:
                    raise error

    def close(self) -> None:
        """Close what the portal stands for, and end the loop. Calls under way end with StoreClosed. Safe to repeat."""
        with self._lock:
            first = not self._closed
            loop = self._started()
            self._closed = True
        try:
            if first:
                asyncio.run_coroutine_threadsafe(_awaited(self._close), loop.loop).result()
        finally:
            if first:
                loop.stop()
            loop.thread.join()
            _open.discard(self)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[tuple[T | None, BaseException | None]]:
        try:
            with self._lock:
                if self._closed:
                    raise StoreClosed
                loop = self._started().loop
                return asyncio.run_coroutine_threadsafe(_carry(work), loop)
        except BaseException:
            work.close()
            raise

    def _started(self) -> _Loop:
        """The loop. Under the lock, so that whatever was submitted is on the loop before its end is."""
        if self._loop is None:
            self._loop = _Loop()
            weakref.finalize(self, _Loop.abandon, self._loop, self._close).atexit = False
        if self._loop.pid != os.getpid():
            raise StoreError("this Memory was opened before the process forked; make one in each process after that")
        if self._loop.is_here:
            raise InvalidInput(
                "a blocking call was made on the event loop that would have to serve it, as in an async tool; "
                "await the handles of threadkeep.handles.memory there"
            )
        return self._loop

    def _ask(self, asked: asyncio.Queue[Future[T] | None], answer: Future[T] | None) -> None:
        assert self._loop is not None  # noqa: S101  # an iterator was submitted, so that there is a loop
        try:
            self._loop.loop.call_soon_threadsafe(asked.put_nowait, answer)
        except RuntimeError as error:
            raise StoreClosed from error


_open: Final[weakref.WeakSet[Portal]] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for portal in list(_open):
        with suppress(Exception):
            portal.close()


class _Loop:
    """A running event loop and its thread. It knows nothing of the portal, which can so become garbage."""

    def __init__(self) -> None:
        ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self.pid = os.getpid()
        # A daemon, so that a program that forgets to close can end.
        self.thread = threading.Thread(target=_serve, args=(ready,), name="threadkeep-portal", daemon=True)
        self.thread.start()
        self.loop, self._stop = ready.result()

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's own thread."""
        return threading.current_thread() is self.thread

    def stop(self) -> None:
        """End the loop, soon; its tasks are cancelled."""
        self.loop.call_soon_threadsafe(self._stop.set)

    def abandon(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close and stop without waiting: the garbage collector may call from any thread, this one included."""

        async def end() -> None:
            try:
                with suppress(Exception):
                    await close()
            finally:
                self._stop.set()

        if self.pid == os.getpid() and not self.loop.is_closed():
            with suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(end(), self.loop)


def _serve(ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    async def until_stopped() -> None:
        stop = asyncio.Event()
        ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    try:
        asyncio.run(until_stopped())
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


async def _awaited(close: Callable[[], Awaitable[None]]) -> None:
    await close()


async def _carry(work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    """The outcome as a value: a SystemExit that left a task would end the loop, and with it all other calls."""
    try:
        return await work, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001  # `call` raises it, in the thread that waits for it
        return None, error


async def _pump(source: AsyncIterator[T], asked: asyncio.Queue[Future[T] | None]) -> None:
    """Answer each request with the source's next item; close the source at the end, or when None is asked."""
    try:
        while (answer := await asked.get()) is not None:
            try:
                answer.set_result(await anext(source))
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001  # `iterate` raises it, in the thread that waits for it
                answer.set_exception(error)
                return
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
