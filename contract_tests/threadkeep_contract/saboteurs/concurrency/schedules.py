"""Faults that law 5 must find in schedules: each shows where calls go on in one order of very few."""

from __future__ import annotations

import asyncio

from threadkeep.port import Changes, Receipt, Scope, Snapshot, Tail, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore


class CacheFilledBySlowLoad(DictStore):
    """The newest messages of a thread are cached beside it, and taken out of the cache by each write. A load that read
    before the write, and ends after it, puts back what it read."""

    fault = "cache-filled-by-a-slow-load"
    caught_by = 5
    seen_in = "look-aside caches without leases: memcached at Facebook (Nishtala and others, 2013)"

    def cache(self) -> dict[tuple[Scope, Window], Snapshot]:
        cached: dict[tuple[Scope, Window], Snapshot] = self.values.setdefault(("cache",), {})
        return cached

    def forget(self, scope: Scope) -> None:
        for key in [key for key in self.cache() if key[0].resource_id == scope.resource_id]:
            del self.cache()[key]

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        self.forget(scope)
        return super().write(scope, changes)

    def remove(self, scope: Scope) -> None:
        self.forget(scope)
        super().remove(scope)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        await self.request()
        with self.lock:
            snapshot = self.cache().get((scope, window)) or self.read(scope, window)
        await asyncio.sleep(0)
        with self.lock:
            self.cache()[scope, window] = snapshot
        return snapshot


class OptimisticRetryChecksOnce(DictStore):
    """A commit that finds the thread changed since it read it reads again, and this time writes without a look."""

    fault = "optimistic-retry-checks-once"
    caught_by = 5
    seen_in = "compare-and-set loops whose second attempt is taken for safe: WATCH and MULTI tried again once"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if not isinstance(scope, Thread):
            return await super().commit(scope, changes)
        tail = await self.seen(scope)
        with self.lock:
            if self.tail(scope) == tail:
                self.check(scope, changes)
                return self.write(scope, changes)
        tail = await self.seen(scope)
        with self.lock:
            self.check_versions(scope, changes.puts)
            if self.tail(scope) == tail:
                self.check(scope, changes)
            return self.write(scope, changes)

    async def seen(self, thread: Thread) -> Tail:
        await self.request()
        with self.lock:
            tail = self.tail(thread)
        await asyncio.sleep(0)
        return tail


class RepeatAnsweredTooEarly(DictStore):
    """A message that another commit is about to write is taken for written. That commit may still be refused."""

    fault = "repeat-answered-too-early"
    caught_by = 5
    seen_in = "tables of idempotency keys in which a request that is under way counts as done"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.under_way: set[tuple[Thread, str, str]] = set()

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        if not isinstance(scope, Thread) or not changes.append or changes.puts or changes.resource_puts:
            return await super().commit(scope, changes)
        keys = {(scope, record.id, record.digest) for record in changes.append}
        if keys <= self.under_way:
            await self.request()
            with self.lock:
                return Receipt(self.tail(scope), [place for place, _ in enumerate(changes.append, 1)])
        self.under_way |= keys
        try:
            return await super().commit(scope, changes)
        finally:
            self.under_way -= keys
