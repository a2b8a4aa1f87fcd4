"""Law 6: durability and unknown outcomes.

What was acknowledged survives the death of the client and a restart of the server (with the server settings that the
adapter's page names). Where the store cannot know whether a write happened, it says so (`OutcomeUnknown`); repeating
the same call is then always safe (law 2), and the library's own retries rely on nothing else.

After every kill, and after every call that was interrupted, all views of what was worked on are compared with each
other: loads, the windows around ids and positions, both lists, documents and `resources()`.

A restart of a server is the adapter's own test, since a URL cannot ask for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from threadkeep.errors import OutcomeUnknown, TailMoved, VersionMoved
from threadkeep.port import Changes, Clause, Put, Receipt, Resource, Snapshot, Tail, Thread
from threadkeep_contract.deaths import deaths
from threadkeep_contract.evidence import least
from threadkeep_contract.faults import clocks
from threadkeep_contract.faults.cases import COMMITS, DELETIONS
from threadkeep_contract.faults.cutting import LOST, Attempt, at_each_cut, through_proxy
from threadkeep_contract.harness import ALL, Harness, Law, ids_of, record
from threadkeep_contract.history import Counted, Recorded
from threadkeep_contract.kills import Survivor, appending, look, look_at_model, mixed, model_after, survivors
from threadkeep_contract.processes.team import workers
from threadkeep_contract.processes.worker import Run, perform
from threadkeep_contract.races.linearizability import apply, plain
from threadkeep_contract.reference.looks import look_everywhere

REPETITIONS = 5
"""How often a call whose outcome is unknown is repeated before the check gives up."""


def _both(harness: Harness) -> bool:
    """Whether the store outlives the process that works on it, and another process can look."""
    return all([harness.offers(Clause.PROCESSES), harness.offers(Clause.DURABILITY)])


async def _insist(handle: Recorded, thread: Thread, changes: Changes) -> Receipt:
    """Commit, and repeat the same call where the store says that it cannot know the outcome."""
    for _ in range(REPETITIONS):
        try:
            return await handle.commit(thread, changes)
        except OutcomeUnknown:
            continue
    return await handle.commit(thread, changes)


async def _interrupted(handle: Recorded, thread: Thread, changes: Changes, turns: int) -> None:
    """Begin a commit and cancel it after some turns of the event loop: its outcome is unknown to the caller."""
    commit = asyncio.ensure_future(handle.commit(thread, changes))
    for _ in range(turns):
        await asyncio.sleep(0)
    commit.cancel()
    await asyncio.gather(commit, return_exceptions=True)


async def _survive(harness: Harness, killed: AsyncIterator[Survivor]) -> None:
    """What killed processes were told is there, and what they were doing is done again by somebody else."""
    handle = await harness.open()
    async for survivor in killed:
        done, told = survivor.done, survivor.acknowledged
        harness.require(
            "what was acknowledged survives the death of the client",
            done is not None and done in (told, told + 1),
            f"what {told} steps leave behind, or the one that was under way too",
            f"{survivor.seen}: as after {done} steps",
        )
        if done is None or told == len(survivor.steps):
            continue
        step = survivor.steps[told]
        before = survivor.steps[:done]
        once, twice = model_after((*before, step)), model_after((*before, step, step))
        outcome = await perform(handle, step)
        answer, seen = plain(outcome.receipt or outcome.failure), await look(handle, survivor.user)
        # Of a call that was not seen done, the server may still have the request, and do it before this one or after.
        is_late = done == told and look_at_model(twice, survivor.user) == seen
        answers = [plain(apply(model_after(each), step)) for each in (before, (*before, step))]
        promise = "a call that was under way when the client died may be repeated, and doubles nothing"
        harness.expect(promise, answers[1] if is_late and answer == answers[1] else answers[0], answer)
        harness.expect(promise, look_at_model(twice if is_late else once, survivor.user), seen)
        await look_everywhere(harness, [handle], {step.scope}, model=twice if is_late else once)


async def _true(attempt: Attempt) -> None:
    """What was told of a call whose connection was cut is true, and the call may be repeated."""
    harness, error = attempt.wire.harness, attempt.end.error
    promise = f"{attempt.what} is answered, or StoreUnavailable and not done, or OutcomeUnknown and done once or not"
    if error is None:
        (expected,), _ = attempt.one.imagine(attempt.one.call)
        harness.expect(promise, expected, attempt.end.outcome)
    else:
        harness.require(promise, isinstance(error, LOST), "StoreUnavailable or OutcomeUnknown", error)
    attempt.times = await attempt.see(promise, attempt.times)
    promise = f"{attempt.what} may be repeated, and is done no more often than its answers say"
    await attempt.repeat(promise)
    await attempt.see(promise, attempt.times)


class Durability(Law):
    """What was acknowledged stays, and repeating a call whose outcome is unknown is always safe."""

    number = 6
    title = "Durability and unknown outcomes"

    @least(commits=40, loads=6, deletions=8)
    def test_what_was_acknowledged_is_there_when_the_store_is_opened_again(self, harness: Harness) -> None:
        """What was acknowledged is there when the store is opened again. A script of commits, truncations and deletions
        is done in parts, with the store closed and opened between them; everything is as the reference model has it.
        Clause `durability`.
        """
        if not harness.offers(Clause.DURABILITY):
            return

        async def run() -> None:
            user = harness.fresh() + "user"
            steps = mixed(user)[:60]
            for first in range(0, len(steps), 10):
                handle = await harness.open()
                expected = look_at_model(model_after(steps[:first]), user)
                harness.expect("what was acknowledged is there after a reopening", expected, await look(handle, user))
                for step in steps[first : first + 10]:
                    await perform(handle, step)
                await handle.close()
            handle = await harness.open()
            expected = look_at_model(model_after(steps), user)
            harness.expect("what was acknowledged is there after a reopening", expected, await look(handle, user))
            await look_everywhere(harness, [handle], {step.scope for step in steps}, model=model_after(steps))

        harness.run(run)

    @least(commits=4, loads=0)
    def test_positions_and_versions_go_on_when_the_store_is_opened_again(self, harness: Harness) -> None:
        """After the store was closed and opened again, no position is given a second time, versions go on, and messages
        are known. Clause `durability`.
        """
        if not harness.offers(Clause.DURABILITY):
            return

        async def run() -> None:
            thread = Thread(harness.fresh() + "user", "thread")
            first = await harness.open()
            records = tuple(record(f"old{index}") for index in range(4))
            await first.commit(thread, Changes(1, harness.epoch(), records, (Put("work", "1"),)))
            dropped = await first.commit(thread, Changes(2, harness.epoch(), drop_after=1))
            await first.close()
            second = await harness.open()
            receipt = await second.commit(
                thread, Changes(3, harness.epoch(), (record("new"),), (Put("work", "2", 1),), if_tail=dropped.tail)
            )
            harness.require(
                "a position is never given twice, also not after a reopening",
                receipt.positions[0] > len(records),
                f"a position above {len(records)}",
                receipt,
            )
            harness.expect("versions go on after a reopening", [2], list(receipt.versions))
            known = await second.commit(thread, Changes(4, harness.epoch(), (records[0], record("new"))))
            harness.expect("messages are known after a reopening", [1, receipt.positions[0]], list(known.positions))

        harness.run(run)

    @least(commits=20, deletions=4)
    def test_what_processes_left_is_there(self, harness: Harness) -> None:
        """What several processes were told, each working through a script of its own, is seen by others at once, and is
        there after their end. Clauses `processes` and `durability`.
        """
        if not _both(harness):
            return

        async def run() -> None:
            handle = await harness.open()
            async with workers(harness.url, harness.profile.processes, harness.seen) as team:
                scripts = {harness.fresh() + "user": worker for worker in team}
                for user, worker in scripts.items():
                    worker.give(Run(mixed(user)[:30]))
                for worker in team:
                    for outcome in await worker.rest():
                        if outcome.failure is not None:
                            raise harness.broken("a process meets no error", "none", outcome.failure.error())
                expected = {user: look_at_model(model_after(mixed(user)[:30]), user) for user in scripts}
                for user in scripts:
                    promise = "what other processes have been told is seen at once"
                    harness.expect(promise, expected[user], await look(handle, user))
            for user in scripts:
                promise = "what processes were told is there after their end"
                harness.expect(promise, expected[user], await look(handle, user))
                steps = mixed(user)[:30]
                await look_everywhere(harness, [handle], {step.scope for step in steps}, model=model_after(steps))

        harness.run(run)

    @least(kills=1)
    def test_what_a_killed_process_was_told_is_there(self, harness: Harness) -> None:
        """What a process was told survives its death. Processes work through a script of commits and deletions and are
        killed with SIGKILL, some at a random moment and some as soon as they have acknowledged all of it; some work
        alone, some at once. What they had acknowledged is there, and besides it at most the one step that was under
        way. That step is then done again by somebody else: it is answered, and leaves behind, what the reference model
        says. Clauses `processes` and `durability`.
        """
        if _both(harness):
            harness.run(_survive, harness, survivors(harness, mixed), seconds=5 * harness.profile.seconds)

    @least(kills=1)
    def test_what_a_killed_process_was_doing_may_be_repeated(self, harness: Harness) -> None:
        """A commit that was under way when its process was killed may be repeated, and doubles nothing. Processes
        append to one thread and are killed, most of them just when others see what they have not acknowledged yet; the
        commit is then repeated by somebody else. Clauses `processes` and `durability`.
        """
        if _both(harness):
            harness.run(_survive, harness, survivors(harness, appending), seconds=5 * harness.profile.seconds)

    @least(kills=4)
    def test_a_call_in_which_its_process_died_may_be_repeated(self, harness: Harness) -> None:
        """A call whose process died in the middle of it may be repeated, and doubles nothing, whatever the moment; what
        was acknowledged before it is there, and all views agree. Processes kill themselves in calls of every kind, as
        in law 4. Clauses `processes` and `durability`.
        """
        if _both(harness):
            harness.run(_survive, harness, deaths(harness), seconds=5 * harness.profile.seconds)

    @least(commits=10, loads=4)
    def test_a_repeated_commit_doubles_nothing_and_answers_the_same(self, harness: Harness) -> None:
        """A commit of messages that is repeated at once, from another handle, and after others have appended, with and
        without `if_tail`, gives the first positions and leaves the thread unchanged.
        """

        async def run() -> None:
            first, second = await harness.open(), await harness.open()
            for there in (False, True):
                for conditional in (False, True):
                    thread = Thread(harness.fresh() + "user", "thread")
                    if there:
                        await first.commit(thread, Changes(1, harness.epoch(), (record("old"),)))
                    tail = (await first.load(thread)).tail if conditional else None
                    records = tuple(record(f"new{index}") for index in range(3))
                    changes = Changes(2, harness.epoch(), records, if_tail=tail)
                    told = await _insist(first, thread, changes)
                    before = plain(await second.load(thread, ALL))
                    for handle in (first, second):
                        again = await _insist(handle, thread, changes)
                        promise = "a commit of messages that is repeated changes nothing, and is answered as at first"
                        harness.expect(promise, plain(told), plain(again))
                        harness.expect(promise, before, plain(await second.load(thread, ALL)))
                    await first.commit(thread, Changes(3, harness.epoch(), (record("later"),)))
                    late = await _insist(second, thread, changes)
                    promise = "a commit of messages that is repeated late is answered with the first positions"
                    harness.expect(promise, list(told.positions), list(late.positions))
                    old = ["old"] if there else []
                    harness.expect(
                        promise,
                        [*old, "new0", "new1", "new2", "later"],
                        ids_of((await first.load(thread, ALL)).records),
                    )

        harness.run(run)

    @least(commits=2)
    def test_a_repeated_conditional_put_is_written_once(self, harness: Harness) -> None:
        """A put with `if_version` that is repeated is refused with `VersionMoved`, and is written once, in the thread
        and in the resource.
        """

        async def run() -> None:
            handle = await harness.open()
            user = harness.fresh() + "user"
            thread = Thread(user, "thread")
            await handle.commit(thread, Changes(1, harness.epoch()))
            promise = "a put with if_version that is repeated is refused, and written once"
            changes = Changes(2, harness.epoch(), puts=(Put("work", "1", 0),), resource_puts=(Put("work", "1", 0),))
            await _insist(handle, thread, changes)
            await harness.refused(promise, VersionMoved, handle.commit(thread, changes))
            alone = Changes(3, puts=(Put("work", "2", 1),))
            await handle.commit(Resource(user), alone)
            await harness.refused(promise, VersionMoved, handle.commit(Resource(user), alone))
            after = await handle.load(thread)
            versions = [docs["work"].version if "work" in docs else 0 for docs in (after.docs, after.resource_docs)]
            harness.expect(promise, [1, 2], versions)

        harness.run(run)

    @least(commits=2, loads=2, deletions=2)
    def test_a_repeated_deletion_or_truncation_is_safe(self, harness: Harness) -> None:
        """A truncation that is repeated drops no more, and a deletion that is repeated is no error."""

        async def run() -> None:
            first, second = await harness.open(), await harness.open()
            thread = Thread(harness.fresh() + "user", "thread")
            records = tuple(record(f"m{index}") for index in range(5))
            await first.commit(thread, Changes(1, harness.epoch(), records))
            cut = Changes(2, harness.epoch(), drop_after=2)
            for handle in (first, second):
                await handle.commit(thread, cut)
                seen = ids_of((await handle.load(thread, ALL)).records)
                harness.expect("a truncation that is repeated drops no more", ["m0", "m1"], seen)
            for handle in (first, second):
                await handle.delete(thread)
                left = plain(await handle.load(thread, ALL))
                harness.expect("a deletion that is repeated is no error", plain(Snapshot()), left)

        harness.run(run)

    @least(commits=2, loads=2, outages=True)
    def test_a_commit_that_was_interrupted_may_be_repeated(self, harness: Harness) -> None:
        """A commit that was cancelled after 0, 1, 2 and more turns of the event loop, so that its outcome is unknown,
        may be repeated, from the same handle and from another. It is done once, and its receipt is true.
        """

        async def run() -> None:
            handle, other = await harness.open(), await harness.open()
            promise = "a commit whose outcome is unknown may be repeated, and is done once"
            for turns in range(2 * harness.profile.rounds):
                thread = Thread(harness.fresh() + "user", "thread")
                tail: Tail | None = None
                old: list[str] = []
                if turns % 2:
                    old = ["old"]
                    tail = (await handle.commit(thread, Changes(1, harness.epoch(), (record("old"),)))).tail
                records = tuple(record(f"new{index}") for index in range(3))
                changes = Changes(2, harness.epoch(), records, if_tail=tail)
                await _interrupted(handle, thread, changes, turns // 2)
                receipt = await _insist(other if turns % 3 else handle, thread, changes)
                after = await other.load(thread, ALL)
                await look_everywhere(harness, [handle, other], [thread], ["old", "new0"])
                harness.expect(promise, [*old, "new0", "new1", "new2"], ids_of(after.records))
                places = [stored.position for stored in after.records][-3:]
                harness.expect(promise, (after.tail, places), (receipt.tail, list(receipt.positions)))

        harness.run(run)

    @least(commits=1, lists=2, outages=True)
    def test_an_interrupted_creation_happened_or_not(self, harness: Harness) -> None:
        """A commit with `if_epoch=""` that was cancelled may be repeated: it creates the thread, or finds it in its own
        epoch. There is one thread, with one message.
        """

        async def run() -> None:
            handle, other = await harness.open(), await harness.open()
            promise = "a creation whose outcome is unknown may be repeated, and there is one thread"
            for turns in range(harness.profile.rounds):
                thread = Thread(harness.fresh() + "user", "thread")
                changes = Changes(1, harness.epoch(), (record("new"),), if_epoch="")
                await _interrupted(handle, thread, changes, turns)
                try:
                    await other.commit(thread, changes)
                except TailMoved as moved:
                    harness.expect(f"{promise}, of this epoch", changes.epoch, moved.epoch)
                after = await Counted.load(handle, thread, ALL)
                harness.expect(promise, (changes.epoch, ["new"]), (after.tail.epoch, ids_of(after.records)))
                rows = await handle.threads(Resource(thread.resource_id))
                harness.expect(promise, ["thread"], [row.thread_id for row in rows])
                await look_everywhere(harness, [handle, other], [thread])

        harness.run(run)

    @least(commits=2, loads=5, lists=2, cuts=1, outages=True)
    def test_what_is_told_of_a_write_whose_connection_is_cut_is_true(self, harness: Harness) -> None:
        """What is told of a commit or deletion whose connection is cut is true: an answer, and it is done once;
        `StoreUnavailable`, and it is not done; `OutcomeUnknown`, and it is done once or not at all. Repeated until it
        is answered, it is answered, and leaves behind, what the reference model says. The cuts are those of law 4; the
        calls are all kinds of commits and deletions. A store that sends a commit again by itself may not double it.
        """
        with through_proxy(harness) as wire:
            if wire is not None:
                at_each_cut(wire, {**COMMITS, **DELETIONS}, _true)

    @least(commits=5, loads=20)
    def test_nothing_expires_when_the_clock_jumps(self, harness: Harness) -> None:
        """What was acknowledged is there, whatever the clock says: it is set forward and back by days and years in the
        store's process, and nothing is gone. Threads, messages and documents do not expire.
        """
        with clocks.of_process() as move:
            harness.run(clocks.agree, harness, move, clocks.loads)

    @least(commits=5, loads=20, lists=20)
    def test_a_servers_clock_changes_no_answer(self, harness: Harness) -> None:
        """The same for the clock of the server, and for the order of messages and of lists: it is set forward and back,
        and every call is answered as the reference model does. Where the plugin has no hook `clock`, the report says
        NOT OFFERED.
        """
        with clocks.of_server(harness) as move:
            if move is not None:
                harness.run(clocks.agree, harness, move, clocks.everything)
