"""`postgresql://USER:PASSWORD@HOST:5432/DATABASE`: threads in a schema of a PostgreSQL database.

`url.py` declares the options, and docs/stores/postgresql.md explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from threadkeep.errors import OutcomeUnknown
from threadkeep.port import (
    After,
    Changes,
    Order,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Store,
    Thread,
    ThreadRow,
    Window,
    hookimpl,
)
from threadkeep_adapters.loops import PerLoop
from threadkeep_adapters.postgresql import errors, inspect, schema
from threadkeep_adapters.postgresql.commit import commit_arguments, commit_receipt
from threadkeep_adapters.postgresql.connections import Link, Pool, connect, single_connection
from threadkeep_adapters.postgresql.statements import Query, commit_call, delete_call, query
from threadkeep_adapters.postgresql.url import Place, new_url, proxied_url, read_url
from threadkeep_adapters.retry import AT_ONCE
from threadkeep_adapters.sql import rows as shared
from threadkeep_adapters.sql import tables

RACES: Final = 5
"""How often a statement races other transactions: one that lost to them has written nothing, and is sent again."""


class PostgresStore(shared.SqlStore):
    """A schema of a database. Each event loop that uses the store has a pool of connections to it."""

    driver_errors = errors.ERRORS
    connection_errors = (*shared.SqlStore.connection_errors, errors.ASTRAY)

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self._pools = self._new_pools()
        self._queries: dict[tables.Statement, Query] = {}
        self._named = place.prepared != "no"
        self._commit = commit_call(place.schema)
        self._delete = delete_call(place.schema)

    async def open(self) -> None:
        self.meter.trips += 1
        async with single_connection(self.place) as connection:
            found = await schema.prepare(connection, self.place.schema)
        if self.place.prepared == "auto":
            self._named = not found.proxied
        self._pools.reopen()

    async def close(self) -> None:
        await self._pools.close()

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        rows = await self._read(shared.load_step(scope, window))
        found = shared.snapshot(
            [
                (kind, active, position, at, name.decode(), _text(digest), body)
                for kind, active, position, at, name, digest, body in rows
            ]
        )
        self.meter.rows += len(found.records) + len(found.docs) + len(found.resource_docs)
        return found

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        self.meter.rows += len(changes.append) + len(changes.puts) + len(changes.resource_puts)
        (row,) = await self._run(self._commit, commit_arguments(scope, changes), writes=True)
        return commit_receipt(row, scope, changes)

    async def delete(self, scope: Scope) -> None:
        thread_id = scope.thread_id.encode() if isinstance(scope, Thread) else None
        await self._run(self._delete, (scope.resource_id.encode(), thread_id), writes=True)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        rows = await self._read(shared.threads_step(resource, after, limit, order, slots))
        page = shared.thread_rows(
            [
                (thread_id.decode(), epoch.decode(), position, created, active, _text(slot), version, body)
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
        compiled = self._queries.get(statement)
        if compiled is None:
            compiled = self._queries[statement] = query(statement, self.place.schema)
        return await self._run(compiled.text, compiled.values(given), writes=False)

    async def _run(self, sql: str, given: Sequence[Any], *, writes: bool) -> Sequence[Any]:
        """The rows of one statement, which is a transaction by itself."""
        pool = await self._pools.get()
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
                if errors.sqlstate(error) in errors.LOST_RACES:
                    lost_races += 1
                    if lost_races < RACES:
                        continue
                if errors.sqlstate(error) == errors.READ_ONLY:
                    # The primary has become a standby; behind the same address there may be another by now.
                    pool.drop_idle()
                    if await pauses.wait():
                        continue
                if is_sent and errors.is_lost(error):
                    if not isinstance(error, TimeoutError):
                        pool.drop_idle()
                    if writes:
                        raise OutcomeUnknown(
                            f"the connection to {self.place.shown} ended before the answer came: "
                            f"{type(error).__name__}: {error}"
                        ) from error
                    if not isinstance(error, TimeoutError) and await pauses.wait():
                        continue
                raise

    def _new_pools(self) -> PerLoop[Pool]:
        place = self.place
        return PerLoop(
            lambda: Pool(self._link, place.connections, place.pool_timeout, place.shown),
            drop=Pool.terminate,
        )

    async def _link(self) -> Link:
        return Link(await connect(self.place, keeps_statements=self._named), named=self._named)


def _text(stored: bytes | None) -> str | None:
    return None if stored is None else stored.decode()


@hookimpl
def open_store(url: str) -> Store:
    return PostgresStore(read_url(url))


@hookimpl
def store_exists(url: str) -> bool:
    return inspect.exists(read_url(url))


@hookimpl
def new_place(url: str) -> str:
    return new_url(url)


@hookimpl
def proxied(url: str, proxy: Callable[[str, int], tuple[str, int]]) -> str:
    return proxied_url(url, proxy)


@hookimpl
def scan_backend(url: str) -> Iterator[bytes]:
    return inspect.scan(read_url(url))


@hookimpl
def shift_version(url: str, by: int) -> bool:
    inspect.shift(read_url(url), by)
    return True
