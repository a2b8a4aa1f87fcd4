"""Faults that law 4, atomicity, must find."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from threadkeep.errors import Conflict
from threadkeep.port import Changes, Put, Receipt, Resource, Scope, Thread
from threadkeep_contract.saboteurs.base import DictStore
from threadkeep_contract.saboteurs.file import FileStore

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
