"""Connections that are cut and clocks that jump, and what a store makes of them."""

from __future__ import annotations

import asyncio
import pickle
import socket
import time
from typing import Any, Final

from threadkeep.errors import StoreUnavailable, ThreadkeepError
from threadkeep.port import Scope, Snapshot, Window
from threadkeep_contract.saboteurs.base import DictStore
from threadkeep_contract.saboteurs.wire import HOST, WireStore

READINGS: Final = ("load", "threads", "resources")

PATIENCE: Final = 10.0
"""Seconds that a call waits for its answer."""


class BreakerNeverCloses(WireStore):
    """After a lost connection a handle refuses every call: what keeps callers from a server that is gone never lets
    them through again."""

    fault = "wire-breaker-never-closes"
    caught_by = 12
    seen_in = "clients that keep one connection and never make another: `server closed the connection unexpectedly`"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self._gone = False

    async def exchange(self, verb: str, *args: Any) -> Any:
        if self._gone:
            raise StoreUnavailable("the server is gone")
        return await super().exchange(verb, *args)

    def lost(self, verb: str, error: Exception) -> ThreadkeepError:
        self._gone = True
        return super().lost(verb, error)


class RetrySendsLastRequest(WireStore):
    """A reading whose answer is lost is sent again from where the handle keeps its last request: beside others, that
    is another's."""

    fault = "wire-retry-sends-last-request"
    caught_by = 12
    seen_in = "retries that close over a variable which all calls share"

    async def request(self, verb: str, *args: Any) -> Any:
        if verb not in READINGS:
            return await super().request(verb, *args)
        self._last = (verb, *args)
        try:
            return await super().request(verb, *args)
        except StoreUnavailable:
            found = await super().request(*self._last)
            return found if self._last[0] == verb else await super().request(verb, *args)


class LostReadingIsEmpty(WireStore):
    """A load whose answer is lost shows an empty thread."""

    fault = "wire-lost-reading-is-empty"
    caught_by = 12
    seen_in = "memory as best effort: `except Exception: return []`"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        try:
            return await super().load(scope, window)
        except StoreUnavailable:
            return Snapshot()


class RetryOnTheNextDeadOne(WireStore):
    """Connections are kept, and a reading whose connection is lost is repeated once, on the next idle one: where
    all were lost, that is lost too."""

    fault = "wire-repeats-on-the-next-dead-one"
    caught_by = 12
    seen_in = "LangGraph #5675: pools behind a router that forgets what is idle, and one retry"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self._idle: list[socket.socket] = []
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    async def exchange(self, verb: str, *args: Any) -> Any:
        try:
            return await asyncio.to_thread(self._once, verb, *args)
        except StoreUnavailable:
            return await asyncio.to_thread(self._once, verb, *args)

    def _once(self, verb: str, *args: Any) -> Any:
        """A request and its answer, in a thread: so a connection belongs to no event loop."""
        try:
            connection = self._idle.pop() if self._idle else socket.create_connection((HOST, self.port), PATIENCE)
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        try:
            with connection.makefile("rwb") as stream:
                data = pickle.dumps(self.message(verb, *args))
                stream.write(len(data).to_bytes(4, "big") + data)
                stream.flush()
                answer = pickle.loads(stream.read(int.from_bytes(stream.read(4), "big")))
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            connection.close()
            raise self.lost(verb, error) from error
        self._idle.append(connection)
        if self._closed:
            connection.close()
        return self.told(answer)


class DeadlineByTheClock(DictStore):
    """A call gives up when the clock says that it has taken ten seconds: where the clock is set in between, at once."""

    fault = "deadline-by-the-clock"
    caught_by = 12
    seen_in = "`time.time() + timeout`, where the monotonic clock belongs"

    async def request(self) -> None:
        end = time.time() + PATIENCE
        await super().request()
        if time.time() > end:
            raise StoreUnavailable(f"no answer within {PATIENCE:g} s")
