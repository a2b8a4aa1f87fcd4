"""What a user of a Redis server may not do is told, and leaves nothing half done (laws 4, 12)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import servers
from opening import ONE, THREAD, commit, refused, run
from redis_server import REDIS, client
from servers import Server

from threadkeep.errors import StoreNotWritable
from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread

PERMISSIONS = "let the user run the commands and reach the keys that the store's page lists"
"""What is said to do where the server misses a permission."""
NEEDED = [
    *("info", "script|load", "eval", "evalsha", "get", "set", "exists", "unlink", "time", "hget", "hmget", "hgetall"),
    *("hset", "hdel", "zadd", "zrem", "zcard", "zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore"),
    *("zremrangebyscore", "zremrangebyrank", "zrangebylex", "zrevrangebylex", "persist"),
]
"""The commands that the store's page lists."""
MORE = Changes(at=2, epoch="e", append=(Record("m2", "d2", '"more"'),), resource_puts=(Put("work", "2"),))


@pytest.fixture(scope="module")
def private() -> Iterator[Server]:
    server = servers.private(REDIS)
    yield server
    server.stop()


@pytest.fixture
def admin(private: Server) -> Iterator[Any]:
    with closing(client(private.host, private.port)) as made:
        made.flushall()
        yield made


def user_of(server: Server, admin: Any, name: str, *rights: str) -> str:
    """The URL of a user who has these rights and no others."""
    admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">pw", *rights)
    return f"redis://{name}:pw@{server.host}:{server.port}"


def everything(admin: Any) -> dict[bytes, bytes]:
    return {name: admin.dump(name) for name in admin.scan_iter()}


@pytest.mark.parametrize("user", ["other", "BUSY", "WRONGTYPE"])
@pytest.mark.parametrize(
    "rights",
    [
        ["~theirs:*", "+@all"],
        ["~threadkeep:schema", "+@all"],
        ["~threadkeep:schema", "~threadkeep:{alice}:thread:*", "+@all"],
        ["~*", "+@all", "-evalsha", "-eval"],
        ["~*", "+@all", "-zadd"],
    ],
    ids=["no key", "no key of a resource", "one key of several", "no script", "no command in a script"],
)
def test_a_missing_permission_is_told_wherever_the_server_finds_it(
    private: Server, admin: Any, user: str, rights: list[str]
) -> None:
    """A user may be called as the server calls other errors: newer servers name the user."""
    run(private.url, commit)
    before = everything(admin)
    url = user_of(private, admin, user, *rights)
    assert PERMISSIONS in refused(StoreNotWritable, url, lambda store: store.commit(THREAD, MORE))
    assert everything(admin) == before


def test_a_key_that_a_script_reaches_and_may_not_is_told(private: Server, admin: Any) -> None:
    """Which keys a listing reads it learns from others, so that the script itself finds that one is missing."""
    run(private.url, commit)
    keys = ("~threadkeep:schema", "~threadkeep:resources", "~threadkeep:{alice}:active", "~threadkeep:{alice}:created")
    url = user_of(private, admin, "lister", *keys, "+@all")
    assert PERMISSIONS in refused(StoreNotWritable, url, lambda store: store.threads(Resource("alice"), order="active"))


@pytest.mark.parametrize("missing", NEEDED)
def test_a_command_that_a_user_may_not_run_leaves_nothing_half_done(private: Server, admin: Any, missing: str) -> None:
    """A script has written something when the server refuses a later command of it."""
    url = user_of(private, admin, "less", "~*", "+@all", f"-{missing}")
    works: list[Callable[[Guard], Awaitable[Any]]] = [
        lambda store: store.commit(Thread("bob", "new"), ONE),
        lambda store: store.commit(THREAD, MORE),
        lambda store: store.commit(THREAD, Changes(at=3, epoch="e", drop_after=2)),
        lambda store: store.commit(THREAD, Changes(at=3, epoch="e", drop_after=0)),
        lambda store: store.commit(Resource("bob"), Changes(at=3, puts=(Put("work", "3"),))),
        lambda store: store.delete(THREAD),
        lambda store: store.delete(Resource("alice")),
    ]
    for work in works:
        admin.flushall()
        run(private.url, commit, *(_append(number) for number in range(3)))
        before = everything(admin)
        said = _refusal(url, work)
        if said is not None:
            assert PERMISSIONS in said
            assert everything(admin) == before


def _refusal(url: str, work: Callable[[Guard], Awaitable[Any]]) -> str | None:
    try:
        run(url, work)
    except StoreNotWritable as error:
        return str(error)
    return None


def _append(number: int) -> Callable[[Guard], Awaitable[Any]]:
    changes = Changes(at=2, epoch="e", append=(Record(f"n{number}", "d", '"more"'),))
    return lambda store: store.commit(THREAD, changes)
