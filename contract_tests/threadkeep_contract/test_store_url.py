"""The suite that `pytest --pyargs threadkeep_contract --store-url=URL` runs."""

from __future__ import annotations

from threadkeep_contract.suite import ContractSuite


class TestStoreURL(ContractSuite):
    """The store of `--store-url`."""
