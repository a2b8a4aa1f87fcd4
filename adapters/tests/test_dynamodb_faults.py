"""Faults of the server and of the wire while a DynamoDB store commits (laws 2, 3, 4, 6)."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterator
from typing import Final

import pytest
import servers
from dynamodb_server import DURABLE
from faults import FAULTS, check, cutting, endure
from proxy import Proxy
from servers import Server

from threadkeep.errors import StoreError
from threadkeep.guard import Guard
from threadkeep.registry import open_store
from threadkeep.store import Changes, Put, Record, Thread, Window

KILLS: Final = max(1, FAULTS // 10)
"""The server takes seconds to start."""

OPTIONS: Final = "&timeout=60&connect_timeout=5"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    private = servers.private(DURABLE)
    yield private
    private.stop()


@pytest.mark.timeout(60 + 10 * FAULTS)
def test_what_was_acknowledged_is_there_once_and_whole_after_cut_connections(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with Proxy(server.host, server.port) as proxy:
        through = DURABLE.url("127.0.0.1", proxy.port) + OPTIONS
        endured = asyncio.run(endure(through, cutting(proxy, seed=1), FAULTS - KILLS))
    asyncio.run(check(server.url + OPTIONS, endured))
    # Requests are repeated until they are answered. What is unknown then is what another writer's commit has hidden.
    assert endured.unavailable == 0
    with capsys.disabled():
        print(f"\ndynamodb, connections cut: {endured}")


@pytest.mark.timeout(60 + 20 * FAULTS)
def test_nothing_is_torn_or_doubled_after_sigkill_of_the_server(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """DynamoDB Local loses now and then what it acknowledged last, seen with bare boto3; so that is counted here."""
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
        store = open_store(server.url + "&timeout=10&connect_timeout=5")
        await store.open()
        writing = asyncio.gather(*(write(store, thread) for thread in threads))
        await asyncio.sleep(random.uniform(0.5, 1.5))
        await asyncio.to_thread(server.kill)
        counts = await writing
        await store.close()
        await asyncio.to_thread(server.start)
        store = open_store(server.url + OPTIONS)
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

    for _ in range(KILLS):
        asyncio.run(kill_once())
    assert acknowledged > 0
    with capsys.disabled():
        print(
            f"\ndynamodb, server killed {KILLS} times: {acknowledged} commits acknowledged, {lost} lost by the server"
        )
