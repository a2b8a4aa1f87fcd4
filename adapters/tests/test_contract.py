"""Every store of this distribution, judged by the contract in the way in which a stranger's is.

The stores are read from the entry points. A new one needs a URL here, and nothing else.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import servers
from dynamodb_server import DYNAMODB
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
    "postgresql": lambda folder: servers.reserve(POSTGRESQL).url + "?schema=threadkeep_contract",
    "redis": lambda folder: servers.reserve(REDIS).url,
    "redis+cluster": lambda folder: servers.reserve(REDIS_CLUSTER).url,
    "sqlite": lambda folder: f"sqlite:///{folder / 'contract.db'}",
}
"""Scheme -> the URL of a store to judge, given a folder that is gone afterwards."""

KINDS: Final[dict[str, Kind]] = {
    "dynamodb": DYNAMODB,
    "postgresql": POSTGRESQL,
    "redis": REDIS,
    "redis+cluster": REDIS_CLUSTER,
}
"""Scheme -> the server that its store needs; it starts before the first check."""

QUICK: Final = frozenset({"dynamodb"})
"""Schemes whose stores get the quick profile unless the command says more: their servers, which stand in for the real
ones, are many times slower than these, and a default profile would take as long as those of all other stores."""

ALIASES: Final = {"postgres": "postgresql", "rediss": "redis"}
"""Schemes of which each is another name for a store that is judged under this one, by the same module."""

_ENTRIES: Final = {
    scheme: entries[0].value
    for scheme, entries in installed_schemes().items()
    if any(entry.dist is not None and entry.dist.name == "threadkeep" for entry in entries)
}
SCHEMES: Final = sorted(_ENTRIES)


def suite_of(scheme: str) -> type[ContractSuite]:
    """`class TestScheme(ContractSuite): url = ...`"""
    body = {"url": URLS[scheme](Path(_folder.name)), "scheme": scheme, "__module__": __name__}
    if scheme in QUICK:
        body["profile"] = "quick"
    return type(f"Test{scheme.title()}", (ContractSuite,), body)


globals().update({suite.__name__: suite for suite in map(suite_of, [one for one in SCHEMES if one in URLS])})


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest) -> None:
    """The server of the store under judgement, where it has one, has started."""
    kind = KINDS.get(getattr(request.cls, "scheme", ""))
    if kind is not None:
        servers.shared(kind)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_store_of_this_distribution_is_judged(scheme: str) -> None:
    """A store that registers here without a URL to judge it by would pass by not being asked."""
    judged = ALIASES.get(scheme, scheme)
    assert judged in URLS, f"{scheme}:// has no URL in {__file__}; add one"
    assert _ENTRIES[judged] == _ENTRIES[scheme]
