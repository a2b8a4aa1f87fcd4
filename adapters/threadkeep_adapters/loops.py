"""What a store holds for each event loop that uses it, since connections live and die with the loop that made them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from threadkeep.errors import StoreClosed

CLOSE_SECONDS: Final = 4.0
"""How long a store that is closed waits for another thread's event loop to close what it holds."""


class Closable(Protocol):
    """Connections of one event loop."""

    def close(self) -> Coroutine[Any, Any, None]:
        """Let go of everything, on the event loop that uses it. Safe to repeat."""
        ...


C = TypeVar("C", bound=Closable)


class _Held(NamedTuple, Generic[C]):
    closable: C
    life: AsyncGenerator[None]
    """Ends when the event loop does: asyncio.run closes generators that are not finished."""


class PerLoop(Generic[C]):
    """One `C` for each event loop, made at its first use, and closed with the loop or with the store."""

    def __init__(self, make: Callable[[], C], drop: Callable[[C], object] | None = None) -> None:
        """`make` connects nothing yet. `drop` lets go at once, for a loop that does not run; without it, `close` waits
        until the loop runs again."""
        self._make = make
        self._drop = drop
        self._lock = threading.Lock()
        self._closed = False
        self._held: dict[asyncio.AbstractEventLoop, _Held[C]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def reopen(self) -> None:
        """Give again what was closed. Safe to repeat."""
        with self._lock:
            self._closed = False

    async def get(self) -> C:
        """That of the running event loop. Raises StoreClosed, and what making one raises."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is not None:
            return held.closable
        with self._lock:
            if self._closed:
                raise StoreClosed
            closable = self._make()
            held = _Held(closable, self._live(loop, closable))
            self._held = {other: its for other, its in self._held.items() if not other.is_closed()}
            self._held[loop] = held
        await anext(held.life)
        return closable

    async def close(self) -> None:
        """Close all of them, each on its loop. Safe to repeat.

        A closing that is cancelled goes on by itself, and whoever closes again waits for it.
        """
        here = asyncio.get_running_loop()
        earlier = [task for task in tuple(self._closing) if task.get_loop() is here]
        closing = asyncio.ensure_future(self._close_all())
        self._keep(closing)
        if earlier:
            await asyncio.wait(earlier)
        await asyncio.shield(closing)

    async def _close_all(self) -> None:
        with self._lock:
            self._closed = True
            held = self._held
            self._held = {}
        here = asyncio.get_running_loop()
        for loop, (closable, life) in held.items():
            if loop is here:
                await life.aclose()
            elif loop.is_running():
                # The loop may end meanwhile, and closes what it holds itself then.
                with suppress(Exception):
                    await asyncio.wait_for(asyncio.wrap_future(self._close_there(closable, loop)), CLOSE_SECONDS)
            elif self._drop is not None:
                if not loop.is_closed():
                    self._drop(closable)
            else:
                with suppress(RuntimeError):  # a loop that has ended has taken its connections along
                    loop.call_soon_threadsafe(self._close_later, closable)

    def _close_later(self, closable: C) -> None:
        self._keep(asyncio.ensure_future(closable.close()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """An event loop has only weak references to its tasks."""
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @staticmethod
    def _close_there(closable: C, loop: asyncio.AbstractEventLoop) -> Future[None]:
        closing = closable.close()
        try:
            return asyncio.run_coroutine_threadsafe(closing, loop)
        except RuntimeError:
            closing.close()
            raise

    async def _live(self, loop: asyncio.AbstractEventLoop, closable: C) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(loop, None)
            await closable.close()
