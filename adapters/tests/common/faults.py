"""Faults while several writers commit and load, and what must be true after them, for any store on a server.

    async def inject(number: int) -> None: ...    # makes one fault, and returns when it has happened
    endured = asyncio.run(endure(url, inject, FAULTS))
    asyncio.run(check(direct_url, endured))

Writers repeat a call that failed until it is acknowledged, as any caller may (laws 2 and 6). Then everything that was
acknowledged must be there once, whole and in its place, whatever the faults were (laws 2, 3, 4, 6).
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from servers import Server

from threadkeep.errors import OutcomeUnknown, StoreError, StoreUnavailable, VersionMoved
from threadkeep.port import Changes, Guard, Put, Record, Resource, Thread, Window, open_store
from threadkeep_contract.faults.proxy import Cut, Proxy

VARIABLE: Final = "THREADKEEP_TEST_FAULTS"
FAULTS: Final = int(os.environ.get(VARIABLE, "50"))
"""Faults for each store; more are made by setting the variable."""

WRITERS: Final = 4
"""For a server that is slow; one that is not has more of them than its pool has connections."""

BATCH: Final = 3
"""Records of a commit."""

SETTLED_SECONDS: Final = 120.0
"""Seconds within which a writer's commit is acknowledged in the end, and a fault has happened."""

ALL: Final = Window(before=1_000_000)

Inject = Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class Endured:
    """What the writers did. Each commits to a thread of its own and to one that all share, in turn."""

    resource_id: str = field(default_factory=lambda: f"faults-{secrets.token_hex(8)}")
    faults: int = 0
    batches: dict[int, int] = field(default_factory=dict)
    """Writer -> its batches, all acknowledged in the end."""
    unknown: int = 0
    """Calls that ended in OutcomeUnknown and were repeated."""
    unavailable: int = 0
    """Calls that ended in another error that may be repeated."""
    found_done: int = 0
    """Repeated calls that found themselves done."""

    def own(self, writer: int) -> Thread:
        return Thread(self.resource_id, f"writer-{writer}")

    @property
    def shared(self) -> Thread:
        return Thread(self.resource_id, "shared")

    def __str__(self) -> str:
        return (
            f"{self.faults} faults, {sum(self.batches.values())} batches acknowledged, "
            f"{self.unknown} outcomes unknown, {self.unavailable} refusals, {self.found_done} repetitions found done"
        )


async def endure(url: str, inject: Inject, faults: int, writers: int = WRITERS) -> Endured:
    """Make so many faults, one after another, while writers commit and load through `url`."""
    endured = Endured()
    store = open_store(url)
    # Faults are to meet commits: opening has tests of its own, and not every server outlives a death in it.
    await store.open()
    ending = asyncio.Event()
    writing = [asyncio.create_task(_write(store, endured, number, ending)) for number in range(writers)]
    try:
        for number in range(faults):
            before = sum(endured.batches.values())
            await asyncio.wait_for(inject(number), SETTLED_SECONDS)
            endured.faults += 1
            # The next fault is to meet writers at work.
            deadline = time.monotonic() + SETTLED_SECONDS
            while sum(endured.batches.values()) <= before and not any(writer.done() for writer in writing):
                assert time.monotonic() < deadline, f"no writer went on after fault {number}: {endured}"
                await asyncio.sleep(0.005)
    finally:
        ending.set()
        results = await asyncio.gather(*writing, return_exceptions=True)
        await store.close()
    for result in results:
        if result is not None:
            raise result
    return endured


async def _write(store: Guard, endured: Endured, writer: int, ending: asyncio.Event) -> None:
    while not ending.is_set():
        batch = endured.batches.get(writer, 0) + 1
        put = Put("last", f'"{batch}"', if_version=batch - 1)
        await _commit(store, endured, endured.own(writer), _changes(writer, batch, put))
        await _commit(store, endured, endured.shared, _changes(writer, batch))
        endured.batches[writer] = batch
        await _look(store, endured, writer, batch)


def _changes(writer: int, batch: int, *puts: Put) -> Changes:
    # Large enough that a request and its effects are many packets and pages.
    body = '{"text":"' + "x" * 3000 + '"}'
    records = tuple(Record(f"{writer}.{batch}.{part}", f"{writer}.{batch}", body) for part in range(BATCH))
    return Changes(at=batch, epoch=secrets.token_hex(8), append=records, puts=puts)


async def _commit(store: Guard, endured: Endured, thread: Thread, changes: Changes) -> None:
    """Commit until it is acknowledged. Whatever is raised meanwhile must say that it may be repeated."""
    deadline = time.monotonic() + SETTLED_SECONDS
    repeated = False
    while True:
        try:
            await store.commit(thread, changes)
            return
        except OutcomeUnknown:
            endured.unknown += 1
        except StoreError as error:
            if not error.retryable:
                raise
            endured.unavailable += 1
        except VersionMoved as moved:
            # Versions are conditions, so that a call that was done says so when it is repeated.
            if not repeated or moved.version != changes.at:
                raise
            endured.found_done += 1
            return
        repeated = True
        assert time.monotonic() < deadline, f"a commit was not acknowledged within {SETTLED_SECONDS:g} s: {endured}"
        await asyncio.sleep(random.uniform(0.005, 0.05))


async def _look(store: Guard, endured: Endured, writer: int, batch: int) -> None:
    """Load and list until both are answered, with what was acknowledged."""
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        try:
            (newest,) = (await store.load(endured.own(writer), Window(before=1))).records
            rows = await store.threads(Resource(endured.resource_id), limit=100)
        except StoreError as error:
            # A reading has no outcome that could be unknown.
            if not isinstance(error, StoreUnavailable):
                raise
            endured.unavailable += 1
        else:
            assert newest.id == f"{writer}.{batch}.{BATCH - 1}"
            assert endured.own(writer).thread_id in {row.thread_id for row in rows}
            return
        assert time.monotonic() < deadline, f"a reading was not answered within {SETTLED_SECONDS:g} s: {endured}"
        await asyncio.sleep(random.uniform(0.005, 0.05))


async def check(url: str, endured: Endured) -> None:
    """Assert that what the writers were told is what there is. `url` leads to the server without detours."""
    store = open_store(url)
    try:
        for writer, batches in endured.batches.items():
            own = await store.load(endured.own(writer), ALL)
            expected = [f"{writer}.{batch}.{part}" for batch in range(1, batches + 1) for part in range(BATCH)]
            assert [record.id for record in own.records] == expected
            assert [record.position for record in own.records] == list(range(1, len(expected) + 1))
            assert own.tail.position == len(expected)
            assert (own.docs["last"].version, own.docs["last"].body) == (batches, f'"{batches}"')
        everyones = (await store.load(endured.shared, ALL)).records
        assert [record.position for record in everyones] == list(range(1, len(everyones) + 1))
        heads = [record.id.rpartition(".")[0] for record in everyones[::BATCH]]
        assert [record.id for record in everyones] == [f"{head}.{part}" for head in heads for part in range(BATCH)]
        for writer, batches in endured.batches.items():
            ours = [head for head in heads if head.startswith(f"{writer}.")]
            assert ours == [f"{writer}.{batch}" for batch in range(1, batches + 1)]
    finally:
        await store.close()


def cutting(proxy: Proxy, seed: int) -> Inject:
    """Cuts a connection in one of the ways in turn, at a request drawn by chance."""
    chance = random.Random(seed)

    async def inject(number: int) -> None:
        cut = proxy.cut_next(list(Cut)[number % len(Cut)], after=chance.randrange(8))
        await asyncio.wrap_future(cut)

    return inject


def killing(server: Server, seed: int) -> Inject:
    """Kills the server with all its processes at a moment drawn by chance, and starts it on its data."""
    chance = random.Random(seed)

    async def inject(number: int) -> None:
        await asyncio.sleep(chance.uniform(0, 0.3))
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(chance.uniform(0, 0.1))
        await asyncio.to_thread(server.start)

    return inject
