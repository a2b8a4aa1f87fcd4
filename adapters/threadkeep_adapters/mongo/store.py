"""`mongodb://` and `mongodb+srv://`: threads on MongoDB, and on servers that speak its protocol.

A commit is one document inserted under the resource's next number; of two that want the same number, the unique key
lets one in, and the other looks again. Nothing else keeps writers apart: no transaction, no conditional update. What
belongs to a commit is inserted before it, and counts only if it came in; what it replaces is removed after it, and
whoever finds it left behind passes it over. docs/stores/mongodb.md tells more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from threadkeep.port import (
    MIB,
    After,
    Changes,
    Costs,
    Limits,
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
from threadkeep_adapters.mongo import inspect, listing, reading, schema
from threadkeep_adapters.mongo.commit import commit_changes, delete_scope
from threadkeep_adapters.mongo.connections import Connections, Link, whole
from threadkeep_adapters.mongo.errors import ERRORS, LOST
from threadkeep_adapters.mongo.layout import Document, bucket_of
from threadkeep_adapters.mongo.requests import Requests
from threadkeep_adapters.mongo.url import Place, new_url, proxied_url, read_url
from threadkeep_adapters.retry import RetryPolicy

FAILING: Final = RetryPolicy(first=0.25, factor=1.0, jitter=1.0, tries=3)
"""For opening a store that loses its connection meanwhile."""


class MongoStore(Store):
    """A deployment. Each event loop that calls has a client of its own."""

    # The least that servers take in one insert is 1,000 documents: the messages, large documents and the commit.
    limits = Limits(commit_messages=900, commit_bytes=16 * MIB)
    costs = Costs(load=3, commit=3)
    driver_errors = ERRORS
    connection_errors = (*Store.connection_errors, *LOST)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._connections = Connections(place, self.meter)
        self._logs: list[str] = []

    @whole
    async def open(self) -> None:
        self._connections.reopen()
        link = await self._connections.get()
        async with link.opening:
            if not self._logs:
                self._logs = schema.log_names(self.place, await self._prepared(link))

    @whole
    async def close(self) -> None:
        await self._connections.close()

    @whole
    async def load(self, scope: Scope, window: Window) -> Snapshot:
        link = await self._connections.get()
        snapshot, rows = await reading.load(self._requests(link, scope), scope, window)
        self.meter.rows += rows
        return snapshot

    @whole
    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        link = await self._connections.get()
        requests = self._requests(link, scope)
        async with link.turn(scope.resource_id):
            return await commit_changes(requests, scope, changes)

    @whole
    async def delete(self, scope: Scope) -> None:
        link = await self._connections.get()
        requests = self._requests(link, scope)
        async with link.turn(scope.resource_id):
            await delete_scope(requests, scope)

    @whole
    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        link = await self._connections.get()
        requests = self._requests(link, resource)
        rows, moved = await listing.threads(requests, after, limit, order, slots)
        self.meter.rows += moved
        return rows

    @whole
    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        link = await self._connections.get()
        names, moved = await listing.resources(self._registry(link), partial(self._requests, link), after, limit)
        self.meter.rows += moved
        return names

    async def _prepared(self, link: Link) -> int:
        pauses = FAILING.begin()
        while True:
            try:
                return await schema.prepare(link.database, self.place, link.opener)
            except ServerSelectionTimeoutError:
                raise
            except LOST:
                # What was written may be written again.
                if not await pauses.wait():
                    raise

    def _requests(self, link: Link, scope: Scope) -> Requests:
        """What can be asked about a scope, in the collection that has its commits."""
        name = self._logs[bucket_of(scope.resource_id, len(self._logs))]
        return Requests(scope, link.database[name], self._registry(link))

    def _registry(self, link: Link) -> AsyncCollection[Document]:
        return link.database[schema.registry_name(self.place)]


@hookimpl
def open_store(url: str) -> Store:
    return MongoStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    place = read_url(url)
    try:
        return inspect.exists(place)
    except PyMongoError:
        return True  # something may be there, and opening it tells what is wrong


@hookimpl
def new_place(url: str) -> str:
    return new_url(url)


@hookimpl
def proxied(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    return proxied_url(url, proxy)


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    return inspect.scan(read_url(url))


@hookimpl
def shift_version(url: str, by: int) -> bool:
    inspect.shift(read_url(url), by)
    return True
