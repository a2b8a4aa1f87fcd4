"""`memory://NAME`: threads in the memory of this process, for tests and trials.

All stores opened under one name in one process are one store; it lasts as long as any of them is open.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from threadkeep.port import (
    MIB,
    After,
    Changes,
    Clause,
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
from threadkeep_adapters.memory.commit import commit_changes
from threadkeep_adapters.memory.layout import Space, spaces, spaces_lock
from threadkeep_adapters.memory.url import new_url, read_url


class InProcessStore(Store):
    """Dicts of dicts: a key is never made by joining ids."""

    limits = Limits(commit_messages=1000, commit_bytes=16 * MIB)
    not_offered = {
        Clause.PROCESSES: "each process has its own memory",
        Clause.DURABILITY: "memory is gone when the last store of its name is closed, or the process ends",
    }

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name
        self._space: Space | None = None

    async def open(self) -> None:
        with spaces_lock:
            if self._space is None:
                self._space = spaces.setdefault(self.name, Space())
                self._space.users += 1

    async def close(self) -> None:
        with spaces_lock:
            if self._space is not None:
                self._space.users -= 1
                if not self._space.users:
                    del spaces[self.name]
                self._space = None

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        space = self._enter()
        with space.lock:
            resource_docs = dict(space.docs.get(scope.resource_id, {}))
            log = space.find(scope)
            if log is None:
                return Snapshot(resource_docs=resource_docs)
            records = log.window(window)
            self.meter.rows += len(records) + len(log.docs) + len(resource_docs)
            return Snapshot(log.tail, log.created, log.active, records, dict(log.docs), resource_docs)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        space = self._enter()
        with space.lock:
            self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
            return commit_changes(space, scope, changes)

    async def delete(self, scope: Scope) -> None:
        space = self._enter()
        with space.lock:
            if isinstance(scope, Resource):
                space.threads.pop(scope.resource_id, None)
                space.docs.pop(scope.resource_id, None)
            elif (threads := space.threads.get(scope.resource_id)) is not None:
                threads.pop(scope.thread_id, None)
                if not threads:
                    del space.threads[scope.resource_id]

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        space = self._enter()
        with space.lock:
            rows = [
                ThreadRow(
                    thread_id,
                    log.tail,
                    log.created,
                    log.active,
                    {slot: log.docs[slot] for slot in slots if slot in log.docs},
                )
                for thread_id, log in space.threads.get(resource.resource_id, {}).items()
            ]
        if order == "created":
            rows.sort(key=lambda row: (row.created, row.thread_id))
            later = [row for row in rows if after is None or (row.created, row.thread_id) > after]
        else:
            rows.sort(key=lambda row: (row.active, row.thread_id), reverse=True)
            later = [row for row in rows if after is None or (row.active, row.thread_id) < after]
        self.meter.rows += len(later[:limit])
        return later[:limit]

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        space = self._enter()
        with space.lock:
            ids = sorted({*space.threads, *space.docs})
        first = 0 if after is None else bisect_right(ids, after)
        return ids[first : first + limit]

    def _enter(self) -> Space:
        self.meter.trips += 1
        if self._space is None:
            raise RuntimeError("a verb was called before open() or after close()")
        return self._space


@hookimpl
def open_store(url: str) -> Store:
    return InProcessStore(read_url(url))


@hookimpl
def new_place(url: str) -> str:
    return new_url(url)


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    space = spaces.get(read_url(url))
    if space is not None:
        with space.lock:
            yield json.dumps([str(space.threads), str(space.docs)], ensure_ascii=False).encode()
