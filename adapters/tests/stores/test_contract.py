"""Every store of this distribution, judged by the contract in the way in which a stranger's is.

The stores are read from the entry points. A new one needs a URL in `store_urls`, and nothing else.
"""

from __future__ import annotations

import atexit
import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import servers
from store_urls import ENTRIES, KINDS, SCHEMES, URLS

from threadkeep_contract import ContractSuite

_folder: Final = tempfile.TemporaryDirectory(prefix="threadkeep-contract-")
atexit.register(_folder.cleanup)

ALIASES: Final = {"mongodb+srv": "mongodb", "postgres": "postgresql", "rediss": "redis"}
"""Schemes of which each is another name for a store that is judged under this one, by the same module."""


def suite_of(judged: str) -> type[ContractSuite]:
    """`class TestScheme(ContractSuite): url = ...`"""
    url = URLS[judged](Path(_folder.name))
    name = f"Test{judged.title().replace(' ', '')}"
    profile = KINDS[judged].profile if judged in KINDS else ContractSuite.profile
    suite = type(name, (ContractSuite,), {"url": url, "judged": judged, "profile": profile, "__module__": __name__})
    kind = KINDS.get(judged)
    if kind is None:
        return suite
    for mark in (*kind.left_behind, *([pytest.mark.slow] if kind.slow else [])):
        suite = mark(suite)
    return suite


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
    if kind.left_behind:
        # It is collected where it is known, and not in some test of another store.
        gc.collect()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_store_of_this_distribution_is_judged(scheme: str) -> None:
    """A store that registers here without a URL to judge it by would pass by not being asked."""
    judged = ALIASES.get(scheme, scheme)
    assert judged in URLS, f"{scheme}:// has no URL in adapters/tests/common/store_urls.py; add one"
    assert ENTRIES[judged] == ENTRIES[scheme]
