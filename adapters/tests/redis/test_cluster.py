"""The Redis store on a real cluster of three masters: slots, their moves, the list of resources (laws 1, 4, 5, 10)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
import servers
from opening import ALL
from pools import change, ids
from redis.crc import key_slot
from redis_server import PASSWORD, REDIS_CLUSTER, client
from servers import Server

from threadkeep.errors import OutcomeUnknown, StoreUnavailable
from threadkeep.port import Changes, Guard, Put, Resource, Thread, open_store, scan_backend
from threadkeep_adapters.redis import registry, scripts
from threadkeep_adapters.redis.errors import NotSentError
from threadkeep_adapters.redis.layout import ResourceKeys
from threadkeep_adapters.redis.store import RedisStore
from threadkeep_contract.inputs.confusable import PAIRS

pytestmark = pytest.mark.slow

INDEX = b"threadkeep:resources"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = servers.private(REDIS_CLUSTER)
    yield made
    made.stop()


@pytest.fixture
def cluster(server: Server) -> Iterator[Any]:
    """A client of the bare driver on a cluster without a key."""
    with closing(redis.RedisCluster(host=server.host, port=server.port, password=PASSWORD, protocol=2)) as made:
        made.flushall(target_nodes=redis.RedisCluster.PRIMARIES)
        yield made


def full(name: str) -> Changes:
    return change(name, puts=(Put("work", "1"),), resource_puts=(Put("work", "2"),))


async def resources(store: Guard) -> list[str]:
    return list(await store.resources(None, 1000))


def entries(cluster: Any) -> Counter[str]:
    """How many entries each resource has in the list."""
    return Counter(registry.parts(entry)[0] for entry in cluster.zrange(INDEX, 0, -1))


async def test_all_keys_of_a_resource_are_in_one_slot_whatever_its_id_is(server: Server, cluster: Any) -> None:
    spots = [spot for pair in PAIRS for spot in (pair.first, pair.second)]
    hostile = [Thread(name, name) for name in ("{", "}", "{}", "}{", "{a}", "a{b}c", "{}a", "}a", "%7B", "\0", "{\0}")]
    threads = {*(spot.thread("r") for spot in spots), *hostile}

    store = open_store(server.url)
    for thread in threads:
        await store.commit(thread, full("m"))
    assert await resources(store) == sorted({thread.resource_id for thread in threads})
    await store.close()
    slots: dict[bytes, set[int]] = {}
    for key in cluster.scan_iter(count=1000):
        if key.startswith(b"threadkeep:{"):
            slots.setdefault(key[: key.index(b"}")], set()).add(key_slot(key))
    assert len(slots) == len({thread.resource_id for thread in threads})
    assert {len(found) for found in slots.values()} == {1}
    assert len(set.union(*slots.values())) > len(slots) // 2
    masters = {cluster.get_node_from_key(key.decode("latin-1")).port for key in slots}
    assert len(masters) == 3


async def test_the_first_commit_of_a_resource_takes_three_round_trips_and_all_others_one(
    server: Server, cluster: Any
) -> None:
    store = open_store(server.url)
    await store.open()
    assert store.costs.first_commit == 3
    for first in (full("m"), Changes(at=1, puts=(Put("work", "1"),))):
        scope = Thread("thread-first", "t") if first.append else Resource("document-first")
        for trips in (3, 1, 1):
            before = store.meter.trips
            await store.commit(scope, first)
            assert store.meter.trips - before == trips
    before = store.meter.trips
    await store.commit(Thread("thread-first", "another"), full("m"))
    await store.load(Thread("thread-first", "another"), ALL)
    assert store.meter.trips - before == 2
    await store.close()
    assert entries(cluster) == {"thread-first": 1, "document-first": 1}


async def test_first_commits_that_race_leave_one_entry(server: Server, cluster: Any) -> None:
    stores = [open_store(server.url) for _ in range(3)]
    for turn in range(20):
        works = [
            store.commit(Thread(f"user{turn}", f"t{number % 4}"), change(f"{number}-{index}"))
            for index, store in enumerate(stores)
            for number in range(6)
        ]
        await asyncio.gather(*works)
    assert await resources(stores[0]) == sorted(f"user{turn}" for turn in range(20))
    for store in stores:
        await store.close()
    assert set(entries(cluster).values()) == {1}


async def test_whatever_a_resource_holds_it_is_listed_while_others_delete_it(server: Server, cluster: Any) -> None:
    """First commits, deletions of the last thread and erasures of one resource at once: neither is lost nor doubled."""
    stores = [open_store(server.url) for _ in range(3)]
    user, checker = "contested", stores[0]

    async def write(store: Guard, turn: int) -> None:
        await store.commit(Thread(user, "t"), change(f"{turn}"))

    async def remove(store: Guard, turn: int) -> None:
        await store.delete(Thread(user, "t") if turn % 2 else Resource(user))

    for turn in range(60):
        works = [work(store, turn) for store in stores for work in (write, remove)]
        await asyncio.gather(*works[turn % 3 :], *works[: turn % 3])
        there = bool(await ids(checker, Thread(user, "t")))
        assert await resources(checker) == ([user] if there else []), f"turn {turn}"
        assert entries(cluster)[user] == (1 if there else 0), f"turn {turn}"
    await checker.delete(Resource(user))
    assert await resources(checker) == []
    for store in stores:
        await store.close()
    assert [key for key in cluster.scan_iter() if key != b"threadkeep:schema"] == []


async def test_a_client_that_dies_in_a_first_commit_leaves_a_name_at_most(server: Server, cluster: Any) -> None:
    """Listing passes it over, a commit is not disturbed by it, and an erasure removes it."""
    seconds, _ = cluster.time(target_nodes=redis.RedisCluster.RANDOM)
    over = registry.token((seconds - 2 * registry.TOKEN_SECONDS) * 1_000_000, "dead")
    cluster.zadd(INDEX, {registry.entry("ghost", over): 0})
    cluster.zadd(INDEX, {registry.entry("living", over): 0})

    store = open_store(server.url)
    await store.commit(Thread("living", "t"), change("m"))
    assert await resources(store) == ["living"]
    assert await store.resources("a", 1) == ["living"]
    await store.delete(Resource("ghost"))
    await store.delete(Resource("living"))
    assert await resources(store) == []
    await store.close()
    assert b"ghost" not in b"\n".join(scan_backend(server.url) or ())
    assert b"living" not in b"\n".join(scan_backend(server.url) or ())


async def test_a_registration_under_way_survives_an_erasure_beside_it(server: Server, cluster: Any) -> None:
    """Its commit is still to come, and would be missing from the list."""
    now = cluster.time(target_nodes=redis.RedisCluster.RANDOM)
    entry = registry.entry("coming", registry.token(now[0] * 1_000_000 + now[1], "alive"))
    cluster.zadd(INDEX, {entry: 0})

    store = open_store(server.url)
    await store.delete(Resource("coming"))
    await store.delete(Thread("coming", "t"))
    await store.close()
    assert cluster.zrange(INDEX, 0, -1) == [entry]


async def test_a_deletion_that_died_halfway_is_finished_by_its_repetition(server: Server, cluster: Any) -> None:
    keys = ResourceKeys("threadkeep", "half")
    store = open_store(server.url)
    inner = store.store
    assert isinstance(inner, RedisStore)

    async def emptied() -> None:
        await store.commit(Thread("half", "t"), full("m"))
        named = (keys.created, keys.active, keys.docs, keys.registration)
        await inner._requests.run(scripts.DELETE_RESOURCE, named, keys.base, "half", "")

    await emptied()
    assert await resources(store) == []
    assert entries(cluster)["half"] == 1
    await store.commit(Thread("half", "t"), full("m"))
    assert await resources(store) == ["half"]
    await store.delete(Resource("half"))
    await emptied()
    await store.delete(Resource("half"))
    await emptied()
    await store.delete(Thread("half", "t"))
    await store.close()
    # The first deletion's entry was young when its registration was replaced; it is nobody's now.
    assert entries(cluster)["half"] <= 1
    assert [key for key in cluster.scan_iter() if b"half" in key] == []


async def test_a_registration_that_came_too_late_is_refused(server: Server, cluster: Any) -> None:
    store = open_store(server.url)
    inner = store.store
    assert isinstance(inner, RedisStore)
    asked: list[str] = []
    made = registry.token

    def old(now: int, nonce: str) -> str:
        asked.append(nonce)
        return made(now - registry.TOKEN_MICROS - 1, nonce) if len(asked) == 1 else made(now, nonce)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "token", old)
        await store.commit(Thread("late", "t"), full("m"))
        assert len(asked) == 2
        asked.clear()
        patch.setattr(registry, "token", lambda now, nonce: made(now - registry.TOKEN_MICROS - 1, nonce))
        with pytest.raises(StoreUnavailable, match="registration"):
            await store.commit(Thread("later", "t"), full("m"))
    assert await resources(store) == ["late"]
    assert await ids(store, Thread("later", "t")) == []
    await store.close()
    assert entries(cluster)["late"] == 1


async def test_a_registration_tells_the_servers_time(server: Server, cluster: Any) -> None:
    """By it an erasure tells what a client that died left in the list from what others are about to use."""

    def now() -> int:
        seconds, micros = cluster.time(target_nodes=cluster.get_node_from_key(key.decode()))
        return int(seconds) * 10**6 + int(micros)

    key = ResourceKeys("threadkeep", "timed").registration
    store = open_store(server.url)
    await store.open()
    before = now()
    await store.commit(Thread("timed", "t"), full("m"))
    assert before <= int(cluster.get(key).partition(b"-")[0]) <= now()
    await store.close()


async def test_a_list_that_cannot_be_reached_changes_no_outcome(server: Server, cluster: Any) -> None:
    """A commit that happened is acknowledged though its spare entry stays; a deletion says that it is not whole."""
    store = open_store(server.url)
    inner = store.store
    assert isinstance(inner, RedisStore)
    call, is_cut = inner._requests.call, False

    async def cut(key: bytes, *command: Any) -> Any:
        if command[0] == "ZREM" and is_cut:
            raise NotSentError("cut for the test")
        if command[0] == "ZADD":
            # Somebody else is first, so that the registration is not needed.
            other = open_store(server.url)
            await other.commit(Thread("raced", "first"), full("m"))
            await other.close()
        return await call(key, *command)

    await store.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner._requests, "call", cut)
        is_cut = True
        assert (await store.commit(Thread("raced", "second"), full("m"))).positions == [1]
        assert entries(cluster)["raced"] == 2
        assert await resources(store) == ["raced"]
        with pytest.raises(OutcomeUnknown, match="gone"):
            await store.delete(Resource("raced"))
        assert await resources(store) == []
        is_cut = False
        await store.delete(Resource("raced"))
    await store.close()
    # The spare entry is younger than a registration may be, and is cleared by an erasure later.
    assert entries(cluster)["raced"] == 1


async def test_a_slot_that_moves_while_others_write_loses_nothing(server: Server, cluster: Any) -> None:
    """A real migration: ASK and TRYAGAIN while the keys go one by one, MOVED afterwards."""
    slot = key_slot(ResourceKeys("threadkeep", "mover").docs)
    ports = [port for port, _ in REDIS_CLUSTER.nodes(server.port)]
    nodes = {port: client(server.host, port) for port in ports}
    names = {port: node.execute_command("CLUSTER MYID").decode() for port, node in nodes.items()}

    def owner() -> int:
        cluster.nodes_manager.initialize()
        port: int = cluster.nodes_manager.get_node_from_slot(slot).port
        return port

    def migrate() -> None:
        source = owner()
        target = next(port for port in ports if port != source)
        nodes[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        nodes[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
        while keys := nodes[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            nodes[source].execute_command("MIGRATE", server.host, target, "", 0, 5000, "AUTH", PASSWORD, "KEYS", *keys)
        for port in (target, source, *(other for other in ports if other not in (source, target))):
            nodes[port].execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[target])

    try:
        store, reader = open_store(server.url), open_store(server.url)
        done: list[str] = []
        ending = asyncio.Event()

        async def write(writer: int) -> None:
            while not ending.is_set():
                name = f"{writer}-{sum(one.startswith(f'{writer}-') for one in done)}"
                await store.commit(Thread("mover", f"t{writer}"), full(name))
                done.append(name)

        writers = [asyncio.ensure_future(write(number)) for number in range(3)]
        for _ in range(4):
            await asyncio.sleep(0.2)
            before = len(done)
            await asyncio.to_thread(migrate)
            for _ in range(200):
                if len(done) > before + 3:
                    break
                await asyncio.sleep(0.02)
            assert len(done) > before + 3
        ending.set()
        await asyncio.gather(*writers)
        for number in range(3):
            mine = [name for name in done if name.startswith(f"{number}-")]
            assert await ids(reader, Thread("mover", f"t{number}")) == mine
            found = await store.load(Thread("mover", f"t{number}"), ALL)
            assert found.docs["work"].version == len(mine)
        assert found.resource_docs["work"].version == len(done)
        await store.close()
        await reader.close()
    finally:
        for node in nodes.values():
            node.close()


async def test_a_cluster_that_is_down_is_unavailable_within_bounds_and_goes_on_after_its_restart(
    server: Server,
) -> None:
    store = open_store(f"{server.url}?timeout=1&connect_timeout=1")
    thread = Thread("survivor", "t")
    await store.commit(thread, change("before"))
    await asyncio.to_thread(server.kill)
    for work in (lambda: store.load(thread, ALL), lambda: store.commit(thread, change("lost"))):
        began = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailable):
            await work()
        assert asyncio.get_running_loop().time() - began < 4
    await asyncio.to_thread(server.start)
    await store.commit(thread, change("after"))
    assert await ids(store, thread) == ["before", "after"]
    await store.close()


async def test_other_seeds_are_asked_where_the_first_is_gone(server: Server) -> None:
    gone = servers.free_port()
    url = server.url.replace(f":{server.port}", f":{gone},127.0.0.1:{server.port}")
    store = open_store(url)
    await store.commit(Thread("seeds", "t"), change("m"))
    await store.close()
