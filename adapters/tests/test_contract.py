"""Every store of this distribution, judged by the contract in the way in which a stranger's is.

The stores are read from the entry points. A new one needs a URL here, and nothing else.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import servers
from dynamodb_server import DYNAMODB
from mongodb_server import FERRETDB, MONGO_JAVA_SERVER, MONGOD, SLOW, with_options
from postgresql_server import POSTGRESQL
from redis_server import REDIS, REDIS_CLUSTER
from servers import Kind

from threadkeep.registry import installed_schemes
from threadkeep_contract import ContractSuite

_folder: Final = tempfile.TemporaryDirectory(prefix="threadkeep-contract-")
atexit.register(_folder.cleanup)

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

ALIASES: Final = {"mongodb+srv": "mongodb", "postgres": "postgresql", "rediss": "redis"}
"""Schemes of which each is another name for a store that is judged under this one, by the same module."""

_ENTRIES: Final = {
    scheme: entries[0].value
    for scheme, entries in installed_schemes().items()
    if any(entry.dist is not None and entry.dist.name == "threadkeep" for entry in entries)
}
SCHEMES: Final = sorted(_ENTRIES)


def suite_of(judged: str) -> type[ContractSuite]:
    """`class TestScheme(ContractSuite): url = ...`"""
    url = URLS[judged](Path(_folder.name))
    name = f"Test{judged.title().replace(' ', '')}"
    profile = KINDS[judged].profile if judged in KINDS else ContractSuite.profile
    suite = type(name, (ContractSuite,), {"url": url, "judged": judged, "profile": profile, "__module__": __name__})
    return pytest.mark.slow(suite) if judged in KINDS and KINDS[judged].slow else suite


globals().update(
    {suite.__name__: suite for suite in map(suite_of, [one for one in URLS if one.partition(" ")[0] in SCHEMES])}
)


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest) -> Iterator[None]:
    """The server of the store under judgement, where it has one, has started, and is tidied up after each check."""
    kind = KINDS.get(getattr(request.cls, "judged", ""))
    if kind is None:
        yield
        return
    server = servers.shared(kind)
    yield
    kind.tidy(server.url)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_store_of_this_distribution_is_judged(scheme: str) -> None:
    """A store that registers here without a URL to judge it by would pass by not being asked."""
    judged = ALIASES.get(scheme, scheme)
    assert judged in URLS, f"{scheme}:// has no URL in {__file__}; add one"
    assert _ENTRIES[judged] == _ENTRIES[scheme]
