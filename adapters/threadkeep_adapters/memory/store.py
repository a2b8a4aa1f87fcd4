"""`memory://NAME`: threads in the memory of this process, for tests and trials.

All stores opened under one name in one process are one store; it lasts as long as any of them is open.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from threadkeep.port import (
    MIB,
    MISSING,
    After,
    Changes,
    Clause,
    Doc,
    Limits,
    Order,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    Stored,
    Tail,
    ThreadRow,
    Window,
    check_thread,
    hookimpl,
    next_versions,
)
from threadkeep_adapters.memory.url import read_url


@dataclass(slots=True)
class _Log:
    """A thread: its records in order, the positions beside them for bisection, and where each id is."""

    epoch: str
    created: int
    active: int
    newest: int = 0
    """The largest position that this epoch ever gave."""
    records: list[Stored] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    by_id: dict[str, Stored] = field(default_factory=dict)
    docs: dict[str, Doc] = field(default_factory=dict)

    @property
    def tail(self) -> Tail:
        return Tail(self.epoch, self.positions[-1] if self.positions else 0)


@dataclass(slots=True)
class _Space:
    """What one name holds. The lock is held for the whole of each verb, and no verb awaits inside it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    threads: dict[str, dict[str, _Log]] = field(default_factory=dict)
    docs: dict[str, dict[str, Doc]] = field(default_factory=dict)


_spaces: dict[str, _Space] = {}
_spaces_lock = threading.Lock()


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
        self._space: _Space | None = None

    async def open(self) -> None:
        with _spaces_lock:
            if self._space is None:
                self._space = _spaces.setdefault(self.name, _Space())
                self._space.users += 1

    async def close(self) -> None:
        with _spaces_lock:
            if self._space is not None:
                self._space.users -= 1
                if not self._space.users:
                    del _spaces[self.name]
                self._space = None

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        space = self._enter()
        with space.lock:
            resource_docs = dict(space.docs.get(scope.resource_id, {}))
            log = _find(space, scope)
            if log is None:
                return Snapshot(resource_docs=resource_docs)
            records = _window(log, window)
            self.meter.rows += len(records) + len(log.docs) + len(resource_docs)
            return Snapshot(log.tail, log.created, log.active, records, dict(log.docs), resource_docs)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        space = self._enter()
        with space.lock:
            self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
            if isinstance(scope, Resource):
                docs = space.docs.get(scope.resource_id, {})
                versions = next_versions(docs, changes.puts)
                _put(space.docs.setdefault(scope.resource_id, docs), changes.puts, versions)
                return Receipt(MISSING, versions=versions)
            log = _find(space, scope)
            resource_docs = space.docs.get(scope.resource_id, {})
            check_thread(log.tail if log else MISSING, _known(log, changes), changes)
            versions = next_versions(log.docs if log else {}, changes.puts)
            resource_versions = next_versions(resource_docs, changes.resource_puts)
            if log is None:
                log = _Log(changes.epoch, changes.at, changes.at)
                space.threads.setdefault(scope.resource_id, {})[scope.thread_id] = log
            log.active = max(log.active, changes.at)
            _append(log, changes)
            _put(log.docs, changes.puts, versions)
            if changes.resource_puts:
                _put(
                    space.docs.setdefault(scope.resource_id, resource_docs),
                    changes.resource_puts,
                    resource_versions,
                )
            positions = [log.by_id[record.id].position for record in changes.append]
            return Receipt(log.tail, positions, versions, resource_versions)

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

    def _enter(self) -> _Space:
        self.meter.trips += 1
        if self._space is None:
            raise RuntimeError("a verb was called before open() or after close()")
        return self._space


def _find(space: _Space, scope: Scope) -> _Log | None:
    if isinstance(scope, Resource):
        return None
    return space.threads.get(scope.resource_id, {}).get(scope.thread_id)


def _window(log: _Log, window: Window) -> list[Stored]:
    match window.anchor:
        case None:
            cut = len(log.records)
        case int(position):
            cut = bisect_left(log.positions, position)
        case str(record_id):
            if record_id not in log.by_id:
                return []
            cut = bisect_left(log.positions, log.by_id[record_id].position)
    return log.records[max(0, cut - window.before) : cut + window.after]


def _known(log: _Log | None, changes: Changes) -> dict[str, str]:
    """The digests of the records that are there and stay there."""
    if log is None:
        return {}
    found = (log.by_id[record.id] for record in changes.append if record.id in log.by_id)
    last = changes.drop_after
    return {record.id: record.digest for record in found if last is None or record.position <= last}


def _put(docs: dict[str, Doc], puts: Sequence[Put], versions: Sequence[int]) -> None:
    for put, version in zip(puts, versions, strict=True):
        docs[put.slot] = Doc(version, put.body)


def _append(log: _Log, changes: Changes) -> None:
    if changes.drop_after is not None:
        cut = bisect_right(log.positions, changes.drop_after)
        for dropped in log.records[cut:]:
            del log.by_id[dropped.id]
        del log.records[cut:], log.positions[cut:]
    for record in changes.append:
        if record.id not in log.by_id:
            log.newest += 1
            stored = Stored(log.newest, changes.at, *record)
            log.records.append(stored)
            log.positions.append(stored.position)
            log.by_id[record.id] = stored


@hookimpl
def open_store(url: str) -> Store:
    return InProcessStore(read_url(url))


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    space = _spaces.get(read_url(url))
    if space is not None:
        with space.lock:
            yield json.dumps([str(space.threads), str(space.docs)], ensure_ascii=False).encode()
