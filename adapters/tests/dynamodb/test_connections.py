"""Many tasks, few connections, slow and silent servers, cancellation, loops; round trips (laws 6, 12, 13)."""

from __future__ import annotations

import asyncio
import gc
import secrets
import threading
from collections.abc import Awaitable, Iterator
from functools import partial

import pytest
import servers
from dynamodb_server import DYNAMODB
from opening import ALL
from pools import cancel, change, comes_to_none, ids, wait_for_a_slow_server
from servers import Server

from threadkeep.errors import OutcomeUnknown, StoreClosed, StoreError, StoreUnavailable
from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store
from threadkeep_adapters.lane import Lane, LaneBusyError
from threadkeep_contract.faults.proxy import Cut, Proxy

pytestmark = pytest.mark.slow

PUTS = (Put("a", "1"),)


@pytest.fixture(scope="module")
def server() -> Server:
    return servers.shared(DYNAMODB)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.host, server.port) as made:
        yield made


@pytest.fixture
def thread() -> Thread:
    return Thread(f"user-{secrets.token_hex(8)}", "t")


def through(proxy: Proxy, options: str = "") -> Guard:
    return open_store(DYNAMODB.url("127.0.0.1", proxy.port) + options)


def lanes() -> list[str]:
    """The threads that stores of this process have now."""
    return [one.name for one in threading.enumerate() if one.name.startswith("threadkeep-dynamodb")]


async def none_left(proxy: Proxy) -> bool:
    # urllib3 ends what is idle in a pool when nothing refers to the pool any more.
    gc.collect()
    return await comes_to_none(lambda: proxy.open_connections)


async def test_the_meter_counts_what_goes_over_the_wire(proxy: Proxy, thread: Thread) -> None:
    store = through(proxy)
    await store.open()
    for number in range(3):
        works: dict[str, tuple[Awaitable[object], int]] = {
            "commit": (store.commit(thread, change(f"m{number}", puts=PUTS, resource_puts=PUTS)), 1),
            "load": (store.load(thread, ALL), 2),
            "load of documents": (store.load(thread, Window()), 1),
            "threads": (store.threads(Resource(thread.resource_id), slots=("a",)), 2),
        }
        for name, (work, requests) in works.items():
            turns, trips = proxy.turns, store.meter.trips
            await work
            taken = proxy.turns - turns
            # The first commit of a store in a thread looks at the heads before.
            expected = requests + (number == 0 and name == "commit")
            assert (name, taken, store.meter.trips - trips) == (name, expected, taken)
    await store.close()


async def test_large_commits_take_what_is_declared_however_many_ids_wait(proxy: Proxy, thread: Thread) -> None:
    """Law 13: the head settles ids, the new ones are looked up, and the commit is a transaction: three at most."""
    store = through(proxy)
    await store.open()
    await store.commit(thread, change("first"))
    taken = []
    for number in range(12):
        trips = store.meter.trips
        records = tuple(Record(f"{number}-{one}", "d", "1") for one in range(100))
        await store.commit(thread, Changes(at=1, epoch="e", append=records))
        taken.append(store.meter.trips - trips)
    await store.close()
    # Ids wait in the head, so that a commit has to settle some of them first.
    assert max(taken) == 3
    assert min(taken) == 2


async def test_a_load_asks_for_all_it_needs_at_once(proxy: Proxy, thread: Thread) -> None:
    """Two requests, and one wait: neither is answered before both were asked."""
    store = through(proxy)
    await store.commit(thread, change("first"))
    await store.load(thread, ALL)
    await asyncio.to_thread(proxy.hold)
    turns = proxy.turns
    loading = asyncio.ensure_future(store.load(thread, ALL))
    for _ in range(500):
        if proxy.turns - turns == 2:
            break
        await asyncio.sleep(0.01)
    assert proxy.turns - turns == 2
    await asyncio.to_thread(proxy.release)
    assert [record.id for record in (await loading).records] == ["first"]
    assert proxy.turns - turns == 2
    await store.close()


async def test_fifty_tasks_share_ten_connections(proxy: Proxy, thread: Thread) -> None:
    store = through(proxy, "&timeout=60")
    for turn in range(2):
        works = [
            store.commit(Thread(thread.resource_id, f"t{number}"), change(f"{turn}-{number}")) for number in range(50)
        ]
        await asyncio.gather(*works)
    assert 1 < proxy.connections <= 10
    assert len(lanes()) <= 10
    for number in range(50):
        assert await ids(store, Thread(thread.resource_id, f"t{number}")) == [f"0-{number}", f"1-{number}"]
    await store.close()
    assert await none_left(proxy)
    assert lanes() == []


async def test_fifty_tasks_that_write_to_one_thread_are_all_done_in_time(proxy: Proxy, thread: Thread) -> None:
    store = through(proxy, "&timeout=120")
    await asyncio.gather(*(store.commit(thread, change(f"{number}")) for number in range(50)))
    assert sorted(await ids(store, thread)) == sorted(map(str, range(50)))
    await store.close()


async def test_a_server_that_stops_answering_ends_in_named_errors_within_bounds(proxy: Proxy, thread: Thread) -> None:
    patient = through(proxy, "&timeout=120")
    await patient.commit(thread, change("first"))
    store = through(proxy, "&timeout=1&connect_timeout=1&connections=4")
    await store.load(thread, ALL)
    await asyncio.to_thread(proxy.hold)
    loads = [store.load(thread, ALL) for _ in range(25)]
    commits = [store.commit(thread, change(f"new{number}")) for number in range(25)]
    results = await asyncio.gather(*loads, *commits, return_exceptions=True)
    # All end while the server is still silent: waits for a connection, for its start and for an answer.
    assert {type(result) for result in results[:25]} == {StoreUnavailable}, results
    assert {type(result) for result in results[25:]} <= {StoreUnavailable, OutcomeUnknown}, results
    assert all(isinstance(result, StoreError) and result.retryable for result in results)
    assert any("connections=" in str(result) for result in results)
    assert len(lanes()) <= 4 + 10
    await asyncio.to_thread(proxy.release)
    for number in range(25):
        await patient.commit(thread, change(f"new{number}"))
    found = await ids(patient, thread)
    assert found[0] == "first"
    assert sorted(found[1:]) == sorted(f"new{number}" for number in range(25))
    await store.close()
    await patient.close()
    del results  # errors refer to the pool of the connection that they are about
    assert await none_left(proxy)
    assert lanes() == []


async def test_a_slow_server_is_waited_for(proxy: Proxy, thread: Thread) -> None:
    threads = [Thread(thread.resource_id, f"t{number}") for number in range(25)]
    await wait_for_a_slow_server(through(proxy, "&timeout=60&connections=5"), proxy, threads)


@pytest.mark.parametrize("where", list(Cut))
async def test_a_cut_connection_is_nothing_for_a_load_and_a_commit_done_once(
    proxy: Proxy, thread: Thread, where: Cut
) -> None:
    """A request is repeated with its token, which the service does once only."""
    store = through(proxy, "&connections=1&timeout=30")
    await store.commit(thread, change("first"))
    proxy.cut_next(where)
    assert await ids(store, thread) == ["first"]
    proxy.cut_next(where)
    receipt = await store.commit(thread, change("second", puts=PUTS, resource_puts=PUTS))
    assert (receipt.positions, receipt.versions) == ([2], [1])
    assert await ids(store, thread) == ["first", "second"]
    await store.close()


async def test_connections_that_ended_while_idle_are_nothing(proxy: Proxy, thread: Thread) -> None:
    store = through(proxy, "&connections=3&timeout=60")
    for turn in range(3):
        for number in range(3):
            await store.commit(thread, change(f"{turn}-{number}"))
        await asyncio.to_thread(proxy.drop_all)
    assert len(await ids(store, thread)) == 9
    await store.close()


async def test_cancelled_calls_leak_no_connection_and_mix_up_no_answers(proxy: Proxy, thread: Thread) -> None:
    store = through(proxy, "&connections=5&timeout=60")
    await store.commit(thread, change("first"))
    for turn in range(20):
        other = Thread(thread.resource_id, f"other{turn}")
        works: list[Awaitable[object]] = []
        for number in range(4):
            works.append(store.load(thread, ALL))
            works.append(store.commit(other, change(f"{turn}-{number}")))
        await cancel(works, asyncio.sleep(0.002 * (turn % 10)))
        assert await ids(store, thread) == ["first"]
    assert proxy.connections <= 5
    await store.close()
    assert await none_left(proxy)
    assert lanes() == []


def test_each_event_loop_may_use_the_store(proxy: Proxy, thread: Thread) -> None:
    store = through(proxy)
    for number in range(3):
        asyncio.run(store.commit(thread, change(f"{number}")))
    assert asyncio.run(ids(store, thread)) == ["0", "1", "2"]
    asyncio.run(store.close())
    assert lanes() == []


async def test_closing_lets_calls_end_and_the_next_is_refused(proxy: Proxy, thread: Thread) -> None:
    store = through(proxy)
    await store.commit(thread, change("first"))
    proxy.delay = 0.1
    under_way = [asyncio.ensure_future(store.commit(Thread(thread.resource_id, f"{n}"), change("m"))) for n in (1, 2)]
    await asyncio.sleep(0.05)
    await store.close()
    for task in under_way:
        assert (await task).positions == [1]
    with pytest.raises(StoreClosed):
        await store.load(thread, ALL)
    assert await none_left(proxy)


async def test_what_waited_too_long_for_a_thread_is_never_begun() -> None:
    """So that it is no unknown outcome, even where a thread comes free in the same moment."""
    done: list[int | str] = []

    lane, free = Lane(1, "threadkeep-dynamodb"), threading.Event()
    under_way = asyncio.ensure_future(lane.run(free.wait, 0.01))
    late = [asyncio.ensure_future(lane.run(partial(done.append, number), 0.01)) for number in range(3)]
    for wait in late:
        with pytest.raises(LaneBusyError):
            await wait
    free.set()
    assert await under_way
    await lane.run(partial(done.append, "last"), 10)
    await asyncio.to_thread(lane.close)
    assert done == ["last"]
