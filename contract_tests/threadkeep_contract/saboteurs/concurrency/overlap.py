"""Faults that law 5 must find in calls on one resource that overlap: deletion, erasure, lists, locks and threads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from threadkeep.port import After, Changes, Order, Receipt, Resource, Scope, Snapshot, Thread, ThreadRow, Window
from threadkeep_contract.saboteurs.base import DictStore, Key
from threadkeep_contract.saboteurs.file import SCHEMA, FileStore

DEADLOCK_TURNS: Final = 1000
"""Turns of the event loop after which a wait for a lock counts as a deadlock."""


class LocksInTwoOrders(DictStore):
    """A commit that puts documents of its resource locks the thread first, an erasure locks the resource first: where
    they meet, both wait until the database ends one of them as a deadlock."""

    fault = "locks-in-two-orders"
    caught_by = 5
    seen_in = "PostgreSQL and MySQL: `deadlock detected`"

    @asynccontextmanager
    async def locked(self, name: Key) -> AsyncIterator[None]:
        for _ in range(DEADLOCK_TURNS):
            with self.lock:
                if self.values.setdefault(("lock", *name), "free") == "free":
                    self.values["lock", *name] = "taken"
                    break
            await asyncio.sleep(0)
        else:
            raise RuntimeError("deadlock detected")
        try:
            yield
        finally:
            self.values.pop(("lock", *name), None)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource) or not changes.resource_puts:
            return await super().commit(scope, changes)
        async with self.locked(self.ids(scope)):
            await self.request()
            async with self.locked(self.ids(Resource(scope.resource_id))):
                with self.lock:
                    self.check(scope, changes)
                    return self.write(scope, changes)

    async def delete(self, scope: Scope) -> None:
        if isinstance(scope, Thread):
            await super().delete(scope)
            return
        async with self.locked(self.ids(scope)):
            await self.request()
            with self.lock:
                threads = [Thread(row.resource_id, row.thread_id) for row in self.listed(scope, "created")]
            for thread in threads:
                async with self.locked(self.ids(thread)):
                    pass
            with self.lock:
                self.remove(scope)


class ErasureInTwoSteps(DictStore):
    """An erasure removes the threads in one step and the resource's documents in the next."""

    fault = "erasure-in-two-steps"
    caught_by = 5
    seen_in = "erasure as one DELETE a table, in autocommit"

    async def delete(self, scope: Scope) -> None:
        await self.request()
        with self.lock:
            if isinstance(scope, Resource):
                for row in self.listed(scope, "created"):
                    self.remove_thread(Thread(row.resource_id, row.thread_id))
            else:
                self.remove_thread(scope)
        await asyncio.sleep(0)
        with self.lock:
            if isinstance(scope, Resource):
                self.values.pop(self.docs_key(scope), None)


class ErasureOfListedThreads(DictStore):
    """An erasure lists the threads first and removes those: one that is created meanwhile survives it, while what its
    commit put into the resource's documents is gone."""

    fault = "erasure-of-listed-threads"
    caught_by = 5
    seen_in = "erasure as a loop over a page of ids"

    async def delete(self, scope: Scope) -> None:
        if isinstance(scope, Thread):
            await super().delete(scope)
            return
        await self.request()
        with self.lock:
            listed = [Thread(row.resource_id, row.thread_id) for row in self.listed(scope, "created")]
        await asyncio.sleep(0)
        with self.lock:
            for thread in listed:
                self.remove_thread(thread)
            self.values.pop(self.docs_key(scope), None)


class DeletedThreadComesBack(DictStore):
    """A commit writes back the row that it read before it waited: a thread deleted meanwhile is there again, empty, in
    its old epoch and with its old counter."""

    fault = "deleted-thread-comes-back"
    caught_by = 5
    seen_in = "save-after-read with an upsert: DynamoDB PutItem, Redis SET of the whole session"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource) or changes.if_tail is not None or changes.if_epoch is not None:
            return await super().commit(scope, changes)
        await self.request()
        with self.lock:
            read = self.row(scope)
        await asyncio.sleep(0)
        with self.lock:
            if read is not None and self.row(scope) is None:
                self.values[self.row_key(scope)] = read
            self.check(scope, changes)
            return self.write(scope, changes)


class ListShowsDeletedThreads(DictStore):
    """A list selects ids in one request and fetches each thread in the next: one deleted meanwhile is shown without
    an epoch, as if it were there and empty."""

    fault = "list-shows-deleted-threads"
    caught_by = 5
    seen_in = "lists of ids from an index, whose items are then fetched by key: Redis ZRANGE, then HGETALL"

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        await self.request()
        with self.lock:
            page = self.page(self.ordered(self.listed(resource, order), order), after, limit, order)
            self.meter.rows += len(page)
        await asyncio.sleep(0)
        with self.lock:
            return [self.listing(row, slots) for row in page]


class LockOfOneEventLoop(DictStore):
    """Commits are serialised by a lock of the event loop, and check in one step what they write in the next: in one
    loop nobody comes between, and from another thread anybody does."""

    fault = "lock-of-one-event-loop"
    caught_by = 5
    seen_in = "`asyncio.Lock` around check and insert, in a server with a loop for each worker thread"
    taken: ClassVar[dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock]] = {}

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        lock = self.taken.setdefault((asyncio.get_running_loop(), self.url), asyncio.Lock())
        async with lock:
            with self.lock:
                self.check(scope, changes)
            await asyncio.sleep(0.001)
            with self.lock:
                return self.write(scope, changes)


class TailReadAfterCommit(DictStore):
    """The tail of a receipt is read in a request of its own: it is that of whoever committed in between."""

    fault = "tail-read-after-the-commit"
    caught_by = 5
    seen_in = "INSERT, then SELECT max(position)"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        receipt = await super().commit(scope, changes)
        if isinstance(scope, Resource) or not changes.append:
            return receipt
        with self.lock:
            tail = self.tail(scope)
        return replace(receipt, tail=tail) if tail.epoch == receipt.tail.epoch else receipt


class MissingThreadRemembered(DictStore):
    """A handle that has found a thread missing remembers that, until it creates the thread itself."""

    fault = "missing-thread-remembered"
    caught_by = 5
    seen_in = "caches of negative answers in a client"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.missing: set[Thread] = set()

    def read(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Thread):
            if scope in self.missing:
                return super().read(Resource(scope.resource_id), window)
            if self.row(scope) is None:
                self.missing.add(scope)
        return super().read(scope, window)

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Thread):
            self.missing.discard(scope)
        return super().write(scope, changes)


class FirstOpeningMakesTwo(DictStore):
    """Opening looks for the store, waits, and makes one where there was none: two first openers make one each."""

    fault = "first-opening-makes-two"
    caught_by = 5
    seen_in = "get-or-create of a namespace, collection or index without a unique name"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.made: dict[Key, Any] | None = None

    async def open(self) -> None:
        opened = self.space is not None
        await super().open()
        while opened and self.made is None:  # noqa: ASYNC110 - it may be another event loop that opens
            await asyncio.sleep(0)
        if opened:
            return
        space = self._opened()
        found: dict[Key, Any] | None = space.values.get(("made",))
        await asyncio.sleep(0)
        if found is None:
            found = space.values["made",] = {}
        self.made = found

    async def close(self) -> None:
        await super().close()
        self.made = None

    @property
    def values(self) -> dict[Key, Any]:
        space = self._opened()
        return space.values if self.made is None else self.made


class SchemaRaceFails(FileStore):
    """Opening looks whether the tables are there, and makes them in the next step: of two first openers, one fails."""

    fault = "schema-race-fails"
    caught_by = 5
    seen_in = "ADK #4445, LangGraph (1 CI run in 5): CREATE TABLE without IF NOT EXISTS behind a look"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.makes = False

    async def open(self) -> None:
        self.makes = self.is_missing()
        await asyncio.sleep(0)
        await super().open()

    def is_missing(self) -> bool:
        file = Path(self.path)
        return not file.exists() or not file.stat().st_size

    def set_up(self, connection: sqlite3.Connection) -> None:
        if self.makes:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA.replace('IF NOT EXISTS ', '')} COMMIT;")
