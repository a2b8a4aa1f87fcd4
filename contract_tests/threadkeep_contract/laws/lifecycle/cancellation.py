"""The checks of law 12 on calls that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping

from hypothesis import strategies as st

from threadkeep.errors import StoreClosed, ThreadkeepError
from threadkeep.port import Changes, Guard, Put, Resource, Thread
from threadkeep_contract.evidence import least
from threadkeep_contract.faults import cases
from threadkeep_contract.faults.cancelling import KINDS, Kind, Moment, at_each_moment, cancel_at, first
from threadkeep_contract.harness import ALL, Harness, Law, record
from threadkeep_contract.laws.lifecycle.common import count, three, verbs


async def _cancel_each(harness: Harness, calls: Mapping[str, cases.Make]) -> None:
    """Cancel each call at each moment; look at what it did, then make calls that each have a different answer.

    In turn, the cancelled call's handle goes on, and shows what a connection that came back still has on it, or another
    one does, while that handle stands still, and shows what the call still holds.
    """
    handle, watcher = await harness.open(), await harness.open()
    probes = cases.Probes(harness)
    await probes.prepare(handle)
    for turn, (what, make) in enumerate(calls.items(), harness.seed):

        async def attempt(moment: Moment, turn: int = turn, what: str = what, make: cases.Make = make) -> bool:
            harness.history.clear()
            one = cases.case(harness, make)
            await cases.prepare(handle, one)
            ending = await cases.cancel(harness, handle, one, moment)
            if (turn + moment.number) % 2:
                await probes.ask(f"{what} that was cancelled", handle)
                await cases.look_afterwards(harness, handle, watcher, what, one, ending)
            else:
                await cases.look_afterwards(harness, watcher, handle, what, one, ending)
            return ending.reached

        await at_each_moment(harness.profile.moments, attempt)


class Cancellation(Law):
    """Calls that are cancelled."""

    @least(outages=True)
    def test_a_cancelled_call_leaves_the_store_usable(self, harness: Harness) -> None:
        """A store is usable after calls were cancelled. Loads, commits, lists and deletions are cancelled after 0, 1, 2
        and more turns of the event loop. Every cancelled commit was done once or not at all; it may still be done after
        the cancellation, as a request that is on its way to a server may.
        """

        async def run() -> None:
            handle, watcher = await harness.open(), await harness.open()
            thread = await three(harness, handle)
            turns = 2 * harness.profile.rounds
            promise = "a store is usable after calls were cancelled, and does each of them once or not at all"
            for turn in range(turns):
                fresh = Thread(thread.resource_id, f"other{turn}")
                works: list[Awaitable[object]] = [
                    handle.load(thread, ALL),
                    handle.commit(thread, Changes(2, harness.epoch(), (record(f"new{turn}"),))),
                    handle.commit(fresh, Changes(2, harness.epoch(), (record("first"),), (Put("work", "1"),))),
                    handle.threads(Resource(thread.resource_id)),
                    handle.delete(Thread(thread.resource_id, "nobody")),
                ]
                tasks = [asyncio.ensure_future(work) for work in works]
                for _ in range(turn % harness.profile.rounds):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    own = not isinstance(result, Exception) or isinstance(result, ThreadkeepError)
                    harness.require("a cancelled call is cancelled, or ends", own, "CancelledError", result)
                receipt = await handle.commit(thread, Changes(3, harness.epoch(), (record(f"after{turn}"),)))
                kept = {stored.id: stored.position for stored in (await watcher.load(thread, ALL)).records}
                harness.expect(promise, kept.get(f"after{turn}"), receipt.positions[0])
                other = await watcher.load(fresh, ALL)
                whole = (len(other.records), len(other.docs)) in ((0, 0), (1, 1))
                harness.require(promise, whole, "a message with its document, or neither", other)
            ids = [stored.id for stored in (await watcher.load(thread, ALL)).records]
            certain = ["m0", "m1", "m2", *(f"after{turn}" for turn in range(turns))]
            harness.expect(promise, certain, [name for name in ids if not name.startswith("new")])
            harness.expect(promise, len(set(ids)), len(ids))

        harness.run(run)

    @least(loads=1, outages=True)
    def test_many_cancelled_calls_at_once_leave_the_store_usable(self, harness: Harness) -> None:
        """Of many calls that run at once, all but one are cancelled: that one is answered, and the store is usable
        afterwards.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = await three(harness, handle)
            many = 8 * harness.profile.tasks
            for turns in range(4):
                tasks = [asyncio.ensure_future(handle.load(thread, ALL)) for _ in range(many)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks[: many - 1]:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                promise = "calls go on where others beside them were cancelled"
                harness.expect(promise, 3, len(tasks[-1].result().records))
                harness.expect(promise, 3, await count(handle, thread))

        harness.run(run)

    def test_a_commit_cancelled_at_any_moment_is_done_or_not_done(self, harness: Harness) -> None:
        """A commit that is cancelled is done, whole, or not done at all, and the next commit of its thread goes on from
        what is there. Commits to a new thread, with documents, with conditions, with a truncation, of many messages, of
        nothing, and to a resource are cancelled at each of their suspensions, before and after what they wait for has
        come, and after each number of turns of the event loop. Another handle then sees in every view what the
        reference model shows, and calls at once, more than a pool has connections, each get their own answer. Nothing
        stays locked: another handle makes the next commit while the one whose call was cancelled stands still.
        """
        harness.run(_cancel_each, harness, cases.COMMITS)

    def test_a_deletion_cancelled_at_any_moment_is_done_or_not_done(self, harness: Harness) -> None:
        """A deletion that is cancelled is done, whole, or not done at all: nothing of what it removes stays behind
        alone. Deletions of a thread, of a resource and of nothing are cancelled at every moment, as commits are, and
        every view is compared with the reference model's after the next commit to the same thread.
        """
        harness.run(_cancel_each, harness, cases.DELETIONS)

    def test_a_reading_cancelled_at_any_moment_leaves_no_answer_behind(self, harness: Harness) -> None:
        """The answer of a reading that was cancelled is given to nobody else. Loads and lists are cancelled at every
        moment; then more calls at once than a pool has connections each get their own answer, and no other's.
        """
        harness.run(_cancel_each, harness, cases.READINGS)

    def test_calls_cancelled_together_are_each_done_or_not_done(self, harness: Harness) -> None:
        """Of calls that run at once on one handle, each cancelled at a moment of its own, every one is done or not
        done, as if it were alone, and the calls that follow each get their own answer. Which calls and which moments is
        drawn at random.
        """
        moments = st.tuples(st.sampled_from(sorted(cases.CASES)), st.sampled_from(KINDS), st.integers(0, 12))

        async def check(drawn: list[tuple[str, Kind, int]]) -> None:
            handle, watcher = await harness.reused(2)
            ones = [cases.case(harness, cases.CASES[what]) for what, _, _ in drawn]
            for one in ones:
                await cases.prepare(handle, one)
            endings = await asyncio.gather(
                *(
                    cases.cancel(harness, handle, one, Moment(kind, first(kind) + number))
                    for one, (_, kind, number) in zip(ones, drawn, strict=True)
                )
            )
            probes = cases.Probes(harness)
            await probes.prepare(handle)
            await probes.ask("one of several calls that was cancelled", handle)
            for one, (what, _, _), ending in zip(ones, drawn, endings, strict=True):
                await cases.look_afterwards(harness, handle, watcher, what, one, ending)

        harness.explore(st.lists(moments, min_size=1, max_size=12), check, share=0.4)

    def test_a_cancelled_opening_may_be_tried_again(self, harness: Harness) -> None:
        """A handle whose opening was cancelled, by itself or within the first verb, opens at the next try, and tasks
        that waited for the same opening are served. The opening is cancelled at every moment.
        """

        async def run() -> None:
            watcher = await harness.open()
            probes = cases.Probes(harness)
            await probes.prepare(watcher)
            thread = await three(harness, watcher)

            async def alone(moment: Moment) -> bool:
                new = harness.handle()
                ending = await cancel_at(new.open, moment)
                await probes.ask("an opening that was cancelled", new)
                await new.close()
                return ending.reached

            async def beside(moment: Moment) -> bool:
                new = harness.handle()
                opening = asyncio.ensure_future(cancel_at(lambda: new.load(thread, ALL), moment))
                await asyncio.sleep(0)
                counts = await asyncio.gather(*(count(new, thread) for _ in range(3)))
                harness.expect("who waited for an opening that was cancelled is served", [3] * 3, counts)
                ending = await opening
                harness.expect("a cancelled opening may be tried again", 3, await count(new, thread))
                await new.close()
                return ending.reached

            await at_each_moment(harness.profile.moments, alone)
            await at_each_moment(harness.profile.moments, beside)
            await probes.ask("an opening that was cancelled", watcher)

        harness.run(run)

    def test_a_cancelled_closing_may_be_tried_again(self, harness: Harness) -> None:
        """A store whose closing was cancelled, at any moment, is closed by the next try; every verb of its handle is
        `StoreClosed`, and other handles go on.
        """

        async def run() -> None:
            watcher = await harness.open()
            thread = await three(harness, watcher)

            async def attempt(moment: Moment) -> bool:
                harness.history.clear()
                handle = await harness.open()
                await count(handle, thread)
                ending = await cancel_at(handle.close, moment)
                own = ending.error is None or isinstance(ending.error, ThreadkeepError)
                harness.require("a cancelled closing is cancelled, or ends", own, "CancelledError", ending.error)
                # A handle closes its store once; another one on the same store asks again.
                await Guard(handle.store).close()
                if moment.number or moment.kind != "turns":
                    for name, verb in verbs(harness, thread).items():
                        promise = f"{name} after a closing that was cancelled is StoreClosed"
                        await harness.refused(promise, StoreClosed, verb(handle))
                harness.expect("a cancelled closing leaves other handles alone", 3, await count(watcher, thread))
                return ending.reached

            await at_each_moment(harness.profile.moments, attempt)

        harness.run(run)
