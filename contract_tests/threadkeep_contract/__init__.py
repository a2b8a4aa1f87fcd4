"""The contract that every threadkeep store is judged by. It needs `pip install "threadkeep[contract]"`.

    from threadkeep_contract import ContractSuite

    class TestAcme(ContractSuite):
        url = "acme://anywhere"

or `pytest --pyargs threadkeep_contract --store-url=URL`, or `threadkeep contract URL`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadkeep_contract.suite import ContractSuite as ContractSuite

__all__ = ["ContractSuite"]


def __getattr__(name: str) -> object:
    if name == "ContractSuite":
        from threadkeep_contract.suite import ContractSuite

        return ContractSuite
    raise AttributeError(f"module 'threadkeep_contract' has no attribute {name!r}")
