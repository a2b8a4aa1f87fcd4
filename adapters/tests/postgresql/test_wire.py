"""What PostgreSQL verbs cost on the wire, also behind a pooling proxy (law 13), and what the server does for them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import servers
from postgresql_server import POSTGRESQL, Pgbouncer, connect
from servers import Server

from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store
from threadkeep_adapters.postgresql.statements import query
from threadkeep_adapters.sql import rows as shared
from threadkeep_contract.faults.proxy import Proxy

HERE = Thread("ann", "t")


@pytest.fixture
def server() -> Server:
    return servers.shared(POSTGRESQL)


@pytest.fixture
def bouncer(server: Server) -> Server:
    return servers.shared(Pgbouncer(server))


@pytest.fixture
def name(server: Server) -> Iterator[str]:
    """A schema of the test's own, removed afterwards."""
    name = f"wire_{secrets.token_hex(6)}"
    yield name
    asyncio.run(_drop(server.url, name))


async def _drop(url: str, name: str) -> None:
    connection = await connect(url)
    await connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
    await connection.close()


def through(proxy: Proxy, server: Server) -> str:
    return server.url.replace(f":{server.url.rpartition(':')[2].partition('/')[0]}/", f":{proxy.port}/")


def target(server: Server) -> tuple[str, int]:
    host, port = server.url.rpartition("@")[2].partition("/")[0].split(":")
    return host, int(port)


def changes(number: int) -> Changes:
    records = (Record(f"m{number}a", "d", '"1"'), Record(f"m{number}b", "d", '"2"'))
    put = (Put("work", str(number)),)
    return Changes(at=number, epoch="e", append=records, puts=put, resource_puts=put)


async def turns_of_a_turn(proxy: Proxy, url: str) -> tuple[list[int], list[int]]:
    """The turns on the wire that loads and commits took, the first ones of a connection left out."""
    store = open_store(url)
    loads, commits = [], []
    for number in range(6):
        before = proxy.turns
        await store.load(HERE, Window(before=20))
        between = proxy.turns
        await store.commit(HERE, changes(number))
        loads.append(between - before)
        commits.append(proxy.turns - between)
    costs = (store.costs.load, store.costs.commit)
    await store.close()
    assert costs == (loads[-1], commits[-1])
    return loads[1:], commits[1:]


async def test_a_load_and_a_commit_are_one_turn_each_on_the_wire(server: Server, name: str) -> None:
    with Proxy(*target(server)) as proxy:
        loads, commits = await turns_of_a_turn(proxy, f"{through(proxy, server)}?schema={name}")
    assert (set(loads), set(commits)) == ({1}, {1})


async def test_behind_a_transaction_pool_they_are_one_turn_each_too(server: Server, bouncer: Server, name: str) -> None:
    with Proxy(*target(bouncer)) as proxy:
        loads, commits = await turns_of_a_turn(proxy, f"{through(proxy, bouncer)}?schema={name}")
    assert (set(loads), set(commits)) == ({1}, {1})


async def test_many_stores_share_a_transaction_pool_of_four_connections(bouncer: Server, name: str) -> None:
    """Named statements, session locks or settings of one client would meet another's here."""
    stores = [open_store(f"{bouncer.url}?schema={name}&connections=3") for _ in range(6)]

    async def use(number: int, store: Guard) -> None:
        for turn in range(20):
            thread = Thread(f"r{number % 2}", "t")
            await store.commit(thread, Changes(turn, "e", (Record(f"{number}.{turn}", "d", '"x"'),)))
            await store.load(thread, Window(before=2))

    await asyncio.gather(*(use(number, store) for number, store in enumerate(stores) for _ in range(3)))
    for number in range(2):
        found = await stores[0].load(Thread(f"r{number}", "t"), Window(before=1000))
        assert sorted(record.id for record in found.records) == sorted(
            f"{writer}.{turn}" for writer in range(number, 6, 2) for turn in range(20)
        )
        assert [record.position for record in found.records] == list(range(1, 61))
    for store in stores:
        await store.close()


async def test_loads_walk_indexes_and_stop_at_the_limit(server: Server, name: str) -> None:
    """The plans of a load, of a page of threads and of resources read no more rows than they return."""
    store = open_store(f"{server.url}?schema={name}")
    for batch in range(20):
        records = tuple(Record(f"m{batch}.{number}", "d", '"x"') for number in range(100))
        await store.commit(HERE, Changes(batch, "e", records))
    for number in range(300):
        await store.commit(Thread(f"r{number}", "t"), Changes(1, "e"))
        await store.commit(Thread("ann", f"t{number}"), Changes(1, "e"))
    await store.close()
    connection = await connect(server.url)
    await connection.execute(f"ANALYZE {name}.threadkeep_messages, {name}.threadkeep_threads")
    steps = [
        shared.load_step(HERE, Window(before=10)),
        shared.load_step(HERE, Window(1000, 10, 10)),
        shared.load_step(HERE, Window("m5.50", 10, 10)),
        shared.threads_step(Resource("ann"), None, 10, "active", ("info",)),
        shared.resources_step("r1", 10),
    ]
    for generic in ("force_custom_plan", "force_generic_plan"):
        await connection.execute(f"SET plan_cache_mode = {generic}")
        for statement, given in steps:
            compiled = query(statement, name)
            text = f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled.text}"
            plan = json.loads(await connection.fetchval(text, *compiled.values(given)))[0]["Plan"]
            assert most_rows(plan) <= 25, json.dumps(plan, indent=1)
    await connection.close()


async def test_documents_come_in_one_order_whatever_was_written_last(server: Server, name: str) -> None:
    store = open_store(f"{server.url}?schema={name}")
    for slot in ("b", "a", "c", "b", "a"):
        puts = (Put(slot, "1"),)
        await store.commit(HERE, Changes(1, "e", puts=puts, resource_puts=puts))
        found = await store.load(HERE)
        (row,) = await store.threads(Resource("ann"), slots=("c", "b", "a"))
        assert [list(docs) for docs in (found.docs, found.resource_docs, row.docs)] == [sorted(found.docs)] * 3
    await store.close()


def most_rows(plan: dict[str, Any]) -> float:
    """The most rows that one node of a plan gave or threw away."""
    here = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    return float(max([here, *(most_rows(part) for part in plan.get("Plans", ()))]))
