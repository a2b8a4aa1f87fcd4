"""Large places: a thread of very many messages, a resource of very many threads, very many resources.

How large is drawn, from what the profile says upwards, so that no store is right by having its cap just above it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import NamedTuple, TypeVar

from threadkeep.port import Changes, Put, Record, Resource, Thread
from threadkeep_contract.harness import Harness, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.reference.machine import START

T = TypeVar("T")

BATCH = 100
"""Messages in one commit: the most that every store takes."""
TOGETHER = 8
"""Commits to different scopes that are made at once."""


def run(harness: Harness, check: Callable[[], Awaitable[None]]) -> None:
    """As `harness.run`, with the time that filling a large place takes on a slow server."""
    harness.run(check, seconds=5 * harness.profile.seconds)


def chance(harness: Harness) -> Random:
    """Drawn by the seed, and the same for each run of a check with it."""
    return Random(harness.seed)


def size(harness: Harness, least: int) -> int:
    """A number from `least` up to a quarter above."""
    return least + chance(harness).randrange(1 + least // 4)


async def long_thread(harness: Harness, handle: Recorded, scope: Thread, count: int) -> list[Record]:
    """Fill a thread with so many small messages, m0, m1 and so on. The message m0 has position 1."""
    records = [record(f"m{number}", str(number)) for number in range(count)]
    batch = max(BATCH, min(1000, handle.limits.commit_messages))
    for start in range(0, count, batch):
        await handle.commit(scope, appending(harness, START, *records[start : start + batch]))
    return records


class Made(NamedTuple):
    """A thread as it was made; `created` is also its last activity."""

    created: int
    thread_id: str
    body: str
    """Of its document "info"."""


async def many_threads(harness: Harness, handles: list[Recorded], resource: Resource, count: int) -> list[Made]:
    """Fill a resource with so many threads of one message and one document; by creation, ties by id.

    Three or so are of one instant, and ids sort otherwise than the order of creation does.
    """
    drawn = chance(harness)
    ids = [str(number) for number in range(count)]
    drawn.shuffle(ids)
    made = [Made(START + drawn.randrange(count // 3 + 1), thread_id, thread_id) for thread_id in ids]

    async def create(place: int, one: Made) -> None:
        changes = appending(harness, one.created, record("m0"), puts=(Put("info", one.body),))
        await handles[place % len(handles)].commit(Thread(resource.resource_id, one.thread_id), changes)

    await _in_batches(create, made)
    return sorted(made)


async def many_resources(harness: Harness, handles: list[Recorded], room: str, count: int) -> list[str]:
    """Make so many resources whose ids begin with `room`, with a thread or a document each; by code point."""
    ids = [f"{room}{number}" for number in range(count)]
    chance(harness).shuffle(ids)

    async def create(place: int, resource_id: str) -> None:
        handle = handles[place % len(handles)]
        if place % 2:
            await handle.commit(Resource(resource_id), Changes(at=START, puts=(Put("info", "1"),)))
        else:
            await handle.commit(Thread(resource_id, "t"), appending(harness, START))

    await _in_batches(create, ids)
    return sorted(ids)


async def _in_batches(work: Callable[[int, T], Awaitable[object]], items: Iterable[T]) -> None:
    pending = list(enumerate(items))
    for start in range(0, len(pending), TOGETHER):
        await asyncio.gather(*(work(place, item) for place, item in pending[start : start + TOGETHER]))
