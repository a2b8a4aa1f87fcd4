"""Many tasks, few connections, slow and silent servers, cancellation, loops and forks (laws 6 and 12)."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Iterator

import pytest
import servers
from opening import ALL, THREAD
from pools import cancel, change, comes_to_none, ids, use_in_loops_that_end, wait_for_a_slow_server
from postgresql_server import POSTGRESQL, connect
from servers import Server

from threadkeep.errors import OutcomeUnknown, StoreError, StoreUnavailable
from threadkeep.port import Guard, Put, open_store
from threadkeep_contract.faults.proxy import Proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Server:
    return servers.shared(POSTGRESQL)


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """A schema of the test's own, and the application name of its connections."""
    name = f"pool_{secrets.token_hex(6)}"
    yield name

    async def drop() -> None:
        connection = await connect(server.url)
        await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        await connection.close()

    asyncio.run(drop())


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    host, port = target(server)
    with Proxy(host, port) as proxy:
        yield proxy


def target(server: Server) -> tuple[str, int]:
    host, port = server.url.rpartition("@")[2].partition("/")[0].split(":")
    return host, int(port)


def url_of(server: Server, name: str, options: str = "", proxy: Proxy | None = None) -> str:
    host, port = target(server)
    plain = server.url if proxy is None else server.url.replace(f"@{host}:{port}/", f"@127.0.0.1:{proxy.port}/")
    return f"{plain}?schema={name}&application_name={name}{options}"


async def connections(server: Server, name: str) -> int:
    """How many connections the server has from stores of this test."""
    connection = await connect(server.url)
    count = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name)
    await connection.close()
    return int(count)


async def none_left(server: Server, name: str) -> bool:
    return await comes_to_none(lambda: connections(server, name))


async def count(store: Guard) -> int:
    return len(await ids(store))


async def test_fifty_tasks_share_ten_connections(server: Server, name: str) -> None:
    store = open_store(url_of(server, name))
    most = 0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, await connections(server, name))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    await store.open()
    for turn in range(4):
        await asyncio.gather(*(store.commit(THREAD, change(f"m{task}.{turn}")) for task in range(50)))
    # Cancelled, it would leave a connection of its own behind.
    done.set()
    await watching
    assert await count(store) == 200
    assert 1 < most <= 10
    await store.close()


async def test_a_call_that_gets_no_connection_says_so_in_time(server: Server, name: str, proxy: Proxy) -> None:
    store = open_store(url_of(server, name, "&connections=2&pool_timeout=0.5&timeout=5", proxy))
    await asyncio.gather(*(store.load(THREAD) for _ in range(4)))
    proxy.delay = 2
    results = await asyncio.gather(*(store.load(THREAD) for _ in range(20)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 18
    assert {type(error) for error in refused} == {StoreUnavailable}
    assert "all 2 connections" in str(refused[0])
    proxy.delay = 0
    await asyncio.gather(*(store.load(THREAD) for _ in range(20)))
    await store.close()


async def test_a_server_that_stops_answering_is_not_waited_for_longer_than_the_url_says(
    server: Server, name: str, proxy: Proxy
) -> None:
    url = url_of(server, name, "&connections=5&timeout=1&connect_timeout=1&pool_timeout=1", proxy)
    store = open_store(url)
    await asyncio.gather(*(store.commit(THREAD, change(f"m{number}")) for number in range(10)))
    proxy.hold()
    reads = [store.load(THREAD) for _ in range(10)]
    writes = [store.commit(THREAD, change(f"n{number}")) for number in range(10)]
    results = await asyncio.gather(*writes, *reads, open_store(url).open(), return_exceptions=True)
    # They all end while the server is still silent.
    assert {type(result) for result in results[:10]} <= {OutcomeUnknown, StoreUnavailable}
    assert {type(result) for result in results[10:]} == {StoreUnavailable}
    assert any(isinstance(result, OutcomeUnknown) for result in results)
    proxy.release()
    await asyncio.gather(*(store.commit(THREAD, change(f"n{number}")) for number in range(10)))
    assert await count(store) == 20
    await store.close()
    assert await none_left(server, name)


async def test_a_slow_server_is_waited_for(server: Server, name: str, proxy: Proxy) -> None:
    store = open_store(url_of(server, name, "&timeout=10", proxy))
    await wait_for_a_slow_server(store, proxy, [THREAD] * 15, delay=0.2)


async def test_calls_that_wait_for_a_lock_end_in_time_and_nothing_stays_locked(server: Server, name: str) -> None:
    store = open_store(url_of(server, name, "&timeout=1&connections=3"))
    await store.commit(THREAD, change("m"))
    other = await connect(server.url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(f"SELECT * FROM {name}.threadkeep_threads FOR UPDATE")
    results = await asyncio.gather(
        *(store.commit(THREAD, change(f"n{number}")) for number in range(3)), return_exceptions=True
    )
    assert {type(result) for result in results} == {OutcomeUnknown}
    assert await count(store) == 1
    await transaction.rollback()
    await store.commit(THREAD, change("later"))
    await other.close()
    # What was given up was cancelled on the server too, and does not happen afterwards.
    await asyncio.sleep(0.3)
    assert await count(store) == 2
    await store.close()


async def test_calls_cancelled_at_any_moment_leave_pool_and_locks_healthy(server: Server, name: str) -> None:
    store = open_store(url_of(server, name, "&connections=3&pool_timeout=20"))
    await store.open()
    for turn in range(60):
        put = (Put("work", str(turn)),)
        changes = change(f"m{turn}", puts=put, resource_puts=put)
        works: list[Awaitable[object]] = [store.commit(THREAD, changes) for _ in range(3)]
        works += [store.load(THREAD) for _ in range(3)]
        await cancel(works, asyncio.sleep(turn * 0.0002))
    found = await store.load(THREAD, ALL)
    assert [record.position for record in found.records] == list(range(1, len(found.records) + 1))
    await asyncio.gather(*(store.commit(THREAD, change(f"n{number}")) for number in range(12)))
    assert await connections(server, name) <= 3
    other = await connect(server.url)
    assert await other.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    await other.close()
    await store.close()


def test_a_loop_that_ends_takes_its_connections_along(server: Server, name: str) -> None:
    use_in_loops_that_end(open_store(url_of(server, name)), lambda: none_left(server, name))


@pytest.fixture
def private() -> Iterator[Server]:
    """A server of the test's own, which may be killed."""
    private = servers.private(POSTGRESQL)
    yield private
    private.stop()


async def test_a_server_that_was_restarted_is_connected_to_anew_without_an_error_for_readers(private: Server) -> None:
    store = open_store(private.url)
    await asyncio.gather(*(store.commit(THREAD, change(f"m{number}")) for number in range(5)))
    await asyncio.to_thread(private.kill)
    await asyncio.to_thread(private.start)
    assert await asyncio.gather(*(count(store) for _ in range(5))) == [5] * 5
    await store.close()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # a thread of pytest-timeout is beside the test
def test_a_store_that_was_opened_before_a_fork_says_so_in_the_child(server: Server, name: str) -> None:
    store = open_store(url_of(server, name))

    async def use() -> None:
        await store.commit(THREAD, change("m"))

    asyncio.run(use())
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(store.load(THREAD, ALL))
        except StoreError as error:
            os._exit(17 if "forked" in str(error) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 17
    assert asyncio.run(count(store)) == 1
    asyncio.run(store.close())


@pytest.fixture
def of_few(server: Server, name: str) -> Iterator[str]:
    """The URL of a user that may have three connections, without its options."""

    async def run(*statements: str) -> None:
        connection = await connect(server.url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    database = server.url.rpartition("/")[2]
    made = f"CREATE ROLE {name} LOGIN PASSWORD 'few' CONNECTION LIMIT 3"
    asyncio.run(run(made, f'GRANT CREATE ON DATABASE "{database}" TO {name}'))
    host, port = target(server)
    yield f"postgresql://{name}:few@{host}:{port}/{database}?schema={name}"
    asyncio.run(run(f"DROP SCHEMA IF EXISTS {name} CASCADE", f"DROP OWNED BY {name}", f"DROP ROLE {name}"))


async def test_calls_wait_where_the_server_has_no_connection_left(of_few: str) -> None:
    store = open_store(f"{of_few}&connections=10")
    await asyncio.gather(*(store.commit(THREAD, change(f"m{number}")) for number in range(30)))
    assert await asyncio.gather(*(count(store) for _ in range(30))) == [30] * 30
    await store.close()
    # The opening waits as well, here until another program has gone.
    held = [await connect(of_few.partition("?")[0]) for _ in range(3)]
    opening = asyncio.ensure_future(count(open_again := open_store(of_few)))
    await asyncio.sleep(0.3)
    for connection in held:
        await connection.close()
    assert await opening == 30
    await open_again.close()


async def test_a_server_that_has_no_connection_left_in_time_is_unavailable_and_says_what_to_do(of_few: str) -> None:
    held = [await connect(of_few.partition("?")[0]) for _ in range(3)]
    store = open_store(f"{of_few}&pool_timeout=0.3")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"too many connections .*; allow fewer with \?connections="):
            await count(store)
    for connection in held:
        await connection.close()
    assert await count(store) == 0
    await store.close()
