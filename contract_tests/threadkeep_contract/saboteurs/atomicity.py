"""Faults that law 4, atomicity, must find."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Final

from threadkeep.errors import Conflict
from threadkeep.port import After, Changes, Order, Put, Receipt, Resource, Scope, Snapshot, Thread, ThreadRow, Window
from threadkeep_contract.saboteurs.base import DictStore
from threadkeep_contract.saboteurs.file import FileStore
from threadkeep_contract.saboteurs.wire import WireStore

ONE_THREAD: Final = "resource_id = ? AND thread_id = ?"

CHUNK = 25
"""What DynamoDB's BatchWriteItem takes at once."""


class InSteps(DictStore):
    """A commit is checked as a whole and written in steps, between which others see what is there."""

    def steps(self, changes: Changes) -> Iterator[Changes]:
        raise NotImplementedError

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource):
            return await super().commit(scope, changes)
        await self.request()
        with self.lock:
            self.check(scope, changes)
        receipts = []
        for step in self.steps(changes):
            with self.lock:
                receipts.append(self.write(scope, step))
            await asyncio.sleep(0)
        return Receipt(
            receipts[-1].tail,
            [position for receipt in receipts for position in receipt.positions],
            [version for receipt in receipts for version in receipt.versions],
            [version for receipt in receipts for version in receipt.resource_versions],
        )


class WrittenInChunks(InSteps):
    """The records of a large commit are written 25 at a time: a reader sees the first chunks without the rest."""

    fault = "written-in-chunks"
    caught_by = 4
    seen_in = "Mastra libsql (chunks of 50), Mastra DynamoDB"

    def steps(self, changes: Changes) -> Iterator[Changes]:
        for start in range(0, len(changes.append), CHUNK):
            part = replace(changes, append=changes.append[start : start + CHUNK], puts=(), resource_puts=())
            yield replace(part, drop_after=changes.drop_after if not start else None)
        yield Changes(changes.at, changes.epoch, puts=changes.puts, resource_puts=changes.resource_puts)


class DocumentsWrittenApart(InSteps):
    """Records are committed first and the thread's documents after them."""

    fault = "documents-written-apart"
    caught_by = 4
    seen_in = "stores with one table, and one call, for messages and one for working memory"

    def steps(self, changes: Changes) -> Iterator[Changes]:
        yield replace(changes, puts=())
        if changes.puts:
            yield Changes(changes.at, changes.epoch, puts=changes.puts)


class ResourceDocumentsWrittenApart(InSteps):
    """The thread is committed first and the resource's documents after it."""

    fault = "resource-documents-written-apart"
    caught_by = 4
    seen_in = "Mastra: resource working memory is a record and a call of its own"

    def steps(self, changes: Changes) -> Iterator[Changes]:
        yield replace(changes, resource_puts=())
        if changes.resource_puts:
            yield Changes(changes.at, changes.epoch, resource_puts=changes.resource_puts)


class ThreadCreatedApart(InSteps):
    """A missing thread is created in a step of its own, so that readers find it empty."""

    fault = "thread-created-apart"
    caught_by = 4
    seen_in = "stores whose append calls create_thread first"

    def steps(self, changes: Changes) -> Iterator[Changes]:
        yield Changes(changes.at, changes.epoch)
        yield changes


class DropCommittedApart(InSteps):
    """A truncation is committed before what is appended after it: readers find the thread cut off."""

    fault = "drop-committed-apart"
    caught_by = 4
    seen_in = "edit and regenerate as delete, then save"

    def steps(self, changes: Changes) -> Iterator[Changes]:
        if changes.drop_after is not None:
            yield Changes(changes.at, changes.epoch, drop_after=changes.drop_after)
        yield replace(changes, drop_after=None)


class HalfTransactionCommitted(DictStore):
    """Versions are compared after the records were written, and what was written stays when the comparison fails."""

    fault = "half-transaction-committed"
    caught_by = 4
    seen_in = "LangGraph SqliteSaver: a `finally` that commits"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Thread) and any(put.if_version is not None for put in changes.puts):
            await self.request()
            with self.lock:
                self.check(scope, replace(changes, puts=(), resource_puts=()))
                first = self.write(scope, replace(changes, puts=(), resource_puts=()))
                self.check(scope, Changes(changes.at, puts=changes.puts, resource_puts=changes.resource_puts))
                second = self.write(scope, replace(changes, append=(), drop_after=None))
                return replace(second, positions=first.positions)
        return await super().commit(scope, changes)


class FirstDocumentStays(DictStore):
    """Each document is compared and written in turn: when the second comparison fails, the first one is written."""

    fault = "first-document-stays-when-second-fails"
    caught_by = 4
    seen_in = "loops of single compare-and-set writes"

    def check_versions(self, scope: Scope, puts: Sequence[Put]) -> None:
        for index, put in enumerate(puts):
            try:
                super().check_versions(scope, [put])
            except Conflict:
                self.put(scope, puts[:index])
                raise


class UndoDeletesWhatWasThere(DictStore):
    """After a failure the records of the commit are deleted again, those included that were there before."""

    fault = "undo-deletes-what-was-there"
    caught_by = 4
    seen_in = "Mastra DynamoDB"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        try:
            return await super().commit(scope, changes)
        except Conflict:
            given = {record.id for record in changes.append}
            if isinstance(scope, Thread):
                with self.lock:
                    log = self.log(scope)
                    log[:] = [record for record in log if record.id not in given]
            raise


class FailedCommitTouchesThread(DictStore):
    """The thread is created, or touched, before the conditions are looked at."""

    fault = "failed-commit-touches-thread"
    caught_by = 4
    seen_in = "get-or-create in front of every append"

    def check(self, scope: Scope, changes: Changes) -> None:
        try:
            super().check(scope, changes)
        except Conflict:
            if isinstance(scope, Thread):
                self.touch(scope, changes)
            raise


class DropBeforeConditions(DictStore):
    """Records are dropped before the versions of the documents are compared, and stay dropped."""

    fault = "drop-before-conditions"
    caught_by = 4
    seen_in = "delete-then-insert without a transaction"

    def check(self, scope: Scope, changes: Changes) -> None:
        if isinstance(scope, Thread):
            self.check_epoch(scope, changes)
            self.check_records(scope, changes)
            self.check_tail(scope, changes)
            if changes.drop_after is not None:
                self.drop(scope, changes.drop_after)
        super().check(scope, replace(changes, if_tail=None))


class EveryStatementCommitted(FileStore):
    """Each statement of a commit is a transaction of its own: a reader in another process, or a kill, finds half."""

    fault = "every-statement-committed"
    caught_by = 4
    seen_in = "sqlite3 and psycopg connections in autocommit"

    @contextmanager
    def transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        if mode == "DEFERRED":
            with super().transaction(mode) as connection:
                yield connection
        else:
            with self.lock:
                yield self.connection


class WindowReadInTwoQueries(DictStore):
    """The records before an anchor are read in one step and those from it on in the next: between the two a commit may
    have dropped the ones and brought the others."""

    fault = "window-read-in-two-queries"
    caught_by = 4
    seen_in = "`around` as two SELECTs in autocommit"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Resource) or window.anchor is None or not window.after:
            return await super().load(scope, window)
        await self.request()
        with self.lock:
            before = self.window(scope, self.log(scope), window._replace(after=0))
        await asyncio.sleep(0)
        with self.lock:
            snapshot = self.read(scope, window._replace(before=0))
        self.meter.rows += len(before)
        return replace(snapshot, records=[*before, *snapshot.records])


class ResourceDocumentsReadApart(DictStore):
    """A load reads the thread in one request and the resource's documents in the next."""

    fault = "resource-documents-read-apart"
    caught_by = 4
    seen_in = "Mastra: resource working memory is a call of its own"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = await super().load(scope, window)
        if isinstance(scope, Resource):
            return snapshot
        with self.lock:
            return replace(snapshot, resource_docs=dict(self.docs(Resource(scope.resource_id))))


class CancelledCommitLeavesHalf(DictStore):
    """A commit writes records, waits, and writes documents, while others wait for it; cancelled in between, it lets
    them go on and leaves its records."""

    fault = "cancelled-commit-leaves-half"
    caught_by = 4
    seen_in = "locks taken for transactions: `async with lock` around two awaited writes"

    async def turn(self) -> None:
        """Wait until no commit is half done."""
        while self.values.get(("half",)):  # noqa: ASYNC110 - it may be another event loop that commits
            await asyncio.sleep(0)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await self.turn()
        self.meter.trips += 1
        with self.lock:
            return self.read(scope, window)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        self.meter.trips += 1
        await self.turn()
        with self.lock:
            page = self.page(self.ordered(self.listed(resource, order), order), after, limit, order)
            self.meter.rows += len(page)
            return [self.listing(row, slots) for row in page]

    async def delete(self, scope: Scope) -> None:
        await self.turn()
        self.meter.trips += 1
        with self.lock:
            self.remove(scope)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        while not self.begin():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        try:
            if isinstance(scope, Resource):
                self.check(scope, changes)
                return self.write(scope, changes)
            self.check(scope, changes)
            first = self.write(scope, replace(changes, puts=(), resource_puts=()))
            await asyncio.sleep(0)
            second = self.write(
                scope, Changes(changes.at, changes.epoch, puts=changes.puts, resource_puts=changes.resource_puts)
            )
            return replace(second, positions=first.positions)
        finally:
            self.values["half",] = False

    def begin(self) -> bool:
        with self.lock:
            if self.values.get(("half",)):
                return False
            self.values["half",] = True
            return True


class ListEntryWrittenFirst(FileStore):
    """What lists show is a row of its own, written before the commit that creates the thread: a kill between the two
    leaves a thread in the lists that is not there."""

    fault = "list-entry-written-before-the-commit"
    caught_by = 4
    seen_in = "get-or-create of the session row in front of the transaction that saves the messages"
    listed = (
        "(SELECT resource_id, thread_id, coalesce(t.created, l.at) AS created, coalesce(t.active, l.at) AS active"
        " FROM listed AS l LEFT JOIN threads AS t USING (resource_id, thread_id))"
    )

    def set_up(self, connection: sqlite3.Connection) -> None:
        super().set_up(connection)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS listed"
            " (resource_id TEXT, thread_id TEXT, at INTEGER, PRIMARY KEY (resource_id, thread_id)) WITHOUT ROWID"
        )
        connection.execute(
            "CREATE TRIGGER IF NOT EXISTS unlist AFTER DELETE ON threads BEGIN"
            " DELETE FROM listed WHERE resource_id = old.resource_id AND thread_id = old.thread_id; END"
        )

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        await asyncio.sleep(0)
        if isinstance(scope, Thread):
            with self.transaction("IMMEDIATE") as connection:
                self.check(connection, scope, changes)
                connection.execute(
                    "INSERT OR IGNORE INTO listed VALUES (?, ?, ?)", (scope.resource_id, scope.thread_id, changes.at)
                )
        with self.transaction("IMMEDIATE") as connection:
            self.check(connection, scope, changes)
            return self.write(connection, scope, changes)

    async def delete(self, scope: Scope) -> None:
        with self.transaction("IMMEDIATE") as connection:
            connection.execute(
                "DELETE FROM listed WHERE resource_id = ?1 AND (thread_id = ?2 OR ?2 = '') AND NOT EXISTS (SELECT 1"
                " FROM threads AS t WHERE t.resource_id = listed.resource_id AND t.thread_id = listed.thread_id)",
                (scope.resource_id, scope.thread_id if isinstance(scope, Thread) else ""),
            )
        await super().delete(scope)


class ActivityWrittenAfterCommit(FileStore):
    """When a thread was last active is written in a transaction behind the commit: after a kill between the two, its
    newest records are later than its last activity."""

    fault = "activity-written-after-the-commit"
    caught_by = 4
    seen_in = "UPDATE sessions SET updated_at, in a statement of its own behind the commit"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        await asyncio.sleep(0)
        if isinstance(scope, Resource):
            with self.transaction("IMMEDIATE") as connection:
                self.check(connection, scope, changes)
                return self.write(connection, scope, changes)
        key = (scope.resource_id, scope.thread_id)
        with self.transaction("IMMEDIATE") as connection:
            self.check(connection, scope, changes)
            before = connection.execute(f"SELECT active FROM threads WHERE {ONE_THREAD}", key).fetchone()
            receipt = self.write(connection, scope, changes)
            if before is not None:
                connection.execute(f"UPDATE threads SET active = ? WHERE {ONE_THREAD}", (*before, *key))
        with self.transaction("IMMEDIATE") as connection:
            connection.execute(f"UPDATE threads SET active = max(active, ?) WHERE {ONE_THREAD}", (changes.at, *key))
        return receipt


class InTwoRequests(WireStore):
    """A store whose writes may be two requests. Nobody gets at the resource between them: the server lets others wait,
    and lets them go on when the connection is lost."""

    held_back: ClassVar[set[tuple[str, str]]] = set()

    def parts(self, verb: str, *args: Any) -> Sequence[tuple[str, Sequence[Any]]]:
        """The requests that a request is made of."""
        raise NotImplementedError

    def waits_for(self, place: tuple[str, str]) -> bool:
        """Whether a request at a resource, or at "" for all of them, has to wait."""
        return place in self.held_back or (not place[1] and any(path == self.path for path, _ in self.held_back))

    async def exchange(self, verb: str, *args: Any) -> Any:
        scope = args[0] if isinstance(args[0], Thread | Resource) else None
        place = (self.path, scope.resource_id if scope is not None else "")
        while self.waits_for(place):  # noqa: ASYNC110 - an event is one event loop's, and several wait here
            await asyncio.sleep(0.001)
        first, *more = self.parts(verb, *args)
        if not more:
            return await super().exchange(verb, *args)
        self.held_back.add(place)
        try:
            answers = []
            for part, given in (first, *more):
                answers.append(await super().exchange(part, *given))
            return answers
        finally:
            self.held_back.discard(place)


class DocumentsInSecondRequest(InTwoRequests):
    """A commit sends its documents behind its messages, in a second request, under a lock that nobody passes and that
    goes with the connection: where that is cut in between, the messages stay without them."""

    fault = "wire-documents-in-second-request"
    caught_by = 4
    seen_in = "session locks around two statements that are no transaction"

    def parts(self, verb: str, *args: Any) -> Sequence[tuple[str, Sequence[Any]]]:
        changes = args[1] if verb == "commit" else None
        if changes is None or not changes.append or not changes.puts:
            return [(verb, args)]
        later = replace(changes, append=(), drop_after=None, if_tail=None, if_epoch=None)
        return [
            ("commit", (args[0], replace(changes, puts=(), resource_puts=()))),
            ("commit", (args[0], later)),
        ]

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        # What may be refused is one request, so that nothing but a cut shows the two.
        conditions = [put for put in (*changes.puts, *changes.resource_puts) if put.if_version is not None]
        parts = self.parts("commit", scope, changes)
        if conditions or len(parts) == 1:
            self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
            self.meter.trips += 1
            receipt: Receipt = await WireStore.exchange(self, "commit", scope, changes)
            return receipt
        first: Receipt
        first, second = await self.request("commit", scope, changes)
        return replace(first, versions=second.versions, resource_versions=second.resource_versions)


class TruncationInTwoRequests(InTwoRequests):
    """A commit that truncates and appends is two requests, under a lock that goes with the connection: where that is
    cut in between, what was to be replaced is gone."""

    fault = "wire-truncation-in-two-requests"
    caught_by = 4
    seen_in = "edit and regenerate as one call to delete and one to insert"

    def parts(self, verb: str, *args: Any) -> Sequence[tuple[str, Sequence[Any]]]:
        changes = args[1] if verb == "commit" else None
        if changes is None or changes.drop_after is None or not changes.append:
            return [(verb, args)]
        return [
            ("commit", (args[0], Changes(changes.at, changes.epoch, drop_after=changes.drop_after))),
            ("commit", (args[0], replace(changes, drop_after=None))),
        ]

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        conditions = [put for put in (*changes.puts, *changes.resource_puts) if put.if_version is not None]
        known = changes.if_tail is not None or changes.if_epoch is not None or bool(conditions)
        parts = self.parts("commit", scope, changes)
        if known or len(parts) == 1 or changes.drop_after is None:
            return await super().commit(scope, changes)
        _, receipt = await self.request("commit", scope, changes)
        told: Receipt = receipt
        return told
