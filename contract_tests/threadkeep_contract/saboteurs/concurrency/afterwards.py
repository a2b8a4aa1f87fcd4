"""Faults that law 5 must find by a look at everything after a race: what is written beside the commit is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from threadkeep.port import After, Changes, Order, Receipt, Resource, Scope, Stored, Thread, ThreadRow
from threadkeep_contract.saboteurs.base import DictStore, Key, Row


class ListEntryWrittenAfterCommit(DictStore):
    """A thread's place in the list by activity is written after the commit, with what the commit had: of two commits
    that overlap, the older may write it last."""

    fault = "list-entry-written-after-the-commit"
    caught_by = 5
    seen_in = "Redis: ZADD of a list in a command of its own behind the transaction"

    def place(self, row: Row, order: Order) -> After:
        if order == "created":
            return super().place(row, order)
        return After(self.values.get(("active", *row.owner, row.thread_id), row.active), row.thread_id)

    def listing(self, row: Row, slots: Sequence[str]) -> ThreadRow:
        return super().listing(row, slots)._replace(active=self.place(row, "active").at)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        active = None
        with self.lock:
            self.check(scope, changes)
            receipt = self.write(scope, changes)
            row = self.row(scope) if isinstance(scope, Thread) else None
            if row is not None:
                active = row.active
        if isinstance(scope, Thread):
            # Whoever has more to write has written later.
            for _ in changes.append:
                await asyncio.sleep(0)
            with self.lock:
                if self.row(scope) is not None:
                    self.values["active", *self.ids(scope)] = active
        await asyncio.sleep(0)
        return receipt

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(("active", *self.ids(thread)), None)


class RewrittenIndex(DictStore):
    """Something beside the log is read whole before the commit and written back whole after it."""

    def index_key(self, scope: Scope) -> Key:
        raise NotImplementedError

    def entries(self, scope: Scope, changes: Changes, receipt: Receipt) -> dict[str, Any]:
        """What a commit adds."""
        raise NotImplementedError

    def is_indexed(self, scope: Scope) -> bool:
        return True

    def index(self, scope: Scope) -> dict[str, Any]:
        found: dict[str, Any] = self.values.get(self.index_key(scope), {})
        return found

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if not self.is_indexed(scope):
            return await super().commit(scope, changes)
        await self.request()
        with self.lock:
            read = dict(self.index(scope))
        await asyncio.sleep(0)
        with self.lock:
            self.check(scope, changes)
            receipt = self.write(scope, changes)
            self.values[self.index_key(scope)] = {**read, **self.entries(scope, changes, receipt)}
        await asyncio.sleep(0)
        return receipt


class IdIndexLostInRace(RewrittenIndex):
    """The index from ids to positions, by which windows find an id, is rewritten by each commit: of two that overlap,
    the second takes the first one's ids out of it."""

    fault = "id-index-lost-in-a-race"
    caught_by = 5
    seen_in = "an index kept as one JSON document beside the messages"

    def index_key(self, scope: Scope) -> Key:
        return ("id index", *self.ids(scope))

    def entries(self, scope: Scope, changes: Changes, receipt: Receipt) -> dict[str, Any]:
        return {record.id: place for record, place in zip(changes.append, receipt.positions, strict=True)}

    def is_indexed(self, scope: Scope) -> bool:
        return isinstance(scope, Thread)

    def window_key(self, log: list[Stored]) -> Key | None:
        return next((key for key, value in self.values.items() if key[0] == "log" and value is log), None)

    def cut(self, log: list[Stored], anchor: int | str | None) -> int | None:
        key = self.window_key(log)
        if isinstance(anchor, str) and key is not None and anchor not in self.values.get(("id index", *key[1:]), {}):
            return None
        return super().cut(log, anchor)

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(self.index_key(thread), None)


class ResourceListLostInRace(RewrittenIndex):
    """The list of resources is rewritten by each commit: of two first commits that overlap, one is not in it."""

    fault = "resource-list-lost-in-a-race"
    caught_by = 5
    seen_in = "a registry of users kept as one value: read, add, write"

    def index_key(self, scope: Scope) -> Key:
        return ("registry",)

    def entries(self, scope: Scope, changes: Changes, receipt: Receipt) -> dict[str, Any]:
        return {scope.resource_id: True}

    def remove(self, scope: Scope) -> None:
        super().remove(scope)
        resource = Resource(scope.resource_id)
        if not self.listed(resource, "created") and self.docs_key(resource) not in self.values:
            self.index(scope).pop(scope.resource_id, None)

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        there: list[str] = list(await super().resources(None, 1 << 30))
        registry = self.index(Resource(""))
        return [name for name in there if name in registry and (after is None or name > after)][:limit]


class ResourceTakenOffListLate(DictStore):
    """Whether a deleted thread was its resource's last is looked at with the deletion, and the resource taken off the
    list after it: a thread that is created in between is in no list of resources."""

    fault = "resource-taken-off-the-list-late"
    caught_by = 5
    seen_in = "Redis: SREM of the user behind the script that deleted the last session"

    def registry(self) -> set[str]:
        names: set[str] = self.values.setdefault(("registry",), set())
        return names

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        if not self.there(scope.resource_id):
            self.registry().add(scope.resource_id)
        return super().write(scope, changes)

    def there(self, resource_id: str) -> bool:
        resource = Resource(resource_id)
        return bool(self.listed(resource, "created")) or self.docs_key(resource) in self.values

    async def delete(self, scope: Scope) -> None:
        await self.request()
        with self.lock:
            self.remove(scope)
            gone = not self.there(scope.resource_id)
        await asyncio.sleep(0)
        if gone:
            with self.lock:
                self.registry().discard(scope.resource_id)

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        there: list[str] = list(await super().resources(None, 1 << 30))
        registry = self.registry()
        return [name for name in there if name in registry and (after is None or name > after)][:limit]
