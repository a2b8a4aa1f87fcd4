"""Faults that law 9, working memory, must find."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from threadkeep.port import Changes, Doc, Put, Receipt, Scope, Snapshot, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore, Key


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
