"""Faults that law 9, working memory, must find."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final

from threadkeep.port import Changes, Doc, Put, Receipt, Resource, Scope, Snapshot, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore, Key
from threadkeep_contract.saboteurs.file import FileStore

DOCUMENTS: Final = 100
"""Documents that a query of the imagined backend gives."""

REPEATED: Final = 5
"""Every so many commits the answer is lost."""


class IfVersionIgnored(DictStore):
    """`if_version` is not looked at: of two patches that read the same version, one is lost."""

    fault = "if-version-ignored"
    caught_by = 9
    seen_in = "Mastra #24756, #17298, #12253: read, merge, write"

    def check_versions(self, scope: Scope, puts: Sequence[Put]) -> None:
        pass


class VersionCheckedThenWritten(DictStore):
    """Versions are compared in one request and the document is written in the next."""

    fault = "version-checked-then-written"
    caught_by = 9
    seen_in = "Mastra #24756: read, merge, write"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if changes.append or changes.drop_after is not None:
            return await super().commit(scope, changes)
        await self.request()
        with self.lock:
            self.check(scope, changes)
        await asyncio.sleep(0)
        with self.lock:
            return self.write(scope, changes)


class VersionZeroMeansAny(DictStore):
    """`if_version=0`, that is "there is none yet", counts as no condition."""

    fault = "version-zero-means-any"
    caught_by = 9
    seen_in = "truthiness where None is meant: Mastra PR #14237"

    def check_versions(self, scope: Scope, puts: Sequence[Put]) -> None:
        super().check_versions(scope, [put for put in puts if put.if_version])


class EqualBodyKeepsVersion(DictStore):
    """A put of what is there already does not give a new version."""

    fault = "equal-body-keeps-version"
    caught_by = 9
    seen_in = "ADK: compare-and-set on a marker that ties leave unchanged"

    def next_doc(self, docs: dict[str, Doc], put: Put) -> Doc:
        doc = docs.get(put.slot)
        return doc if doc is not None and doc.body == put.body else super().next_doc(docs, put)


class VersionRestartsAfterRemoval(DictStore):
    """A document that is put again after its removal begins at version 1."""

    fault = "version-restarts-after-removal"
    caught_by = 9
    seen_in = "versions kept in the row that a removal deletes"

    def put(self, scope: Scope, puts: Sequence[Put]) -> list[int]:
        versions = super().put(scope, puts)
        for put in puts:
            if put.body is None:
                del self.docs(scope)[put.slot]
        return versions


class VersionSharedBySlots(DictStore):
    """All documents of a scope count one version: putting one moves the others."""

    fault = "version-shared-by-slots"
    caught_by = 9
    seen_in = "working memory kept inside the thread's metadata: Mastra"

    def next_doc(self, docs: dict[str, Doc], put: Put) -> Doc:
        return Doc(max((doc.version for doc in docs.values()), default=0) + 1, put.body)


class ThreadDocumentsUnderResource(DictStore):
    """A thread's documents are kept under its resource: all its threads share them."""

    fault = "thread-documents-kept-under-resource"
    caught_by = 9
    seen_in = "working memory whose scope defaults to the resource"

    def docs_key(self, scope: Scope) -> Key:
        return ("docs", "", scope.resource_id) if isinstance(scope, Thread) else super().docs_key(scope)


class ResourceDocumentsNeedThread(DictStore):
    """A resource's documents are joined to its threads: a missing thread shows none."""

    fault = "resource-documents-need-a-thread"
    caught_by = 9
    seen_in = "an inner join of threads and resources"

    def read(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Thread) and self.row(scope) is None:
            return Snapshot()
        return super().read(scope, window)


class SlotsWithoutCase(DictStore):
    """Slots are compared without case: `Notes` and `notes` are one document."""

    fault = "slots-without-case"
    caught_by = 9
    seen_in = "a unique key under MySQL's default collation"

    def put(self, scope: Scope, puts: Sequence[Put]) -> list[int]:
        return super().put(scope, [put._replace(slot=self.kept_slot(scope, put.slot)) for put in puts])

    def check_versions(self, scope: Scope, puts: Sequence[Put]) -> None:
        super().check_versions(scope, [put._replace(slot=self.kept_slot(scope, put.slot)) for put in puts])

    def kept_slot(self, scope: Scope, slot: str) -> str:
        """The name under which a slot is there already, or its own."""
        return next((there for there in self.docs(scope) if there.casefold() == slot.casefold()), slot)


class SlotsArePaths(DictStore):
    """Slots are paths in one document of the backend: a put of `a` takes `a.b` with it."""

    fault = "slots-are-paths"
    caught_by = 9
    seen_in = "MongoDB: `$set` of a field whose name has a dot"

    def put(self, scope: Scope, puts: Sequence[Put]) -> list[int]:
        docs = self.docs(scope)
        for put in puts:
            for slot in [slot for slot in docs if slot.startswith(f"{put.slot}.")]:
                del docs[slot]
        return super().put(scope, puts)


class DocumentsBeyondHundred(DictStore):
    """A load gives a hundred documents of a scope, and no more."""

    fault = "documents-beyond-100-not-loaded"
    caught_by = 9
    seen_in = "HSCAN called once; queries with a LIMIT that nobody thought to reach"

    def read(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = super().read(scope, window)
        return replace(
            snapshot,
            docs=dict(list(snapshot.docs.items())[:DOCUMENTS]),
            resource_docs=dict(list(snapshot.resource_docs.items())[:DOCUMENTS]),
        )


class ResourceVersionCheckedApart(DictStore):
    """A commit to a thread compares the versions of its resource's documents before it waits for the thread's turn."""

    fault = "resource-version-checked-apart"
    caught_by = 9
    seen_in = "Mastra: resource working memory is read, merged and written beside the thread's transaction"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Resource) or not changes.resource_puts:
            return await super().commit(scope, changes)
        await self.request()
        with self.lock:
            self.check(scope, changes)
        await asyncio.sleep(0)
        with self.lock:
            self.check(scope, replace(changes, resource_puts=()))
            return self.write(scope, changes)


class CommitSentTwice(DictStore):
    """Now and then the answer to a commit is lost, and the store sends the commit again: its documents count on."""

    fault = "commit-sent-twice"
    caught_by = 9
    seen_in = "drivers' own retries of writes that are not idempotent"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.sent = 0

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        self.sent += 1
        if self.sent % REPEATED == 0:
            rows = self.meter.rows
            super().write(scope, changes)
            self.meter.rows = rows
            return super().write(scope, replace(changes, drop_after=None))
        return super().write(scope, changes)


class RemovedForgottenOnRestart(FileStore):
    """What is left of removed documents, their versions, is cleared away by the last one that closes the store."""

    fault = "removed-documents-forgotten-on-restart"
    caught_by = 9
    seen_in = "tombstones collected at shutdown or after a grace period: Cassandra, CouchDB purge"
    running: ClassVar[dict[str, int]] = {}

    async def open(self) -> None:
        opened = self._connection is not None
        await super().open()
        if not opened:
            self.running[self.path] = self.running.get(self.path, 0) + 1

    async def close(self) -> None:
        if self._connection is not None:
            self.running[self.path] -= 1
            if not self.running[self.path]:
                with self.transaction("IMMEDIATE") as connection:
                    connection.execute("DELETE FROM docs WHERE body IS NULL")
        await super().close()
