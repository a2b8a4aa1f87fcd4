"""The checks of law 12 on opening, closing and sharing a handle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from threadkeep.errors import StoreClosed
from threadkeep.port import Changes, Guard, Snapshot
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.laws.lifecycle.common import count, settled, three, verbs
from threadkeep_contract.races.threads import in_threads


class Opening(Law):
    """Opening, closing, and the use of one handle by many."""

    def test_a_closed_store_says_so_and_others_go_on(self, harness: Harness) -> None:
        """Every verb on a closed store, and on one that was closed before it was ever opened, is `StoreClosed` and does
        nothing. Other handles on the same URL go on.
        """

        async def run() -> None:
            first, second = await harness.open(), await harness.open()
            thread = await three(harness, first)
            await first.close()
            for name, verb in verbs(harness, thread).items():
                await harness.refused(f"{name} after close is StoreClosed", StoreClosed, verb(first))
            harness.expect("closing one store leaves another alone", 3, await count(second, thread))
            never = harness.handle()
            await never.close()
            for name, verb in verbs(harness, thread).items():
                await harness.refused(f"{name} after close is StoreClosed", StoreClosed, verb(never))
            harness.expect("what a closed store refused is not done", 3, await count(second, thread))

        harness.run(run)

    def test_closing_may_be_repeated_and_raced(self, harness: Harness) -> None:
        """Closing may be repeated, and many tasks may close one handle at the same time. Other handles see all that was
        there.
        """

        async def run() -> None:
            watcher = await harness.open()
            handle = await harness.open()
            thread = await three(harness, handle)
            await asyncio.gather(*(handle.close() for _ in range(harness.profile.tasks)))
            await handle.close()
            # A guard closes its store once: whether the store bears more is seen only with other guards.
            await Guard(handle.store).close()
            await asyncio.gather(*(Guard(handle.store).close() for _ in range(harness.profile.tasks)))
            harness.expect("closing again changes nothing", 3, await count(watcher, thread))

        harness.run(run)

    @least(loads=4)
    def test_opening_may_be_repeated_and_raced(self, harness: Harness) -> None:
        """Opening may be repeated and raced, on one handle, by tasks whose first calls open it, and by new handles.
        What is stored stays, and everybody finds it.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await three(harness, handle)
            await handle.open()
            await Guard(handle.store).open()
            harness.expect("opening again changes nothing", 3, await count(handle, thread))
            await asyncio.gather(*(Guard(handle.store).open() for _ in range(harness.profile.tasks)))
            harness.expect("opening again changes nothing", 3, await count(handle, thread))
            for _ in range(harness.profile.rounds):
                new = harness.handle()
                counts = await asyncio.gather(*(count(new, thread) for _ in range(harness.profile.tasks)))
                promise = "tasks whose first calls open the store all find what is there"
                harness.expect(promise, [3] * harness.profile.tasks, counts)
                await new.close()
            others = [await harness.open() for _ in range(5)]
            harness.expect("every store opened finds what is there", [3] * 5, [await count(o, thread) for o in others])
            harness.expect("opening others changes nothing", 3, await count(handle, thread))

        harness.run(run)

    @least(commits=1, outages=True)
    def test_calls_that_run_while_the_store_closes_end_well(self, harness: Harness) -> None:
        """Calls that run while their store is closed each give their result or an error of threadkeep. A load is whole
        and never an empty history, and what was acknowledged is there.
        """

        async def close(handle: Recorded, turns: int) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await handle.close()

        async def run() -> None:
            watcher = await harness.open()
            promise = "a call that runs while its store closes gives its result or an error of threadkeep"
            for turns in range(harness.profile.rounds):
                handle = await harness.open()
                thread = await three(harness, handle)
                commits = [
                    handle.commit(thread, Changes(2, harness.epoch(), (record(f"new{index}"),))) for index in range(8)
                ]
                loads = [handle.load(thread, ALL) for _ in range(4)]
                results = await settled(harness, promise, [*commits, *loads, close(handle, turns)])
                there = {stored.id for stored in (await watcher.load(thread, ALL)).records}
                for index, result in enumerate(results[: len(commits)]):
                    harness.require(
                        "what a closing store acknowledged is there",
                        isinstance(result, BaseException) or f"new{index}" in there,
                        f"new{index}",
                        f"{sorted(there)}",
                    )
                for snapshot in results[len(commits) : -1]:
                    harness.require(
                        "a load that runs while its store closes is whole, or an error",
                        not isinstance(snapshot, Snapshot) or len(snapshot.records) >= 3,
                        "at least the three messages that were there",
                        snapshot,
                    )

        harness.run(run)

    @least(commits=20, loads=20)
    def test_many_calls_at_once_are_all_served(self, harness: Harness) -> None:
        """Very many calls that run at once are all served."""

        async def run() -> None:
            handle = await harness.open()
            thread = await three(harness, handle)
            counts = await asyncio.gather(*(count(handle, thread) for _ in range(10 * harness.profile.tasks)))
            harness.expect("calls that run at once are all answered", {3}, set(counts))
            await asyncio.gather(
                *(
                    handle.commit(thread, Changes(2, harness.epoch(), (record(f"new{index}"),)))
                    for index in range(10 * harness.profile.tasks)
                )
            )
            promise = "commits that run at once are all done"
            harness.expect(promise, 3 + 10 * harness.profile.tasks, await count(handle, thread))

        harness.run(run)

    @least(commits=4, loads=4)
    def test_one_store_serves_several_event_loops(self, harness: Harness) -> None:
        """One handle serves several event loops, one after the other and several threads' at the same time, and may be
        opened by any of them.
        """
        handle = harness.run(harness.open)
        thread = harness.run(three, harness, handle)
        promise = "a store serves event loops one after the other, and several at once"

        def adding(name: str) -> Callable[[], Awaitable[int]]:
            async def add() -> int:
                await handle.commit(thread, Changes(2, harness.epoch(), (record(name),)))
                return await count(handle, thread)

            return add

        for number in range(4, 8):
            harness.expect(promise, [number], in_threads(harness, promise, [adding(f"in{number}")]))
        harness.expect(promise, 7, harness.run(count, handle, thread))
        for turn in range(3):
            in_threads(harness, promise, [adding(f"turn{turn}of{index}") for index in range(4)])
        harness.expect(promise, 19, harness.run(count, handle, thread))

        born = harness.handle()
        opened_elsewhere = in_threads(harness, promise, [lambda: count(born, thread)])
        harness.expect(promise, ([19], 19), (opened_elsewhere, harness.run(count, born, thread)))
