"""`dynamodb://REGION/TABLE`: threads in a table of DynamoDB.

A commit is one transaction; a load is the heads at one moment and, at the same time, the newest records. boto3 blocks,
so that it runs in threads of the store's own. docs/stores/dynamodb.md names options, costs and permissions.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from botocore.exceptions import BotoCoreError, ClientError

from threadkeep.errors import Conflict, OutcomeUnknown, StoreUnavailable
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
from threadkeep_adapters.dynamodb import listing, reading, schema, sweep
from threadkeep_adapters.dynamodb.commit import (
    PENDING,
    Found,
    Heads,
    IdsNeeded,
    Known,
    Overflow,
    Plan,
    decide,
    plan_resource,
    plan_settling,
    plan_thread,
)
from threadkeep_adapters.dynamodb.connections import Client, Deadline
from threadkeep_adapters.dynamodb.errors import ERRORS, Cancelled
from threadkeep_adapters.dynamodb.layout import read_place
from threadkeep_adapters.dynamodb.reading import Part, Torn
from threadkeep_adapters.dynamodb.url import Place, read_url
from threadkeep_adapters.lane import Lane, LaneBusyError

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

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._client = Client(place, self.meter)
        self._lane: Lane | None = None
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
            lane, self._lane = self._lane, None
            self._seen.clear()
        if lane is not None:
            await asyncio.to_thread(lane.close)
            self._client.close()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        deadline = self._client.deadline()
        if not isinstance(scope, Thread) or window.anchor is not None or not window.before:
            return await self._run(lambda: self._load(deadline, scope, window))
        # The newest records are asked for before it is known that there is a thread.
        pk, _ = reading.partitions(scope)
        (heads, _), ahead = await asyncio.gather(
            self._run(lambda: reading.read_heads(self._client, deadline, scope)),
            self._run(lambda: reading.read_part(self._client, deadline, pk, None, window.before, forward=False)),
        )
        try:
            if not heads.has_docs_elsewhere:
                # Nothing more is to be asked for.
                return self._snapshot(deadline, scope, heads, window, ahead)
            return await self._run(lambda: self._snapshot(deadline, scope, heads, window, ahead))
        except Torn:
            return await self._run(lambda: self._load(deadline, scope, window))

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

    # What follows runs in the lane and blocks

    def _load(self, deadline: Deadline, scope: Scope, window: Window) -> Snapshot:
        while True:
            try:
                pk, _ = reading.partitions(scope)
                anchor = window.anchor
                if isinstance(scope, Resource) or not isinstance(anchor, str):
                    heads, _ = reading.read_heads(self._client, deadline, scope)
                    return self._snapshot(deadline, scope, heads, window, None)
                heads, (item,) = reading.read_heads(self._client, deadline, scope, reading.id_key(pk, anchor))
                place = reading.place_of(heads.thread, anchor, item)
                found = Window() if place is None else window._replace(anchor=place.position)
                return self._snapshot(deadline, scope, heads, found, None)
            except Torn:
                deadline.pause("the thread changes faster than it can be read")

    def _snapshot(self, deadline: Deadline, scope: Scope, heads: Heads, window: Window, ahead: Part | None) -> Snapshot:
        self._remember(scope, heads)
        head, resource = heads.thread, heads.resource
        if resource.is_gone:
            return Snapshot()
        pk, resource_pk = reading.partitions(scope)
        records = reading.read_window(self._client, deadline, pk, head, window, ahead) if head.epoch else []
        asked = [(pk, head.docs), (resource_pk, resource.docs)]
        docs, resource_docs = reading.read_docs(self._client, deadline, asked)
        # Records that share an item with these came along; they are at most two for each, and not counted.
        self.meter.rows += len(records) + len(docs) + len(resource_docs)
        if not head.epoch:
            return Snapshot(resource_docs=resource_docs)
        return Snapshot(head.tail, head.created, head.active, records, docs, resource_docs)

    def _commit(self, scope: Scope, changes: Changes) -> Receipt:
        # Commits of one store to one scope would only be in each other's way.
        with self._lock:
            turn = self._turns.setdefault(scope, threading.Lock())
        if not turn.acquire(timeout=self.place.timeout):
            raise StoreUnavailable(f"other commits to the same scope took longer than {self.place.timeout:g} s")
        try:
            return self._commit_in_turn(scope, changes)
        finally:
            turn.release()

    def _commit_in_turn(self, scope: Scope, changes: Changes) -> Receipt:
        client, deadline = self._client, self._client.deadline()
        pk, _ = reading.partitions(scope)
        heads = self._recall(scope)
        is_fresh = False
        found = Found()
        while True:
            if heads is None:
                heads, _ = reading.read_heads(client, deadline, scope)
                is_fresh = True
            if heads.resource.erasure:
                sweep.finish_erasure(client, client.deadline(), Resource(scope.resource_id), heads.resource.erasure)
            elif heads.thread.is_gone:
                sweep.sweep_thread(client, client.deadline(), scope, heads.thread.mark)
            else:
                try:
                    plan = self._plan(deadline, scope, heads, changes, found)
                    self._transact(deadline, plan)
                    break
                except Conflict:
                    if is_fresh:
                        raise
                except IdsNeeded:
                    if is_fresh:
                        heads = self._look_up(deadline, scope, heads, changes, found)
                        continue
                except Torn:
                    deadline.pause("the thread changes faster than it can be cut")
                except Known as known:
                    # Only ids were there: the heads are still what they were.
                    found.places |= known.places
                    is_fresh = True
                    deadline.check("the ids of the thread are not as they should be")
                    continue
                except Overflow:
                    found.places = reading.find_ids(client, deadline, pk, [record.id for record in changes.append])
                    found.is_complete = not found.places
                    if found.is_complete:
                        continue
                    if is_fresh:
                        heads = self._look_up(deadline, scope, heads, changes, found)
                        continue
                except Cancelled as cancelled:
                    deadline.pause(f"others are changing the thread: {cancelled}")
            heads, is_fresh, found = None, False, Found()
        after = plan.heads
        if after.thread.dead and isinstance(scope, Thread):
            after = self._sweep_dropped(scope, after)
        self._remember(scope, after)
        return plan.receipt

    def _plan(self, deadline: Deadline, scope: Scope, heads: Heads, changes: Changes, found: Found) -> Plan:
        if isinstance(scope, Resource):
            decide(heads, Changes(at=changes.at, resource_puts=changes.puts), found)
            return plan_resource(scope.resource_id, heads, changes.puts)
        known = decide(heads, changes, found)
        head = heads.thread
        pk, _ = reading.partitions(scope)
        while len(heads.thread.pending) + len(changes.append) > PENDING:
            settling = plan_settling(scope, heads)
            self._transact(deadline, settling)
            heads = settling.heads
        cut = None
        if changes.drop_after is not None and changes.drop_after < head.position:
            if len(head.dead) > sweep.RANGES:
                heads = sweep.sweep_dropped(self._client, deadline, scope, heads)
                known = decide(heads, changes, found)
            cut = reading.read_cut(self._client, deadline, pk, heads.thread, changes.drop_after)
        return plan_thread(scope, heads, changes, known, cut, is_certain=found.is_complete)

    def _transact(self, deadline: Deadline, plan: Plan) -> None:
        """Do a plan. Raises Known where only ids stand against it, and Cancelled where the heads are others."""
        try:
            self._client.transact(deadline, plan.actions)
        except Cancelled as cancelled:
            failed = [number for number, has_failed in enumerate(cancelled.failed) if has_failed]
            if cancelled.__cause__ is not None:
                # An earlier try whose answer was lost may be what stands against this one.
                if plan.is_done(cancelled.old[0]):
                    return
                raise OutcomeUnknown(
                    f"the answer to a commit was lost ({cancelled.__cause__}), and others have changed the thread since"
                ) from cancelled.__cause__
            if failed and all(number in plan.ids for number in failed):
                places = {
                    plan.ids[number]: read_place(old)
                    for number, old in enumerate(cancelled.old)
                    if cancelled.failed[number] and old is not None
                }
                raise Known(places) from None
            raise

    def _look_up(self, deadline: Deadline, scope: Scope, heads: Heads, changes: Changes, found: Found) -> Heads:
        """Find every id of an append, at a moment at which the heads are those that are returned."""
        pk, _ = reading.partitions(scope)
        while True:
            places = reading.find_ids(self._client, deadline, pk, [record.id for record in changes.append])
            again, _ = reading.read_heads(self._client, deadline, scope)
            if again.thread.mark == heads.thread.mark and again.resource.mark == heads.resource.mark:
                found.places, found.is_complete = places, True
                return again
            heads = again
            deadline.pause("others are changing the thread")

    def _sweep_dropped(self, scope: Thread, heads: Heads) -> Heads:
        """Sweep after a truncation; what fails here is left for the next."""
        try:
            return sweep.sweep_dropped(self._client, self._client.deadline(), scope, heads)
        except Exception:  # noqa: BLE001 -- the commit is done, and its dropped records are invisible already
            return heads

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
    with closing(Client(read_url(url))) as client:
        try:
            return schema.exists(client)
        except (ClientError, BotoCoreError):
            return True  # something may be there, and opening it tells what is wrong


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    with closing(Client(read_url(url))) as client:
        yield from schema.scan(client)
