"""`sqlite:///threads.db` (relative) and `sqlite:////var/lib/threads.db` (absolute): threads in an SQLite file.

Options, after `?`: `timeout`, the seconds that a call waits for others who use the file (10), and `synchronous`,
`full` (what was acknowledged survives a loss of power) or `normal` (it survives the death of the process only).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from threadkeep.errors import (
    OutcomeUnknown,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreTooNew,
    StoreUnavailable,
    TailMoved,
    ThreadkeepError,
    VersionMoved,
)
from threadkeep.hooks import hookimpl
from threadkeep.store import (
    After,
    Changes,
    Order,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    ThreadRow,
    Window,
)
from threadkeep_adapters.sql import store as shared
from threadkeep_adapters.sql import tables
from threadkeep_adapters.sql.lane import Lane
from threadkeep_adapters.sql.sqlite_url import Place, read_url

T = TypeVar("T")

READERS: Final = 4
"""Threads that read at once; SQLite readers wait for nobody, so more would only share the same processors."""

SWEEP_SECONDS: Final = 0.25
"""How long a deletion waits for readers before it leaves the clearing of the log to a later call."""

_DIALECT: Final = sqlite.dialect(paramstyle="named")


@cache
def _sql(statement: tables.Statement) -> str:
    return shared.sql_text(statement, _DIALECT)


def _meaning(error: Exception) -> ThreadkeepError | None:
    """What a driver's error means, by SQLite's result code (https://sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    text = f"{error} ({error.sqlite_errorname})"  # type: ignore[attr-defined]  # set wherever sqlite_errorcode is
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(text)
    kind = _MEANINGS.get(code & 0xFF)
    return None if kind is None else kind(text)


_MEANINGS: Final[dict[int, type[ThreadkeepError]]] = {
    sqlite3.SQLITE_BUSY: StoreUnavailable,
    sqlite3.SQLITE_LOCKED: StoreUnavailable,
    sqlite3.SQLITE_PROTOCOL: StoreUnavailable,
    sqlite3.SQLITE_INTERRUPT: StoreUnavailable,
    sqlite3.SQLITE_NOMEM: StoreUnavailable,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreNotWritable,
    sqlite3.SQLITE_PERM: StoreNotWritable,
    sqlite3.SQLITE_AUTH: StoreNotWritable,
    sqlite3.SQLITE_CANTOPEN: StoreNotWritable,
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
    sqlite3.SQLITE_FORMAT: StoreDamaged,
}


class SQLiteStore(shared.SqlStore):
    """One file. One thread writes, so that the writers of a process queue up and never fight; a few threads read."""

    driver_errors = ((sqlite3.Error, _meaning),)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._lock = threading.Lock()
        self._process = 0
        self._writing: Lane | None = None
        self._reading: Lane | None = None
        self._writer: sqlite3.Connection | None = None
        self._idle: deque[sqlite3.Connection] = deque()
        self._sealed = False
        self._sweep_owed = False

    async def open(self) -> None:
        with self._lock:
            if self._writing is None:
                self._process = os.getpid()
                self._writing = Lane(1, "threadkeep-sqlite-writer")
                self._reading = Lane(READERS, "threadkeep-sqlite-reader")
        await self._hop(self._writing, self._set_up)

    async def close(self) -> None:
        with self._lock:
            lanes, self._writing, self._reading = (self._writing, self._reading), None, None
        await asyncio.to_thread(self._let_go, lanes)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = shared.snapshot(await self._read(shared.load_step(scope, window)))
        self.meter.rows += len(snapshot.records) + len(snapshot.docs) + len(snapshot.resource_docs)
        return snapshot

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        return await self._write(lambda: self._commit(scope, changes))

    async def delete(self, scope: Scope) -> None:
        await self._write(lambda: self._delete(scope))

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        rows = shared.thread_rows(await self._read(shared.threads_step(resource, after, limit, order, slots)))
        self.meter.rows += len(rows)
        return rows

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        rows = await self._read(shared.resources_step(after, limit))
        self.meter.rows += len(rows)
        return [resource_id for (resource_id,) in rows]

    async def _read(self, step: shared.Step) -> shared.Rows:
        statement, given = step
        return await self._hop(self._reading, lambda: self._fetch(_sql(statement), given))

    async def _write(self, work: Callable[[], T]) -> T:
        return await self._hop(self._writing, work)

    async def _hop(self, lane: Lane | None, work: Callable[[], T]) -> T:
        if lane is None:
            raise RuntimeError("a verb was called before open() or after close()")
        if self._process != os.getpid():
            raise StoreError(
                "the store was opened before this process was forked off, and SQLite connections do not survive a "
                "fork; open the store in the child process"
            )
        self.meter.trips += 1
        return await lane.run(work)

    def _set_up(self) -> None:
        if self._writer is not None:
            return
        connection, sealed = self._connect_first()
        try:
            if not sealed:
                self._prepare(connection)
            else:
                _found_version(connection)
        except BaseException:
            connection.close()
            raise
        self._sealed, self._writer = sealed, connection

    def _connect_first(self) -> tuple[sqlite3.Connection, bool]:
        """A connection to a file that is ours or empty, and whether it is sealed: where no one can write beside it."""
        self.place.check()
        connection = self._connect(create=True)
        try:
            _found_version(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            if not (_is_no_access(error) and self.place.is_sealed()):
                raise
            return self._connect(sealed=True), True
        except BaseException:
            connection.close()
            raise
        return connection, False

    def _connect(self, *, create: bool = False, sealed: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.place.uri(create=create, sealed=sealed),
            timeout=self.place.timeout,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self.place.synchronous}")
            connection.execute("PRAGMA secure_delete = ON")
            if self.place.synchronous == "full":
                connection.execute("PRAGMA fullfsync = ON")
                connection.execute("PRAGMA checkpoint_fullfsync = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the schema where there is none. The file has been looked at, and is ours or empty."""
        found = _found_version(connection)
        if found is not None and connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            return
        deadline = time.monotonic() + self.place.timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait at this lock by itself, whatever the timeout.
                if not _is_busy(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        with _transaction(connection):
            if _found_version(connection) is None:
                for table in tables.metadata.sorted_tables:
                    connection.execute(str(CreateTable(table).compile(dialect=_DIALECT)))
                    for index in sorted(table.indexes, key=lambda index: str(index.name)):
                        connection.execute(str(CreateIndex(index).compile(dialect=_DIALECT)))
                connection.execute(_sql(tables.WRITE_SCHEMA), {"version": tables.SCHEMA_VERSION})

    def _let_go(self, lanes: tuple[Lane | None, ...]) -> None:
        for lane in lanes:
            if lane is not None:
                lane.close()
        if self._process != os.getpid():
            return
        with self._lock:
            writer, self._writer = self._writer, None
        while self._idle:
            self._idle.pop().close()
        if writer is not None:
            if self._sweep_owed:
                self._sweep(writer)
            writer.close()

    def _fetch(self, sql: str, given: Any) -> shared.Rows:
        if self._sealed:
            connection = self._connect(sealed=True)
        else:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect()
        try:
            rows: shared.Rows = connection.execute(sql, given).fetchall()
        except BaseException:
            connection.close()
            raise
        if self._sealed:
            connection.close()
        else:
            self._idle.append(connection)
        return rows

    def _connected(self) -> sqlite3.Connection:
        """The writer's connection; after an error that left it in doubt, a new one."""
        if self._writer is None:
            self._writer = self._connect()
        return self._writer

    def _commit(self, scope: Scope, changes: Changes) -> Receipt:
        try:
            return self._run(lambda: shared.commit_steps(scope, changes, look=False))
        except (sqlite3.IntegrityError, TailMoved, VersionMoved):
            if not changes.append:
                raise
        return self._run(lambda: shared.commit_steps(scope, changes, look=True))

    def _delete(self, scope: Scope) -> None:
        self._run(lambda: shared.delete_steps(scope))
        self._sweep_owed = True
        self._sweep(self._connected())

    def _run(self, steps: Callable[[], Generator[shared.Step, shared.Rows, T]]) -> T:
        connection = self._connected()
        try:
            with _transaction(connection):
                return _drive(connection, steps())
        except BaseException:
            if connection.in_transaction:
                self._writer = None
                connection.close()
            raise

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """Copy the log into the file and empty it, so that neither holds what was deleted; readers may delay that."""
        deadline = time.monotonic() + SWEEP_SECONDS
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                with suppress(sqlite3.OperationalError):
                    ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                    if not busy:
                        self._sweep_owed = False
                        return
                if time.monotonic() > deadline:
                    return
                time.sleep(0.005)
        finally:
            connection.execute(f"PRAGMA busy_timeout = {round(self.place.timeout * 1000)}")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        if _primary_code(error) == sqlite3.SQLITE_IOERR:
            raise OutcomeUnknown(f"the commit was not confirmed: {error}") from error
        raise


def _drive(connection: sqlite3.Connection, steps: Generator[shared.Step, shared.Rows, T]) -> T:
    rows: shared.Rows | None = None
    try:
        while True:
            statement, given = next(steps) if rows is None else steps.send(rows)
            if isinstance(given, list):
                connection.executemany(_sql(statement), given)
                rows = ()
            else:
                rows = connection.execute(_sql(statement), given).fetchall()
    except StopIteration as stop:
        result: T = stop.value
        return result


def _found_version(connection: sqlite3.Connection) -> int | None:
    """The schema version, None in an empty file. Reads and nothing else.

    Raises StoreTooNew, and StoreDamaged where the file is another program's or no database.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    if not names:
        return None
    if tables.schema.name not in names:
        raise StoreDamaged(
            "this SQLite file belongs to another program: it has tables, and none of them is threadkeep's"
        )
    versions = connection.execute(_sql(tables.READ_SCHEMA)).fetchall()
    if len(versions) != 1:
        raise StoreDamaged(f"{tables.schema.name} must hold one version, and holds {len(versions)}")
    ((version,),) = versions
    if version > tables.SCHEMA_VERSION:
        raise StoreTooNew(version, tables.SCHEMA_VERSION)
    return int(version)


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_no_access(error: sqlite3.Error) -> bool:
    return _primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


@hookimpl
def open_store(url: str) -> Store:
    return SQLiteStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    try:
        # SQLite itself takes an empty file for a database that nobody has written to yet.
        return Path(read_url(url).path).stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # something is there, and opening it tells what is wrong


_PRINT_FILE: Final = "import shutil, sys; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer)"


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    path = read_url(url).path
    for file in (path, path + "-wal"):
        if Path(file).exists():
            # Another process reads: closing the file in this one would drop SQLite's locks on it (howtocorrupt, 2.2).
            yield subprocess.run(
                [sys.executable, "-S", "-c", _PRINT_FILE, file], check=True, capture_output=True
            ).stdout
