"""Faults that law 1 must find in calls that overlap: what one user's call leaves on the handle meets another user's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Final

from threadkeep.errors import Conflict, StoreUnavailable
from threadkeep.port import (
    After,
    Changes,
    Order,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Stored,
    Thread,
    ThreadRow,
    Window,
)
from threadkeep_contract.saboteurs.base import DictStore, Key

READERS_PATIENCE: Final = 10
"""Looks, one in each turn of the event loop, at whether the readers of others have gone."""

FAILURES: Final = 3
"""Failures in a row after which the circuit breaker opens."""


class ScopeKeptOnHandle(DictStore):
    """A load notes its scope on the handle before it waits, and reads the scope noted there after it."""

    fault = "scope-kept-on-the-handle"
    caught_by = 1
    seen_in = "session objects with a `current_session_id`, shared by the requests of a web server"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.scope: Scope = Resource("")

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        self.scope = scope
        await self.request()
        with self.lock:
            snapshot = self.read(self.scope, window)
        await asyncio.sleep(0)
        return snapshot


class SearchPathKeptOnConnection(DictStore):
    """A list sets the resource on the connection in one step and selects in the next one, for whoever set it last."""

    fault = "search-path-kept-on-the-connection"
    caught_by = 1
    seen_in = "PostgreSQL tenants by `SET search_path` or `SET app.tenant`, on a connection that tasks share"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.tenant = Resource("")

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        self.tenant = resource
        await asyncio.sleep(0)
        tenant = self.tenant
        return await super().threads(tenant, after, limit, order, slots)


class OneBufferForAnswers(DictStore):
    """Every load fetches into one buffer of the handle, and returns what is in it when the call goes on."""

    fault = "one-buffer-for-answers"
    caught_by = 1
    seen_in = "drivers with one cursor a connection, whose `fetchall` gives the rows of whoever executed last"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.fetched: list[Stored] = []

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await self.request()
        with self.lock:
            snapshot = self.read(scope, window)
            self.fetched = list(snapshot.records)
        await asyncio.sleep(0)
        return Snapshot(
            snapshot.tail, snapshot.created, snapshot.active, self.fetched, snapshot.docs, snapshot.resource_docs
        )


class AnswersMatchedByOrder(DictStore):
    """Answers to loads are taken off a queue by whoever goes on first, and a load with documents goes on later."""

    fault = "answers-matched-by-order"
    caught_by = 1
    seen_in = "pipelines of Redis and HTTP whose replies are handed out in the order of the waiting tasks"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.answers: deque[Snapshot] = deque()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await self.request()
        with self.lock:
            answer = self.read(scope, window)
            self.answers.append(answer)
        try:
            await asyncio.sleep(0)
            for _ in answer.docs:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.answers.remove(answer)
            raise
        return self.answers.popleft()


class BatchFailsTogether(DictStore):
    """Commits that wait at the same time are one transaction: a condition that fails fails all of them."""

    fault = "batch-fails-together"
    caught_by = 1
    seen_in = "write batchers that join the requests of a moment in one transaction"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.batch: list[tuple[Scope, Changes]] = []

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        mine = (scope, changes)
        self.batch.append(mine)
        try:
            await self.request()
            with self.lock:
                for waiting in self.batch:
                    self.check(*waiting)
                receipt = self.write(scope, changes)
        finally:
            self.batch.remove(mine)
        await asyncio.sleep(0)
        return receipt


class LoadsInFlightShared(DictStore):
    """Loads of one thread that overlap are one request; which they are is told by the thread's id and the window."""

    fault = "loads-in-flight-shared-by-thread-id"
    caught_by = 1
    seen_in = "single-flight caches and DataLoader keys without the tenant"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.in_flight: dict[tuple[str, Window, int], Snapshot] = {}

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Resource):
            return await super().load(scope, window)
        await self.request()
        with self.lock:
            # A write in between ends the sharing, so that a load of the same thread never shows an older state.
            key = (scope.thread_id, window, self.values.get(("writes",), 0))
            leads = key not in self.in_flight
            snapshot = self.in_flight.setdefault(key, self.read(scope, window))
        try:
            await asyncio.sleep(0)
        finally:
            if leads:
                del self.in_flight[key]
        return snapshot

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        self.values["writes",] = self.values.get(("writes",), 0) + 1
        return super().write(scope, changes)

    def remove(self, scope: Scope) -> None:
        self.values["writes",] = self.values.get(("writes",), 0) + 1
        super().remove(scope)


class BusyWhileOthersWrite(DictStore):
    """A commit that finds another user's commit under way is refused, as busy, at once."""

    fault = "busy-while-others-write"
    caught_by = 1
    seen_in = "SQLite with no busy timeout: `database is locked`"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        with self.lock:
            writing: list[str] = self.values.setdefault(("writing",), [])
            if any(resource_id != scope.resource_id for resource_id in writing):
                raise StoreUnavailable("database is locked")
            writing.append(scope.resource_id)
        try:
            return await super().commit(scope, changes)
        finally:
            writing.remove(scope.resource_id)


class WriterStarvedByReaders(DictStore):
    """A deletion waits until no load of the handle is under way, and gives up where others go on reading."""

    fault = "writer-starved-by-readers"
    caught_by = 1
    seen_in = "locks that let readers pass; SQLite with a rollback journal under steady reads"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.readers: list[str] = []

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        self.readers.append(scope.resource_id)
        try:
            return await super().load(scope, window)
        finally:
            self.readers.remove(scope.resource_id)

    async def delete(self, scope: Scope) -> None:
        for _ in range(READERS_PATIENCE):
            if set(self.readers) <= {scope.resource_id}:
                return await super().delete(scope)
            await asyncio.sleep(0)
        raise StoreUnavailable("database is locked")


class ErrorKeptOnHandle(DictStore):
    """A conflict is noted on the handle, and raised by whichever commit looks there first."""

    fault = "error-kept-on-the-handle"
    caught_by = 1
    seen_in = "clients with a `last_error`; callbacks that fail the request at the head of the line"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.error: Conflict | None = None

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        receipt = None
        with self.lock:
            try:
                self.check(scope, changes)
                receipt = self.write(scope, changes)
            except Conflict as error:
                self.error = error
        await asyncio.sleep(0)
        noted, self.error = self.error, None
        if noted is not None:
            raise noted
        if receipt is None:
            raise StoreUnavailable("no answer")
        return receipt


class RecordsBufferedOnHandle(DictStore):
    """The records of an append are collected on the handle before the wait, and written by whoever goes on first."""

    fault = "records-buffered-on-the-handle"
    caught_by = 1
    seen_in = "bulk writers shared by requests, whose flush writes everybody's rows under the flusher's key"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.buffer: list[Record] = []

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource) or not changes.append:
            return await super().commit(scope, changes)
        self.buffer.extend(changes.append)
        try:
            await self.request()
            with self.lock:
                self.check(scope, changes)
                others = [record for record in self.buffer if record not in changes.append]
                self.buffer = [record for record in self.buffer if record in changes.append]
                receipt = self.write(scope, changes)
                row = self.touch(scope, changes)
                for record in others:
                    self.add(scope, row, record, changes.at)
        finally:
            self.buffer = [record for record in self.buffer if record not in changes.append]
        await asyncio.sleep(0)
        return receipt


class TransactionSharedByTasks(DictStore):
    """The commits of a handle that overlap are in one transaction of its one connection: one rolls back for all."""

    fault = "transaction-shared-by-tasks"
    caught_by = 1
    seen_in = "one aiosqlite or asyncpg connection for all tasks of a process"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.under_way = 0
        self.before: dict[Key, Any] = {}

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        self.under_way += 1
        try:
            with self.lock:
                if self.under_way == 1:
                    self.before = {}
                try:
                    self.check(scope, changes)
                except Conflict:
                    self.roll_back()
                    raise
                self.note(scope)
                receipt = self.write(scope, changes)
            await asyncio.sleep(0)
            return receipt
        finally:
            self.under_way -= 1

    def note(self, scope: Scope) -> None:
        """Keep what a commit is about to change, for a rollback."""
        keys = [self.docs_key(Resource(scope.resource_id))]
        if isinstance(scope, Thread):
            keys += [self.row_key(scope), self.log_key(scope), self.docs_key(scope)]
        for key in keys:
            self.before.setdefault(key, deepcopy(self.values.get(key)))

    def roll_back(self) -> None:
        for key, value in self.before.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        self.before = {}


class BreakerOpenedByOthers(DictStore):
    """Conflicts count as failures: after three in a row, whoever calls next is told that the store is unavailable."""

    fault = "breaker-opened-by-others"
    caught_by = 1
    seen_in = "circuit breakers around a client, which count every error of every user"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.failures = 0

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if self.failures >= FAILURES:
            self.failures = 0
            raise StoreUnavailable("the circuit is open")
        try:
            receipt = await super().commit(scope, changes)
        except Conflict:
            self.failures += 1
            raise
        self.failures = 0
        return receipt
