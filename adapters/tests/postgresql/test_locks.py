"""Which calls wait for each other: what makes or removes a thread waits for an erasure, the usual commit for nobody
(laws 5 and 10).

A connection of the bare driver holds a lock for as long as a test likes, and the server tells who waits for one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import servers
from postgresql_server import POSTGRESQL, connect
from servers import Server

from threadkeep.port import Changes, Guard, Put, Record, Resource, Tail, Thread, Window, open_store

ANN = Resource("ann")
HERE = Thread("ann", "here")
OTHER = Thread("ann", "other")
NEW = Thread("ann", "new")


def added(name: str, **given: Any) -> Changes:
    return Changes(1, "e", (Record(name, "d", '"x"'),), **given)


class Room:
    """A schema with a store and two threads of one resource, and a connection beside it."""

    def __init__(self, name: str, store: Guard, beside: asyncpg.Connection[asyncpg.Record], url: str) -> None:
        self.name = name
        self.url = url
        self.store = store
        self.beside = beside

    async def hold(self, lock: str) -> None:
        """Take a lock of the resource's, `pg_advisory_xact_lock` or its shared form, until `release`."""
        await self.beside.execute("BEGIN")
        await self.beside.execute(f"SELECT {lock}({self.name}.threadkeep_resource_lock_1('ann'::bytea))")

    async def hold_row(self) -> None:
        """Take the row of the thread HERE, until `release`."""
        await self.beside.execute("BEGIN")
        await self.beside.execute(f"SELECT FROM {self.name}.threadkeep_threads WHERE thread_id = 'here' FOR UPDATE")

    async def release(self) -> None:
        await self.beside.execute("COMMIT")

    async def waits(self, call: Awaitable[Any], others: int = 0) -> asyncio.Task[Any]:
        """Start a call, and return when it has ended, or when it and so many others wait for a lock."""
        task = asyncio.ensure_future(call)
        watching = await connect(self.url)
        while not task.done():
            waiting = await watching.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1",
                f"%{self.name}%",
            )
            if waiting > others:
                break
            await asyncio.sleep(0.01)
        await watching.close()
        return task


@pytest.fixture
def server() -> Server:
    return servers.shared(POSTGRESQL)


@pytest.fixture
async def room(server: Server) -> AsyncIterator[Room]:
    name = f"locks_{secrets.token_hex(6)}"
    store = open_store(f"{server.url}?schema={name}")
    await store.open()
    for thread in (HERE, OTHER):
        await store.commit(thread, added("first"))
    beside = await connect(server.url)
    yield Room(name, store, beside, server.url)
    await store.close()
    await beside.execute(f"DROP SCHEMA {name} CASCADE")
    await beside.close()


MAKERS: dict[str, Callable[[Guard], Awaitable[Any]]] = {
    "creation": lambda store: store.commit(NEW, added("new")),
    "deletion": lambda store: store.delete(OTHER),
    "documents of the resource": lambda store: store.commit(ANN, Changes(1, "", puts=(Put("work", "1"),))),
    "erasure": lambda store: store.delete(ANN),
}
"""Calls that wait for an erasure of their resource."""


@pytest.mark.parametrize("name", MAKERS)
async def test_what_makes_or_removes_waits_for_an_erasure_that_has_begun(room: Room, name: str) -> None:
    """Else an erasure, which has to wait for one thread's row, would spare what is made meanwhile and yet remove what
    is written after that to the thread it waits for: no order of the calls explains both."""
    await room.hold_row()
    erasure = await room.waits(room.store.delete(ANN))
    assert not erasure.done()
    made = await room.waits(MAKERS[name](room.store), others=1)
    assert not made.done()
    await room.release()
    await asyncio.gather(erasure, made)
    assert (await room.store.load(HERE, Window(before=9))).tail == ("", 0)


@pytest.mark.parametrize("name", ["creation", "deletion"])
async def test_what_makes_or_removes_threads_waits_for_no_other_such_call(room: Room, name: str) -> None:
    await room.hold("pg_advisory_xact_lock_shared")
    made = await room.waits(MAKERS[name](room.store))
    assert made.done()
    await made
    await room.release()


@pytest.mark.parametrize("name", ["documents of the resource", "erasure"])
async def test_what_writes_to_a_resource_waits_for_whatever_makes_or_removes_threads(room: Room, name: str) -> None:
    await room.hold("pg_advisory_xact_lock_shared")
    written = await room.waits(MAKERS[name](room.store))
    assert not written.done()
    await room.release()
    await written


@pytest.mark.parametrize("given", [{}, {"if_epoch": "e"}, {"if_tail": Tail("e", 1)}])
async def test_the_usual_commit_is_one_statement_and_waits_for_nobody(room: Room, given: dict[str, Any]) -> None:
    """New records for a thread that is there take none of the resource's locks."""
    await room.hold("pg_advisory_xact_lock")
    done = await room.waits(room.store.commit(HERE, added("second", **given)))
    assert done.done()
    assert (await done).positions[-1] == 2
    await room.release()
