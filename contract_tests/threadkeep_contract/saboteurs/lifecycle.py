"""Faults that law 12, errors and lifecycle, must find."""

from __future__ import annotations

import asyncio
from typing import Final

from threadkeep.errors import StoreUnavailable, TailMoved
from threadkeep.port import Changes, Receipt, Scope, Snapshot, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore, Row

TURNS: Final = 2000
"""Turns of the event loop for which a verb waits for the one connection."""


class OpenWipesData(DictStore):
    """Opening makes the schema anew: the second handle empties what the first one wrote."""

    fault = "open-wipes-data"
    caught_by = 12
    seen_in = "DROP TABLE IF EXISTS in front of CREATE TABLE"

    async def open(self) -> None:
        first = self.space is None
        await super().open()
        if first:
            with self.lock:
                self.values.clear()


class OpenNotRepeatable(DictStore):
    """Opening twice, or from two tasks at once, fails: the schema is there already."""

    fault = "open-not-repeatable"
    caught_by = 12
    seen_in = "ADK #4445, LangGraph (1 CI run in 5): setup run twice in a race"

    async def open(self) -> None:
        if self.space is not None:
            raise RuntimeError("relation threads already exists")
        await super().open()
        await asyncio.sleep(0)


class CloseClosesAll(DictStore):
    """Closing one handle closes the connection that all handles of the URL share."""

    fault = "close-closes-all"
    caught_by = 12
    seen_in = "client caches without a count of their users"

    async def close(self) -> None:
        if self.space is not None:
            with self.lock:
                self.values["closed",] = True
        await super().close()

    async def request(self) -> None:
        await super().request()
        if ("closed",) in self.values:
            raise ConnectionError("the client is closed")


class BoundToFirstLoop(DictStore):
    """The connection belongs to the event loop that opened it; from the next loop every verb fails."""

    fault = "bound-to-first-event-loop"
    caught_by = 12
    seen_in = "asyncpg and Redis pools used by asyncio.run twice"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        await super().open()
        self.loop = asyncio.get_running_loop()

    async def request(self) -> None:
        await super().request()
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("got Future attached to a different loop")


class CancelledKeepsConnection(DictStore):
    """A verb that is cancelled never gives the connection back."""

    fault = "cancelled-keeps-the-connection"
    caught_by = 12
    seen_in = "SQL pools, Redis pipelines: cancelled while awaiting"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        for _ in range(TURNS):
            if self.values.setdefault(("connection",), "free") == "free":
                break
            await asyncio.sleep(0)
        else:
            raise TimeoutError("no connection became free")
        self.values["connection",] = "taken"
        receipt = await super().commit(scope, changes)
        self.values["connection",] = "free"
        return receipt


class ReadErrorSwallowed(DictStore):
    """A load catches everything: one that is cancelled goes on and says that the thread is empty."""

    fault = "read-error-swallowed"
    caught_by = 12
    seen_in = "Agno Redis, LangChain Mongo: an empty history is returned"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        try:
            return await super().load(scope, window)
        except BaseException:  # noqa: BLE001 # this is the fault
            return Snapshot()


class DriverPanicLeaks(DictStore):
    """On an id with a NUL the driver panics, with an exception that `except Exception` does not catch."""

    fault = "driver-panic-leaks"
    caught_by = 12
    seen_in = "drivers in Rust, whose panics derive from BaseException"

    def row(self, thread: Thread) -> Row | None:
        if "\0" in thread.thread_id:
            raise Panic("called `Result::unwrap()` on an `Err` value: NulError")
        return super().row(thread)


class Panic(BaseException):
    """What a driver raises when it has lost its way."""


class ConflictToldAsOutage(DictStore):
    """A lost race is reported as an outage: `retryable` is true and repeating never helps."""

    fault = "conflict-told-as-outage"
    caught_by = 12
    seen_in = "conditional writes whose failure is wrapped as a server error"

    def check_tail(self, thread: Thread, changes: Changes) -> None:
        try:
            super().check_tail(thread, changes)
        except TailMoved as moved:
            raise StoreUnavailable(str(moved)) from None
