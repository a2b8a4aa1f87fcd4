"""A store whose requests are answered later, as over a network: what is sent is done whether or not anybody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from threadkeep.port import After, Changes, Order, Receipt, Resource, Scope, Snapshot, ThreadRow, Window
from threadkeep_contract.saboteurs.base import DictStore, Space

T = TypeVar("T")


class RemoteStore(DictStore):
    """The sound store at the other end of a network. Every verb but `resources` waits for an answer that may fail to
    come; what was asked is done all the same."""

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.server: Space | None = None

    def _opened(self) -> Space:
        # What was sent before the store was closed is done behind that.
        self.server = self.space or self.server
        return self.server or super()._opened()

    async def ask(self, work: Callable[[], T]) -> T:
        """One round trip: the server does the work in a later turn of the event loop, and answers then."""
        self.meter.trips += 1
        self._opened()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Callable[[], T]] = loop.create_future()
        loop.call_soon(_serve, work, answer)
        return (await answer)()

    def commit_there(self, scope: Scope, changes: Changes) -> Receipt:
        """What the server does for a commit."""
        with self.lock:
            self.check(scope, changes)
            return self.write(scope, changes)

    def load_there(self, scope: Scope, window: Window) -> Snapshot:
        """What the server does for a load."""
        with self.lock:
            return self.read(scope, window)

    async def load(self, scope: Scope, window: Window) -> Snapshot:
        return await self.ask(lambda: self.load_there(scope, window))

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        return await self.ask(lambda: self.commit_there(scope, changes))

    async def delete(self, scope: Scope) -> None:
        def remove() -> None:
            with self.lock:
                self.remove(scope)

        await self.ask(remove)

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        def look() -> Sequence[ThreadRow]:
            with self.lock:
                page = self.page(self.ordered(self.listed(resource, order), order), after, limit, order)
                self.meter.rows += len(page)
                return [self.listing(row, slots) for row in page]

        return await self.ask(look)


def _serve(work: Callable[[], T], answer: asyncio.Future[Callable[[], T]]) -> None:
    """Do the work, and answer whoever still waits: with a function that gives the result, or raises the error."""
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 - it is raised again where the answer is taken
        failed = error

        def give() -> T:
            raise failed
    else:

        def give() -> T:
            return result

    if not answer.done():
        answer.set_result(give)
