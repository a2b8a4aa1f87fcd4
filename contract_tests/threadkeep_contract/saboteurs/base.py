"""A small sound store for saboteurs to break, in the memory of this process.

`DictStore` keeps the contract. It has one flat key space, as Redis has, whose keys are tuples, and every step in which
a fault can sit is a method of its own, so that a saboteur overrides that one and nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias

from threadkeep.errors import MessageConflict, TailMoved, VersionMoved
from threadkeep.port import (
    MISSING,
    After,
    Changes,
    Clause,
    Doc,
    Order,
    Put,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Store,
    Stored,
    Tail,
    Thread,
    ThreadRow,
    Window,
)

Key: TypeAlias = tuple[str, ...]


class Saboteur(Store):
    """A store with a name for what is broken in it."""

    fault: ClassVar[str]
    """The fault's name, unique among saboteurs; it is the host part of the store's URL."""
    caught_by: ClassVar[int]
    """The number of the law whose checks must reject the store."""
    seen_in: ClassVar[str]
    """What real store or kind of database has, or had, the fault."""
    slips: ClassVar[str] = ""
    """Why no check rejects it in every try yet; empty where one does. What is said here is work to do."""

    def __init__(self, url: str, path: str) -> None:
        """`url` tells stores of one process apart; `path` is the URL's path, for stores that keep a file."""
        super().__init__()
        self.url = url
        self.path = path

    @classmethod
    def shift_version(cls, url: str, path: str, by: int) -> bool | None:
        """Make what is stored say another version; None where nothing says any."""
        return None

    @classmethod
    @abstractmethod
    def scan(cls, url: str, path: str) -> Iterator[bytes]:
        """What the backend of a URL holds, raw."""


@dataclass(slots=True)
class Row:
    """A thread without its records and documents. `newest` is the largest position that its epoch ever gave."""

    owner: Key
    """The resource, as it goes into keys."""
    resource_id: str
    thread_id: str
    epoch: str
    created: int
    active: int
    newest: int = 0


@dataclass(slots=True)
class Space:
    """What all stores opened under one URL share."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    users: int = 0
    values: dict[Key, Any] = field(default_factory=dict)


spaces: Final[dict[str, Space]] = {}
_spaces_lock: Final = threading.Lock()


class DictStore(Saboteur):
    """The sound store. `check` raises where a condition fails, `write` writes whatever it is told."""

    not_offered = {
        Clause.PROCESSES: "each process has its own memory",
        Clause.DURABILITY: "memory is gone when the last store of its URL is closed",
    }

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.space: Space | None = None

    @property
    def lock(self) -> threading.RLock:
        return self._opened().lock

    @property
    def values(self) -> dict[Key, Any]:
        return self._opened().values

    def _opened(self) -> Space:
        if self.space is None:
            raise RuntimeError("a verb was called before open() or after close()")
        return self.space

    # The verbs. Each one waits before and after its work, as a store at the other end of a network does.

    async def open(self) -> None:
        with _spaces_lock:
            if self.space is None:
                self.space = spaces.setdefault(self.url, Space())
                self.space.users += 1

    async def close(self) -> None:
        with _spaces_lock:
            if self.space is not None:
                self.space.users -= 1
                if not self.space.users:
                    spaces.pop(self.url, None)
                self.space = None

    async def request(self) -> None:
        """One round trip begins."""
        self.meter.trips += 1
        await asyncio.sleep(0)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await self.request()
        with self.lock:
            snapshot = self.read(scope, window)
        await asyncio.sleep(0)
        return snapshot

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        with self.lock:
            self.check(scope, changes)
            receipt = self.write(scope, changes)
        await asyncio.sleep(0)
        return receipt

    async def delete(self, scope: Scope) -> None:
        await self.request()
        with self.lock:
            self.remove(scope)
        await asyncio.sleep(0)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        await self.request()
        with self.lock:
            page = self.page(self.ordered(self.listed(resource, order), order), after, limit, order)
            self.meter.rows += len(page)
            return [self.listing(row, slots) for row in page]

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        await self.request()
        with self.lock:
            found = {row.resource_id for row in self.rows()}
            found |= {key[1] for key in self.values if key[0] == "docs" and len(key) == 2}
        return [resource_id for resource_id in sorted(found) if after is None or resource_id > after][:limit]

    # Keys.

    def ids(self, scope: Scope) -> Key:
        """What of a scope goes into its keys."""
        return (scope.resource_id, scope.thread_id) if isinstance(scope, Thread) else (scope.resource_id,)

    def row_key(self, thread: Thread) -> Key:
        return ("row", *self.ids(thread))

    def log_key(self, thread: Thread) -> Key:
        return ("log", *self.ids(thread))

    def docs_key(self, scope: Scope) -> Key:
        return ("docs", *self.ids(scope))

    # Reading.

    def row(self, thread: Thread) -> Row | None:
        row: Row | None = self.values.get(self.row_key(thread))
        return row

    def log(self, thread: Thread) -> list[Stored]:
        log: list[Stored] = self.values.get(self.log_key(thread), [])
        return log

    def docs(self, scope: Scope) -> dict[str, Doc]:
        docs: dict[str, Doc] = self.values.get(self.docs_key(scope), {})
        return docs

    def tail(self, thread: Thread) -> Tail:
        row, log = self.row(thread), self.log(thread)
        if row is None:
            return MISSING
        return Tail(row.epoch, log[-1].position if log else 0)

    def read(self, scope: Scope, window: Window) -> Snapshot:
        resource_docs = dict(self.docs(Resource(scope.resource_id)))
        self.meter.rows += len(resource_docs)
        if isinstance(scope, Resource):
            return Snapshot(resource_docs=resource_docs)
        row = self.row(scope)
        if row is None:
            return Snapshot(resource_docs=resource_docs)
        docs = dict(self.docs(scope))
        records = self.window(scope, self.log(scope), window)
        self.meter.rows += 1 + len(docs) + len(records)
        return Snapshot(self.tail(scope), row.created, row.active, records, docs, resource_docs)

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        cut = self.cut(log, window.anchor)
        return [] if cut is None else log[max(0, cut - window.before) : cut + window.after]

    def cut(self, log: list[Stored], anchor: int | str | None) -> int | None:
        """How many records are below the anchor, or None where it is an id that is not there."""
        match anchor:
            case None:
                return len(log)
            case int(position):
                return len([record for record in log if record.position < position])
            case str(record_id):
                return next((index for index, record in enumerate(log) if record.id == record_id), None)

    # Conditions.

    def known(self, thread: Thread, record: Record, drop_after: int | None = None) -> Stored | None:
        """The stored record of the same id, if there is one at or below `drop_after`."""
        for stored in self.log(thread):
            if stored.id == record.id and (drop_after is None or stored.position <= drop_after):
                return stored
        return None

    def check(self, scope: Scope, changes: Changes) -> None:
        if isinstance(scope, Thread):
            self.check_epoch(scope, changes)
            self.check_records(scope, changes)
            self.check_tail(scope, changes)
        self.check_versions(scope, changes.puts)
        self.check_versions(Resource(scope.resource_id), changes.resource_puts)

    def check_epoch(self, thread: Thread, changes: Changes) -> None:
        tail = self.tail(thread)
        if changes.if_epoch is not None and changes.if_epoch != tail.epoch:
            raise TailMoved(*tail)

    def check_records(self, thread: Thread, changes: Changes) -> None:
        for record in changes.append:
            stored = self.known(thread, record, changes.drop_after)
            if stored is not None and stored.digest != record.digest:
                raise MessageConflict(record.id)

    def check_tail(self, thread: Thread, changes: Changes) -> None:
        if changes.if_tail is not None and not self.same_tail(thread, changes.if_tail):
            repeats = bool(changes.append) and changes.drop_after is None
            if not repeats or any(self.known(thread, record) is None for record in changes.append):
                raise TailMoved(*self.tail(thread))

    def same_tail(self, thread: Thread, tail: Tail) -> bool:
        return tail == self.tail(thread)

    def check_versions(self, scope: Scope, puts: Sequence[Put]) -> None:
        docs = self.docs(scope)
        for put in puts:
            version = docs[put.slot].version if put.slot in docs else 0
            if put.if_version is not None and put.if_version != version:
                raise VersionMoved(put.slot, version)

    # Writing.

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        if isinstance(scope, Resource):
            return Receipt(MISSING, versions=self.put(scope, changes.puts))
        row = self.touch(scope, changes)
        positions = self.write_log(scope, row, changes)
        versions = self.put(scope, changes.puts)
        resource_versions = self.put(Resource(scope.resource_id), changes.resource_puts)
        return Receipt(self.tail(scope), positions, versions, resource_versions)

    def touch(self, thread: Thread, changes: Changes) -> Row:
        """The thread's row, made where there is none."""
        row = self.row(thread)
        if row is None:
            row = self.values[self.row_key(thread)] = self.born(thread, changes)
        row.active = max(row.active, changes.at)
        return row

    def born(self, thread: Thread, changes: Changes) -> Row:
        owner = self.ids(Resource(thread.resource_id))
        return Row(owner, thread.resource_id, thread.thread_id, changes.epoch, changes.at, changes.at)

    def write_log(self, thread: Thread, row: Row, changes: Changes) -> list[int]:
        if changes.drop_after is not None:
            self.drop(thread, changes.drop_after)
        return [self.add(thread, row, record, changes.at) for record in changes.append]

    def drop(self, thread: Thread, position: int) -> None:
        log = self.log(thread)
        log[:] = [record for record in log if record.position <= position]

    def add(self, thread: Thread, row: Row, record: Record, at: int) -> int:
        """Append a record, unless it is there; its position."""
        stored = self.known(thread, record)
        if stored is not None:
            return stored.position
        position = self.next_position(thread, row, at)
        row.newest = max(row.newest, position)
        self.store(thread, Stored(position, at, record.id, record.digest, self.kept(record.body)))
        return position

    def store(self, thread: Thread, stored: Stored) -> None:
        log = self.log(thread)
        log.append(stored)
        self.values[self.log_key(thread)] = log

    def next_position(self, thread: Thread, row: Row, at: int) -> int:
        return row.newest + 1

    def kept(self, body: str) -> str:
        """A record's body as it is stored."""
        return body

    def put(self, scope: Scope, puts: Sequence[Put]) -> list[int]:
        docs = self.docs(scope)
        for put in puts:
            docs[put.slot] = self.next_doc(docs, put)
        if puts:
            self.values[self.docs_key(scope)] = docs
        return [docs[put.slot].version for put in puts]

    def next_doc(self, docs: dict[str, Doc], put: Put) -> Doc:
        return Doc(docs[put.slot].version + 1 if put.slot in docs else 1, put.body)

    # Deleting.

    def remove(self, scope: Scope) -> None:
        if isinstance(scope, Thread):
            self.remove_thread(scope)
        else:
            self.remove_resource(scope)

    def remove_thread(self, thread: Thread) -> None:
        for key in (self.row_key(thread), self.log_key(thread), self.docs_key(thread)):
            self.values.pop(key, None)

    def remove_resource(self, resource: Resource) -> None:
        for row in self.listed(resource, "created"):
            self.remove_thread(Thread(row.resource_id, row.thread_id))
        self.values.pop(self.docs_key(resource), None)

    # Lists.

    def rows(self) -> list[Row]:
        return [value for value in self.values.values() if isinstance(value, Row)]

    def listed(self, resource: Resource, order: Order) -> list[Row]:
        """The threads of a resource, in no order."""
        owner = self.ids(resource)
        return [row for row in self.rows() if row.owner == owner]

    def ordered(self, rows: list[Row], order: Order) -> list[Row]:
        return sorted(rows, key=lambda row: self.place(row, order), reverse=order == "active")

    def place(self, row: Row, order: Order) -> After:
        return After(row.created if order == "created" else row.active, row.thread_id)

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        if after is not None:
            rows = [
                row
                for row in rows
                if (self.place(row, order) > after if order == "created" else self.place(row, order) < after)
            ]
        return rows[:limit]

    def listing(self, row: Row, slots: Sequence[str]) -> ThreadRow:
        thread = Thread(row.resource_id, row.thread_id)
        docs = self.docs(thread)
        return ThreadRow(
            row.thread_id,
            self.tail(thread),
            row.created,
            row.active,
            {slot: docs[slot] for slot in slots if slot in docs},
        )

    @classmethod
    def scan(cls, url: str, path: str) -> Iterator[bytes]:
        """Every string that the stores of a URL hold."""
        space = spaces.get(url)
        if space is not None:
            with space.lock:
                texts = list(_texts(list(space.values.items())))
            for text in texts:
                yield text.encode()


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Row():
            yield from (*value.owner, value.resource_id, value.thread_id, value.epoch)
        case dict():
            yield from _texts(list(value.items()))
        case list() | tuple() | set():
            for item in value:
                yield from _texts(item)
