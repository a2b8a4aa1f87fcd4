"""A store's one opening, which all share who use it: tasks, event loops and threads; and no other process.

What a store holds open, such as connections, belongs to the process that opened it. A child process that went on with
it would read answers that are its parent's.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Final

from threadkeep.errors import StoreClosed, StoreError, ThreadkeepError

LOOK_SECONDS: Final = 0.1
"""How often those who wait for an opening look whether the event loop that runs it still runs."""


class _Attempt:
    """One try to open, by one of those who want it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.error: ThreadkeepError | None = None
        """Why it failed; None as well where it was cancelled."""
        self._loop = asyncio.get_running_loop()
        self._end: Future[None] = Future()

    def end(self) -> None:
        """Let those go on who wait."""
        self._end.set_result(None)

    async def ended(self) -> None:
        """Wait until it has ended, or nobody runs it any more: its event loop may stand still for ever."""
        end = asyncio.wrap_future(self._end)
        while not end.done() and self._loop.is_running():
            await asyncio.wait([end], timeout=LOOK_SECONDS)


class Opening:
    """Whether a store is open, in this process."""

    def __init__(self, open_store: Callable[[], Awaitable[None]], close_store: Callable[[], Awaitable[None]]) -> None:
        """`open_store` and `close_store` raise errors of threadkeep alone."""
        self.process = 0
        """The process that has opened the store and not closed it; 0 where none has."""
        self._open_store = open_store
        self._close_store = close_store
        self._lock = threading.Lock()
        self.closed = False
        self._begun_in = 0
        self._attempt: _Attempt | None = None
        self._attempts = 0

    async def open(self) -> None:
        """Open the store, unless it is open: by the opening that is under way, if there is one.

        An opening that is cancelled or fails does not fail those who wait for it: one of them begins the next. An error
        is raised where an opening fails that this call began, or that began after it, so that nobody waits for more
        than two. Raises StoreClosed after `close`, and StoreError in a process that was forked off meanwhile.
        """
        met = self._attempts
        while True:
            with self._lock:
                if self.closed:
                    raise StoreClosed
                self.check_process()
                if self.process:
                    return
                attempt = self._attempt
                if attempt is None:
                    self._begun_in = os.getpid()
                    self._attempts += 1
                    mine = self._attempt = _Attempt(self._attempts)
                    break
            await attempt.ended()
            if attempt.error is not None and attempt.number > met:
                raise attempt.error
            self._forget(attempt)
        try:
            await self._open_store()
        except ThreadkeepError as error:
            mine.error = error
            raise
        else:
            with self._lock:
                if not self.closed:
                    self.process = self._begun_in
        finally:
            self._forget(mine)
            mine.end()
        if self.closed:
            await self._close_store()
            raise StoreClosed

    async def close(self) -> None:
        """Close the store, once. In a process that was forked off, what is open is the parent's, and stays open."""
        with self._lock:
            first, self.closed = not self.closed, True
            self.process = 0
        if first and self._begun_in in (0, os.getpid()):
            await self._close_store()

    def check_process(self) -> None:
        """Raise StoreError in a process that was forked off from the one that opened the store."""
        if self._begun_in not in (0, os.getpid()):
            raise StoreError(
                "the store was opened before this process was forked off, and connections do not survive a fork; "
                "open the store in the child process"
            )

    def _forget(self, attempt: _Attempt) -> None:
        with self._lock:
            if self._attempt is attempt:
                self._attempt = None
