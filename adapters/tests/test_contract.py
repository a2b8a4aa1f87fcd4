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

from threadkeep.registry import installed_schemes
from threadkeep_contract import ContractSuite

_folder: Final = tempfile.TemporaryDirectory(prefix="threadkeep-contract-")
atexit.register(_folder.cleanup)

URLS: Final[dict[str, Callable[[Path], str]]] = {
    "memory": lambda folder: "memory://contract",
    "sqlite": lambda folder: f"sqlite:///{folder / 'contract.db'}",
}
"""Scheme -> the URL of a store to judge, given a folder that is gone afterwards."""

SCHEMES: Final = sorted(
    scheme
    for scheme, entries in installed_schemes().items()
    if any(entry.dist is not None and entry.dist.name == "threadkeep" for entry in entries)
)


def suite_of(scheme: str) -> type[ContractSuite]:
    """`class TestScheme(ContractSuite): url = ...`"""
    url = URLS[scheme](Path(_folder.name))
    return type(f"Test{scheme.title()}", (ContractSuite,), {"url": url, "__module__": __name__})


globals().update({suite.__name__: suite for suite in map(suite_of, [one for one in SCHEMES if one in URLS])})


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_store_of_this_distribution_is_judged(scheme: str) -> None:
    """A store that registers here without a URL to judge it by would pass by not being asked."""
    assert scheme in URLS, f"{scheme}:// has no URL in {__file__}; add one"
