"""The schema of a PostgreSQL store: telling whose it is, and making it where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from threadkeep.errors import StoreDamaged, StoreError
from threadkeep.port import check_schema_version
from threadkeep_adapters.postgresql.connections import Connection
from threadkeep_adapters.postgresql.statements import FUNCTIONS, ddl, query, seed
from threadkeep_adapters.sql import tables

OLDEST_SERVER: Final = 120000
"""PostgreSQL 12, as `server_version_num` says it: the oldest that asyncpg 0.30 supports."""

_TABLES: Final = tuple(table.name for table in tables.metadata.sorted_tables)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is at a place."""

    proxied: bool
    """Whether the connection leads to a proxy, which may give each transaction another server process."""
    tables: frozenset[str]
    """Of the tables that a store has, those that are there."""
    functions: frozenset[str]

    @property
    def complete(self) -> bool:
        return len(self.tables) == len(_TABLES) and self.functions == frozenset(FUNCTIONS)


_LOOK: Final = """
SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,
    pg_catalog.pg_backend_pid() AS process,
    ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = ANY ($2::text[])) AS tables,
    ARRAY(SELECT p.proname::text FROM pg_catalog.pg_proc AS p
        JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = $1 AND p.proname = ANY ($3::text[])) AS functions
"""


async def look(connection: Connection, schema: str) -> Found:
    """What there is in a schema. Reads and nothing else.

    Raises StoreTooNew, StoreTooOld, StoreDamaged where the tables are another program's, StoreError for a server
    or database that cannot hold a store, and asyncpg's errors.
    """
    row = await connection.fetchrow(_LOOK, schema, list(_TABLES), list(FUNCTIONS))
    if row is None:
        raise StoreError("the server gave no answer to a query that always has one")
    if row["version"] < OLDEST_SERVER:
        raise StoreError(f"PostgreSQL {OLDEST_SERVER // 10000} or newer is needed; the server is {row['version']}")
    if row["encoding"] != "UTF8":
        raise StoreError(
            f"the database has the encoding {row['encoding']}, which cannot hold every text; "
            "create one WITH ENCODING 'UTF8' TEMPLATE template0"
        )
    found = Found(row["process"] != connection.get_server_pid(), frozenset(row["tables"]), frozenset(row["functions"]))
    if found.tables:
        await _check_version(connection, schema, found)
    return found


async def _check_version(connection: Connection, schema: str, found: Found) -> None:
    if tables.schema.name not in found.tables:
        raise StoreDamaged(
            f"the schema {schema!r} has {', '.join(sorted(found.tables))} and no {tables.schema.name}: these tables "
            "are another program's, or what is left of a store; name another with ?schema="
        )
    try:
        rows = await connection.fetch(query(tables.READ_SCHEMA, schema).text)
    except (asyncpg.UndefinedColumnError, asyncpg.WrongObjectTypeError) as error:
        raise StoreDamaged(f"{tables.schema.name} of the schema {schema!r} is another program's: {error}") from error
    if len(rows) != 1:
        raise StoreDamaged(f"{tables.schema.name} must hold one version, and holds {len(rows)}")
    version = rows[0][0]
    if not isinstance(version, int):
        raise StoreDamaged(f"{tables.schema.name} must hold a number, and holds {version!r}")
    check_schema_version(version, tables.SCHEMA_VERSION)
    missing = sorted(set(_TABLES) - found.tables)
    if missing:
        raise StoreDamaged(f"the schema {schema!r} has lost {', '.join(missing)}; restore it from a backup")


async def prepare(connection: Connection, schema: str) -> Found:
    """Make the schema where there is none, and what is there already is left as it is; as `look`.

    A user who may not create anything can use a store that another has prepared.
    """
    found = await look(connection, schema)
    if found.complete:
        return found
    async with connection.transaction(isolation="read_committed"):
        # Openers wait here for each other: CREATE IF NOT EXISTS fails in a race.
        await connection.execute(f"SELECT pg_catalog.pg_advisory_xact_lock({seed(schema)})")
        found = await look(connection, schema)
        if not found.complete:
            for statement in ddl(schema, with_tables=not found.tables):
                await connection.execute(statement)
    return found
