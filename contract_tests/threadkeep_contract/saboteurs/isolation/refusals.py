"""Faults that nothing mixes up, since nothing happens: a law that sees only refusals has not been kept, nor judged."""

from __future__ import annotations

from threadkeep.errors import StoreUnavailable
from threadkeep.port import Changes, Receipt, Scope, Snapshot, Window
from threadkeep_contract.saboteurs.base import DictStore


class EveryCommitUnavailable(DictStore):
    """Every commit is refused with StoreUnavailable: nothing is ever written, and so nothing is ever mixed up."""

    fault = "every-commit-unavailable"
    caught_by = 1
    seen_in = "servers that are read-only after a failover"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        raise StoreUnavailable("READONLY You can't write against a read only replica")


class EveryLoadUnavailable(DictStore):
    """Every load is refused with StoreUnavailable."""

    fault = "every-load-unavailable"
    caught_by = 1
    seen_in = "servers that write and refuse reads while they recover"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await self.request()
        raise StoreUnavailable("the database system is in recovery mode")


class ThirdOfCallsRefused(DictStore):
    """Every third call of a handle is refused with StoreUnavailable, having done nothing."""

    fault = "third-of-calls-refused"
    caught_by = 1
    seen_in = "endpoints that throttle, reached without a retry"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.calls = 0

    async def request(self) -> None:
        await super().request()
        self.calls += 1
        if self.calls % 3 == 0:
            raise StoreUnavailable("429 Too Many Requests")
