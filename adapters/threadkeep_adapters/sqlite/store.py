"""`sqlite:///threads.db` (relative) and `sqlite:////var/lib/threads.db` (absolute): threads in an SQLite file.

`url.py` declares the options, and docs/stores/sqlite.md explains them.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from threadkeep.errors import TailMoved, VersionMoved
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
from threadkeep_adapters.lane import Ending, Lane
from threadkeep_adapters.sql import rows as shared
from threadkeep_adapters.sqlite import inspect, schema
from threadkeep_adapters.sqlite.commit import delete_scope, write_changes
from threadkeep_adapters.sqlite.connections import Readers, Writer
from threadkeep_adapters.sqlite.errors import ERRORS
from threadkeep_adapters.sqlite.file import StoreFile
from threadkeep_adapters.sqlite.reading import WarmReader, is_near
from threadkeep_adapters.sqlite.statements import text
from threadkeep_adapters.sqlite.sweep import READERS_SECONDS, Sweeper
from threadkeep_adapters.sqlite.url import Place, new_url, read_url

T = TypeVar("T")

READING_THREADS: Final = 4
"""Threads that read at once; SQLite readers wait for nobody, so more would only share the same processors."""


class SQLiteStore(shared.SqlStore):
    """One file. One thread writes, so that the writers of a process queue up and never fight; a few threads read."""

    driver_errors = ERRORS

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._lock = threading.Lock()
        self._writing: Lane | None = None
        self._reading: Lane | None = None
        self._ending = Ending(self._let_go)
        self._file = StoreFile(place)
        self._writer = Writer(self._file)
        self._readers = Readers(self._file)
        self._sweeper = Sweeper(self._writer)
        self._warm = WarmReader(self._writer)

    async def open(self) -> None:
        with self._lock:
            if self._writing is None:
                self._writing = Lane(1, "threadkeep-sqlite-writer")
                self._reading = Lane(READING_THREADS, "threadkeep-sqlite-reader")
        await self._hop(self._writing, self._open_first)

    async def close(self) -> None:
        with self._lock:
            self._ending.take(self._writing, self._reading)
            self._writing = self._reading = None
        await self._ending.wait()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        step = shared.load_step(scope, window)
        rows = self._read_here(scope, step) if is_near(window) else None
        if rows is None:
            rows = await self._read(step)
        else:
            await self._warm.give_way()
        self._warm.keep(scope)
        snapshot = shared.snapshot(rows)
        self.meter.rows += len(snapshot.records) + len(snapshot.docs) + len(snapshot.resource_docs)
        return snapshot

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        receipt = await self._write(lambda: self._commit(scope, changes))
        self._warm.keep(scope)
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
        return await self._hop(self._reading, lambda: self._readers.fetch(text(statement), given))

    def _read_here(self, scope: Scope, step: shared.Step) -> shared.Rows | None:
        """Rows without a hop, None where they are not at hand."""
        if self._writing is None or self._readers.is_sealed:
            return None
        rows = self._warm.fetch(scope, step)
        if rows is not None:
            self.meter.trips += 1
        return rows

    async def _write(self, work: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.place.timeout

        def begin() -> T:
            # What was waited in the queue is not waited again for other processes.
            self._writer.wait_at_most(max(0.0, deadline - time.monotonic()))
            return work()

        def in_turn() -> T:
            with self._writer.taken:
                return self._file.write(begin)

        return await self._hop(self._writing, in_turn)

    async def _hop(self, lane: Lane | None, work: Callable[[], T]) -> T:
        if lane is None:
            raise RuntimeError("a verb was called before open() or after close()")
        self.meter.trips += 1
        self._warm.has_given_way()
        return await lane.run(work)

    def _open_first(self) -> None:
        if self._writer.connection is None:
            try:
                connection, is_sealed = schema.open_first(self._file)
            except BaseException:
                self._file.release()
                raise
            self._writer.connection = connection
            self._readers.is_sealed = is_sealed

    def _let_go(self) -> None:
        with self._lock:
            if self._writing is not None:
                return  # it was opened again meanwhile, and uses them
            writing = self._writer.connection
            self._writer.connection = None
            self._readers.close()
            file = self._file.release()
        if writing is not None:
            self._sweeper.sweep(writing, READERS_SECONDS, file)
            writing.close()

    # What follows runs in the thread that writes

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result = self._writer.transact(work)
        self._sweeper.sweep(self._writer.connected())
        return result

    def _commit(self, scope: Scope, changes: Changes) -> Receipt:
        try:
            return self._transact(lambda connection: write_changes(connection, scope, changes, look=False))
        except (sqlite3.IntegrityError, TailMoved, VersionMoved):
            if not changes.append:
                raise
        return self._transact(lambda connection: write_changes(connection, scope, changes, look=True))

    def _delete(self, scope: Scope) -> None:
        connection = self._writer.connected()
        before = connection.total_changes

        def work(connection: sqlite3.Connection) -> None:
            delete_scope(connection, scope)
            if isinstance(scope, Resource) and connection.total_changes > before:
                self._sweeper.owe_compacting(connection)

        self._transact(work)
        if connection.total_changes > before:
            self._sweeper.is_owed = True
        try:
            if isinstance(scope, Resource):
                self._sweeper.compact(connection)
        finally:
            self._sweeper.sweep(connection, READERS_SECONDS)


@hookimpl
def open_store(url: str) -> Store:
    return SQLiteStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    return inspect.exists(read_url(url))


@hookimpl
def new_place(url: str) -> str:
    return new_url(url)


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    return inspect.scan(read_url(url))


@hookimpl
def shift_version(url: str, by: int) -> bool:
    inspect.shift(read_url(url), by)
    return True


@hookimpl
def replace_place(url: str, by: str | None) -> bool:
    inspect.replace(read_url(url), None if by is None else read_url(by))
    return True
