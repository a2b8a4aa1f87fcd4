"""A small sound store for saboteurs to break, in one SQLite file that several processes may share."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar, Final

from threadkeep.errors import MessageConflict, StoreDamaged, StoreUnavailable, TailMoved, VersionMoved
from threadkeep.port import (
    MISSING,
    After,
    Changes,
    Doc,
    Order,
    Put,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Stored,
    Tail,
    Thread,
    ThreadRow,
    Window,
    check_schema_version,
)
from threadkeep_contract.saboteurs.base import Saboteur

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS threads (
    resource_id TEXT, thread_id TEXT, epoch TEXT, created INTEGER, active INTEGER, newest INTEGER,
    PRIMARY KEY (resource_id, thread_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    resource_id TEXT, thread_id TEXT, position INTEGER, at INTEGER, id TEXT, digest TEXT, body TEXT,
    PRIMARY KEY (resource_id, thread_id, position));
CREATE INDEX IF NOT EXISTS record_ids ON records (resource_id, thread_id, id);
CREATE TABLE IF NOT EXISTS docs (
    resource_id TEXT, thread_id TEXT, slot TEXT, version INTEGER, body TEXT,
    PRIMARY KEY (resource_id, thread_id, slot));
"""

VERSION: Final = 2
"""Of the layout; an older one has been."""

_OF_THREAD: Final = "resource_id = ? AND thread_id = ?"

_BEYOND: Final = 2**62
"""Larger than any position."""


class FileStore(Saboteur):
    """The sound store. Every write is one immediate transaction; documents of a resource have the thread id ''."""

    wait: ClassVar[float] = 60.0
    """Seconds to wait for another connection's lock."""
    listed: ClassVar[str] = "threads"
    """What lists select from: a table, or a query in brackets."""
    driver_errors = ((sqlite3.OperationalError, StoreUnavailable),)

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None
        """Which file the connection has opened."""

    @property
    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("a verb was called before open() or after close()")
        return self._connection

    async def open(self) -> None:
        with self.lock:
            if self._connection is None:
                self._connection = self.connect()
                self.file = file_at(self.path)

    def connect(self) -> sqlite3.Connection:
        """A connection to the file, which is set up."""
        connection = sqlite3.connect(self.path, timeout=self.wait, isolation_level=None, check_same_thread=False)
        try:
            # A killed process loses nothing that the operating system has, so no write waits for the disk.
            connection.executescript("PRAGMA synchronous=OFF; PRAGMA secure_delete=ON;")
            self.set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def check_file(self) -> None:
        """Raise StoreDamaged where the file that was opened is not in its place."""
        if file_at(self.path) != self.file:
            raise StoreDamaged("the file was deleted or replaced while the store was open")

    def set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found:
                self.check_version(connection, found)
            else:
                self.make(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def check_version(self, connection: sqlite3.Connection, found: int) -> None:
        """Raise where the file says another version."""
        check_schema_version(found, VERSION)

    def make(self, connection: sqlite3.Connection) -> None:
        """Make the tables."""
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")

    async def close(self) -> None:
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def transaction(self, mode: str) -> Iterator[sqlite3.Connection]:
        """One transaction: DEFERRED sees one state of the file, IMMEDIATE keeps all other writers out as well."""
        with self.lock:
            _ = self.connection
            self.check_file()
            connection = self.connection
            connection.execute(f"BEGIN {mode}")
            try:
                yield connection
                self.check_file()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        self.meter.trips += 1
        await asyncio.sleep(0)
        with self.transaction("DEFERRED") as connection:
            return self.read(connection, scope, window)

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.trips += 1
        await asyncio.sleep(0)
        with self.transaction("IMMEDIATE") as connection:
            self.check(connection, scope, changes)
            receipt = self.write(connection, scope, changes)
        await asyncio.sleep(0)
        return receipt

    async def delete(self, scope: Scope) -> None:
        self.meter.trips += 1
        await asyncio.sleep(0)
        where: str = "resource_id = ?"
        key: tuple[str, ...] = (scope.resource_id,)
        if isinstance(scope, Thread):
            where, key = _OF_THREAD, _key(scope)
        with self.transaction("IMMEDIATE") as connection:
            for table in ("threads", "records", "docs"):
                connection.execute(f"DELETE FROM {table} WHERE {where}", key)
        with self.lock:
            # Pages that were split keep copies of rows that secure_delete does not know of.
            self.connection.execute("VACUUM")

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        self.meter.trips += 1
        await asyncio.sleep(0)
        if order == "created":
            way, beyond = "ASC", ">"
        else:
            way, beyond = "DESC", "<"
        edge = f"AND ({order}, thread_id) {beyond} (?, ?)" if after else ""
        with self.transaction("DEFERRED") as connection:
            rows = connection.execute(
                f"SELECT thread_id, created, active FROM {self.listed} WHERE resource_id = ? {edge}"
                f" ORDER BY {order} {way}, thread_id {way} LIMIT ?",
                (resource.resource_id, *(after or ()), limit),
            ).fetchall()
            self.meter.rows += len(rows)
            found = []
            for thread_id, created, active in rows:
                thread = Thread(resource.resource_id, thread_id)
                docs = self.docs(connection, thread)
                chosen = {slot: docs[slot] for slot in slots if slot in docs}
                found.append(ThreadRow(thread_id, self.tail(connection, thread), created, active, chosen))
            return found

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        self.meter.trips += 1
        await asyncio.sleep(0)
        with self.transaction("DEFERRED") as connection:
            rows = connection.execute(
                "SELECT resource_id FROM threads WHERE resource_id > ?"
                " UNION SELECT resource_id FROM docs WHERE resource_id > ? ORDER BY resource_id LIMIT ?",
                (after or "", after or "", limit),
            )
            return [resource_id for (resource_id,) in rows]

    # Reading.

    def tail(self, connection: sqlite3.Connection, thread: Thread) -> Tail:
        row = connection.execute(
            f"SELECT epoch, (SELECT coalesce(max(position), 0) FROM records WHERE {_OF_THREAD})"
            f" FROM threads WHERE {_OF_THREAD}",
            _key(thread) * 2,
        ).fetchone()
        return MISSING if row is None else Tail(*row)

    def docs(self, connection: sqlite3.Connection, scope: Scope) -> dict[str, Doc]:
        rows = connection.execute(f"SELECT slot, version, body FROM docs WHERE {_OF_THREAD}", _key(scope))
        return {slot: Doc(version, body) for slot, version, body in rows}

    def known(self, connection: sqlite3.Connection, thread: Thread, record_id: str) -> tuple[int, str] | None:
        """Position and digest of the record of an id, if it is there."""
        found: tuple[int, str] | None = connection.execute(
            f"SELECT position, digest FROM records WHERE {_OF_THREAD} AND id = ?", (*_key(thread), record_id)
        ).fetchone()
        return found

    def read(self, connection: sqlite3.Connection, scope: Scope, window: Window) -> Snapshot:
        resource_docs = self.docs(connection, Resource(scope.resource_id))
        self.meter.rows += len(resource_docs)
        if isinstance(scope, Resource):
            return Snapshot(resource_docs=resource_docs)
        times = connection.execute(f"SELECT created, active FROM threads WHERE {_OF_THREAD}", _key(scope)).fetchone()
        if times is None:
            return Snapshot(resource_docs=resource_docs)
        created, active = times
        docs = self.docs(connection, scope)
        records = self.window(connection, scope, window)
        self.meter.rows += 1 + len(docs) + len(records)
        return Snapshot(self.tail(connection, scope), created, active, records, docs, resource_docs)

    def window(self, connection: sqlite3.Connection, thread: Thread, window: Window) -> list[Stored]:
        match window.anchor:
            case None:
                edge = _BEYOND
            case int(position):
                edge = position
            case str(record_id):
                known = self.known(connection, thread, record_id)
                if known is None:
                    return []
                edge = known[0]
        select = f"SELECT position, at, id, digest, body FROM records WHERE {_OF_THREAD} AND position"
        below = connection.execute(
            f"{select} < ? ORDER BY position DESC LIMIT ?", (*_key(thread), edge, window.before)
        ).fetchall()
        above = connection.execute(f"{select} >= ? ORDER BY position LIMIT ?", (*_key(thread), edge, window.after))
        return [Stored(*row) for row in (*reversed(below), *above)]

    # Conditions.

    def check(self, connection: sqlite3.Connection, scope: Scope, changes: Changes) -> None:
        if isinstance(scope, Thread):
            tail = self.tail(connection, scope)
            if changes.if_epoch is not None and changes.if_epoch != tail.epoch:
                raise TailMoved(*tail)
            repeated = bool(changes.append) and changes.drop_after is None
            for record in changes.append:
                known = self.known(connection, scope, record.id)
                if known is None or (changes.drop_after is not None and known[0] > changes.drop_after):
                    repeated = False
                elif known[1] != record.digest:
                    raise MessageConflict(record.id)
            if changes.if_tail is not None and changes.if_tail != tail and not repeated:
                raise TailMoved(*tail)
        self.check_versions(connection, scope, changes.puts)
        self.check_versions(connection, Resource(scope.resource_id), changes.resource_puts)

    def check_versions(self, connection: sqlite3.Connection, scope: Scope, puts: Sequence[Put]) -> None:
        docs = self.docs(connection, scope) if puts else {}
        for put in puts:
            version = docs[put.slot].version if put.slot in docs else 0
            if put.if_version is not None and put.if_version != version:
                raise VersionMoved(put.slot, version)

    # Writing.

    def write(self, connection: sqlite3.Connection, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        if isinstance(scope, Resource):
            return Receipt(MISSING, versions=self.put(connection, scope, changes.puts))
        connection.execute(
            "INSERT INTO threads VALUES (?, ?, ?, ?, ?, 0)"
            " ON CONFLICT DO UPDATE SET active = max(active, excluded.active)",
            (*_key(scope), changes.epoch, changes.at, changes.at),
        )
        if changes.drop_after is not None:
            connection.execute(
                f"DELETE FROM records WHERE {_OF_THREAD} AND position > ?", (*_key(scope), changes.drop_after)
            )
        positions = [self.add(connection, scope, record, changes.at) for record in changes.append]
        versions = self.put(connection, scope, changes.puts)
        resource_versions = self.put(connection, Resource(scope.resource_id), changes.resource_puts)
        return Receipt(self.tail(connection, scope), positions, versions, resource_versions)

    def add(self, connection: sqlite3.Connection, thread: Thread, record: Record, at: int) -> int:
        """Append a record, unless it is there; its position."""
        known = self.known(connection, thread, record.id)
        if known is not None:
            return known[0]
        (position,) = connection.execute(
            f"UPDATE threads SET newest = newest + 1 WHERE {_OF_THREAD} RETURNING newest", _key(thread)
        ).fetchone()
        connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", (*_key(thread), position, at, *record))
        return int(position)

    def put(self, connection: sqlite3.Connection, scope: Scope, puts: Sequence[Put]) -> list[int]:
        versions = []
        for put in puts:
            (version,) = connection.execute(
                "INSERT INTO docs VALUES (?, ?, ?, 1, ?)"
                " ON CONFLICT DO UPDATE SET version = version + 1, body = excluded.body RETURNING version",
                (*_key(scope), put.slot, put.body),
            ).fetchone()
            versions.append(int(version))
        return versions

    @classmethod
    def shift_version(cls, url: str, path: str, by: int) -> bool:
        """Write another version into the file."""
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {found + by}")
        return True

    @classmethod
    def replace(cls, path: str, by: str | None) -> bool:
        """Remove the file, and move there another."""
        for file in Path(path).parent.glob(f"{Path(path).name}*"):
            file.unlink()
        if by is not None:
            Path(by).rename(path)
        return True

    @classmethod
    def scan(cls, url: str, path: str) -> Iterator[bytes]:
        """The bytes of the file and of its rollback journal."""
        for file in (Path(path), Path(f"{path}-journal")):
            if file.exists():
                yield file.read_bytes()


def file_at(path: str) -> tuple[int, int] | None:
    """Which file has this name now: its device, and its number there; None where there is none."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _key(scope: Scope) -> tuple[str, str]:
    return (scope.resource_id, scope.thread_id if isinstance(scope, Thread) else "")
