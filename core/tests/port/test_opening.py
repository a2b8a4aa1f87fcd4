"""A guard opens its store once, whoever is first, and for no other process (law 12)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from threadkeep.errors import StoreClosed, StoreUnavailable
from threadkeep.port import Guard, Thread
from threadkeep_adapters.memory.store import InProcessStore

THREAD = Thread("alice", "t")


class Door(InProcessStore):
    """A store whose openings wait until they are let in, and then do what they are told."""

    def __init__(self, *refused: Exception, turns: int = 5) -> None:
        super().__init__(f"door {id(self)}")
        self.openings = 0
        self.closings = 0
        self.refused = list(refused)
        self.turns = turns

    async def open(self) -> None:
        self.openings += 1
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if self.refused:
            raise self.refused.pop(0)
        await super().open()

    async def close(self) -> None:
        self.closings += 1
        await super().close()


async def test_first_calls_at_once_open_the_store_once() -> None:
    store = Door()
    guard = Guard(store)
    await asyncio.gather(*(guard.load(THREAD) for _ in range(60)), *(guard.open() for _ in range(60)))
    assert store.openings == 1
    await guard.close()


def test_threads_and_their_event_loops_share_one_opening() -> None:
    store = Door(turns=200)
    guard = Guard(store)
    start = threading.Barrier(8)

    async def use() -> None:
        start.wait()
        await asyncio.gather(*(guard.load(THREAD) for _ in range(5)))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(asyncio.run, (use() for _ in range(8))))
    assert store.openings == 1
    asyncio.run(guard.close())


@pytest.mark.parametrize("turns", range(8))
async def test_an_opener_that_is_cancelled_fails_nobody_else(turns: int) -> None:
    store = Door()
    guard = Guard(store)
    first = asyncio.ensure_future(guard.load(THREAD))
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(guard.load(THREAD)) for _ in range(5)]
    for _ in range(turns):
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(*others)
    assert store.openings <= 2
    await guard.close()


async def test_openers_that_are_cancelled_one_after_the_other_fail_nobody_else() -> None:
    store = Door()
    guard = Guard(store)
    tasks = [asyncio.ensure_future(guard.load(THREAD)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks[:-1]:
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
    await tasks[-1]
    await guard.close()


async def test_an_opening_that_fails_fails_its_opener_alone() -> None:
    store = Door(StoreUnavailable("not yet"))
    guard = Guard(store)
    results = await asyncio.gather(*(guard.load(THREAD) for _ in range(20)), return_exceptions=True)
    assert [type(result) for result in results if isinstance(result, BaseException)] == [StoreUnavailable]
    assert store.openings == 2
    await guard.close()


async def test_nobody_waits_for_more_than_two_openings() -> None:
    store = Door(*(StoreUnavailable(f"down {number}") for number in range(100)))
    guard = Guard(store)
    results = await asyncio.gather(*(guard.load(THREAD) for _ in range(20)), return_exceptions=True)
    assert {str(result) for result in results} == {"down 0", "down 1"}
    assert store.openings == 2
    with pytest.raises(StoreUnavailable, match="down 2"):
        await guard.load(THREAD)
    await guard.close()


async def test_an_opening_whose_event_loop_stands_still_holds_up_nobody() -> None:
    store = Door(turns=10_000)
    guard = Guard(store)
    stopped = asyncio.new_event_loop()

    def begin() -> None:
        opening = stopped.create_task(guard.open())
        stopped.run_until_complete(asyncio.sleep(0))
        assert not opening.done()

    await asyncio.to_thread(begin)
    store.turns = 1
    await asyncio.wait_for(guard.load(THREAD), 10)
    assert store.openings == 2

    def end() -> None:
        tasks = asyncio.all_tasks(stopped)
        for task in tasks:
            task.cancel()
        stopped.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        stopped.close()

    await asyncio.to_thread(end)
    await guard.load(THREAD)
    await guard.close()


@pytest.mark.parametrize("turns", range(8))
async def test_who_waits_for_an_opening_of_a_store_that_is_closed_is_told_so(turns: int) -> None:
    store = Door()
    guard = Guard(store)
    tasks = [asyncio.ensure_future(guard.load(THREAD)) for _ in range(4)]
    for _ in range(turns):
        await asyncio.sleep(0)
    await guard.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results if isinstance(result, BaseException)} <= {StoreClosed}
    assert store._space is None
    with pytest.raises(StoreClosed):
        await guard.load(THREAD)


def forked(
    before: Callable[[Guard], Awaitable[object]], after: Callable[[Guard], Awaitable[object]], inherit: bool
) -> str:
    """What a child process tells of `after`, on the event loop that it has inherited, or on one of its own."""
    guard, loop = Guard(Door()), asyncio.new_event_loop()
    loop.run_until_complete(before(guard))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run = loop.run_until_complete if inherit else asyncio.run
            told = f"{run(after(guard))!r}"  # type: ignore[arg-type] # a coroutine
        except BaseException as error:  # noqa: BLE001 - it is told below
            told = f"{type(error).__name__}: {error}"
        os.write(writer, f"{told} closed {guard.store.closings} times".encode())  # type: ignore[attr-defined] # a Door
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told_by_child:
        told = told_by_child.read()
    os.waitpid(child, 0)
    loop.run_until_complete(guard.load(THREAD))
    loop.run_until_complete(guard.close())
    assert guard.store.closings == 1  # type: ignore[attr-defined] # a Door
    loop.close()
    return told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("inherit", [True, False])
def test_what_a_parent_has_opened_is_not_used_by_its_child(inherit: bool, tmp_path: Path) -> None:
    script = f"""
import asyncio, test_opening as t
async def opened(guard): await guard.open()
async def nothing(guard): pass
async def load(guard): return (await guard.load(t.THREAD)).records
async def reopened(guard): await guard.open()
async def closed(guard): await guard.close()
async def under_way(guard):
    asyncio.ensure_future(guard.open())
    await asyncio.sleep(0)
for before, after in ((opened, load), (opened, reopened), (opened, closed), (nothing, load), (under_way, load)):
    print(before.__name__, after.__name__, t.forked(before, after, {inherit}), sep=" | ")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    refused = (
        "StoreError: the store was opened before this process was forked off, and connections do not survive a fork; "
        "open the store in the child process closed 0 times"
    )
    assert done.stdout.splitlines() == [
        f"opened | load | {refused}",
        f"opened | reopened | {refused}",
        "opened | closed | None closed 0 times",
        "nothing | load | () closed 0 times",
        f"under_way | load | {refused}",
    ]
