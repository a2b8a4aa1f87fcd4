"""`acme://PATH`: threads in one file, through the sqlite3 of the standard library. PATH may be relative or absolute."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from threadkeep.errors import (
    InvalidURL,
    StoreDamaged,
    StoreFull,
    StoreNotWritable,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep.port import (
    MISSING,
    After,
    Changes,
    Doc,
    Order,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    Stored,
    Tail,
    Thread,
    ThreadRow,
    Window,
    check_schema_version,
    check_thread,
    hookimpl,
    next_versions,
)

T = TypeVar("T")

VERSION = 1
OURS = zlib.crc32(b"acme") >> 1
"""SQLite's application_id of our files. It has 31 bits."""

MOST = 2**63 - 1
"""The largest integer that SQLite takes. Positions and counts that core lets through have no upper bound."""

SCHEMA = (
    """CREATE TABLE threads (
        resource TEXT, thread TEXT, epoch TEXT, created INTEGER, active INTEGER, tail INTEGER, newest INTEGER,
        PRIMARY KEY (resource, thread)) WITHOUT ROWID""",
    "CREATE INDEX by_created ON threads (resource, created, thread)",
    "CREATE INDEX by_active ON threads (resource, active, thread)",
    """CREATE TABLE records (
        resource TEXT, thread TEXT, position INTEGER, at INTEGER, id TEXT, digest TEXT, body TEXT,
        PRIMARY KEY (resource, thread, position), UNIQUE (resource, thread, id)) WITHOUT ROWID""",
    # A resource's own documents have the thread '': core lets no empty thread id through.
    """CREATE TABLE docs (
        resource TEXT, thread TEXT, slot TEXT, version INTEGER, body TEXT,
        PRIMARY KEY (resource, thread, slot)) WITHOUT ROWID""",
    f"PRAGMA user_version = {VERSION}",
    f"PRAGMA application_id = {OURS}",
)


def _meaning(error: Exception) -> ThreadkeepError | None:
    """What SQLite's result codes mean to the caller. In every one of these cases the transaction was rolled back."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreUnavailable(str(error))
        case sqlite3.SQLITE_FULL:
            return StoreFull(str(error))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreNotWritable(str(error))
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StoreDamaged(str(error))
    return None


class AcmeStore(Store):
    """One file, and one transaction for each verb."""

    driver_errors = ((sqlite3.Error, _meaning),)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._lock = threading.Lock()

    async def open(self) -> None:
        await self._write(_set_up)

    async def close(self) -> None:
        """Every verb has closed its own connection already."""

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        return await self._read(lambda db: self._load(db, scope, window))

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        return await self._write(lambda db: _commit(db, scope, changes))

    async def delete(self, scope: Scope) -> None:
        await self._write(lambda db: _delete(db, scope))

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        rows = await self._read(lambda db: _threads(db, resource.resource_id, after, limit, order, slots))
        self.meter.rows += len(rows)
        return rows

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        ids = await self._read(lambda db: _resources(db, after or "", limit))
        self.meter.rows += len(ids)
        return ids

    def _load(self, db: sqlite3.Connection, scope: Scope, window: Window) -> Snapshot:
        resource_docs = _docs(db, scope.resource_id, "")
        self.meter.rows += len(resource_docs)
        thread = _find(db, scope) if isinstance(scope, Thread) else None
        if not isinstance(scope, Thread) or thread is None:
            return Snapshot(resource_docs=resource_docs)
        tail, created, active, _ = thread
        records = _window(db, scope, window)
        docs = _docs(db, scope.resource_id, scope.thread_id)
        self.meter.rows += len(records) + len(docs)
        return Snapshot(tail, created, active, records, docs, resource_docs)

    async def _read(self, verb: Callable[[sqlite3.Connection], T]) -> T:
        return await self._transaction("BEGIN", verb)

    async def _write(self, verb: Callable[[sqlite3.Connection], T]) -> T:
        # IMMEDIATE takes the lock at the beginning, so that what the verb reads is still true when it writes.
        return await self._transaction("BEGIN IMMEDIATE", verb)

    async def _transaction(self, begin: str, verb: Callable[[sqlite3.Connection], T]) -> T:
        self.meter.trips += 1

        def work() -> T:
            # SQLite lets writers wait by trying again, and some would try long: here they wait in a queue.
            with (
                nullcontext() if begin == "BEGIN" else self._lock,
                closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db,
            ):
                # What is deleted is overwritten: law 10 looks for traces in the file.
                db.execute("PRAGMA secure_delete = ON")
                db.execute(begin)
                result = verb(db)
                db.execute("COMMIT")
                return result  # any exception closes the connection, which rolls back

        return await asyncio.to_thread(work)


def _set_up(db: sqlite3.Connection) -> None:
    (ours,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if ours == OURS:
        check_schema_version(version, VERSION)
    elif db.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
        raise StoreDamaged("this file belongs to another program; give a path of its own")
    else:
        for statement in SCHEMA:
            db.execute(statement)


def _find(db: sqlite3.Connection, scope: Thread) -> tuple[Tail, int, int, int] | None:
    """Tail, created, active and the largest position ever given, of a thread that is there."""
    row = db.execute(
        "SELECT epoch, tail, created, active, newest FROM threads WHERE resource = ? AND thread = ?",
        (scope.resource_id, scope.thread_id),
    ).fetchone()
    return row and (Tail(row[0], row[1]), *row[2:])


def _docs(db: sqlite3.Connection, resource_id: str, thread_id: str) -> dict[str, Doc]:
    rows = db.execute(
        "SELECT slot, version, body FROM docs WHERE resource = ? AND thread = ?", (resource_id, thread_id)
    )
    return {slot: Doc(version, body) for slot, version, body in rows}


def _window(db: sqlite3.Connection, scope: Thread, window: Window) -> list[Stored]:
    key = (scope.resource_id, scope.thread_id)
    anchor: int | str | None = window.anchor
    if isinstance(anchor, str):
        row = db.execute("SELECT position FROM records WHERE resource = ? AND thread = ? AND id = ?", (*key, anchor))
        anchor = next((position for (position,) in row), None)
        if anchor is None:
            return []
    cut, before, after = (
        min(number, MOST) for number in (MOST if anchor is None else anchor, window.before, window.after)
    )
    select = "SELECT position, at, id, digest, body FROM records WHERE resource = ? AND thread = ? AND position"
    below = db.execute(f"{select} < ? ORDER BY position DESC LIMIT ?", (*key, cut, before)).fetchall()
    above = db.execute(f"{select} >= ? ORDER BY position LIMIT ?", (*key, cut, after)).fetchall()
    return [Stored(*row) for row in (*reversed(below), *above)]


def _commit(db: sqlite3.Connection, scope: Scope, changes: Changes) -> Receipt:
    if isinstance(scope, Resource):
        return Receipt(MISSING, versions=_put(db, scope.resource_id, "", changes.puts))
    key = (scope.resource_id, scope.thread_id)
    tail, _, _, newest = _find(db, scope) or (MISSING, 0, 0, 0)
    if changes.drop_after is not None:
        last = min(changes.drop_after, MOST)
        db.execute("DELETE FROM records WHERE resource = ? AND thread = ? AND position > ?", (*key, last))
    known: dict[str, tuple[int, str]] = {}
    for record in changes.append:
        row = db.execute(
            "SELECT position, digest FROM records WHERE resource = ? AND thread = ? AND id = ?", (*key, record.id)
        ).fetchone()
        if row:
            known[record.id] = row
    check_thread(tail, {record_id: digest for record_id, (_, digest) in known.items()}, changes)
    positions = {record_id: position for record_id, (position, _) in known.items()}
    new = [record for record in changes.append if record.id not in known]
    for newest, record in enumerate(new, newest + 1):  # noqa: B020  # the counter goes on from where it was
        positions[record.id] = newest
        db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", (*key, newest, changes.at, *record))
    versions = _put(db, *key, changes.puts)
    resource_versions = _put(db, scope.resource_id, "", changes.resource_puts)
    (position,) = db.execute(
        "SELECT coalesce(max(position), 0) FROM records WHERE resource = ? AND thread = ?", key
    ).fetchone()
    tail = Tail(tail.epoch or changes.epoch, position)
    db.execute(
        """INSERT INTO threads VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
            SET active = max(active, excluded.active), tail = excluded.tail, newest = excluded.newest""",
        (*key, tail.epoch, changes.at, changes.at, position, newest),
    )
    return Receipt(tail, [positions[record.id] for record in changes.append], versions, resource_versions)


def _put(db: sqlite3.Connection, resource_id: str, thread_id: str, puts: Sequence[Put]) -> list[int]:
    versions = next_versions(_docs(db, resource_id, thread_id), puts)
    for put, version in zip(puts, versions, strict=True):
        row = (resource_id, thread_id, put.slot, version, put.body)
        db.execute("INSERT OR REPLACE INTO docs VALUES (?, ?, ?, ?, ?)", row)
    return versions


def _delete(db: sqlite3.Connection, scope: Scope) -> None:
    which, key = "resource = ?", [scope.resource_id]
    if isinstance(scope, Thread):
        which, key = f"{which} AND thread = ?", [*key, scope.thread_id]
    for table in ("threads", "records", "docs"):
        db.execute(f"DELETE FROM {table} WHERE {which}", key)


def _threads(
    db: sqlite3.Connection, resource_id: str, after: After | None, limit: int, order: Order, slots: Sequence[str]
) -> list[ThreadRow]:
    direction, sign = ("", ">") if order == "created" else ("DESC", "<")
    place: list[Any] = [] if after is None else [*after]
    beyond = f"AND ({order}, thread) {sign} (?, ?)" if place else ""
    rows = db.execute(
        f"""SELECT thread, epoch, tail, created, active FROM threads WHERE resource = ? {beyond}
            ORDER BY {order} {direction}, thread {direction} LIMIT ?""",
        (resource_id, *place, limit),
    ).fetchall()
    return [
        ThreadRow(
            thread,
            Tail(epoch, position),
            created,
            active,
            {slot: doc for slot, doc in _docs(db, resource_id, thread).items() if slot in slots},
        )
        for thread, epoch, position, created, active in rows
    ]


def _resources(db: sqlite3.Connection, after: str, limit: int) -> list[str]:
    """One step of the index for each id, however many threads it has."""
    ids: list[str] = []
    following = """SELECT min(id) FROM (SELECT min(resource) AS id FROM threads WHERE resource > :after
        UNION ALL SELECT min(resource) FROM docs WHERE resource > :after)"""
    while len(ids) < limit:
        (after,) = db.execute(following, {"after": after}).fetchone()
        if after is None:
            break
        ids.append(after)
    return ids


def _path(url: str) -> Path:
    path = url.partition("://")[2]
    if not path or "?" in path or "#" in path:
        raise InvalidURL("acme:// takes a path and nothing else, as in acme://threads.acme")
    return Path(path)


@hookimpl
def open_store(url: str) -> Store:
    return AcmeStore(_path(url))


@hookimpl
def store_exists(url: str) -> bool:
    return _path(url).exists()


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    """Every file whose name begins with the store's: the file itself, and a journal that was left behind."""
    path = _path(url)
    for file in sorted(path.parent.glob(f"{path.name}*")):
        yield file.read_bytes()
