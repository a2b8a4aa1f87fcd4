"""What is looked at when a store is opened: whose keys these are, what the server keeps, and the scripts in place."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import NoPermissionError

from threadkeep.errors import InvalidURL, StoreDamaged, StoreError
from threadkeep.port import check_schema_version
from threadkeep_adapters.redis import scripts
from threadkeep_adapters.redis.cluster import Server
from threadkeep_adapters.redis.layout import schema_key
from threadkeep_adapters.redis.url import Place

SCHEMA_VERSION: Final = 1
"""Rises with every change of the layout; a store with another one is refused."""

OLDEST: Final = (6, 0)
"""Scripts that write after they asked for the time need Redis 5 (https://redis.io/docs/latest/develop/programmability/
eval-intro/#script-replication); 6 is the oldest version that the driver speaks to."""


async def prepare(server: Server, place: Place) -> None:
    """Look at every server, and write the schema's version where there is none. Safe to repeat and to race.

    Raises StoreTooNew, StoreTooOld, StoreDamaged and, for a server that does not keep what it is given, StoreError;
    all of these before anything is written.
    """
    looks = await server.each_master((("INFO",), *(("SCRIPT", "LOAD", script.text) for script in scripts.ALL)))
    for info, *loaded in looks:
        for answer in (info, *loaded):
            # Without permission the settings are not known, and EVAL brings each script when it is used.
            if isinstance(answer, Exception) and not isinstance(answer, NoPermissionError):
                raise answer
        if not isinstance(info, Exception):
            _check(_fields(info), place)
    key = schema_key(place.prefix)
    found = await server.call(key, "GET", key)
    if found is None:
        await server.call(key, "SET", key, SCHEMA_VERSION, "NX")
        found = await server.call(key, "GET", key)
    version = _version(found, key)
    check_schema_version(version, SCHEMA_VERSION)


def _version(found: bytes | None, key: bytes) -> int:
    if found is None or not found.isdigit():
        raise StoreDamaged(
            f"the key {key.decode()!r} holds {found!r:.60}, which is no version of this library's schema: it "
            "belongs to another program, or is damaged; choose another prefix"
        )
    return int(found)


def _fields(info: Any) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def _check(info: dict[str, str], place: Place) -> None:
    version = info.get("redis_version", "")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise StoreError(f"Redis {OLDEST[0]}.{OLDEST[1]} or newer is needed, and this server is {version or 'unknown'}")
    in_cluster = info.get("cluster_enabled") == "1"
    if in_cluster and not place.cluster:
        raise InvalidURL("the server is part of a cluster; write redis+cluster://")
    if place.cluster and not in_cluster:
        raise InvalidURL("the server is no cluster; write redis://")
    if place.durability == "none":
        return
    policy = info.get("maxmemory_policy", "")
    if info.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
        raise StoreError(
            f"the server is a cache: with maxmemory-policy {policy} it evicts what it has acknowledged; set "
            "maxmemory-policy to noeviction, or accept the loss with ?durability=none"
        )
    if info.get("aof_enabled") == "0":
        raise StoreError(
            "the server keeps no append-only file, so that a restart loses what it has acknowledged; set appendonly "
            "to yes (and see appendfsync in this store's page), or accept the loss with ?durability=none"
        )
