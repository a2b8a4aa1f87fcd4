"""Saboteurs over SQLite files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

from adapter_saboteurs import plugins

from threadkeep.port import After, Changes, Costs, Order, Receipt, Resource, Scope, Snapshot, Thread, ThreadRow, Window
from threadkeep_adapters.sql import rows as shared
from threadkeep_adapters.sqlite import store as sound
from threadkeep_adapters.sqlite.commit import write_changes
from threadkeep_adapters.sqlite.file import StoreFile
from threadkeep_adapters.sqlite.statements import text
from threadkeep_adapters.sqlite.store import SQLiteStore
from threadkeep_adapters.sqlite.url import Place, read_url

T = TypeVar("T")

BATCH: Final = 500
"""Rows that the short writer sends."""

MOST_RECORDS: Final = 1000
"""The largest window that the clamping reader asks for."""


class Patching:
    """A connection whose statements have been changed."""

    def __init__(self, connection: sqlite3.Connection, store: PatchedStore) -> None:
        self._connection = connection
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, given: Any = ()) -> sqlite3.Cursor:
        return self._connection.execute(self._store.patched(sql), given)

    def executemany(self, sql: str, given: Sequence[Any]) -> sqlite3.Cursor:
        return self._connection.executemany(self._store.patched(sql), self._store.sent(given))


class PatchedStore(SQLiteStore):
    """A store that reads and writes with changed statements, and reads by readers' connections alone."""

    def patched(self, sql: str) -> str:
        """What is run in place of a statement."""
        return sql

    def sent(self, given: Sequence[Any]) -> Sequence[Any]:
        """What is written of many rows."""
        return given

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return super()._transact(lambda connection: work(cast(sqlite3.Connection, Patching(connection, self))))

    async def _read(self, step: shared.Step) -> shared.Rows:
        statement, given = step
        return await self._hop(self._reading, lambda: self._readers.fetch(self.patched(text(statement)), given))

    def _read_here(self, scope: Scope, step: shared.Step) -> shared.Rows | None:
        return None


class AnchorOfAnyThread(PatchedStore):
    """The position of an anchor's id is looked up in all threads of the file: a foreign message places the window."""

    fault: ClassVar = "sqlite-anchor-of-any-thread"
    caught_by: ClassVar = 1
    seen_in: ClassVar = "Mastra PR #20984 and #21863: include and neighbours"

    def patched(self, sql: str) -> str:
        return sql.replace(
            'threadkeep_messages.thread_key = (SELECT here."key" \nFROM here) AND threadkeep_messages.id = :anchor',
            "threadkeep_messages.id = :anchor LIMIT 1",
        )


class AnchorWithoutCase(PatchedStore):
    """An anchor's id is compared without case."""

    fault: ClassVar = "sqlite-anchor-without-case"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "COLLATE NOCASE in a lookup that a unique index does not use"

    def patched(self, sql: str) -> str:
        return sql.replace(
            "threadkeep_messages.id = :anchor", "threadkeep_messages.id = :anchor COLLATE NOCASE LIMIT 1"
        )


class ActiveTiesRising(PatchedStore):
    """The list by activity breaks ties by rising ids, and its cursor expects falling ones."""

    fault: ClassVar = "sqlite-active-ties-rising"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "ORDER BY updated_at DESC, id"

    def patched(self, sql: str) -> str:
        return sql.replace("thread_id DESC", "thread_id ASC")


class NewestFollowsTail(PatchedStore):
    """A commit sets the largest position ever given to that of the newest record, so that a truncation lowers it."""

    fault: ClassVar = "sqlite-newest-follows-tail"
    caught_by: ClassVar = 3
    seen_in: ClassVar = "every scheme that takes the maximum plus one"

    def patched(self, sql: str) -> str:
        return sql.replace("SET position=?, newest=?, active=?", "SET position=?1, newest=min(?1, ?2), active=?3")


class DocumentsOutliveThread(PatchedStore):
    """Deleting a thread leaves its documents. Its key is free, and the next new thread, of any resource, gets both."""

    fault: ClassVar = "sqlite-documents-outlive-thread"
    caught_by: ClassVar = 10
    seen_in: ClassVar = "rowids given again without AUTOINCREMENT, and no cascading delete"

    def patched(self, sql: str) -> str:
        return f"{sql} AND 0" if sql.startswith("DELETE FROM threadkeep_thread_docs") else sql


class FirstRowsOfBatch(PatchedStore):
    """The records of a commit are sent in one batch of 500: those behind are acknowledged and not written."""

    fault: ClassVar = "sqlite-first-500-rows-of-batch"
    caught_by: ClassVar = 11
    seen_in: ClassVar = "batches cut to a number of bound variables: SQLITE_MAX_VARIABLE_NUMBER"

    def sent(self, given: Sequence[Any]) -> Sequence[Any]:
        return given[:BATCH]


class DocumentsInSecondTransaction(PatchedStore):
    """Records are committed in one transaction and the thread's documents in the next."""

    fault: ClassVar = "sqlite-documents-in-second-transaction"
    caught_by: ClassVar = 4
    seen_in: ClassVar = "repositories of messages and of memory that each commit for themselves"

    def _commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource) or not changes.append or not changes.puts:
            return super()._commit(scope, changes)

        def rehearsed(connection: sqlite3.Connection) -> Receipt:
            # The conditions are those of the whole.
            connection.execute("SAVEPOINT rehearsal")
            receipt = write_changes(connection, scope, changes, look=True)
            connection.execute("ROLLBACK TO rehearsal")
            write_changes(connection, scope, replace(changes, puts=()), look=True)
            return receipt

        receipt = self._transact(rehearsed)
        later = Changes(changes.at, changes.epoch, puts=changes.puts)
        self._transact(lambda connection: write_changes(connection, scope, later, look=True))
        return receipt


class ErasureInTwoTransactions(PatchedStore):
    """An erasure deletes the threads in one transaction and the resource's documents in the next."""

    fault: ClassVar = "sqlite-erasure-in-two-transactions"
    caught_by: ClassVar = 5
    seen_in: ClassVar = "sqlite3 connections in autocommit"

    def _delete(self, scope: Scope) -> None:
        if isinstance(scope, Resource):
            with_threads = self._writer.connected().execute(
                "SELECT thread_id FROM threadkeep_threads WHERE resource_id = ?", (scope.resource_id,)
            )
            for (thread_id,) in with_threads.fetchall():
                super()._delete(Thread(scope.resource_id, thread_id))
        super()._delete(scope)


class ResourceReadApart(PatchedStore):
    """A load reads the thread in one statement and the resource's documents in the next, and says so in its costs."""

    fault: ClassVar = "sqlite-resource-read-apart"
    caught_by: ClassVar = 4
    seen_in: ClassVar = "sqlite3 in autocommit: each SELECT sees a state of its own"
    costs = Costs(load=2, commit=1)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = await super().load(scope, window)
        later = await super().load(Resource(scope.resource_id), Window())
        self.meter.rows -= len(later.resource_docs)
        return replace(snapshot, resource_docs=later.resource_docs)


class ResourcesOfThreadsAlone(PatchedStore):
    """Resources are listed from the table of threads: one that has documents alone is not there."""

    fault: ClassVar = "sqlite-resources-of-threads-alone"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "SELECT DISTINCT user_id FROM sessions"

    def patched(self, sql: str) -> str:
        if ":limit" not in sql or "RECURSIVE" not in sql:
            return sql
        return (
            "SELECT DISTINCT resource_id FROM threadkeep_threads WHERE resource_id > :after"
            " ORDER BY resource_id LIMIT :limit"
        )


class WindowClamped(PatchedStore):
    """A window has at most a thousand records on each side, whatever was asked for."""

    fault: ClassVar = "sqlite-window-clamped-to-1000"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "APIs that clamp `limit` in silence"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        clamped = Window(window.anchor, min(window.before, MOST_RECORDS), min(window.after, MOST_RECORDS))
        return await super().load(scope, clamped)


class ListStatementKeptByOrder(PatchedStore):
    """The statement of a list is kept by order and slots: walks that begin and those that go on share it."""

    fault: ClassVar = "sqlite-list-statement-kept-by-order"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "statement caches with a key that leaves out a part of what the statement is made of"

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self._kept: dict[tuple[str, int], str] = {}

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        statement, given = shared.threads_step(resource, after, limit, order, slots)
        sql = self._kept.setdefault((order, len(set(slots))), text(statement))
        # A walk that begins, with the statement of one that goes on, begins before everything.
        before = {"at": -(2**62), "after": ""} if order == "created" else {"at": 2**62, "after": ""}
        found = await self._hop(self._reading, lambda: self._readers.fetch(sql, {**before, **given}))
        rows = shared.thread_rows(found)
        self.meter.rows += len(rows)
        return rows


class Unwatched(StoreFile):
    """A file at which nobody looks again."""

    def check(self) -> None:
        pass

    def check_all(self) -> None:
        pass


class KnownByName(Unwatched):
    """A file that is there while one of its name is."""

    def check(self) -> None:
        if not Path(self.place.path).exists():
            super(Unwatched, self).check()


class LostFileGoesOn(SQLiteStore):
    """A file that was deleted or replaced is read and written on, by the connections that have it open."""

    fault: ClassVar = "sqlite-lost-file-goes-on"
    caught_by: ClassVar = 12
    seen_in: ClassVar = "SQLite with a log: it looks at the file's name when it closes, and else never"
    watched: ClassVar[type[StoreFile]] = Unwatched

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._file = self._writer.file = self._readers._file = self.watched(place)


class LostFileKnownByName(LostFileGoesOn):
    """A lost file is known by its name: one that has come in its place is taken for it."""

    fault: ClassVar = "sqlite-lost-file-known-by-name"
    seen_in: ClassVar = "`os.path.exists` before a call"
    watched: ClassVar = KnownByName


BROKEN: Final[Sequence[type[SQLiteStore]]] = [
    AnchorOfAnyThread,
    AnchorWithoutCase,
    ActiveTiesRising,
    NewestFollowsTail,
    DocumentsOutliveThread,
    FirstRowsOfBatch,
    DocumentsInSecondTransaction,
    ErasureInTwoTransactions,
    ResourceReadApart,
    ResourcesOfThreadsAlone,
    WindowClamped,
    ListStatementKeptByOrder,
    LostFileGoesOn,
    LostFileKnownByName,
]

PLUGINS: Final = plugins("sqlite", BROKEN, sound, read_url)
"""By fault, and registered."""
