"""Saboteurs over PostgreSQL: most have a changed line in the functions on the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Final

import asyncpg
from adapter_saboteurs import plugins, swapped

from threadkeep.port import After, Costs, Order, Resource, Scope, Snapshot, ThreadRow, Window
from threadkeep_adapters.loops import PerLoop
from threadkeep_adapters.postgresql import store as sound
from threadkeep_adapters.postgresql.connections import Link, Pool, connect, single_connection
from threadkeep_adapters.postgresql.statements import ddl, seed
from threadkeep_adapters.postgresql.store import PostgresStore
from threadkeep_adapters.postgresql.url import Place, read_url
from threadkeep_adapters.sql import rows as shared
from threadkeep_adapters.sql import tables

PAUSE: Final = "PERFORM pg_catalog.pg_sleep(0.002);"
"""As long as a busy server takes between two statements."""

FIRST_IDS: Final = 100
"""Ids that are looked for in a commit."""


class PatchedStore(PostgresStore):
    """A store with changed functions."""

    swaps: ClassVar[Sequence[tuple[str, str]]] = ()
    """In the functions: what there is, and what stands in its place."""

    async def open(self) -> None:
        await super().open()
        if not self.swaps:
            return
        (functions,) = ddl(self.place.schema, with_tables=False)
        async with single_connection(self.place) as connection, connection.transaction():
            # Openers of several processes would run into each other.
            await connection.execute(f"SELECT pg_catalog.pg_advisory_xact_lock({seed(self.place.schema)})")
            await connection.execute(swapped(functions, *self.swaps))


class ResourceLockForgotten(PatchedStore):
    """Documents of a resource are compared and put without the resource's lock: two threads' commits meet."""

    fault: ClassVar = "postgresql-resource-lock-forgotten"
    caught_by: ClassVar = 9
    seen_in: ClassVar = "READ COMMITTED taken for serialisable: Mastra #24756"
    swaps = (
        (
            "        PERFORM pg_catalog.pg_advisory_xact_lock(the_lock);\n    ELSE\n        PERFORM pg_catalog."
            "pg_advisory_xact_lock_shared(the_lock);\n    END IF;\n\n    <<attempts>>",
            "        NULL;\n    END IF;\n\n    <<attempts>>",
        ),
        (
            "        -- All conditions hold, and nothing",
            f"        {PAUSE}\n        -- All conditions hold, and nothing",
        ),
    )


class SelectWithoutForUpdate(PatchedStore):
    """A commit that tests conditions reads the thread's row without locking it, and writes what it has computed."""

    fault: ClassVar = "postgresql-select-without-for-update"
    caught_by: ClassVar = 5
    seen_in: ClassVar = "READ COMMITTED taken for serialisable: ADK #4445"
    swaps = (
        (
            "WHERE t.resource_id = in_resource_id AND t.thread_id = in_thread_id\n            FOR UPDATE;\n"
            "        END IF;\n"
            "        IF the_key IS NULL THEN",
            "WHERE t.resource_id = in_resource_id AND t.thread_id = in_thread_id;\n        END IF;\n"
            "        IF the_key IS NULL THEN",
        ),
        (
            "        -- All conditions hold, and nothing",
            f"        {PAUSE}\n        -- All conditions hold, and nothing",
        ),
    )


class ErasureWithoutLock(PatchedStore):
    """An erasure takes no lock of the resource: a thread that is created meanwhile stays, and its commit's documents of
    the resource go."""

    fault: ClassVar = "postgresql-erasure-without-lock"
    caught_by: ClassVar = 5
    seen_in: ClassVar = "erasure as one DELETE a table under READ COMMITTED"
    swaps = (
        (
            "PERFORM pg_catalog.pg_advisory_xact_lock(the_lock);\n        the_keys",
            "the_keys",
        ),
        (
            "            ORDER BY t.key FOR UPDATE\n        );\n",
            f"            ORDER BY t.key FOR UPDATE\n        );\n        {PAUSE}\n",
        ),
    )


class CreateRaceFails(PatchedStore):
    """Of two first writers of a thread, the one whose insert finds the other's row goes on without a thread."""

    fault: ClassVar = "postgresql-create-race-fails"
    caught_by: ClassVar = 5
    seen_in: ClassVar = "ON CONFLICT DO NOTHING RETURNING, which returns nothing then"
    swaps = (("        EXIT attempts WHEN the_key IS NOT NULL;\n", "        EXIT attempts;\n"),)


class KnownIdsOfFirstHundred(PatchedStore):
    """Which records of a commit are known is asked for the first hundred: a longer repeat breaks the unique key."""

    fault: ClassVar = "postgresql-known-ids-of-first-100"
    caught_by: ClassVar = 2
    seen_in: ClassVar = "IN lists cut to what a backend takes at once"
    swaps = (("m.id = ANY (in_ids)", f"m.id = ANY (in_ids[1:{FIRST_IDS}])"),)


class ActivityGoesBackOnFastPath(PatchedStore):
    """The usual commit sets a thread's last activity to its own time, be it earlier; all others keep the larger."""

    fault: ClassVar = "postgresql-activity-goes-back"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "a fast path written after the slow one and not from it"
    swaps = (("active = GREATEST(t.active, in_at)", "active = in_at"),)


class TenantOnConnection(PatchedStore):
    """A list sets the resource on a connection of the pool, and selects on whichever it gets next."""

    fault: ClassVar = "postgresql-tenant-on-connection"
    caught_by: ClassVar = 1
    seen_in: ClassVar = "row-level security by `SET app.tenant`, with a pool that gives a connection for each statement"

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        given = resource.resource_id.encode().hex()
        await self._run("SELECT pg_catalog.set_config('threadkeep.tenant', $1, false)", (given,), writes=False)
        # What the request does between the two, such as a hook of its framework.
        await asyncio.sleep(0.002)
        ((tenant,),) = await self._run("SELECT pg_catalog.current_setting('threadkeep.tenant', true)", (), writes=False)
        if not tenant:
            return []
        return await super().threads(Resource(bytes.fromhex(tenant).decode()), after, limit, order, slots)


class LeftInTransaction(PatchedStore):
    """Each statement is a transaction with a BEGIN and a COMMIT of its own: one that is cancelled gives its connection
    back inside of it, with its locks and its view of the past."""

    fault: ClassVar = "postgresql-left-in-transaction"
    caught_by: ClassVar = 12
    seen_in: ClassVar = "SQL pools: `idle in transaction` after a cancelled task"

    def _new_pools(self) -> PerLoop[Pool]:
        place = self.place
        return PerLoop(
            lambda: _TrustingPool(self._link, place.connections, place.pool_timeout, place.shown), drop=Pool.terminate
        )

    async def _link(self) -> Link:
        return _TransactingLink(await connect(self.place, keeps_statements=self._named), named=self._named)


class _TrustingPool(Pool):
    async def _settle(self, link: Link) -> None:
        # A connection that answers, be it with an error, is taken back.
        with suppress(asyncpg.PostgresError):
            await link.connection.fetchval("SELECT 1")
        self._release(link)


class _TransactingLink(Link):
    async def fetch(self, sql: str, given: Sequence[Any]) -> Sequence[Any]:
        if not self.connection.is_in_transaction():
            await self.connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            rows = await super().fetch(sql, given)
        except Exception:
            if not self.connection.is_closed():
                await self.connection.execute("ROLLBACK")
            raise
        await self.connection.execute("COMMIT")
        return rows


class StatementKeptByParameters(PatchedStore):
    """Statements are kept by the names of their parameters: both orders of a list have the same, and the one that is
    made first runs for both."""

    fault: ClassVar = "postgresql-statement-kept-by-parameters"
    caught_by: ClassVar = 8
    seen_in: ClassVar = "statement caches with a key that leaves out a part of what the statement is made of"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._kept: dict[frozenset[str], tables.Statement] = {}

    async def _read(self, step: shared.Step) -> Sequence[Any]:
        statement, given = step
        if "limit" in given and "resource_id" in given:
            statement = self._kept.setdefault(frozenset(given), statement)
        return await super()._read((statement, given))


class LostCommitSentAgain(PatchedStore):
    """A commit whose answer is lost is sent again, as reads are: its documents count two versions."""

    fault: ClassVar = "postgresql-lost-commit-sent-again"
    caught_by: ClassVar = 6
    seen_in: ClassVar = "retries around every call, whatever it does"

    async def _run(self, sql: str, given: Sequence[Any], *, writes: bool) -> Sequence[Any]:
        return await super()._run(sql, given, writes=False)


class ResourceReadApart(PatchedStore):
    """A load reads the thread in one statement and the resource's documents in the next, and says so in its costs."""

    fault: ClassVar = "postgresql-resource-read-apart"
    caught_by: ClassVar = 4
    seen_in: ClassVar = "Mastra: resource working memory is a call of its own"
    costs = Costs(load=2, commit=1)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = await super().load(scope, window)
        later = await super().load(Resource(scope.resource_id), Window())
        self.meter.rows -= len(later.resource_docs)
        return replace(snapshot, resource_docs=later.resource_docs)


BROKEN: Final[Sequence[type[PostgresStore]]] = [
    ResourceLockForgotten,
    SelectWithoutForUpdate,
    ErasureWithoutLock,
    CreateRaceFails,
    KnownIdsOfFirstHundred,
    ActivityGoesBackOnFastPath,
    TenantOnConnection,
    LeftInTransaction,
    StatementKeptByParameters,
    LostCommitSentAgain,
    ResourceReadApart,
]

PLUGINS: Final = plugins("postgresql", BROKEN, sound, read_url)
"""By fault, and registered."""
