"""`postgresql://USER:PASSWORD@HOST:5432/DATABASE`: threads in a schema of a PostgreSQL database.

`url.py` declares the options, and docs/stores/postgresql.md explains them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import asyncpg

from threadkeep.errors import MessageConflict, OutcomeUnknown, StoreError, StoreUnavailable, TailMoved, VersionMoved
from threadkeep.port import (
    MISSING,
    After,
    Changes,
    Order,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    Tail,
    Thread,
    ThreadRow,
    Window,
    hookimpl,
)
from threadkeep_adapters.loops import PerLoop
from threadkeep_adapters.postgresql import errors, schema
from threadkeep_adapters.postgresql.connections import SETTLE_SECONDS, Connection, Link, Pool
from threadkeep_adapters.postgresql.url import Place, read_url
from threadkeep_adapters.retry import AT_ONCE
from threadkeep_adapters.sql import rows as shared
from threadkeep_adapters.sql import tables

T = TypeVar("T")

RACES: Final = 5
"""How often a statement races other transactions: one that lost to them has written nothing, and is sent again."""


class PostgresStore(shared.SqlStore):
    """A schema of a database. Each event loop that uses the store has a pool of connections to it."""

    driver_errors = errors.DRIVER_ERRORS

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._process = 0
        self._pools = self._new_pools()
        self._queries: dict[tables.Statement, schema.Query] = {}
        self._named = place.prepared != "no"
        name = schema.quoted(place.schema)
        given = ", ".join(f"${number}" for number in range(1, 18))
        self._commit = f"SELECT * FROM {name}.threadkeep_commit_1({given})"
        self._delete = f"SELECT {name}.threadkeep_delete_1($1, $2)"

    async def open(self) -> None:
        async with self._connection() as connection:
            found = await schema.prepare(connection, self.place.schema)
        if self.place.prepared == "auto":
            self._named = not found.proxied
        if self._process != os.getpid():
            # Those of a parent process are the parent's to close.
            self._process, self._pools = os.getpid(), self._new_pools()

    async def close(self) -> None:
        process, self._process = self._process, 0
        if process == os.getpid():
            await self._pools.close()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        rows = await self._read(shared.load_step(scope, window))
        found = shared.snapshot(
            [
                (kind, active, position, at, name.decode(), digest and digest.decode(), body)
                for kind, active, position, at, name, digest, body in rows
            ]
        )
        self.meter.rows += len(rows) - (found.tail != MISSING)
        return found

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        of_thread = isinstance(scope, Thread)
        puts, resource_puts = (changes.puts, changes.resource_puts) if of_thread else ((), changes.puts)
        if_tail = changes.if_tail
        self.meter.rows += len(changes.append) + len(puts) + len(resource_puts)
        ((outcome, named, epoch, position, positions, versions, resource_versions),) = await self._run(
            self._commit,
            (
                scope.resource_id.encode(),
                scope.thread_id.encode() if isinstance(scope, Thread) else None,
                changes.at,
                _key(changes.epoch),
                [record.id.encode() for record in changes.append],
                [record.digest.encode() for record in changes.append],
                [record.body for record in changes.append],
                *_puts(puts),
                *_puts(resource_puts),
                changes.drop_after,
                None if changes.if_epoch is None else _key(changes.if_epoch),
                None if if_tail is None else _key(if_tail.epoch),
                None if if_tail is None else shared.clamp(if_tail.position),
            ),
            writes=True,
        )
        if outcome == "done":
            if not of_thread:
                return Receipt(MISSING, versions=resource_versions)
            if positions is None:
                return Receipt(Tail(epoch.decode(), position), range(position - len(changes.append) + 1, position + 1))
            return Receipt(Tail(epoch.decode(), position), positions, versions, resource_versions)
        if outcome == "message":
            raise MessageConflict(named.decode())
        if outcome == "version":
            raise VersionMoved(named.decode(), position)
        raise TailMoved(epoch.decode(), position)

    async def delete(self, scope: Scope) -> None:
        thread_id = scope.thread_id.encode() if isinstance(scope, Thread) else None
        await self._run(self._delete, (scope.resource_id.encode(), thread_id), writes=True)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        rows = await self._read(shared.threads_step(resource, after, limit, order, slots))
        page = shared.thread_rows(
            [
                (thread_id.decode(), epoch.decode(), position, created, active, slot and slot.decode(), version, body)
                for thread_id, epoch, position, created, active, slot, version, body in rows
            ]
        )
        self.meter.rows += len(page)
        return page

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        rows = await self._read(shared.resources_step(after, limit))
        self.meter.rows += len(rows)
        return [resource_id.decode() for (resource_id,) in rows]

    async def _read(self, step: shared.Step) -> Sequence[Any]:
        statement, given = step
        query = self._queries.get(statement)
        if query is None:
            query = self._queries[statement] = schema.query(statement, self.place.schema)
        return await self._run(query.text, query.values(given), writes=False)

    async def _run(self, sql: str, given: Sequence[Any], *, writes: bool) -> Sequence[Any]:
        """The rows of one statement, which is a transaction by itself."""
        pool = await self._pool()
        pauses = AT_ONCE.begin()
        lost_races = 0
        is_sent = False

        def sent() -> None:
            nonlocal is_sent
            is_sent = True
            self.meter.trips += 1

        while True:
            is_sent = False
            try:
                return await pool.fetch(sql, given, sent)
            except Exception as error:
                if errors.sqlstate(error) in errors.RACES:
                    lost_races += 1
                    if lost_races < RACES:
                        continue
                if is_sent and errors.is_lost(error):
                    if writes:
                        raise OutcomeUnknown(
                            f"the connection to {self.place.shown} ended before the answer came: "
                            f"{type(error).__name__}: {error}"
                        ) from error
                    if not isinstance(error, TimeoutError) and await pauses.wait():
                        continue
                raise

    async def _pool(self) -> Pool:
        if self._process != os.getpid():
            if self._process:
                raise StoreError(
                    "the store was opened before this process was forked off, and connections do not survive a fork; "
                    "open the store in the child process"
                )
            raise RuntimeError("a verb was called before open() or after close()")
        return await self._pools.get()

    def _new_pools(self) -> PerLoop[Pool]:
        place = self.place
        return PerLoop(
            lambda: Pool(self._link, place.connections, place.pool_timeout, place.shown),
            drop=Pool.terminate,
        )

    async def _link(self) -> Link:
        return Link(await self._connect(statement_cache_size=100 if self._named else 0), named=self._named)

    async def _connect(self, *, statement_cache_size: int) -> Connection:
        try:
            return await asyncpg.connect(
                self.place.dsn,
                timeout=self.place.connect_timeout,
                command_timeout=self.place.timeout,
                statement_cache_size=statement_cache_size,
                max_cached_statement_lifetime=0,
            )
        except (OSError, TimeoutError) as error:
            raise StoreUnavailable(
                f"the server at {self.place.shown} cannot be reached: {str(error) or type(error).__name__}; "
                "start it, or correct the URL"
            ) from error
        except (asyncpg.InterfaceError, ValueError) as error:
            raise StoreError(f"the driver does not take the URL: {error}") from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """A connection outside of any pool, for what is done once."""
        self.place.check()
        self.meter.trips += 1
        connection = await self._connect(statement_cache_size=0)
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise
        await connection.close(timeout=SETTLE_SECONDS)


def _key(text: str) -> bytes:
    """What is compared, as bytes. A tail comes from callers, and may hold what UTF-8 has no bytes for."""
    return text.encode("utf-8", "surrogatepass")


def _puts(puts: Sequence[Put]) -> tuple[list[bytes], list[str | None], list[int | None]]:
    return (
        [put.slot.encode() for put in puts],
        [put.body for put in puts],
        [put.if_version for put in puts],
    )


@hookimpl
def open_store(url: str) -> Store:
    return PostgresStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    place = read_url(url)

    async def look() -> bool:
        async with PostgresStore(place)._connection() as connection:
            return bool((await schema.look(connection, place.schema)).tables)

    try:
        return _on_a_loop(look)
    except tuple(kind for kind, _ in PostgresStore.driver_errors):
        return True  # something may be there, and opening it tells what is wrong


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    place = read_url(url)

    async def scan() -> list[bytes]:
        chunks: list[bytes] = []

        async def keep(chunk: bytes) -> None:
            chunks.append(chunk)

        async with PostgresStore(place)._connection() as connection:
            for table in tables.metadata.sorted_tables:
                # The binary form holds ids as they are; rows of one table hang together over chunks.
                await connection.copy_from_table(table.name, schema_name=place.schema, output=keep, format="binary")
        return [b"".join(chunks)]

    yield from _on_a_loop(scan)


def _on_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end in a thread of its own, since the caller's may be running a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
