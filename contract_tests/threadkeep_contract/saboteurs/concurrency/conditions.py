"""Faults that law 5 must find in conditions, in first uses and in what other processes see."""

from __future__ import annotations

import asyncio
import copy
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from threadkeep.errors import TailMoved
from threadkeep.port import MISSING, Changes, Receipt, Resource, Scope, Snapshot, Tail, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore
from threadkeep_contract.saboteurs.file import FileStore


class CheckThenInsert(DictStore):
    """The conditions are checked in one request and the commit is written in the next one."""

    fault = "check-then-insert"
    caught_by = 5
    seen_in = "ADK #4445, Mastra PR #19758, OpenAI #2722"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        with self.lock:
            self.check(scope, changes)
        await asyncio.sleep(0)
        with self.lock:
            return self.write(scope, changes)


class TailComparesEpochOnly(DictStore):
    """`if_tail` compares the epoch alone: whoever appended meanwhile is not seen."""

    fault = "tail-compares-epoch-only"
    caught_by = 5
    seen_in = "LangGraph SqliteSaver: the latest by id, the parent not checked"

    def same_tail(self, thread: Thread, tail: Tail) -> bool:
        return tail.epoch == self.tail(thread).epoch


class TailComparedByCount(DictStore):
    """`if_tail` compares how many records there are: after a drop and an append an old tail is good again."""

    fault = "tail-compared-by-count"
    caught_by = 5
    seen_in = "ADK: compare-and-set on a marker that an equal timestamp leaves unchanged"

    def same_tail(self, thread: Thread, tail: Tail) -> bool:
        counts = self.values.get(("counts", *self.ids(thread)), {})
        return super().same_tail(thread, tail) or counts.get(tail) == len(self.log(thread))

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        receipt = super().write(scope, changes)
        if isinstance(scope, Thread):
            counts = self.values.setdefault(("counts", *self.ids(scope)), {})
            counts[receipt.tail] = len(self.log(scope))
        return receipt

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(("counts", *self.ids(thread)), None)


class TruncationLeavesTail(DictStore):
    """The tail is the largest position ever given, which a truncation does not move."""

    fault = "truncation-leaves-tail"
    caught_by = 5
    seen_in = "counters that only ever grow, taken for the tail"

    def tail(self, thread: Thread) -> Tail:
        row = self.row(thread)
        return super().tail(thread) if row is None else Tail(row.epoch, row.newest)


class LoserWrites(DictStore):
    """The tail is compared after the write: the loser of a race is told so, and its records stay."""

    fault = "loser-writes"
    caught_by = 5
    seen_in = "appends whose compare-and-set guards the thread record only"

    def check_tail(self, thread: Thread, changes: Changes) -> None:
        try:
            super().check_tail(thread, changes)
        except TailMoved:
            if self.row(thread) is not None:
                self.write(thread, replace(changes, drop_after=None, puts=(), resource_puts=()))
            raise


class TailMovedNamesGivenTail(DictStore):
    """The error of a lost race carries the tail that the caller gave, not the one there is."""

    fault = "tail-moved-names-given-tail"
    caught_by = 5
    seen_in = "conditional writes that do not return the item that was there"

    def check_tail(self, thread: Thread, changes: Changes) -> None:
        try:
            super().check_tail(thread, changes)
        except TailMoved:
            raise TailMoved(*(changes.if_tail or MISSING)) from None


class WholeRecordRewritten(DictStore):
    """A commit reads the whole thread, adds to it and writes the whole back: the second writer wins."""

    fault = "whole-record-rewritten"
    caught_by = 5
    seen_in = "LangChain and LlamaIndex DynamoDB, Agno up to 2.9 (#7479), Dapr's first write"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource) or changes.if_tail is not None or changes.if_epoch is not None:
            return await super().commit(scope, changes)
        await self.request()
        keys = (self.row_key(scope), self.log_key(scope))
        with self.lock:
            read = {key: copy.deepcopy(self.values[key]) for key in keys if key in self.values}
        await asyncio.sleep(0)
        with self.lock:
            now = {key: self.values.pop(key) for key in keys if key in self.values}
            self.values.update(read)
            try:
                self.check(scope, changes)
            except BaseException:
                self.values.update(now)
                raise
            return self.write(scope, changes)


class AllDocumentsRewritten(DictStore):
    """A put reads all documents of its scope, changes one and writes all back: a rename is undone."""

    fault = "all-documents-rewritten"
    caught_by = 5
    seen_in = "Mastra Redis, #16216, PR #21041: saving messages undid a rename"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if not changes.puts:
            return await super().commit(scope, changes)
        await self.request()
        with self.lock:
            read = dict(self.docs(scope))
        await asyncio.sleep(0)
        with self.lock:
            self.check(scope, changes)
            given = {put.slot for put in changes.puts}
            kept = {slot: doc for slot, doc in self.docs(scope).items() if slot in given}
            self.values[self.docs_key(scope)] = {**read, **kept}
            return self.write(scope, changes)


class LooksForThreadFirst(DictStore):
    """Whether the thread is there is asked in one request, and the commit is made in the next one."""

    def create(self, thread: Thread) -> None:
        """What comes before the commit to a thread that was missing in the first request."""
        raise NotImplementedError

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource):
            return await super().commit(scope, changes)
        await self.request()
        with self.lock:
            missing = self.row(scope) is None
        await asyncio.sleep(0)
        with self.lock:
            self.check(scope, changes)
            if missing:
                self.create(scope)
            return self.write(scope, changes)


class CreateRaceOverwrites(LooksForThreadFirst):
    """Whether the thread is there is asked first; of two first writers the second creates it over the first."""

    fault = "create-race-overwrites"
    caught_by = 5
    seen_in = "ADK #4445, Mastra PR #19758"

    def create(self, thread: Thread) -> None:
        self.remove_thread(thread)


class CreateRaceFails(LooksForThreadFirst):
    """Whether the thread is there is asked first; of two first writers the second runs into the unique index."""

    fault = "create-race-fails"
    caught_by = 5
    seen_in = "OpenAI #2722: two first writers"

    def create(self, thread: Thread) -> None:
        if self.row(thread) is not None:
            raise KeyError("UNIQUE constraint failed: threads.resource_id, threads.thread_id")


class MaxPlusOneWithoutUnique(DictStore):
    """The newest position is read in one request and used in the next: two writers give the same one."""

    fault = "max-plus-one-without-unique"
    caught_by = 5
    seen_in = "LlamaIndex Mongo"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        with self.lock:
            row = self.row(scope) if isinstance(scope, Thread) else None
            newest = row.newest if row else 0
        await asyncio.sleep(0)
        with self.lock:
            self.check(scope, changes)
            row = self.row(scope) if isinstance(scope, Thread) else None
            if row is not None:
                row.newest = newest
            return self.write(scope, changes)


class ReadFromReplica(DictStore):
    """Reads go to a copy that is one commit behind, unless the reader made that commit itself."""

    fault = "read-from-replica"
    caught_by = 5
    seen_in = "Agno DynamoDB, LangChain DynamoDB: eventually consistent reads and secondary indexes"

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        rows = self.meter.rows
        self.values["behind", *self.ids(scope)] = (id(self), super().read(scope, Window(before=1 << 20)))
        self.meter.rows = rows
        return super().write(scope, changes)

    def read(self, scope: Scope, window: Window) -> Snapshot:
        writer, behind = self.values.get(("behind", *self.ids(scope)), (id(self), Snapshot()))
        if writer == id(self) or isinstance(scope, Resource):
            return super().read(scope, window)
        stale: Snapshot = replace(behind, records=self.window(scope, list(behind.records), window))
        return stale

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(("behind", *self.ids(thread)), None)


class LockOfOneProcess(FileStore):
    """What decides about a commit is read before the transaction that writes it, under a lock that other processes
    do not know."""

    fault = "lock-of-one-process"
    caught_by = 5
    seen_in = "stores that guard the database with a lock of their own process: OpenAI Agents SQLite sessions"
    process_lock: ClassVar[threading.Lock] = threading.Lock()

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        await asyncio.sleep(0)
        with self.process_lock:
            with self.transaction("DEFERRED") as connection:
                self.check(connection, scope, changes)
            with self.transaction("IMMEDIATE") as connection:
                return self.write(connection, scope, changes)


class LockNamedByHash(FileStore):
    """What decides about a commit is read before the transaction that writes it, under a lock that all processes know,
    but by a number that `hash()` makes another in each of them.
    """

    fault = "lock-named-by-hash"
    caught_by = 5
    seen_in = "advisory locks of a database, whose number is Python's `hash()` of an id"

    def take(self, lock: Path) -> bool:
        with suppress(FileExistsError):
            lock.touch(exist_ok=False)
            return True
        return False

    def release(self, lock: Path) -> None:
        lock.unlink()

    @asynccontextmanager
    async def locked(self, scope: Scope) -> AsyncIterator[None]:
        lock = Path(f"{self.path}-lock{hash(scope.resource_id)}")
        while not self.take(lock):  # noqa: ASYNC110 - another process, which can set no event here, holds it
            await asyncio.sleep(0.001)
        try:
            yield
        finally:
            self.release(lock)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        async with self.locked(scope):
            with self.transaction("DEFERRED") as connection:
                self.check(connection, scope, changes)
            with self.transaction("IMMEDIATE") as connection:
                return self.write(connection, scope, changes)

    async def delete(self, scope: Scope) -> None:
        async with self.locked(scope):
            await super().delete(scope)


class CacheOfOneProcess(FileStore):
    """Snapshots are cached, and the cache is emptied by the writes of its own process only."""

    fault = "cache-of-one-process"
    caught_by = 5
    seen_in = "session objects that keep the history in memory: Strands sessions"
    caches: ClassVar[dict[str, dict[tuple[Scope, Window], Snapshot]]] = {}

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        cache = self.caches.setdefault(self.path, {})
        if (scope, window) not in cache:
            cache[scope, window] = await super().load(scope, window)
            return cache[scope, window]
        self.meter.trips += 1
        return cache[scope, window]

    @contextmanager
    def transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        with super().transaction(mode) as connection:
            yield connection
        if mode == "IMMEDIATE":
            self.caches.pop(self.path, None)


class BusyWriteSwallowed(FileStore):
    """When somebody else is writing, the commit is acknowledged and not written."""

    fault = "busy-write-swallowed"
    caught_by = 5
    seen_in = "writes whose error is logged and not raised"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        await asyncio.sleep(0)
        try:
            with self.transaction("IMMEDIATE NOW") as connection:
                self.check(connection, scope, changes)
                return self.write(connection, scope, changes)
        except sqlite3.OperationalError:
            with self.transaction("DEFERRED") as connection:
                tail = self.tail(connection, scope) if isinstance(scope, Thread) else MISSING
            return Receipt(tail, [tail.position + place for place in range(1, len(changes.append) + 1)])

    @contextmanager
    def transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        patience = 0 if mode.endswith("NOW") else self.wait
        self.connection.execute(f"PRAGMA busy_timeout={int(patience * 1000)}")
        with super().transaction(mode.removesuffix(" NOW")) as connection:
            yield connection
