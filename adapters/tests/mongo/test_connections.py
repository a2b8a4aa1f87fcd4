"""Connections of the MongoDB store: bounded, and healthy after whatever happens (laws 6, 12, 13)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final

import pytest
import servers
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER
from opening import ALL, THREAD
from pools import cancel, change, comes_to_none, ids, use_in_loops_that_end, wait_for_a_slow_server
from servers import Kind, Server

from threadkeep.errors import OutcomeUnknown, StoreUnavailable
from threadkeep.port import Changes, Guard, Put, Resource, Thread, open_store
from threadkeep_adapters.mongo import connections
from threadkeep_contract.faults.proxy import Cut, Proxy

pytestmark = pytest.mark.slow

MONITORS: Final = 2
"""Connections beside the pool, by which PyMongo watches a server: one, and one more where it streams."""


@pytest.fixture(scope="module", params=[FERRETDB, MONGO_JAVA_SERVER], ids=lambda kind: kind.name)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    kind: Kind = request.param
    made = servers.private(kind)
    yield made
    made.stop()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.host, server.port) as proxy:
        yield proxy


_stores = iter(range(1_000))


@pytest.fixture
def url(proxy: Proxy) -> str:
    """The URL of an empty store behind the proxy."""
    return f"mongodb://127.0.0.1:{proxy.port}/?prefix=pool{next(_stores)}"


async def none_left(proxy: Proxy) -> bool:
    return await comes_to_none(lambda: proxy.open_connections)


async def quiet(proxy: Proxy) -> None:
    """Return when a client has ceased to ask how its server is, as it does in its first second."""
    turns = -1
    while turns != proxy.turns:
        turns = proxy.turns
        await asyncio.sleep(1.5)


async def test_the_meter_counts_what_goes_over_the_wire(proxy: Proxy, url: str) -> None:
    store = open_store(f"{url}&heartbeatFrequencyMS=600000")
    await store.commit(Thread("bob", "other"), change("m"))
    await quiet(proxy)
    declared = {"commit": store.costs.commit, "load": store.costs.load, "threads": 2, "resources": 2}
    for number in range(3):
        everything = change(f"m{number}", puts=(Put("a", "1"),), resource_puts=(Put("b", "1"),))
        seen = (await store.load(THREAD)).tail
        commit = replace(everything, seen=seen)
        works: dict[str, Callable[[], Awaitable[object]]] = {
            "commit": lambda commit=commit: store.commit(THREAD, commit),  # type: ignore[misc] # bound in the loop
            "load": lambda: store.load(THREAD, ALL),
            "threads": lambda: store.threads(Resource("alice"), slots=("a",)),
            "resources": lambda: store.resources(),
        }
        for name, work in works.items():
            turns, trips = proxy.turns, store.meter.trips
            await work()
            assert (name, store.meter.trips - trips) == (name, proxy.turns - turns)
            assert (name, store.meter.trips - trips) == (name, declared[name])
    await store.close()


async def test_fifty_tasks_share_ten_connections(proxy: Proxy, url: str) -> None:
    store = open_store(url)
    most = 0
    await store.open()
    for turn in range(3):
        # Half of them in one thread, where they wait for each other, and half each in one of its own.
        works = [store.commit(THREAD, change(f"{turn}-{number}")) for number in range(25)]
        works += [store.commit(Thread(f"user{number}", "t"), change(f"{turn}")) for number in range(25)]
        running = asyncio.gather(*works)
        while not running.done():
            most = max(most, proxy.open_connections)
            await asyncio.sleep(0.005)
        await running
    assert 1 < most <= 10 + MONITORS
    assert len(await ids(store)) == 75
    for number in range(25):
        assert await ids(store, Thread(f"user{number}", "t")) == ["0", "1", "2"]
    await store.close()
    assert await none_left(proxy)


async def test_a_server_that_stops_answering_ends_in_named_errors_within_bounds(proxy: Proxy, url: str) -> None:
    limits = "&".join(f"{wait}TimeoutMS=500" for wait in ("socket", "connect", "serverSelection", "waitQueue"))
    store = open_store(f"{url}&{limits}&maxPoolSize=4")
    await store.commit(THREAD, change("first"))
    await asyncio.to_thread(proxy.hold)
    loads = [store.load(THREAD, ALL) for _ in range(20)]
    commits = [store.commit(THREAD, change(f"new{number}")) for number in range(5)]
    others = [store.commit(Thread(f"user{number}", "t"), change("new")) for number in range(20)]
    results = await asyncio.gather(*loads, *commits, *others, return_exceptions=True)
    # All end while the server is still silent: waits for a turn, a connection, its start and an answer.
    assert {type(result) for result in results} == {StoreUnavailable}, results
    assert any("pool" in str(result) or "connection" in str(result) for result in results)
    await asyncio.to_thread(proxy.release)
    await asyncio.gather(*(again(store, change(f"new{number}")) for number in range(10)))
    found = await ids(store)
    assert found[0] == "first"
    assert sorted(found[1:]) == sorted(f"new{number}" for number in range(10))
    assert proxy.open_connections <= 4 + MONITORS
    await store.close()


async def again(store: Guard, changes: Changes) -> None:
    """Commit, and repeat what may be repeated: the driver may need some time to see that the server is back."""
    for _ in range(40):
        try:
            await store.commit(THREAD, changes)
            return
        except (StoreUnavailable, OutcomeUnknown):
            await asyncio.sleep(0.1)
    await store.commit(THREAD, changes)


async def test_a_turn_that_does_not_come_is_refused_in_time(
    proxy: Proxy, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commits of one resource wait for each other, and for no longer than is said."""
    store = open_store(f"{url}&socketTimeoutMS=2000")
    await store.commit(THREAD, change("first"))
    monkeypatch.setattr(connections, "TURN_SECONDS", 0.3)
    await asyncio.to_thread(proxy.hold)
    results = await asyncio.gather(*(store.commit(THREAD, change(f"{n}")) for n in range(4)), return_exceptions=True)
    await asyncio.to_thread(proxy.release)
    assert {type(result) for result in results} == {StoreUnavailable}
    assert sum("kept this one waiting for 0.3 s" in str(result) for result in results) == 3
    monkeypatch.undo()
    await again(store, change("last"))
    assert await ids(store) == ["first", "last"]
    await store.close()


async def test_a_slow_server_is_waited_for(proxy: Proxy, url: str) -> None:
    threads = [THREAD] * 10 + [Thread(f"user{number}", "t") for number in range(15)]
    await wait_for_a_slow_server(open_store(f"{url}&maxPoolSize=5"), proxy, threads)


@pytest.mark.parametrize("where", list(Cut))
async def test_a_cut_connection_is_an_unknown_outcome_for_an_insert_and_nothing_more(
    proxy: Proxy, url: str, where: Cut
) -> None:
    store = open_store(f"{url}&maxPoolSize=1&heartbeatFrequencyMS=600000")
    await store.commit(THREAD, change("first"))
    await quiet(proxy)
    happened = ["first"]
    # A commit looks, inserts and removes; the cut meets each of them in turn. The driver repeats what only reads.
    for request, is_insert in enumerate((False, True, False)):
        name = f"request{request}"
        changes = replace(change(name), seen=(await store.load(THREAD)).tail)
        cut = proxy.cut_next(where, after=request)
        if is_insert:
            with pytest.raises(OutcomeUnknown):
                await store.commit(THREAD, changes)
        else:
            await store.commit(THREAD, changes)
        assert cut.done()
        if not is_insert or where in (Cut.AFTER_REQUEST, Cut.IN_ANSWER):
            happened.append(name)
        assert await ids(store) == happened
        receipt = await store.commit(THREAD, changes)
        if name not in happened:
            happened.append(name)
        assert receipt.positions == [len(happened)]
        assert await ids(store) == happened
    await store.close()


async def test_calls_cancelled_at_any_moment_leak_nothing_and_mix_up_no_answers(proxy: Proxy, url: str) -> None:
    store = open_store(f"{url}&maxPoolSize=5")
    await store.commit(THREAD, change("first"))
    for turn in range(30):
        works: list[Awaitable[object]] = []
        for number in range(3):
            works.append(store.load(THREAD, ALL))
            works.append(store.commit(Thread(f"user{number}", "other"), change(f"{turn}-{number}")))
        await cancel(works, asyncio.sleep(turn * 0.0005))
        assert await ids(store) == ["first"]
    for number in range(3):
        found = await store.load(Thread(f"user{number}", "other"), ALL)
        assert [record.position for record in found.records] == list(range(1, len(found.records) + 1))
    assert proxy.open_connections <= 5 + MONITORS
    await store.close()
    assert await none_left(proxy)


def test_a_loop_that_ends_takes_its_connections_along(proxy: Proxy, url: str) -> None:
    use_in_loops_that_end(open_store(url), lambda: none_left(proxy))


@pytest.fixture
def private() -> Iterator[Server]:
    """A server of the test's own, which may be killed."""
    private = servers.private(FERRETDB)
    yield private
    private.stop()


async def test_a_server_that_was_restarted_is_connected_to_anew(private: Server) -> None:
    store = open_store(private.url)
    for number in range(3):
        await store.commit(THREAD, change(f"m{number}"))
    await asyncio.to_thread(private.kill)
    await asyncio.to_thread(private.start)
    await again(store, change("m3"))
    assert await ids(store) == ["m0", "m1", "m2", "m3"]
    await store.close()
