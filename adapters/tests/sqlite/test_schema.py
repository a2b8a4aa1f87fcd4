"""The tables of an SQLite file, pinned: what one version of the library wrote, others read (laws 6 and 12)."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from threadkeep.port import open_store
from threadkeep_adapters.sql.tables import SCHEMA_VERSION

TABLES = {
    1: {
        'CREATE TABLE threadkeep_threads ( "key" INTEGER NOT NULL, resource_id TEXT NOT NULL, thread_id TEXT NOT NULL, '
        "epoch TEXT NOT NULL, position BIGINT NOT NULL, newest BIGINT NOT NULL, created BIGINT NOT NULL, "
        'active BIGINT NOT NULL, PRIMARY KEY ("key"), '
        "CONSTRAINT threadkeep_threads_id UNIQUE (resource_id, thread_id) )",
        "CREATE TABLE threadkeep_messages ( thread_key INTEGER NOT NULL, position BIGINT NOT NULL, at BIGINT NOT NULL, "
        "id TEXT NOT NULL, digest TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (thread_key, position), "
        "CONSTRAINT threadkeep_messages_id UNIQUE (thread_key, id) )",
        "CREATE TABLE threadkeep_thread_docs ( thread_key INTEGER NOT NULL, slot TEXT NOT NULL, "
        "version BIGINT NOT NULL, body TEXT, PRIMARY KEY (thread_key, slot) )",
        "CREATE TABLE threadkeep_resource_docs ( resource_id TEXT NOT NULL, slot TEXT NOT NULL, "
        "version BIGINT NOT NULL, body TEXT, PRIMARY KEY (resource_id, slot) )",
        "CREATE TABLE threadkeep_schema ( version INTEGER NOT NULL )",
        "CREATE INDEX threadkeep_threads_active ON threadkeep_threads (resource_id, active, thread_id)",
        "CREATE INDEX threadkeep_threads_created ON threadkeep_threads (resource_id, created, thread_id)",
    }
}
"""Schema version -> what makes its tables and indexes, without line breaks. A released version never changes."""


def test_the_tables_are_those_of_their_version(tmp_path: Path) -> None:
    """Whoever changes them raises the version, so that an older library refuses the file and does not misread it."""
    path = tmp_path / "t.db"

    async def make() -> None:
        store = open_store(f"sqlite:///{path.as_posix()}")
        await store.open()
        await store.close()

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        assert connection.execute("SELECT version FROM threadkeep_schema").fetchall() == [(SCHEMA_VERSION,)]
    assert {" ".join(sql.split()) for (sql,) in made} == TABLES[SCHEMA_VERSION]
