"""`redis://`, `rediss://` and `redis+cluster://`: threads on a Redis server, or on a Redis Cluster.

Every verb is one script in the server, and so one step for whoever looks. docs/stores/redis.md names the options and
the settings of the server that the promises rest on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from threadkeep.port import (
    MIB,
    After,
    Changes,
    Clause,
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
from threadkeep_adapters.loops import PerLoop
from threadkeep_adapters.redis import inspect, schema, scripts, wire
from threadkeep_adapters.redis.cluster import Server, connect
from threadkeep_adapters.redis.commit import commit_changes, delete_scope
from threadkeep_adapters.redis.errors import ERRORS, LostError
from threadkeep_adapters.redis.layout import ResourceKeys
from threadkeep_adapters.redis.listing import list_registered, list_resources, list_threads
from threadkeep_adapters.redis.requests import Requests, repeated
from threadkeep_adapters.redis.url import Place, new_url, proxied_url, read_url


class RedisStore(Store):
    """A server or a cluster. Each event loop that calls has connections of its own."""

    limits = Limits(commit_messages=1000, commit_bytes=16 * MIB)
    driver_errors = ERRORS
    connection_errors = (*Store.connection_errors, LostError)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        if place.cluster:
            self.costs = Costs(load=1, commit=1, first_commit=3)
        if place.durability == "none":
            self.not_offered = {
                Clause.DURABILITY: "the URL says durability=none: the server may forget, or evict, what it acknowledged"
            }
        self._servers: PerLoop[Server] = PerLoop(lambda: connect(place, self.meter))
        self._requests = Requests(place, self._servers)

    async def open(self) -> None:
        self._servers.reopen()
        server = await self._servers.get()
        # What it writes may be written again.
        await repeated(lambda: schema.prepare(server, self.place))

    async def close(self) -> None:
        await self._servers.close()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        requests, keys = self._requests, ResourceKeys(self.place.prefix, scope.resource_id)
        if isinstance(scope, Resource):
            found = await repeated(lambda: requests.read(keys.docs, "HGETALL", keys.docs))
            snapshot = Snapshot(resource_docs=wire.docs(found))
        else:
            named = (*keys.of_thread(scope.thread_id), keys.docs)
            found = await repeated(lambda: requests.run(scripts.LOAD, named, *wire.load_arguments(window)))
            snapshot = wire.snapshot(found, window)
        self.meter.rows += len(snapshot.records) + len(snapshot.docs) + len(snapshot.resource_docs)
        return snapshot

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        return await commit_changes(self._requests, scope, changes)

    async def delete(self, scope: Scope) -> None:
        await delete_scope(self._requests, scope)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        found = await list_threads(self._requests, resource, after, limit, order, slots)
        self.meter.rows += len(found)
        return found

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        listed = list_registered if self.place.cluster else list_resources
        found = await listed(self._requests, after, limit)
        self.meter.rows += len(found)
        return found


@hookimpl
def open_store(url: str) -> Store:
    return RedisStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    return inspect.exists(read_url(url))


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
