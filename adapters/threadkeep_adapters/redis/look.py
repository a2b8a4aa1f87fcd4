"""A look into a server without an event loop: whether there is a store, and everything that its keys hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import redis
from redis.cluster import ClusterNode

from threadkeep_adapters.redis.layout import store_key
from threadkeep_adapters.redis.url import Place


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
    """Whether there is a store. Raises RedisError or RedisClusterException of redis.exceptions."""
    with closing(_client(place)) as client:
        return bool(client.exists(store_key(place.prefix, "schema")))


def scan(place: Place) -> Iterator[bytes]:
    """Every key with what it holds, of the whole database and not of the store's prefix only."""
    with closing(_client(place)) as client:
        for key in client.scan_iter(count=1000):
            yield key
            match client.type(key):
                case b"hash":
                    for name, value in client.hgetall(key).items():
                        yield name + b"\n" + value
                case b"zset":
                    yield from client.zrange(key, 0, -1)
                case b"string":
                    yield client.get(key) or b""
                case b"none":
                    pass
                case other:
                    yield repr((key, other, client.dump(key))).encode()
