"""Faults of a server and of the wire while a store commits, kind by kind of server (laws 2, 3, 4, 6)."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator
from typing import Final

import pytest
import servers
from dynamodb_server import DURABLE as DYNAMODB
from faults import FAULTS, WRITERS, check, cutting, endure, killing
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER, MONGOD, with_options
from postgresql_server import POSTGRESQL
from redis_server import REDIS, REDIS_CLUSTER
from servers import Kind, Server

from threadkeep.errors import StoreError
from threadkeep.port import Changes, Guard, Put, Record, Thread, Window, open_store
from threadkeep_contract.faults.proxy import Proxy

pytestmark = pytest.mark.slow

_MONGO: Final = "serverSelectionTimeoutMS=5000&socketTimeoutMS=5000"
_REDIS: Final = "timeout=10&connect_timeout=5"

OPTIONS: Final[dict[Kind, str]] = {
    POSTGRESQL: "schema=faults&timeout=10&connect_timeout=5&pool_timeout=10",
    REDIS: _REDIS,
    REDIS_CLUSTER: _REDIS,
    FERRETDB: _MONGO,
    MONGOD: _MONGO,
    MONGO_JAVA_SERVER: _MONGO,
    DYNAMODB: "timeout=60&connect_timeout=5",
}
"""Of the stores' URLs: what is short enough for a fault, and long enough for a start."""

KILLS: Final[dict[Kind, int]] = {
    kind: max(1, FAULTS // (10 if kind in (REDIS_CLUSTER, DYNAMODB) else 5)) for kind in OPTIONS
}
"""How many of the faults are deaths of the server. DynamoDB Local takes seconds to start, and a cluster to agree."""

_WITH_MONGOD: Final[list[Kind]] = [MONGOD] if MONGOD.find() is not None or servers.docker_answers() else []

MANY: Final = 24
"""Writers where the server takes them."""


def writers_of(kind: Kind) -> int:
    """How many write at once."""
    return MANY if kind in (POSTGRESQL, REDIS) else WRITERS


CUT: Final[list[Kind]] = [POSTGRESQL, REDIS, FERRETDB, *_WITH_MONGOD, MONGO_JAVA_SERVER, DYNAMODB]
"""No cluster of Redis: it tells its clients where its nodes are, which is past the proxy."""

KILLED: Final[list[Kind]] = [POSTGRESQL, REDIS, REDIS_CLUSTER, FERRETDB, *_WITH_MONGOD]
"""Without mongo-java-server, which acknowledges what it has not yet written, and DynamoDB Local; see its own test."""


def name_of(kind: Kind) -> str:
    return kind.name


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    private = servers.private(request.param)
    yield private
    private.stop()


@pytest.mark.timeout(60 + 10 * FAULTS)
@pytest.mark.parametrize("server", CUT, indirect=True, ids=name_of)
def test_what_was_acknowledged_is_there_once_and_whole_after_cut_connections(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, options = server.kind, OPTIONS[server.kind]
    with Proxy(server.host, server.port) as proxy:
        through = with_options(kind.url("127.0.0.1", proxy.port), options)
        endured = asyncio.run(endure(through, cutting(proxy, seed=1), FAULTS - KILLS[kind], writers_of(kind)))
    asyncio.run(check(with_options(server.url, options), endured))
    if kind is DYNAMODB:
        # Requests are repeated until they are answered. What is unknown then is what another's commit has hidden.
        assert endured.unavailable == 0
    else:
        # Cuts after the request and in the answer hide commits that happened, so that repetitions meet them.
        assert endured.unknown > 0
    with capsys.disabled():
        print(f"\n{kind.name}, connections cut: {endured}")


@pytest.mark.timeout(60 + 10 * FAULTS)
@pytest.mark.parametrize("server", KILLED, indirect=True, ids=name_of)
def test_what_was_acknowledged_is_there_once_and_whole_after_sigkill_of_the_server(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redis with the settings that the store's page names: appendonly yes, appendfsync always."""
    url = with_options(server.url, OPTIONS[server.kind])
    endured = asyncio.run(endure(url, killing(server, seed=2), KILLS[server.kind], writers_of(server.kind)))
    asyncio.run(check(url, endured))
    with capsys.disabled():
        print(f"\n{server.kind.name}, server killed: {endured}")


@pytest.mark.timeout(60 + 20 * FAULTS)
@pytest.mark.parametrize("server", [DYNAMODB], indirect=True, ids=name_of)
def test_nothing_is_torn_or_doubled_after_sigkill_of_the_server(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """DynamoDB Local loses now and then what it acknowledged last, seen with bare boto3; so that is counted here."""
    kills = KILLS[DYNAMODB]
    lost = acknowledged = 0

    async def write(store: Guard, thread: Thread) -> int:
        """Commit until the server is gone; how many commits were acknowledged."""
        for batch in range(1, 10_000):
            records = tuple(Record(f"{batch}.{part}", "d", '"' + "x" * 3000 + '"') for part in range(3))
            try:
                await store.commit(thread, Changes(batch, "e", records, (Put("last", str(batch)),)))
            except StoreError as error:
                if not error.retryable:
                    raise
                return batch - 1
        raise AssertionError("the server was never killed")

    async def kill_once() -> None:
        nonlocal lost, acknowledged
        threads = [Thread(f"killed-{secrets.token_hex(8)}", "t") for _ in range(4)]
        # The server is not back before every call has ended, so that none is repeated.
        store = open_store(with_options(server.url, "timeout=10&connect_timeout=5"))
        await store.open()
        writing = asyncio.gather(*(write(store, thread) for thread in threads))
        await asyncio.sleep(random.uniform(0.5, 1.5))
        await asyncio.to_thread(server.kill)
        counts = await writing
        await store.close()
        await asyncio.to_thread(server.start)
        store = open_store(with_options(server.url, OPTIONS[DYNAMODB]))
        for thread, count in zip(threads, counts, strict=True):
            found = await store.load(thread, Window(before=100_000))
            whole = len(found.records) // 3
            assert [record.id for record in found.records] == [
                f"{n}.{p}" for n in range(1, whole + 1) for p in range(3)
            ]
            assert found.tail.position == 3 * whole
            assert (found.docs["last"].version if found.docs else 0) == whole
            # A commit that was not acknowledged may be there; at most one was under way.
            assert whole <= count + 1
            acknowledged += count
            lost += max(0, count - whole)
        await store.close()

    for _ in range(kills):
        asyncio.run(kill_once())
    assert acknowledged > 0
    with capsys.disabled():
        print(
            f"\ndynamodb, server killed {kills} times: {acknowledged} commits acknowledged, {lost} lost by the server"
        )
