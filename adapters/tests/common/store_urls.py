"""The stores that are judged: their URLs, and the servers that they need. A new store needs a line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import servers
from dynamodb_server import DYNAMODB
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER, MONGOD, SLOW, with_options
from postgresql_server import POSTGRESQL
from redis_server import REDIS, REDIS_CLUSTER
from servers import Kind

from threadkeep.port import installed_schemes

URLS: Final[dict[str, Callable[[Path], str]]] = {
    "dynamodb": lambda folder: servers.reserve(DYNAMODB).url,
    "memory": lambda folder: "memory://contract",
    "mongodb": lambda folder: servers.reserve(MONGO_JAVA_SERVER).url,
    "mongodb on ferretdb": lambda folder: with_options(servers.reserve(FERRETDB).url, SLOW),
    "postgresql": lambda folder: servers.reserve(POSTGRESQL).url + "?schema=threadkeep_contract",
    "redis": lambda folder: servers.reserve(REDIS).url,
    "redis+cluster": lambda folder: servers.reserve(REDIS_CLUSTER).url,
    "sqlite": lambda folder: f"sqlite:///{folder / 'contract.db'}",
}
"""Scheme, or scheme on a server -> the URL of a store to judge, given a folder that is gone afterwards."""

KINDS: Final[dict[str, Kind]] = {
    "dynamodb": DYNAMODB,
    "mongodb": MONGO_JAVA_SERVER,
    "mongodb on ferretdb": FERRETDB,
    "postgresql": POSTGRESQL,
    "redis": REDIS,
    "redis+cluster": REDIS_CLUSTER,
}
"""As in URLS -> the server that the store needs; it starts before the first check."""

if MONGOD.find() is not None or servers.docker_answers():
    URLS["mongodb on mongod"] = lambda folder: servers.reserve(MONGOD).url
    KINDS["mongodb on mongod"] = MONGOD

ENTRIES: Final = {
    scheme: entries[0].value
    for scheme, entries in installed_schemes().items()
    if any(entry.dist is not None and entry.dist.name == "threadkeep" for entry in entries)
}
"""Scheme -> the module of its plugin, for the stores of this distribution."""

SCHEMES: Final = sorted(ENTRIES)


def ready(scheme: str, folder: Path) -> str:
    """The URL of a store as in URLS, whose server, if it needs one, is there."""
    if scheme in KINDS:
        servers.shared(KINDS[scheme])
    return URLS[scheme](folder)
