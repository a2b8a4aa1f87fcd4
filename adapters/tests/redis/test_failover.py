"""A primary that becomes a replica behind one address (laws 6 and 12)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import servers
from opening import ALL, THREAD
from pools import change
from redis.exceptions import ResponseError
from redis_server import PASSWORD, REDIS, REDIS_CLUSTER, client
from servers import Server

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Guard, Put, Resource, Thread, open_store
from threadkeep_contract.faults.proxy import Proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A primary, and the server that will take its place."""
    made = [servers.private(REDIS) for _ in range(2)]
    yield made[0], made[1]
    for server in made:
        server.stop()


async def has(asked: Any, **expected: str) -> None:
    """Wait until a server says this of its replication."""
    while not expected.items() <= asked.info("replication").items():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.05)


async def follows(primary: Server, replica: Server) -> None:
    """Wait until the replica has everything."""
    with closing(client(primary.host, primary.port)) as asked:
        asked.config_set("repl-diskless-sync-delay", 0)
    with closing(client(replica.host, replica.port)) as asked:
        asked.config_set("masterauth", PASSWORD)
        asked.replicaof(primary.host, str(primary.port))
        await has(asked, master_link_status="up")


async def fail_over(primary: Server, replica: Server, proxy: Proxy) -> None:
    """Let the replica take the primary's place, and the address lead to it; connections stay with the old one."""
    await follows(primary, replica)
    with closing(client(replica.host, replica.port)) as new, closing(client(primary.host, primary.port)) as old:
        new.replicaof("NO", "ONE")
        old.replicaof(replica.host, "1")  # nobody answers there: what it has is old for ever
    proxy.lead_to(replica.host, replica.port)


async def read_all(store: Guard) -> tuple[list[str], list[str], list[str]]:
    """What a load, and both lists, show."""
    records = [record.id for record in (await store.load(THREAD, ALL)).records]
    rows = [row.thread_id for row in await store.threads(Resource(THREAD.resource_id))]
    return records, rows, list(await store.resources())


@pytest.mark.parametrize("first", ["load", "commit", "resource", "lists"])
async def test_after_a_failover_what_was_acknowledged_is_read_and_writing_goes_on(
    pair: tuple[Server, Server], first: str
) -> None:
    with Proxy(pair[0].host, pair[0].port) as proxy:
        url = REDIS.url("127.0.0.1", proxy.port)
        store = open_store(url)
        await asyncio.gather(*(store.commit(THREAD, change(f"m{number}")) for number in range(5)))
        await fail_over(*pair, proxy)
        later = open_store(url)  # a process that has no connection to the old one
        await later.commit(THREAD, change("later", resource_puts=(Put("notes", "1"),)))
        await later.close()
        if first == "load":
            assert (await store.load(THREAD, ALL)).records[-1].id == "later"
        elif first == "commit":
            assert (await store.commit(THREAD, change("more"))).positions == [7]
        elif first == "resource":
            assert (await store.load(Resource(THREAD.resource_id))).resource_docs["notes"].body == "1"
        records, rows, resources = await read_all(store)
        assert "later" in records
        assert (rows, resources) == ([THREAD.thread_id], [THREAD.resource_id])
        await store.commit(THREAD, change("end"))
        assert (await store.load(THREAD, ALL)).records[-1].id == "end"
        await store.close()


async def test_a_replica_that_stays_one_is_unavailable_and_the_error_says_what_to_do(
    pair: tuple[Server, Server],
) -> None:
    primary, replica = pair
    writing = open_store(primary.url)
    await writing.commit(THREAD, change("m"))
    await follows(primary, replica)
    store = open_store(replica.url)
    for work in (store.load(THREAD, ALL), store.commit(THREAD, change("n")), store.resources()):
        with pytest.raises(StoreUnavailable, match=r"READONLY .*; its connections were let go.* correct the URL"):
            await work
    await store.close()
    await writing.close()


def one_follows_another(server: Server) -> tuple[int, int]:
    """Of a cluster without a key, give all slots of the last master to the first, and let it be its replica. The ports
    of the two."""
    ports = [port for port, _ in REDIS_CLUSTER.nodes(server.port)]
    first, last = ports[0], ports[-1]
    nodes = {port: client(server.host, port) for port in ports}
    names = {port: node.execute_command("CLUSTER MYID").decode() for port, node in nodes.items()}
    ranges = nodes[first].execute_command("CLUSTER SLOTS")
    moved = [slot for start, end, (_, port, *_), *_ in ranges if port == last for slot in range(start, end + 1)]
    for port in ports[::-1]:  # the last one first: without a slot it may become a replica by itself
        asked = nodes[port].pipeline(transaction=False)
        for slot in moved:
            asked.execute_command("CLUSTER SETSLOT", slot, "NODE", names[first])
        asked.execute()
    for port in (first, last):
        nodes[port].config_set("masterauth", PASSWORD)
        nodes[port].config_set("repl-diskless-sync-delay", 0)
    nodes[last].execute_command("CLUSTER REPLICATE", names[first])
    for node in nodes.values():
        node.close()
    return first, last


async def take_over(server: Server, port: int) -> None:
    """Let a replica of a cluster be the master, as when an operator replaces a server."""
    with closing(client(server.host, port)) as replica:
        await has(replica, master_link_status="up")
        while replica.info("replication")["role"] != "master":
            # It gives up by itself where the others do not know it as a replica yet.
            with suppress(ResponseError):
                replica.execute_command("CLUSTER FAILOVER")
            await asyncio.sleep(0.5)


async def test_a_master_of_a_cluster_is_replaced_while_others_write() -> None:
    server = servers.private(REDIS_CLUSTER)
    try:
        old, new = await asyncio.to_thread(one_follows_another, server)
        store = open_store(server.url)
        users = [Thread(f"user{number}", "t") for number in range(20)]
        done = dict.fromkeys(users, 0)
        ending = asyncio.Event()

        async def write(thread: Thread) -> None:
            while not ending.is_set():
                receipt = await store.commit(thread, change(f"m{done[thread]}"))
                done[thread] += 1
                assert receipt.positions == [done[thread]]
                assert len((await store.load(thread, ALL)).records) == done[thread]

        writing = asyncio.gather(*(write(thread) for thread in users))
        for port in (new, old):
            before = sum(done.values())
            await take_over(server, port)
            while sum(done.values()) < before + 200 and not writing.done():  # noqa: ASYNC110 - each of 20 may be late
                await asyncio.sleep(0.02)
        ending.set()
        await writing
        await store.close()
    finally:
        server.stop()
