"""`mongodb://` and `mongodb+srv://`: threads on MongoDB, and on servers that speak its protocol.

A commit is one document inserted under the resource's next number; of two that want the same number, the unique key
lets one in, and the other looks again. Nothing else keeps writers apart: no transaction, no conditional update. What
belongs to a commit is inserted before it, and counts only if it came in; what it replaces is removed after it, and
whoever finds it left behind passes it over. docs/stores/mongodb.md tells more.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from typing import Final

from pymongo.errors import ConnectionFailure, PyMongoError, ServerSelectionTimeoutError

from threadkeep.errors import Conflict, StoreUnavailable
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
    Thread,
    ThreadRow,
    Window,
    hookimpl,
)
from threadkeep_adapters.mongo import listing, reading, schema
from threadkeep_adapters.mongo.commit import Keeps, Plan, plan_deletion, plan_erasure, plan_resource, plan_thread
from threadkeep_adapters.mongo.connections import PATIENCE, Connections, Link, whole
from threadkeep_adapters.mongo.errors import ERRORS
from threadkeep_adapters.mongo.inspect import exists, scan
from threadkeep_adapters.mongo.layout import Document, ResourceState, ThreadState, number_of, read_resource, record_key
from threadkeep_adapters.mongo.requests import Requests, look, records_of
from threadkeep_adapters.mongo.url import Place, read_url

OPENINGS: Final = 3
"""How often a store is opened that loses its connection meanwhile."""


class MongoStore(Store):
    """A deployment. Each event loop that calls has a client of its own."""

    # The least that servers take in one insert is 1,000 documents: the messages, large documents and the commit.
    limits = Limits(commit_messages=900, commit_bytes=16 * MIB)
    costs = Costs(load=3, commit=3)
    driver_errors = ERRORS

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._connections = Connections(place, self.meter)
        self._logs: list[str] = []

    # A request that is cancelled leaks the driver's connection, so whatever has begun is done to its end.

    async def open(self) -> None:
        self._connections.reopen()
        await whole(self._open())

    async def close(self) -> None:
        await whole(self._connections.close())

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        return await whole(self._load(scope, window))

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        return await whole(self._commit(scope, changes))

    async def delete(self, scope: Scope) -> None:
        await whole(self._delete(scope))

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        return await whole(self._threads(resource, after, limit, order, slots))

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        return await whole(self._resources(after, limit))

    async def _open(self) -> None:
        link = await self._connections.get()
        async with link.opening:
            if not self._logs:
                self._logs = schema.logs(self.place, await self._prepared(link))

    async def _prepared(self, link: Link) -> int:
        failed = 0
        while True:
            try:
                return await schema.prepare(link.database, self.place, link.opener)
            except ServerSelectionTimeoutError:
                raise
            except ConnectionFailure as error:
                # What was written may be written again.
                failed += 1
                if failed == OPENINGS:
                    raise StoreUnavailable(str(error)) from error
                await asyncio.sleep(random.random() * 0.5)

    async def _load(self, scope: Scope, window: Window) -> Snapshot:
        requests = self._requests(await self._connections.get(), reading.scope_keys(scope)[0])
        snapshot, rows = await reading.load(requests, scope, window)
        self.meter.rows += rows
        return snapshot

    async def _commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        link = await self._connections.get()
        key, thread_key = reading.scope_keys(scope)
        requests = self._requests(link, key)
        records = [record_key(thread_key, record.id) for record in changes.append]
        registered: int | None = None
        async with link.turn(key):
            async for found in _attempts(requests, look(key, thread_key, records)):
                resource, thread = reading.states(found, key, thread_key)
                if await _sweep(requests, scope, resource, thread, found):
                    continue
                nonce = secrets.token_hex(12)
                try:
                    if isinstance(scope, Thread):
                        plan = await _plan(requests, scope, resource, thread, found, changes, nonce)
                    else:
                        plan = plan_resource(resource, changes, nonce)
                except Conflict:
                    # A commit that is made is tested once more by its keys, a refusal by nothing else.
                    if isinstance(scope, Resource) or await reading.still(requests, resource, thread):
                        raise
                    continue
                if registered is not None and registered != resource.generation:
                    await requests.unregister(scope.resource_id, below=resource.generation)
                if resource.is_empty and registered != resource.generation:
                    registered = resource.generation
                    await requests.register(scope.resource_id, key, registered)
                if await requests.insert(plan.documents):
                    await _clean(requests, plan, found, key, thread_key)
                    return plan.receipt
        raise StoreUnavailable(f"a commit was overtaken by others for {PATIENCE:g} s")

    async def _delete(self, scope: Scope) -> None:
        link = await self._connections.get()
        key, thread_key = reading.scope_keys(scope)
        requests = self._requests(link, key)
        async with link.turn(key):
            async for found in _attempts(requests, look(key, thread_key)):
                resource, thread = reading.states(found, key, thread_key)
                if await _sweep(requests, scope, resource, thread, found):
                    continue
                if isinstance(scope, Resource):
                    if resource.is_empty:
                        await requests.unregister(scope.resource_id, below=resource.generation + 1)
                        return
                    erasure = plan_erasure(resource, secrets.token_hex(12))
                    if await requests.insert([erasure]):
                        await requests.sweep_resource(read_resource(erasure), scope.resource_id)
                        return
                    continue
                if not thread.exists:
                    if resource.is_empty and resource.number:
                        await requests.unregister(scope.resource_id, below=resource.generation)
                    return
                deletion = plan_deletion(resource, thread, secrets.token_hex(12))
                if await requests.insert([deletion]):
                    after = read_resource(deletion)
                    await requests.sweep_thread(key, thread_key, after.number, found)
                    if after.is_empty:
                        await requests.unregister(scope.resource_id, below=after.generation)
                    return
        raise StoreUnavailable(f"a deletion was overtaken by commits for {PATIENCE:g} s")

    async def _threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        requests = self._requests(await self._connections.get(), reading.scope_keys(resource)[0])
        rows, moved = await listing.threads(requests, resource, after, limit, order, slots)
        self.meter.rows += moved
        return rows

    async def _resources(self, after: str | None, limit: int) -> Sequence[str]:
        link = await self._connections.get()
        names, moved = await listing.resources(lambda key: self._requests(link, key), after, limit)
        self.meter.rows += moved
        return names

    def _requests(self, link: Link, resource: str) -> Requests:
        """What can be asked about a resource, whose key says in which collection it is."""
        name = self._logs[int(resource[:8], 16) % len(self._logs)]
        return Requests(link.database, name, schema.registry(self.place))


async def _attempts(requests: Requests, query: Document) -> AsyncIterator[list[Document]]:
    """The documents that a query finds, again and again until the patience ends, with growing random pauses."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    number = 0
    while loop.time() < end:
        if number:
            await asyncio.sleep(random.random() * 0.002 * min(number, 20))
        number += 1
        yield await requests.find(query, {"body": 0}, largest=0)


async def _sweep(
    requests: Requests, scope: Scope, resource: ResourceState, thread: ThreadState, found: list[Document]
) -> bool:
    """Finish what a deletion left unfinished, and tell whether there was any."""
    if resource.unswept:
        await requests.sweep_resource(resource, scope.resource_id)
        return True
    if thread.gone and thread.unswept:
        await requests.sweep_thread(resource.key, thread.key, thread.number, found)
        if resource.is_empty:
            await requests.unregister(scope.resource_id, below=resource.generation)
        return True
    return False


async def _plan(
    requests: Requests,
    scope: Thread,
    resource: ResourceState,
    thread: ThreadState,
    found: list[Document],
    changes: Changes,
    nonce: str,
) -> Plan:
    """What a commit to a thread will write. One request for each of: known records, an earlier cut, a new one."""
    drop = changes.drop_after
    known = {
        record["id"]: record
        for record in await _known(requests, resource, thread, found, changes)
        if drop is None or int(record["p"]) <= drop
    }
    keeps = None
    if drop is not None and thread.exists and drop < thread.position:
        last = await reading.newest_until(requests, resource.key, thread, drop)
        keeps = Keeps(int(last[0]["o"]) + 1, int(last[0]["p"])) if last else Keeps(0, 0)
    plan = plan_thread(scope.thread_id, resource, thread, known, keeps, changes, nonce)
    if thread.cut is not None:
        await requests.sweep_cut(resource.key, thread.key, thread.cut)
    return plan


async def _known(
    requests: Requests, resource: ResourceState, thread: ThreadState, found: list[Document], changes: Changes
) -> list[Document]:
    """The thread's records with ids that are to be appended.

    One query is no instant: beside a state it may show a record that was dropped before, and miss one that is new. So
    they are looked for again, unless there is none and the caller saw this very tail before the query began.
    """
    hints = records_of(found, thread)
    if not changes.append or not thread.exists or (not hints and changes.seen == thread.tail):
        return []
    keys = [record_key(thread.key, record.id) for record in changes.append]
    return await reading.confirmed(requests, resource.key, thread, keys, hints)


async def _clean(requests: Requests, plan: Plan, found: list[Document], resource: str, thread: str) -> None:
    """Remove what a commit has replaced. What is not removed is passed over by all, and removed by a later commit."""
    number = number_of(plan.documents[-1])
    with suppress(PyMongoError):
        await requests.supersede(found, resource, thread, number)
        await requests.forget_bodies(plan.replaced)
        if plan.cut is not None:
            await requests.sweep_cut(resource, thread, plan.cut)


@hookimpl
def open_store(url: str) -> Store:
    return MongoStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    place = read_url(url)
    try:
        return exists(place)
    except PyMongoError:
        return True  # something may be there, and opening it tells what is wrong


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    return scan(read_url(url))
