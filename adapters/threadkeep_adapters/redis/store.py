"""`redis://`, `rediss://` and `redis+cluster://`: threads on a Redis server, or on a Redis Cluster.

Every verb is one script in the server, and so one step for whoever looks. docs/stores/redis.md names the options and
the settings of the server that the promises rest on.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from threadkeep.errors import OutcomeUnknown, StoreUnavailable
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
    Thread,
    ThreadRow,
    Window,
    hookimpl,
)
from threadkeep_adapters.loops import PerLoop
from threadkeep_adapters.redis import inspect, registry, schema, scripts, wire
from threadkeep_adapters.redis.cluster import Server, connect
from threadkeep_adapters.redis.errors import ERRORS, LostError, NotSentError
from threadkeep_adapters.redis.layout import ResourceKeys, moment, store_key
from threadkeep_adapters.redis.url import Place, read_url
from threadkeep_adapters.retry import AT_ONCE

T = TypeVar("T")

_FAILURES: Final = (NotSentError, LostError, RedisError)
"""What a call to a server may end in."""

REGISTRATIONS: Final = 3
"""How often a first commit registers its resource; one that came too late is registered again."""


class RedisStore(Store):
    """A server or a cluster. Each event loop that calls has connections of its own."""

    limits = Limits(commit_messages=1000, commit_bytes=16 * MIB)
    driver_errors = ERRORS

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
        self._index = store_key(place.prefix, "resources")
        self._schema = store_key(place.prefix, "schema")

    async def open(self) -> None:
        self._servers.reopen()
        server = await self._servers.get()
        # What it writes may be written again.
        await _read(lambda: schema.prepare(server, self.place, self._schema))

    async def close(self) -> None:
        await self._servers.close()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        keys = ResourceKeys(self.place.prefix, scope.resource_id)
        if isinstance(scope, Resource):
            snapshot = Snapshot(
                resource_docs=wire.docs(await _read(lambda: self._call(keys.docs, "HGETALL", keys.docs)))
            )
        else:
            named = (*keys.of_thread(scope.thread_id), keys.docs)
            reply = await _read(lambda: self._run(scripts.LOAD, named, *wire.load_arguments(window)))
            snapshot = wire.snapshot(reply, window)
        self.meter.rows += len(snapshot.records) + len(snapshot.docs) + len(snapshot.resource_docs)
        return snapshot

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        keys = ResourceKeys(self.place.prefix, scope.resource_id)
        # A commit to a resource touches no thread, and still has to name keys for one.
        thread_id = scope.thread_id if isinstance(scope, Thread) else ""
        named = (*keys.of_thread(thread_id), keys.created, keys.active, keys.docs)
        if not self.place.cluster:
            given = wire.commit_arguments(scope, changes, wire.INDEXED)
            return wire.receipt(await self._run(scripts.COMMIT, (*named, self._index), *given), scope)
        return await self._commit_registered(scope, changes, (*named, keys.registration))

    async def delete(self, scope: Scope) -> None:
        keys = ResourceKeys(self.place.prefix, scope.resource_id)
        mode, book = ("", keys.registration) if self.place.cluster else (wire.INDEXED, self._index)
        common = (keys.created, keys.active, keys.docs, book)
        if isinstance(scope, Thread):
            named = (*keys.of_thread(scope.thread_id), *common)
            token = await self._run(scripts.DELETE_THREAD, named, scope.thread_id, scope.resource_id, mode)
            if token:
                await self._finish(self._forget(keys, scope.resource_id, token.decode(), None))
            return
        token, now = await self._run(scripts.DELETE_RESOURCE, common, keys.base, scope.resource_id, mode)
        if self.place.cluster:
            await self._finish(self._forget(keys, scope.resource_id, token.decode(), now))

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        keys = ResourceKeys(self.place.prefix, resource.resource_id)
        asked = list(dict.fromkeys(slots))
        place = "" if after is None else moment(after.at) + after.thread_id
        listed = keys.created if order == "created" else keys.active
        fields = [f":{slot}" for slot in asked]
        given = (order, place, limit, keys.base, *fields)
        found = await _read(lambda: self._run(scripts.THREADS, (listed,), *given))
        self.meter.rows += len(found)
        return [wire.thread_row(row, asked) for row in found]

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        if not self.place.cluster:
            from_ = "-" if after is None else f"({after}"
            found = await self._list(from_, limit)
            self.meter.rows += len(found)
            return [name.decode() for name in found]
        return await self._registered(after, limit)

    async def _list(self, from_: str | bytes, limit: int) -> list[bytes]:
        command = ("ZRANGEBYLEX", self._index, from_, "+", "LIMIT", 0, limit)
        found: list[bytes] = await _read(lambda: self._call(self._index, *command))
        return found

    # In a cluster, the list of resources is in a slot of its own; `registry` says how it is kept

    async def _commit_registered(self, scope: Scope, changes: Changes, named: Sequence[bytes]) -> Receipt:
        token = ""
        for _ in range(REGISTRATIONS):
            reply = await self._run(scripts.COMMIT, named, *wire.commit_arguments(scope, changes, token))
            if token and not (reply[0] == b"done" and reply[1]):
                # The commit did not take this registration, and no other will. What it came to stands all the same.
                with suppress(*_FAILURES):
                    await self._call(self._index, "ZREM", self._index, registry.entry(scope.resource_id, token))
            if reply[0] != b"unregistered":
                return wire.receipt(reply, scope)
            token = registry.token(reply[1], secrets.token_hex(8))
            entry = registry.entry(scope.resource_id, token)
            await _read(lambda: self._call(self._index, "ZADD", self._index, 0, entry))  # noqa: B023 - awaited at once
        raise StoreUnavailable(
            f"the first commit of a resource came later than {registry.TOKEN_SECONDS} s after its registration, "
            f"{REGISTRATIONS - 1} times"
        )

    async def _forget(self, keys: ResourceKeys, resource_id: str, emptied: str, now: int | None) -> None:
        """Take a resource that was emptied out of the list; with `now`, also what clients that died left there."""
        if now is None:
            entries = [registry.entry(resource_id, emptied)]
        else:
            bounds = registry.entries_of(resource_id)
            found = await self._call(self._index, "ZRANGEBYLEX", self._index, *bounds)
            entries = [entry for entry in found if registry.is_spent(entry, emptied, now)]
        if entries:
            await self._call(self._index, "ZREM", self._index, *entries)
        if emptied:
            await self._run(scripts.FORGET_REGISTRATION, (keys.registration,), emptied)

    async def _finish(self, forgetting: Awaitable[None]) -> None:
        try:
            await forgetting
        except _FAILURES as error:
            raise OutcomeUnknown(
                f"what was to be deleted is gone, but its name may still be in the list of resources: {error}"
            ) from error

    async def _registered(self, after: str | None, limit: int) -> list[str]:
        found: list[str] = []
        from_ = b"-" if after is None else registry.after(after)
        while len(found) < limit and (page := await self._list(from_, limit - len(found))):
            from_ = b"(" + page[-1]
            entries = [registry.parts(entry) for entry in page]
            keys = [ResourceKeys(self.place.prefix, resource_id).registration for resource_id, _ in entries]
            server = await self._servers.get()
            held = await _read(lambda: server.each_key([(key, ("GET", key)) for key in keys]))  # noqa: B023 - awaited at once
            found += [name for (name, token), holder in zip(entries, held, strict=True) if holder == token.encode()]
        self.meter.rows += len(found)
        return found

    # Between the verbs and the server

    async def _run(self, script: scripts.Script, keys: Sequence[bytes], *given: Any) -> Any:
        """What a script answers. A server that does not know it, since it was restarted, is given it again."""
        server = await self._servers.get()
        try:
            return await server.call(keys[0], "EVALSHA", script.sha, len(keys), *keys, *given)
        except NoScriptError:
            return await server.call(keys[0], "EVAL", script.text, len(keys), *keys, *given)

    async def _call(self, key: bytes, *command: Any) -> Any:
        return await (await self._servers.get()).call(key, *command)


async def _read(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to what may be asked again where the connection was lost, as after a restart: whatever only reads."""
    pauses = AT_ONCE.begin()
    while True:
        try:
            return await ask()
        except LostError as error:
            if isinstance(error.__cause__, TimeoutError) or not await pauses.wait():
                raise StoreUnavailable(str(error)) from error


@hookimpl
def open_store(url: str) -> Store:
    return RedisStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    place = read_url(url)
    try:
        return inspect.exists(place)
    except (RedisError, RedisClusterException):
        return True  # something may be there, and opening it tells what is wrong


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    return inspect.scan(read_url(url))
