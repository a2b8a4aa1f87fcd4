"""Work in several operating system threads at once, each with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from threadkeep_contract.harness import Harness, LawBroken
from threadkeep_contract.history import Recorded
from threadkeep_contract.processes.worker import Order, Outcome, obey
from threadkeep_contract.races.contenders import Race


def in_threads(harness: Harness, promise: str, works: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Run each work on an event loop of its own, in a thread of its own, all at once; the results."""
    results: list[Any] = [None] * len(works)
    errors: list[Exception] = []

    def run(index: int) -> None:
        async def await_it() -> Any:
            return await works[index]()

        try:
            results[index] = asyncio.run(await_it())
        except Exception as error:  # noqa: BLE001 - it is handed on to the thread that asked
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(harness.profile.seconds)
        harness.require(promise, not thread.is_alive(), f"an end within {harness.profile.seconds:g} s", "none")
    for error in errors:
        if isinstance(error, LawBroken):
            raise error
        raise harness.broken(promise, "no error", error) from error
    return results


class Threads:
    """Contenders of a race: threads, each with an event loop of its own, that share two handles."""

    def __init__(self, harness: Harness, handles: Sequence[Recorded]) -> None:
        self.size = min(4, harness.profile.tasks)
        self.rounds = max(2, harness.profile.rounds // 4)
        self._url = harness.url
        self.handles = handles

    async def together(self, orders: Sequence[Order]) -> list[list[Outcome]]:
        start = threading.Barrier(len(orders))

        async def one(index: int) -> list[Outcome]:
            handle = self.handles[index % len(self.handles)]
            return [outcome async for outcome in obey(handle, self._url, orders[index])]

        def run(index: int) -> list[Outcome]:
            start.wait()
            return asyncio.run(one(index))

        return await asyncio.gather(*(asyncio.to_thread(run, index) for index in range(len(orders))))


def by_threads(harness: Harness, *races: Race) -> None:
    """Run races, one after the other, with threads."""

    async def run() -> None:
        handles = [await harness.open() for _ in range(2)]
        for race in races:
            await race(harness, handles[0], Threads(harness, handles))

    harness.run(run, seconds=2 * harness.profile.seconds)
