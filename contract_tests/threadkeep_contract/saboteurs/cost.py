"""Faults that law 13, cost, must find."""

from __future__ import annotations

from threadkeep.port import Changes, Costs, Order, Receipt, Resource, Scope, Snapshot, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore, Row


class LoadReadsWholeThread(DictStore):
    """A load fetches all records of the thread and throws most of them away."""

    fault = "load-reads-whole-thread"
    caught_by = 13
    seen_in = "LangGraph, Dapr, ADK and OpenAI defaults"

    def read(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Thread):
            self.meter.rows += len(self.log(scope))
        return super().read(scope, window)


class CommitRewritesThread(DictStore):
    """A commit sends the whole thread again."""

    fault = "commit-rewrites-thread"
    caught_by = 13
    seen_in = "LangGraph checkpoints, Dapr, LangChain DynamoDB"

    def write(self, scope: Scope, changes: Changes) -> Receipt:
        if isinstance(scope, Thread):
            self.meter.rows += len(self.log(scope))
        return super().write(scope, changes)


class TripPerRecord(DictStore):
    """A commit takes a round trip for each of its records."""

    fault = "trip-per-record"
    caught_by = 13
    seen_in = "Mastra #17350"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        for _ in changes.append[1:]:
            await self.request()
        return await super().commit(scope, changes)


class TripPerPageOfThread(DictStore):
    """A load takes a round trip for every ten records of the thread, wherever the window is."""

    fault = "trip-per-page-of-thread"
    caught_by = 13
    seen_in = "scans from the start of a partition"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Thread):
            for _ in range(len(self.log(scope)) // 10):
                await self.request()
        return await super().load(scope, window)


class TripPerDocument(DictStore):
    """A load takes a round trip for each document."""

    fault = "trip-per-document"
    caught_by = 13
    seen_in = "working memory, title and metadata read by calls of their own"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        for _ in self.docs(scope):
            await self.request()
        return await super().load(scope, window)


class ListReadsAllThreads(DictStore):
    """A list fetches the threads of all resources and keeps those of one."""

    fault = "list-reads-all-threads"
    caught_by = 13
    seen_in = "LlamaIndex Redis: `KEYS *` over the whole database"

    def listed(self, resource: Resource, order: Order) -> list[Row]:
        self.meter.rows += len(self.rows())
        return super().listed(resource, order)


class TripPerListedThread(DictStore):
    """A list takes a round trip for each thread in it."""

    fault = "trip-per-listed-thread"
    caught_by = 13
    seen_in = "one query for the ids and one more for each of them"

    def listed(self, resource: Resource, order: Order) -> list[Row]:
        threads = super().listed(resource, order)
        self.meter.trips += len(threads)
        return threads


class LoadScansAllThreads(DictStore):
    """A load looks through the rows of all threads of the store to find its own."""

    fault = "load-scans-all-threads"
    caught_by = 13
    seen_in = "DynamoDB Scan with a filter; SQL without an index"

    def read(self, scope: Scope, window: Window) -> Snapshot:
        self.meter.rows += len(self.rows())
        return super().read(scope, window)


class DeclaresMoreThanItTakes(DictStore):
    """What a usual load takes is declared larger than it is, as room for what it may take one day."""

    fault = "declares-more-than-it-takes"
    caught_by = 13
    seen_in = "budgets that say how much is allowed, and hide how much is spent"
    costs = Costs(load=3, commit=1, most_load=4, most_commit=4)
