"""Faults that law 13, cost, must find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from threadkeep.port import (
    After,
    Changes,
    Costs,
    Order,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Thread,
    ThreadRow,
    Window,
)
from threadkeep_contract.saboteurs.base import DictStore, Row
from threadkeep_contract.saboteurs.wire import WireStore

ALL_OF_IT: Final = 2**31 - 1
"""More than any thread or list holds."""


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


class TripsUnderTheMeter(WireStore):
    """A load asks for the resource's documents once more, and its meter, which sits in the verb, does not see that."""

    fault = "wire-trips-under-the-meter"
    caught_by = 13
    seen_in = "meters in the verb, where the driver is called by something below it"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        snapshot = await super().load(scope, window)
        await self.exchange("load", Resource(scope.resource_id), Window())
        return snapshot


class RowsUnderTheMeter(WireStore):
    """A load fetches the whole thread, cuts the window out of it, and counts what is left."""

    fault = "wire-rows-under-the-meter"
    caught_by = 13
    seen_in = "LangGraph, Dapr, ADK and OpenAI defaults: LRANGE 0 -1"

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        if isinstance(scope, Resource) or window.anchor is not None:
            return await super().load(scope, window)
        rows = self.meter.rows
        whole = await super().load(scope, Window(before=ALL_OF_IT))
        wanted = whole.records[max(0, len(whole.records) - window.before) :]
        self.meter.rows = rows + len(wanted) + len(whole.docs) + len(whole.resource_docs) + 1
        return replace(whole, records=wanted)


class ListUnderTheMeter(WireStore):
    """A page of threads is cut out of the whole list, documents and all, and counts what is on it."""

    fault = "wire-list-under-the-meter"
    caught_by = 13
    seen_in = "pages cut by the client: `list(...)[offset:offset + limit]`"

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        rows = self.meter.rows
        page = (await super().threads(resource, after, ALL_OF_IT, order, slots))[:limit]
        self.meter.rows = rows + len(page)
        return page
