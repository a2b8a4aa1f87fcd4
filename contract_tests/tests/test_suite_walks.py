"""Walks end: a page by which one would not get on breaks the law in whatever handle shows it (law 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from threadkeep.handles import Memory
from threadkeep.messages import Message
from threadkeep.port import After, Order, Put, Resource, Scope, Snapshot, Stored, Thread, ThreadRow, Window
from threadkeep_contract.harness import Harness, LawBroken, appending, record
from threadkeep_contract.profiles import PROFILES
from threadkeep_contract.saboteurs.base import DictStore, Row
from threadkeep_contract.walks import Walked

SLOT = (Put("info", '{"archived":false}'),)


class _Standing(DictStore):
    """Lists and windows begin at the first row, wherever they are asked to begin."""

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        return rows[:limit]

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        return await super().resources(None, limit)

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        return log[: window.after] if window.after else log[len(log) - window.before :]


class _Moving(DictStore):
    """A thread has moved to the front of the list when its page is shown, and the walk goes on from there."""

    def listing(self, row: Row, slots: Sequence[str]) -> ThreadRow:
        return super().listing(row, slots)._replace(active=10**9)


class _Bare(DictStore):
    """Sound, but that a load has no records, as of a thread that was emptied meanwhile."""

    def read(self, scope: Scope, window: Window) -> Snapshot:
        return replace(super().read(scope, window), records=())


Walk: TypeAlias = Callable[[Walked], Coroutine[Any, Any, object]]


async def _threads(handle: Walked) -> object:
    after: After | None = None
    while page := await handle.threads(Resource("r1"), after, 2):
        after = After(page[-1].created, page[-1].thread_id)
    return None


async def _active_threads(handle: Walked) -> object:
    after: After | None = None
    while page := await handle.threads(Resource("r1"), after, 2, "active"):
        after = After(page[-1].active, page[-1].thread_id)
    return None


async def _filtered(handle: Walked) -> object:
    """The library looks on within one call for threads that fit, and finds none."""
    return [info async for info in Memory(handle).resource("r1").threads(metadata={"no": "such"})]


async def _resources(handle: Walked) -> object:
    return await handle.resources("r1", 1)


async def _all_resources(handle: Walked) -> object:
    page: Sequence[str] = ["q"]
    while page:
        page = await handle.resources(page[-1], 2)
    return None


async def _forward(handle: Walked) -> object:
    return [message async for message in Memory(handle).thread("r1", "t0").history()]


async def _backward(handle: Walked) -> object:
    position: int | None = None
    while records := (await handle.load(Thread("r1", "t0"), Window(position, before=2))).records:
        position = records[0].position
    return None


WALKS: list[Walk] = [_threads, _active_threads, _filtered, _resources, _all_resources, _forward, _backward]


@pytest.fixture
def harness() -> Iterator[Harness]:
    made = Harness("memory://walks", PROFILES["quick"])
    yield made
    made.close()


async def _filled(harness: Harness, store: DictStore) -> Walked:
    handle = Walked(store, harness.history, "handle1", harness.require)
    # More threads and messages than the library asks for at once.
    for number in range(220):
        await handle.commit(Thread("r1", f"t{number}"), appending(harness, number + 1, puts=SLOT))
    made = [Message.user("x", id=f"m{number}") for number in range(220)]
    for start in range(0, len(made), 80):
        await Memory(handle).thread("r1", "t0").append(*made[start : start + 80])
    await handle.commit(Thread("r2", "t"), appending(harness, 1, record("m")))
    await handle.commit(Thread("r3", "t"), appending(harness, 1, record("m")))
    return handle


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_that_does_not_get_on_is_a_broken_law(walk: Walk, harness: Harness) -> None:
    async def run(store: DictStore) -> None:
        async with asyncio.timeout(20):  # a walk that never ends is to fail here, not to hang
            await walk(await _filled(harness, store))

    asyncio.run(run(DictStore("walks://sound", "")))
    asyncio.run(run(_Bare("walks://bare", "")))
    with pytest.raises(LawBroken, match="a walk shows each once and ends"):
        asyncio.run(run(_Standing("walks://standing", "")))


def test_a_row_that_moves_while_its_page_is_shown_is_a_broken_law(harness: Harness) -> None:
    async def run() -> None:
        async with asyncio.timeout(20):
            await _active_threads(await _filled(harness, _Moving("walks://moving", "")))

    with pytest.raises(LawBroken, match="a walk shows each once and ends"):
        asyncio.run(run())
