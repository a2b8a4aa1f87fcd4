"""Handles that do not bear opening, closing, sharing, or calls that are cancelled."""

from __future__ import annotations

import asyncio
import os
import pickle
import sqlite3
import tempfile
import time
import weakref
from collections import deque
from typing import IO, ClassVar, Final

from threadkeep.errors import StoreUnavailable, TailMoved
from threadkeep.port import Changes, Receipt, Resource, Scope, Snapshot, Stored, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore, Row
from threadkeep_contract.saboteurs.file import FileStore

TURNS: Final = 2000
"""Turns of the event loop for which a verb waits for the one connection."""

CONNECTIONS: Final = 8
"""Connections in the pool of a handle."""


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


class SnapshotChangesLater(DictStore):
    """A snapshot holds the store's own documents and, where the window shows all of it, its own log: they change with
    what is committed later."""

    fault = "snapshot-changes-later"
    caught_by = 12
    seen_in = "in-memory stores that return the list they keep: LangGraph InMemoryStore, ADK InMemorySessionService"

    def read(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = super().read(scope, window)
        docs = self.docs(scope) if isinstance(scope, Thread) else {}
        resource_docs = self.docs(Resource(scope.resource_id))
        return Snapshot(snapshot.tail, snapshot.created, snapshot.active, snapshot.records, docs, resource_docs)

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        records = super().window(thread, log, window)
        return log if len(records) == len(log) else records


class CancelledAnswerStays(DictStore):
    """The answer to a load that was cancelled stays on the connection, and the next load gets it."""

    fault = "cancelled-answer-stays"
    caught_by = 12
    seen_in = "redis-py 4.5.3: a cancelled command left its reply (CVE-2023-28858)"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.answers: deque[Snapshot] = deque()
        self.asked = 0
        self.served = 0

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await self.request()
        with self.lock:
            self.answers.append(self.read(scope, window))
            number, self.asked = self.asked, self.asked + 1
        try:
            await asyncio.sleep(0)
            while self.served < number:  # noqa: ASYNC110 - those before, of other event loops too, are answered first
                await asyncio.sleep(0)
            return self.answers.popleft()
        finally:
            self.served += 1


class CancelledLoadKeepsConnection(DictStore):
    """A load that is cancelled while it is answered never gives its connection back; a pool has eight."""

    fault = "cancelled-load-keeps-its-connection"
    caught_by = 12
    seen_in = "`acquire` and `release` without `finally`: asyncpg and aiomysql pools"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.free = CONNECTIONS

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        for _ in range(TURNS):
            if self.free:
                break
            await asyncio.sleep(0)
        else:
            raise StoreUnavailable("QueuePool limit of size 8 reached, connection timed out")
        self.free -= 1
        snapshot = await super().load(scope, window)
        self.free += 1
        return snapshot


class CancelledWaiterLosesTurn(DictStore):
    """Commits take turns. A commit that is cancelled when its turn has just come does not pass it on, and nobody of
    this handle has one any more."""

    fault = "cancelled-waiter-loses-the-turn"
    caught_by = 12
    seen_in = "asyncio.Semaphore before Python 3.11, and ticket locks made by hand"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.waiting: deque[object] = deque()

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        ticket = object()
        self.waiting.append(ticket)
        for _ in range(TURNS):
            if self.waiting[0] is ticket:
                break
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if self.waiting[0] is not ticket:
                    self.waiting.remove(ticket)
                raise
        else:
            self.waiting.remove(ticket)
            raise StoreUnavailable("timed out waiting for the lock")
        try:
            return await super().commit(scope, changes)
        finally:
            self.waiting.remove(ticket)


class CancelledCloseKeepsTheFile(FileStore):
    """A closing lets others have their turn first; one that is cancelled then closes nothing, and is not made again."""

    fault = "cancelled-close-keeps-the-file"
    caught_by = 12
    seen_in = "`await flush()` in front of `connection.close()`, without a finally"

    async def open(self) -> None:
        await super().open()
        # Python warns of a connection that goes unclosed: whoever judges this would see that instead.
        weakref.finalize(self, self.connection.close)

    async def close(self) -> None:
        await asyncio.sleep(0)
        await super().close()


class ReadersAreNeverClosed(FileStore):
    """Loads go over a second connection, which nobody closes."""

    fault = "readers-are-never-closed"
    caught_by = 12
    seen_in = "clients with a replica to read from, whose `close` knows the primary alone"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self._reader: sqlite3.Connection | None = None

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await asyncio.sleep(0)
        with self.lock:
            _ = self.connection
            if self._reader is None:
                self._reader = sqlite3.connect(self.path, timeout=self.wait, check_same_thread=False)
                weakref.finalize(self, self._reader.close)
            return self.read(self._reader, scope, window)


class ConnectionOfTheModule(FileStore):
    """One connection for all handles and, after a fork, for all processes: each asks on it, and reads what comes."""

    fault = "connection-of-the-module"
    caught_by = 12
    seen_in = "clients that a module makes when it is imported, behind servers that load the application and then fork"

    line: ClassVar[IO[bytes] | None] = None
    """A file in place of a connection: who asks writes it, and whoever reads next is answered that."""

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await asyncio.sleep(0)
        with self.lock:
            line = ConnectionOfTheModule.line
            if line is None:
                line = ConnectionOfTheModule.line = tempfile.TemporaryFile()  # noqa: SIM115 - it is never closed
            os.pwrite(line.fileno(), pickle.dumps(scope), 0)
            time.sleep(0.001)  # noqa: ASYNC251 - the server takes a while
            scope = pickle.loads(os.pread(line.fileno(), 10_000, 0))
        return await super().load(scope, window)
