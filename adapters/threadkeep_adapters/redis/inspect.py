"""A server without an event loop: whether there is a store, everything that its keys hold, and its version."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final

import redis
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException, RedisError

from threadkeep_adapters.redis.layout import schema_key
from threadkeep_adapters.redis.url import Place

BATCH: Final = 500
"""Keys that are looked at in one exchange."""


def _client(place: Place) -> Any:
    """A client whose types are looked at here: redis-py's say text where bytes come."""
    common: dict[str, Any] = {
        "username": place.username,
        "password": place.password,
        "socket_timeout": place.timeout,
        "socket_connect_timeout": place.connect_timeout,
        "ssl": place.tls,
        "protocol": 2,
        **dict(place.tls_options),
    }
    if place.cluster:
        return redis.RedisCluster(startup_nodes=_nodes(place), **common)
    ((host, port),) = place.seeds
    return redis.Redis(host=host, port=port, db=place.database, **common)


def _nodes(place: Place) -> list[ClusterNode]:
    return [ClusterNode(host, port) for host, port in place.seeds]  # type: ignore[no-untyped-call] # has no types


def exists(place: Place) -> bool:
    """Whether there is a store, or something that opening will say more about."""
    try:
        with closing(_client(place)) as client:
            return bool(client.exists(schema_key(place.prefix)))
    except (RedisError, RedisClusterException):
        return True  # something may be there, and opening it tells what is wrong


def shift(place: Place, by: int) -> None:
    """Write another schema version into the server."""
    with closing(_client(place)) as client:
        client.incrby(schema_key(place.prefix), by)


def scan(place: Place) -> Iterator[bytes]:
    """Every key with what it holds, of the whole database and not of the store's prefix only."""
    with closing(_client(place)) as client:
        found = client.scan_iter(count=BATCH)
        while keys := list(islice(found, BATCH)):
            kinds = _ask(client, [("TYPE", key) for key in keys])
            held = _ask(client, [_READ.get(kind, _dump)(key) for key, kind in zip(keys, kinds, strict=True)])
            for key, kind, value in zip(keys, kinds, held, strict=True):
                yield key
                match value:
                    case dict():
                        yield from (name + b"\n" + text for name, text in value.items())
                    case list():
                        yield from value
                    case bytes() if kind in _READ:
                        yield value
                    case None:
                        pass  # it was removed meanwhile
                    case other:
                        yield repr((key, kind, other)).encode()


def _dump(key: bytes) -> tuple[Any, ...]:
    return "DUMP", key


_READ: Final[dict[bytes, Callable[[bytes], tuple[Any, ...]]]] = {
    b"hash": lambda key: ("HGETALL", key),
    b"zset": lambda key: ("ZRANGE", key, 0, -1),
    b"string": lambda key: ("GET", key),
}


def _ask(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What commands answer, each for itself, an error as an object: what is asked may change at any time."""
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
    return answers
