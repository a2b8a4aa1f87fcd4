"""What a Redis store looks at when it is opened, and what the server's refusals mean (laws 4, 6, 12)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import opening
import pytest
import redis
import servers
from opening import ALL, ONE, THREAD, commit, load, opened, run
from redis_server import CACHE, PASSWORD, REDIS, REDIS_CLUSTER, client
from servers import Server

from threadkeep.errors import (
    InvalidURL,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreTooNew,
    StoreTooOld,
    StoreUnavailable,
    ThreadkeepError,
)
from threadkeep.port import (
    Changes,
    Clause,
    Guard,
    Put,
    Record,
    Resource,
    Thread,
    open_store,
    scan_backend,
    store_exists,
)


@pytest.fixture(scope="module")
def private() -> Iterator[Server]:
    server = servers.private(REDIS)
    yield server
    server.stop()


@pytest.fixture
def server(private: Server) -> Server:
    """A server with an empty database and the settings that it started with."""
    with closing(client(private.host, private.port)) as admin:
        admin.flushall()
        admin.config_set("maxmemory", 0)
        admin.config_set("appendonly", "yes")
        admin.acl_setuser("default", enabled=True, reset_keys=False)
    return private


@pytest.fixture
def admin(server: Server) -> Iterator[Any]:
    with closing(client(server.host, server.port)) as made:
        yield made


def refused(kind: type[ThreadkeepError], url: str, *works: Callable[[Guard], Awaitable[Any]]) -> str:
    """The text of the error that the works end in, which never shows the password."""
    said = opening.refused(kind, url, *works)
    assert PASSWORD not in said
    assert "kept%3Athread" not in said
    return said


def test_nobody_at_the_port_is_unavailable_and_says_where() -> None:
    port = servers.free_port()
    assert f"127.0.0.1:{port}" in refused(StoreUnavailable, REDIS.url("127.0.0.1", port), opened)


def test_a_host_that_has_no_address_is_unavailable() -> None:
    assert "nowhere.invalid" in refused(StoreUnavailable, REDIS.url("nowhere.invalid", 1), opened)


def test_a_wrong_password_is_named(server: Server) -> None:
    assert "refuses the login" in refused(StoreNotWritable, f"redis://:wrong@{server.host}:{server.port}", opened)


def test_a_missing_password_is_named(server: Server) -> None:
    assert "password" in refused(StoreNotWritable, f"redis://{server.host}:{server.port}", opened)


def test_a_database_that_is_not_there_is_named(server: Server) -> None:
    assert "DB index is out of range" in refused(StoreNotWritable, f"{server.url}/99", opened)


def test_databases_are_stores_of_their_own(server: Server) -> None:
    run(f"{server.url}/1", commit)
    assert len(run(f"{server.url}/1", load).records) == 1
    assert len(run(server.url, load).records) == 0


def test_prefixes_are_stores_of_their_own_also_where_one_begins_as_the_other(server: Server) -> None:
    for prefix in ("a", "a%3A%7Balice%7D", "a%7B"):
        run(f"{server.url}?prefix={prefix}", commit)
        assert run(f"{server.url}?prefix={prefix}", lambda store: store.resources()) == ["alice"]
    run(f"{server.url}?prefix=a", lambda store: store.delete(Resource("alice")))
    assert len(run(f"{server.url}?prefix=a%7B", load).records) == 1


def test_a_server_that_is_no_redis_is_named() -> None:
    with closing(_Babbler()) as babbler:
        refused(StoreError, f"redis://127.0.0.1:{babbler.port}", opened)


def test_a_cache_that_evicts_is_refused_unless_the_url_accepts_it() -> None:
    server = servers.private(CACHE)
    try:
        said = refused(StoreError, server.url, opened)
        assert "allkeys-lru" in said
        assert "durability=none" in said
        with closing(client(server.host, server.port)) as admin:
            assert admin.dbsize() == 0
        run(f"{server.url}?durability=none", commit)
        assert Clause.DURABILITY in open_store(f"{server.url}?durability=none").not_offered
        assert not open_store(server.url).not_offered
    finally:
        server.stop()


def test_a_server_without_a_file_is_refused_unless_the_url_accepts_it(server: Server, admin: Any) -> None:
    admin.config_set("appendonly", "no")
    assert "appendonly" in refused(StoreError, server.url, opened)
    assert admin.dbsize() == 0
    run(f"{server.url}?durability=none", commit)


def test_a_policy_that_evicts_only_what_may_expire_is_taken(server: Server, admin: Any) -> None:
    admin.config_set("maxmemory", "100mb")
    admin.config_set("maxmemory-policy", "volatile-lru")
    run(server.url, commit)
    admin.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize(("version", "kind", "said"), [("2", StoreTooNew, "upgrade"), ("0", StoreTooOld, "export")])
def test_a_store_of_another_version_is_refused_and_left_alone(
    server: Server, admin: Any, version: str, kind: type[ThreadkeepError], said: str
) -> None:
    admin.set("threadkeep:schema", version)
    assert said in refused(kind, server.url, commit)
    assert admin.keys() == [b"threadkeep:schema"]
    assert admin.get("threadkeep:schema") == version.encode()


@pytest.mark.parametrize("content", ["hello", "-1", "1.5", ""])
def test_a_schema_key_of_another_program_is_left_alone(server: Server, admin: Any, content: str) -> None:
    admin.set("threadkeep:schema", content)
    assert "prefix" in refused(StoreDamaged, server.url, commit)
    assert admin.get("threadkeep:schema") == content.encode()
    assert admin.dbsize() == 1


@pytest.mark.parametrize(
    "key",
    [
        "threadkeep:schema",
        "threadkeep:{alice}:thread:support",
        "threadkeep:{alice}:log:support",
        "threadkeep:{alice}:ids:support",
        "threadkeep:{alice}:created",
        "threadkeep:{alice}:active",
    ],
)
def test_a_key_of_another_type_is_another_programs_and_nothing_is_written(server: Server, admin: Any, key: str) -> None:
    if key != "threadkeep:schema":
        run(server.url, opened)
    admin.rpush(key, "theirs")
    before = {name: admin.dump(name) for name in admin.scan_iter()}
    assert "prefix" in refused(StoreDamaged, server.url, commit)
    assert {name: admin.dump(name) for name in admin.scan_iter()} == before


def test_a_full_server_refuses_commits_whole_and_lets_read_and_delete(server: Server, admin: Any) -> None:
    run(server.url, commit)
    admin.config_set("maxmemory", 1)
    more = Changes(at=2, epoch="e", append=(Record("m2", "d2", '"more"'),), resource_puts=(Put("work", "2"),))
    refused(StoreFull, server.url, lambda store: store.commit(THREAD, more))
    refused(StoreFull, server.url, lambda store: store.commit(Thread("bob", "new"), more))
    # What only drops is done, since it makes room.
    run(server.url, lambda store: store.delete(Thread("alice", "other")))
    found = run(server.url, load)
    assert [record.id for record in found.records] == ["m1"]
    assert (found.resource_docs, found.active) == ({}, 1)
    run(server.url, lambda store: store.delete(Resource("alice")))
    admin.config_set("maxmemory", 0)
    assert run(server.url, lambda store: store.resources()) == []


def test_a_server_that_fills_up_keeps_every_commit_whole(server: Server, admin: Any) -> None:
    """Redis looks at its memory before a script, and lets a script that has begun to write go on."""
    used = int(admin.info("memory")["used_memory"])
    admin.config_set("maxmemory", used + 3_000_000)

    async def fill(store: Guard) -> int:
        for number in range(1000):
            records = tuple(Record(f"{number}-{part}", "d", '"' + "x" * 5000 + '"') for part in range(10))
            try:
                changes = Changes(at=number, epoch="e", append=records, puts=(Put("work", str(number)),))
                await store.commit(THREAD, changes)
            except StoreFull:
                return number
        raise AssertionError("the server never filled up")

    done = run(server.url, fill)
    admin.config_set("maxmemory", 0)
    found = run(server.url, load)
    assert done > 0
    assert [record.id for record in found.records] == [f"{n}-{part}" for n in range(done) for part in range(10)]
    assert (found.docs["work"].version, found.tail.position) == (done, 10 * done)


def test_a_replica_may_be_read_and_not_written(server: Server, admin: Any) -> None:
    run(server.url, commit)
    admin.replicaof("127.0.0.1", str(servers.free_port()))
    try:
        assert len(run(server.url, load).records) == 1
        refused(StoreNotWritable, server.url, commit)
        refused(StoreNotWritable, server.url, lambda store: store.delete(THREAD))
    finally:
        admin.replicaof("NO", "ONE")


def test_a_user_without_permission_is_told(server: Server, admin: Any) -> None:
    run(server.url, commit)
    admin.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+eval", "+evalsha"])
    url = f"redis://reader:pw@{server.host}:{server.port}"
    assert len(run(url, load).records) == 1
    refused(StoreNotWritable, url, lambda store: store.delete(THREAD))
    refused(StoreNotWritable, url, lambda store: store.commit(THREAD, Changes(at=9, epoch="e")))
    assert len(run(server.url, load).records) == 1


def test_the_permissions_that_the_page_names_suffice(server: Server, admin: Any) -> None:
    commands = ["+info", "+script|load", "+eval", "+evalsha", "+get", "+set", "+exists", "+unlink", "+time"]
    commands += ["+hget", "+hmget", "+hgetall", "+hset", "+hdel", "+zadd", "+zrem", "+zcard", "+zrange"]
    commands += ["+zrevrange", "+zrangebyscore", "+zrevrangebyscore", "+zremrangebyscore", "+zremrangebyrank"]
    commands += ["+zrangebylex", "+zrevrangebylex"]
    admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["threadkeep:*"], commands=commands)
    url = f"redis://app:pw@{server.host}:{server.port}"
    run(url, commit, load, lambda store: store.commit(THREAD, Changes(at=2, epoch="e", drop_after=0)))
    run(url, lambda store: store.threads(Resource("alice"), order="active", slots=("work",)))
    run(url, commit, lambda store: store.resources(), lambda store: store.delete(THREAD))
    run(url, lambda store: store.delete(Resource("alice")))


def test_a_busy_server_is_unavailable_and_has_written_nothing(server: Server, admin: Any) -> None:
    run(server.url, commit)
    admin.config_set("busy-reply-threshold", 10)

    def block() -> None:
        with closing(client(server.host, server.port, socket_timeout=30)) as other, pytest.raises(redis.ResponseError):
            other.eval("while true do end", 0)

    blocker = threading.Thread(target=block)
    blocker.start()
    try:
        time.sleep(0.3)
        refused(StoreUnavailable, server.url, commit)
    finally:
        admin.execute_command("SCRIPT KILL")
        blocker.join()
    assert len(run(server.url, load).records) == 1


def test_a_server_that_lost_its_scripts_is_given_them_again(server: Server, admin: Any) -> None:
    async def work(store: Guard) -> None:
        await store.commit(THREAD, ONE)
        before = store.meter.trips
        await store.load(THREAD, ALL)
        assert store.meter.trips - before == 1
        admin.script_flush()
        assert len((await store.load(THREAD, ALL)).records) == 1
        await store.commit(THREAD, Changes(at=2, epoch="e"))
        await store.delete(THREAD)

    run(server.url, work)


def test_a_store_goes_on_after_its_server_was_restarted(server: Server) -> None:
    async def work(store: Guard) -> None:
        await store.commit(THREAD, ONE)
        await asyncio.to_thread(server.kill)
        with pytest.raises(StoreUnavailable):
            await store.load(THREAD, ALL)
        with pytest.raises(StoreUnavailable):
            await store.commit(THREAD, ONE)
        await asyncio.to_thread(server.start)
        receipt = await store.commit(THREAD, ONE)
        assert (receipt.positions, receipt.versions) == ([1], [2])

    run(server.url, work)


def test_a_cluster_and_a_single_server_are_told_apart(server: Server) -> None:
    cluster = servers.shared(REDIS_CLUSTER)
    assert "redis+cluster://" in refused(InvalidURL, cluster.url.replace("+cluster", ""), opened)
    assert "no cluster" in refused(InvalidURL, server.url.replace("redis:", "redis+cluster:"), opened)


def test_looking_for_a_store_makes_none(server: Server, admin: Any) -> None:
    assert store_exists(server.url) is False
    assert admin.dbsize() == 0
    run(server.url, opened)
    assert store_exists(server.url) is True
    assert store_exists(f"{server.url}?prefix=other") is False
    assert store_exists(REDIS.url("127.0.0.1", servers.free_port())) is True


def test_a_raw_scan_sees_every_type(server: Server, admin: Any) -> None:
    run(server.url, commit)
    admin.rpush("list", "seen-in-list")
    found = b"\n".join(scan_backend(server.url) or ())
    for mark in (b"hello", b"support", b"m1", b"alice", b"work", b"seen-in-list"):
        assert mark in found


class _Babbler:
    """A server that speaks another protocol."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.port = self._loop.run_until_complete(self._listen())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _listen(self) -> int:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        self._server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()
