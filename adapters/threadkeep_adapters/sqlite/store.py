"""`sqlite:///threads.db` (relative) and `sqlite:////var/lib/threads.db` (absolute): threads in an SQLite file.

`url.py` declares the options, and docs/stores/sqlite.md explains them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from threadkeep.errors import OutcomeUnknown, StoreError, TailMoved, VersionMoved
from threadkeep.port import (
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
    hookimpl,
)
from threadkeep_adapters.lane import Lane
from threadkeep_adapters.sql import rows as shared
from threadkeep_adapters.sqlite import commit, schema
from threadkeep_adapters.sqlite.url import Place, read_url

T = TypeVar("T")

READERS: Final = 4
"""Threads that read at once; SQLite readers wait for nobody, so more would only share the same processors."""

SWEEP_SECONDS: Final = 0.5
"""How long a deletion waits for others' reads before it leaves the emptying of the log to the next write."""

NEAR: Final = 200
WARM: Final = 16
"""A load of at most NEAR of the newest records, in one of the WARM threads that were used last, is done where it is
called, by the writer's connection and without a hop: what it needs is in that connection's cache, so that it takes less
time than making messages of the records does, which is done there anyway. The cache (2 MB unless SQLite was built
otherwise, https://sqlite.org/pragma.html#pragma_cache_size) has room for about so many threads."""

LOADS_IN_A_ROW: Final = 8
"""How many loads without a hop may follow one another before other tasks have their turn: about a millisecond's worth.
Giving way costs a round of the event loop, which asks the operating system for what has happened."""

_COMPACT_OWED: Final = 1
"""The file's user_version while an erasure has been committed and the file not yet been rewritten."""


class SQLiteStore(shared.SqlStore):
    """One file. One thread writes, so that the writers of a process queue up and never fight; a few threads read."""

    driver_errors = ((sqlite3.Error, schema.meaning),)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._lock = threading.Lock()
        self._process = 0
        self._writing: Lane | None = None
        self._reading: Lane | None = None
        self._writer: sqlite3.Connection | None = None
        self._writer_taken = threading.Lock()
        self._warm: OrderedDict[Scope, None] = OrderedDict()
        self._loads_in_a_row = 0
        self._idle: deque[sqlite3.Connection] = deque()
        self._sealed = False
        self._patience = place.timeout
        self._sweep_owed = False

    async def open(self) -> None:
        with self._lock:
            if self._writing is None:
                self._process = os.getpid()
                self._writing = Lane(1, "threadkeep-sqlite-writer")
                self._reading = Lane(READERS, "threadkeep-sqlite-reader")
        await self._hop(self._writing, self._open_first)

    async def close(self) -> None:
        with self._lock:
            lanes, self._writing, self._reading = (self._writing, self._reading), None, None
        try:
            letting_go = asyncio.get_running_loop().run_in_executor(None, self._let_go, lanes)
        except RuntimeError:
            # The interpreter is ending and starts no thread any more.
            self._let_go(lanes)
        else:
            await letting_go

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        step = shared.load_step(scope, window)
        rows = self._fetch_here(scope, step) if window.anchor is None and window.before <= NEAR else None
        if rows is None:
            rows = await self._read(step)
        else:
            self._loads_in_a_row += 1
            if self._loads_in_a_row >= LOADS_IN_A_ROW:
                self._loads_in_a_row = 0
                await asyncio.sleep(0)
        self._keep_warm(scope)
        snapshot = shared.snapshot(rows)
        self.meter.rows += len(snapshot.records) + len(snapshot.docs) + len(snapshot.resource_docs)
        return snapshot

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        receipt = await self._write(lambda: self._commit(scope, changes))
        self._keep_warm(scope)
        return receipt

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
        return await self._hop(self._reading, lambda: self._fetch(schema.text(statement), given))

    async def _write(self, work: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.place.timeout

        def in_turn() -> T:
            with self._writer_taken:
                # What was waited in the queue is not waited again for other processes.
                self._wait_at_most(max(0.0, deadline - time.monotonic()))
                return work()

        return await self._hop(self._writing, in_turn)

    async def _hop(self, lane: Lane | None, work: Callable[[], T]) -> T:
        if lane is None:
            raise RuntimeError("a verb was called before open() or after close()")
        if self._process != os.getpid():
            raise StoreError(
                "the store was opened before this process was forked off, and SQLite connections do not survive a "
                "fork; open the store in the child process"
            )
        self.meter.trips += 1
        self._loads_in_a_row = 0
        return await lane.run(work)

    def _open_first(self) -> None:
        if self._writer is None:
            self._writer, self._sealed = schema.open_first(self.place)

    def _let_go(self, lanes: Sequence[Lane | None]) -> None:
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
                self._sweep(writer, SWEEP_SECONDS)
            writer.close()

    def _fetch(self, sql: str, given: Any) -> shared.Rows:
        if self._sealed:
            connection = schema.connect(self.place, sealed=True)
        else:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = schema.connect(self.place)
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

    def _fetch_here(self, scope: Scope, step: shared.Step) -> shared.Rows | None:
        """Rows without a hop, None where they are not at hand: the thread is not warm, or somebody writes just now."""
        if scope not in self._warm or self._sealed or self._writing is None or self._process != os.getpid():
            return None
        if not self._writer_taken.acquire(blocking=False):
            return None
        statement, given = step
        try:
            if self._writer is None:
                return None
            rows: shared.Rows = self._writer.execute(schema.text(statement), given).fetchall()
        except sqlite3.Error:
            # A reader's connection tells whether it is the file or only this connection.
            return None
        finally:
            self._writer_taken.release()
        self.meter.trips += 1
        return rows

    def _keep_warm(self, scope: Scope) -> None:
        self._warm[scope] = None
        self._warm.move_to_end(scope)
        if len(self._warm) > WARM:
            self._warm.popitem(last=False)

    def _connected(self) -> sqlite3.Connection:
        """The writer's connection; after an error that left it in doubt, a new one."""
        if self._writer is None:
            self._writer, self._patience = schema.connect(self.place), self.place.timeout
        return self._writer

    def _wait_at_most(self, seconds: float) -> None:
        if abs(seconds - self._patience) > 0.1:
            self._connected().execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._patience = seconds

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connected()
        try:
            result = schema.transact(connection, work)
        except BaseException:
            if connection.in_transaction:
                self._writer = None
                connection.close()
            raise
        if self._sweep_owed:
            self._sweep(connection, 0)
        return result

    def _commit(self, scope: Scope, changes: Changes) -> Receipt:
        try:
            return self._run(lambda connection: commit.commit(connection, scope, changes, look=False))
        except (sqlite3.IntegrityError, TailMoved, VersionMoved):
            if not changes.append:
                raise
        return self._run(lambda connection: commit.commit(connection, scope, changes, look=True))

    def _delete(self, scope: Scope) -> None:
        connection = self._connected()
        before = connection.total_changes

        def work(connection: sqlite3.Connection) -> None:
            commit.delete(connection, scope)
            if isinstance(scope, Resource) and connection.total_changes > before:
                connection.execute(f"PRAGMA user_version = {_COMPACT_OWED}")

        self._run(work)
        if connection.total_changes > before:
            self._sweep_owed = True
        try:
            if isinstance(scope, Resource):
                self._compact(connection)
        finally:
            if self._sweep_owed:
                self._sweep(connection, SWEEP_SECONDS)

    def _compact(self, connection: sqlite3.Connection) -> None:
        """Write the file anew, if that is owed.

        Deleted rows are overwritten, and yet copies of them may stand in the gaps of pages: SQLite moves rows from
        page to page as its trees grow and shrink, and does not clear where they stood.
        """
        try:
            if connection.execute("PRAGMA user_version").fetchone() != (_COMPACT_OWED,):
                return
            self._sweep_owed = True
            connection.execute("VACUUM")
            connection.execute("PRAGMA user_version = 0")
        except sqlite3.Error as error:
            raise OutcomeUnknown(
                "the resource is erased, but the file could not be rewritten and may still hold copies; "
                f"erase it again: {error}"
            ) from error

    def _sweep(self, connection: sqlite3.Connection, seconds: float) -> None:
        """Copy the log into the file and empty it, so that neither holds what was deleted; readers may delay that."""
        deadline = time.monotonic() + seconds
        self._wait_at_most(0)
        while True:
            with suppress(sqlite3.OperationalError):
                ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                if not busy:
                    self._sweep_owed = False
                    return
            if time.monotonic() >= deadline:
                return
            time.sleep(0.005)


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
    for part in (path, path + "-wal"):
        if Path(part).exists():
            # Another process reads: closing the file in this one would drop SQLite's locks on it (howtocorrupt, 2.2).
            yield subprocess.run(
                [sys.executable, "-S", "-c", _PRINT_FILE, part], check=True, capture_output=True
            ).stdout
