"""`acme://PLACE`: threads in ... (say where)."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.errors import InvalidURL, StoreError
from threadkeep.port import (
    After,
    Changes,
    Order,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    ThreadRow,
    Window,
    hookimpl,
)


class AcmeStore(Store):
    """Fill in the verbs. docs/write-a-store.md of threadkeep goes through them, with a store that is complete.

    The docstrings of `threadkeep.port.Store` say all that a verb has to do; those here, what it comes to. Core has
    checked ids, sizes and bodies already.
    """

    # What your driver's errors mean: (sqlite3.OperationalError, StoreUnavailable), and so on. The one that is here
    # speaks for verbs that are not written; take it out at the end.
    driver_errors = ((NotImplementedError, StoreError),)

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    async def open(self) -> None:
        """Connect, and make the schema where there is none. Called again, and by many processes at once.

        Raises StoreTooNew or StoreTooOld for another schema (`check_schema_version` does), and StoreDamaged for a
        place that is another program's, and leaves all of them as they are.
        """

    async def close(self) -> None:
        """Let go of connections. May be called again."""

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        """The window's records, the thread's documents and its resource's, all as they are at one instant.

        A thread that is not there has `Snapshot(resource_docs=...)`. Where the scope is a Resource, so has it.
        Count each round trip in `self.meter.trips`, and what crosses in `self.meter.rows`; so do all verbs.
        """
        raise NotImplementedError("load is not written yet")

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        """All of `changes`, or an error and nothing written, in one transaction.

        1. Find the thread's tail, its documents, and which of `changes.append` are there already, above
           `changes.drop_after` none.
        2. `threadkeep.port.check_thread` and `next_versions` test the conditions on what was found, and raise.
        3. Drop what is above `drop_after`. Give records that are new the next positions after the largest that this
           epoch ever gave. Write documents with their new versions.
        4. A thread that was not there begins in `changes.epoch`, with `created` and `active` as `changes.at`; for one
           that was, `active` becomes the later of the two.
        """
        raise NotImplementedError("commit is not written yet")

    async def delete(self, scope: Scope) -> None:
        """The thread with everything in it, or everything of the resource; nothing of any other.

        What is not there is no error.
        """
        raise NotImplementedError("delete is not written yet")

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        """The next `limit` threads after the place `after`, each with its documents in `slots`.

        In the order "created" the oldest come first, by (created, thread_id); in "active" the newest, by (active,
        thread_id) falling. Never page by an offset: threads come and go meanwhile.
        """
        raise NotImplementedError("threads is not written yet")

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        """The next `limit` ids of resources with a thread or a document, above `after`, by code point."""
        raise NotImplementedError("resources is not written yet")


@hookimpl
def open_store(url: str) -> Store:
    """The store that a URL names, not yet connected."""
    place = url.partition("://")[2]
    if not place:
        raise InvalidURL("acme:// takes a place, as in acme://threads")
    return AcmeStore(place)
