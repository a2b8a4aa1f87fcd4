"""A database from outside: whether there is a store, everything that its tables hold, and its version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from threadkeep_adapters.postgresql import errors, schema
from threadkeep_adapters.postgresql.connections import single_connection
from threadkeep_adapters.postgresql.statements import quoted
from threadkeep_adapters.postgresql.url import Place
from threadkeep_adapters.sql import tables

T = TypeVar("T")


def exists(place: Place) -> bool:
    """Whether there is a store, or something that opening will say more about."""

    async def has_tables() -> bool:
        async with single_connection(place) as connection:
            return bool((await schema.look(connection, place.schema)).tables)

    try:
        return _on_a_loop(has_tables)
    except tuple(kind for kind, _ in errors.ERRORS):
        return True  # something may be there, and opening it tells what is wrong


def shift(place: Place, by: int) -> None:
    """Write another schema version into the database."""

    async def update() -> None:
        async with single_connection(place) as connection:
            table = f"{quoted(place.schema)}.{tables.schema.name}"
            await connection.execute(f"UPDATE {table} SET version = version + $1", by)

    _on_a_loop(update)


def scan(place: Place) -> Iterator[bytes]:
    """The rows of all tables, each table as one piece."""

    async def copy() -> list[bytes]:
        chunks: list[bytes] = []

        async def keep(chunk: bytes) -> None:
            chunks.append(chunk)

        async with single_connection(place) as connection:
            for table in tables.metadata.sorted_tables:
                # The binary form holds ids as they are; rows of one table hang together over chunks.
                await connection.copy_from_table(table.name, schema_name=place.schema, output=keep, format="binary")
        return [b"".join(chunks)]

    yield from _on_a_loop(copy)


def _on_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end in a thread of its own, since the caller's may be running a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
