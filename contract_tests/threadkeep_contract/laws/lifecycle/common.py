"""What several checks of law 12 use: every verb with good arguments, and a thread of three messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from threadkeep.errors import ThreadkeepError
from threadkeep.port import Changes, Guard, Put, Resource, Thread
from threadkeep_contract.harness import ALL, Harness, record
from threadkeep_contract.history import Recorded

Verb: TypeAlias = Callable[[Guard], Awaitable[object]]


def verbs(harness: Harness, thread: Thread) -> dict[str, Verb]:
    """Every verb, with arguments that are good."""
    resource = Resource(thread.resource_id)
    return {
        "open": lambda handle: handle.open(),
        "load": lambda handle: handle.load(thread, ALL),
        "load of a resource": lambda handle: handle.load(resource),
        "commit": lambda handle: handle.commit(thread, Changes(1, harness.epoch(), (record("late"),))),
        "commit to a resource": lambda handle: handle.commit(resource, Changes(1, puts=(Put("late", "1"),))),
        "delete": lambda handle: handle.delete(thread),
        "threads": lambda handle: handle.threads(resource),
        "resources": lambda handle: handle.resources(),
    }


async def three(harness: Harness, handle: Recorded) -> Thread:
    """A new thread of three messages."""
    thread = Thread(harness.fresh() + "user", "thread")
    await handle.commit(thread, Changes(1, harness.epoch(), tuple(record(f"m{index}") for index in range(3))))
    return thread


async def count(handle: Guard, thread: Thread) -> int:
    return len((await handle.load(thread, ALL)).records)


async def settled(harness: Harness, promise: str, works: list[Awaitable[object]]) -> list[object]:
    """The results of calls that run at once; an exception among them has to be the library's own."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        own = not isinstance(result, BaseException) or isinstance(result, ThreadkeepError)
        harness.require(promise, own, "results, or errors of threadkeep", result)
    return results
