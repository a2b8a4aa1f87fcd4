"""Connections of the Redis store: bounded, shared fairly, healthy after whatever happens to a call (laws 12, 13)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Iterator
from contextlib import closing

import pytest
import servers
from opening import ALL, THREAD
from pools import cancel, change, ids, use_in_loops_that_end, wait_for_a_slow_server
from redis_server import REDIS, client
from servers import Server

from threadkeep.errors import OutcomeUnknown, StoreError, StoreUnavailable
from threadkeep.port import Changes, Put, Resource, Thread, open_store
from threadkeep_contract.faults.proxy import Cut, Proxy


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = servers.private(REDIS)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def empty(server: Server) -> None:
    with closing(client(server.host, server.port)) as admin:
        admin.flushall()


def clients_of(server: Server) -> int:
    """How many connections the server has, without the one that asks."""
    with closing(client(server.host, server.port)) as admin:
        return len(admin.client_list()) - 1


async def test_a_load_and_a_commit_are_one_turn_on_the_wire_and_the_meter_says_so(server: Server) -> None:
    with Proxy(server.host, server.port) as proxy:
        store = open_store(REDIS.url("127.0.0.1", proxy.port))
        await store.open()
        for number in range(3):
            everything = change(f"m{number}", puts=(Put("a", "1"),), resource_puts=(Put("b", "1"),))
            works: dict[str, Awaitable[object]] = {
                "commit": store.commit(THREAD, everything),
                "load": store.load(THREAD, ALL),
                "threads": store.threads(Resource("alice"), slots=("a",)),
                "resources": store.resources(),
            }
            for name, work in works.items():
                turns, trips = proxy.turns, store.meter.trips
                await work
                assert (name, proxy.turns - turns, store.meter.trips - trips) == (name, 1, 1)
        turns = proxy.turns
        await store.delete(Resource("alice"))
        assert proxy.turns - turns == 1
        assert proxy.connections == 1
        await store.close()


def test_fifty_tasks_share_ten_connections(server: Server) -> None:
    async def main() -> None:
        store = open_store(server.url)
        most = 0
        for turn in range(5):
            works = [store.commit(THREAD, change(f"{turn}-{number}")) for number in range(50)]
            running = asyncio.gather(*works)
            while not running.done():
                most = max(most, await asyncio.to_thread(clients_of, server))
            await running
        assert 1 < most <= 10
        assert len(await ids(store)) == 250
        await store.close()

    asyncio.run(main())
    assert clients_of(server) == 0


async def test_a_server_that_stops_answering_ends_in_named_errors_within_bounds(server: Server) -> None:
    with Proxy(server.host, server.port) as proxy:
        url = REDIS.url("127.0.0.1", proxy.port) + "?timeout=0.5&connect_timeout=0.5&connections=4"
        store = open_store(url)
        await store.commit(THREAD, change("first"))
        await asyncio.to_thread(proxy.hold)
        loads = [store.load(THREAD, ALL) for _ in range(25)]
        commits = [store.commit(THREAD, change(f"new{number}")) for number in range(25)]
        results = await asyncio.gather(*loads, *commits, return_exceptions=True)
        # All end while the server is still silent: waits for a connection, for its start and for an answer.
        kinds = {type(result) for result in results}
        assert kinds <= {StoreUnavailable, OutcomeUnknown}, results
        assert {type(result) for result in results[:25]} == {StoreUnavailable}
        assert all(isinstance(result, StoreError) and result.retryable for result in results)
        assert any("connections=" in str(result) for result in results)
        await asyncio.to_thread(proxy.release)
        await asyncio.gather(*(store.commit(THREAD, change(f"new{number}")) for number in range(25)))
        found = await ids(store)
        assert found[0] == "first"
        assert sorted(found[1:]) == sorted(f"new{number}" for number in range(25))
        assert await asyncio.to_thread(clients_of, server) <= 4
        await store.close()


async def test_a_slow_server_is_waited_for(server: Server) -> None:
    with Proxy(server.host, server.port) as proxy:
        store = open_store(REDIS.url("127.0.0.1", proxy.port) + "?timeout=5&connections=5")
        await wait_for_a_slow_server(store, proxy, [THREAD] * 25)


@pytest.mark.parametrize("where", list(Cut))
async def test_a_cut_connection_is_an_unknown_outcome_for_a_commit_and_nothing_for_a_load(
    server: Server, where: Cut
) -> None:
    with Proxy(server.host, server.port) as proxy:
        store = open_store(REDIS.url("127.0.0.1", proxy.port) + "?connections=1")
        await store.commit(THREAD, change("first"))
        proxy.cut_next(where)
        assert await ids(store) == ["first"]
        proxy.cut_next(where)
        with pytest.raises(OutcomeUnknown):
            await store.commit(THREAD, change("second"))
        assert await ids(store) == ["first", "second"][: 2 if where in (Cut.AFTER_REQUEST, Cut.IN_ANSWER) else 1]
        assert (await store.commit(THREAD, change("second"))).positions == [2]
        assert await ids(store) == ["first", "second"]
        await store.close()


async def test_a_connection_that_ended_while_idle_is_no_unknown_outcome(server: Server) -> None:
    """As when a server drops idle connections, or was restarted between two calls."""
    with Proxy(server.host, server.port) as proxy:
        store = open_store(REDIS.url("127.0.0.1", proxy.port) + "?connections=3")
        for turn in range(3):
            await asyncio.gather(*(store.commit(THREAD, change(f"{turn}-{number}")) for number in range(9)))
            await asyncio.to_thread(proxy.drop_all)
            await asyncio.sleep(0.1)
        assert len(await ids(store)) == 27
        await store.close()


async def turns_of_the_loop(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_cancelled_calls_leak_no_connection_and_mix_up_no_answers(server: Server) -> None:
    async def main() -> None:
        store = open_store(f"{server.url}?connections=5")
        await store.commit(THREAD, change("first"))
        other = Thread("alice", "other")
        for turn in range(60):
            works: list[Awaitable[object]] = []
            for number in range(4):
                works.append(store.load(THREAD, ALL))
                works.append(store.commit(other, change(f"{turn}-{number}")))
            await cancel(works, turns_of_the_loop(turn % 12))
            assert await ids(store) == ["first"]
        assert await asyncio.to_thread(clients_of, server) <= 5
        await store.close()

    asyncio.run(main())
    assert clients_of(server) == 0


def test_each_event_loop_has_connections_of_its_own_and_takes_them_along(server: Server) -> None:
    """As soon as they end, as with asyncio.run."""

    async def none_left() -> bool:
        return clients_of(server) == 0

    use_in_loops_that_end(open_store(server.url), none_left)


def test_closing_in_one_loop_closes_the_connections_of_others(server: Server) -> None:
    store = open_store(server.url)

    async def main() -> None:
        await store.commit(THREAD, change("here"))
        await asyncio.to_thread(asyncio.run, other())
        assert await asyncio.to_thread(clients_of, server) == 0

    async def other() -> None:
        await store.commit(THREAD, change("there"))
        assert clients_of(server) == 2
        await store.close()
        for _ in range(100):
            if clients_of(server) == 0:
                break
            await asyncio.sleep(0.02)

    asyncio.run(main())
    gc.collect()


async def test_a_commit_of_thousands_of_documents_is_one_unit(server: Server) -> None:
    """More than a call in Lua takes values: all are read, in their order, and all are written."""
    store = open_store(server.url)
    puts = tuple(Put(f"slot{number}", str(number)) for number in range(9001))
    first = puts[::2]
    receipt = await store.commit(THREAD, Changes(at=1, epoch="e", puts=first, resource_puts=first))
    assert [*receipt.versions, *receipt.resource_versions] == [1] * 9002
    puts = tuple(put._replace(if_version=1 - number % 2) for number, put in enumerate(puts))
    receipt = await store.commit(THREAD, Changes(at=2, epoch="e", puts=puts, resource_puts=puts))
    versions = [2 - number % 2 for number in range(9001)]
    assert [*receipt.versions, *receipt.resource_versions] == [*versions, *versions]
    found = await store.load(THREAD)
    for docs in (found.docs, found.resource_docs):
        assert {slot: doc.body for slot, doc in docs.items()} == {put.slot: put.body for put in puts}
    await store.close()


@pytest.fixture
def room(server: Server) -> Iterator[None]:
    """The server takes four connections."""
    with closing(client(server.host, server.port)) as admin:
        (before,) = admin.config_get("maxclients").values()
        admin.config_set("maxclients", 4)
    yield
    with closing(client(server.host, server.port)) as admin:
        admin.config_set("maxclients", before)


@pytest.mark.usefixtures("room")
async def test_calls_wait_where_the_server_has_no_connection_left(server: Server) -> None:
    store = open_store(f"{server.url}?connections=20")
    await asyncio.gather(*(store.commit(THREAD, change(f"m{number}")) for number in range(50)))
    assert len(await ids(store)) == 50
    await store.close()


async def test_a_server_that_has_no_connection_left_in_time_is_unavailable_and_says_what_to_do(
    server: Server, room: None
) -> None:
    held = [client(server.host, server.port) for _ in range(4)]
    for connection in held:
        connection.ping()
    store = open_store(f"{server.url}?timeout=0.3")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"has no connection left; allow fewer with \?connections="):
            await store.commit(THREAD, change("never"))
    for connection in held:
        connection.close()
    assert await ids(store) == []
    await store.close()
