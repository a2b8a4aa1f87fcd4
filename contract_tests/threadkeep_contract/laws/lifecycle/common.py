"""What several checks of law 12 use: every verb, a thread of three messages, event loops in threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from threadkeep.errors import ThreadkeepError
from threadkeep.port import Changes, Guard, Put, Resource, Thread
from threadkeep_contract.harness import ALL, Harness, LawBroken, record
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
