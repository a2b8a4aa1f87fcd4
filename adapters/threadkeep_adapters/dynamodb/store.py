"""`dynamodb://REGION/TABLE`: threads in a table of DynamoDB.

A commit is one transaction; a load is the heads at one moment and, at the same time, the newest records. boto3 blocks,
so that it runs in threads of the store's own. docs/stores/dynamodb.md names options, costs and permissions.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from botocore.exceptions import BotoCoreError, ClientError

from threadkeep.errors import StoreUnavailable
from threadkeep.port import (
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
from threadkeep_adapters.dynamodb import inspect, layout, listing, reading, schema, sweep
from threadkeep_adapters.dynamodb.commit import Commit
from threadkeep_adapters.dynamodb.connections import Client, Deadline
from threadkeep_adapters.dynamodb.errors import ERRORS, LOST, LostError
from threadkeep_adapters.dynamodb.layout import Heads
from threadkeep_adapters.dynamodb.reading import Torn
from threadkeep_adapters.dynamodb.url import Place, proxied_url, read_url
from threadkeep_adapters.lane import Ending, Lane, LaneBusyError

T = TypeVar("T")

REMEMBERED: Final = 1024
"""Scopes of which a store remembers the heads that it saw last."""


class DynamoDBStore(Store):
    """A table. The heads that were seen last are remembered: a commit tries with them first."""

    limits = Limits()
    # No request reads a range and single items of other partitions; ids that find no room in a transaction are looked
    # up before it, and are moved out of the head when that holds too many.
    costs = Costs(load=2, commit=1, most_load=4, most_commit=3)
    driver_errors = ERRORS
    connection_errors = (*Store.connection_errors, *LOST, LostError)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._client = Client(place, self.meter)
        self._lane: Lane | None = None
        self._ending = Ending(self._let_go)
        self._lock = threading.Lock()
        self._seen: OrderedDict[Scope, Heads] = OrderedDict()
        self._turns: WeakValueDictionary[Scope, threading.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        with self._lock:
            if self._lane is None:
                self._lane = Lane(self.place.connections, "threadkeep-dynamodb")
            lane = self._lane
        await lane.run(lambda: schema.prepare(self._client))

    async def close(self) -> None:
        with self._lock:
            self._ending.take(self._lane)
            self._lane = None
            self._seen.clear()
        await self._ending.wait()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        deadline = self._client.deadline()
        if not isinstance(scope, Thread) or window.anchor is not None or not window.before:
            return await self._run(lambda: self._load(deadline, scope, window))
        # The newest records are asked for before it is known that there is a thread.
        pk, _ = layout.partitions(scope)
        (heads, _), ahead = await asyncio.gather(
            self._run(lambda: reading.read_heads(self._client, deadline, scope)),
            self._run(lambda: reading.read_part(self._client, deadline, pk, None, window.before, forward=False)),
        )
        try:
            if not heads.has_docs_elsewhere:
                # Nothing more is to be asked for.
                snapshot = reading.read_snapshot(self._client, deadline, scope, heads, window, ahead)
            else:
                snapshot = await self._run(
                    lambda: reading.read_snapshot(self._client, deadline, scope, heads, window, ahead)
                )
        except Torn:
            return await self._run(lambda: self._load(deadline, scope, window))
        return self._loaded(scope, heads, snapshot)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        return await self._run(lambda: self._commit(scope, changes))

    async def delete(self, scope: Scope) -> None:
        await self._run(lambda: self._delete(scope))

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        rows = await self._run(lambda: listing.threads(self._client, resource, after, limit, order, slots))
        self.meter.rows += len(rows) + sum(len(row.docs) for row in rows)
        return rows

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        found = await self._run(lambda: listing.resources(self._client, after, limit))
        self.meter.rows += len(found)
        return found

    async def _run(self, work: Callable[[], T]) -> T:
        """What some work comes to in the lane, where it begins within the URL's timeout or not at all."""
        lane = self._lane
        if lane is None:
            raise RuntimeError("a verb was called before open() or after close()")
        try:
            return await lane.run(work, self.place.timeout)
        except LaneBusyError:
            raise StoreUnavailable(
                f"all {self.place.connections} connections were busy for {self.place.timeout:g} s; "
                "raise connections= or timeout= in the URL"
            ) from None

    def _let_go(self) -> None:
        with self._lock:
            if self._lane is not None:
                return  # it was opened again meanwhile, and uses the client
        self._client.close()

    # What follows runs in the lane and blocks

    def _load(self, deadline: Deadline, scope: Scope, window: Window) -> Snapshot:
        heads, snapshot = reading.load(self._client, deadline, scope, window)
        return self._loaded(scope, heads, snapshot)

    def _loaded(self, scope: Scope, heads: Heads, snapshot: Snapshot) -> Snapshot:
        self._remember(scope, heads)
        # Records that share an item with these came along; they are at most two for each, and not counted.
        self.meter.rows += len(snapshot.records) + len(snapshot.docs) + len(snapshot.resource_docs)
        return snapshot

    def _commit(self, scope: Scope, changes: Changes) -> Receipt:
        # Commits of one store to one scope would only be in each other's way.
        with self._lock:
            turn = self._turns.setdefault(scope, threading.Lock())
        if not turn.acquire(timeout=self.place.timeout):
            raise StoreUnavailable(f"other commits to the same scope took longer than {self.place.timeout:g} s")
        try:
            done = Commit(self._client, scope, changes).run(self._recall(scope))
            self._remember(scope, done.heads)
        finally:
            turn.release()
        return done.receipt

    def _delete(self, scope: Scope) -> None:
        deadline = self._client.deadline()
        with self._lock:
            self._seen.pop(scope, None)
        if isinstance(scope, Thread):
            sweep.remove_thread(self._client, deadline, scope)
        else:
            sweep.remove_resource(self._client, deadline, scope)
        with self._lock:
            self._seen.pop(scope, None)

    def _remember(self, scope: Scope, heads: Heads) -> None:
        with self._lock:
            self._seen[scope] = heads
            self._seen.move_to_end(scope)
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    def _recall(self, scope: Scope) -> Heads | None:
        with self._lock:
            return self._seen.get(scope)


@hookimpl
def open_store(url: str) -> Store:
    return DynamoDBStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    place = read_url(url)
    try:
        return inspect.exists(place)
    except (ClientError, BotoCoreError):
        return True  # something may be there, and opening it tells what is wrong


@hookimpl
def proxied(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    return proxied_url(url, proxy)


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    return inspect.scan(read_url(url))
