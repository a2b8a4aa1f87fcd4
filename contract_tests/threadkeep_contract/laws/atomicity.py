"""Law 4: atomicity.

A commit is one unit: its messages, the thread's creation or touch, and its documents (those of the thread and those of
its resource) appear together or not at all: to concurrent readers, after an exception, after a kill at any point. Any
commit within the declared limits is atomic, whatever a backend's own batch size is.

To see a torn commit, one writer commits messages, a document of the thread and a document of the resource that all
carry the same number, while readers on two other handles load the thread all the time, by its end and around positions.
Every snapshot has to show a whole number of commits. So has every list of threads: the tail and the document that it
shows have to be a pair that some receipt gave. When the writer is done, and after every kill, all views are compared
with each other: loads, the windows around ids and positions, both lists, documents and `resources()`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from threadkeep.errors import Conflict, MessageConflict, TailMoved, VersionMoved
from threadkeep.port import (
    MISSING,
    Changes,
    Clause,
    Put,
    Receipt,
    Record,
    Resource,
    Scope,
    Snapshot,
    Tail,
    Thread,
    ThreadRow,
    Window,
)
from threadkeep_contract.deaths import deaths
from threadkeep_contract.evidence import least
from threadkeep_contract.faults.cases import COMMITS, DELETIONS
from threadkeep_contract.faults.cutting import Attempt, at_each_cut, through_proxy
from threadkeep_contract.harness import ALL, Harness, Law, record
from threadkeep_contract.history import Counted, Recorded, source
from threadkeep_contract.kills import mixed, survivors
from threadkeep_contract.processes.team import workers
from threadkeep_contract.processes.worker import Run, Step
from threadkeep_contract.reference.looks import look_everywhere


@dataclass(frozen=True, slots=True)
class Everything:
    """All that can be seen of a thread and of what stands around it."""

    thread: Snapshot
    resource: Snapshot
    listed: tuple[ThreadRow, ...]


async def everything(handle: Counted, thread: Thread) -> Everything:
    """Look at a thread and around it, without a note in the history."""
    resource = Resource(thread.resource_id)
    return Everything(
        await Counted.load(handle, thread, ALL),
        await Counted.load(handle, resource, Window()),
        tuple(await Counted.threads(handle, resource, None, 100, "created", ("work", "other"))),
    )


def _versions(snapshot: Snapshot) -> tuple[int, int]:
    """The versions of the documents "work" of a thread and of its resource."""
    own, common = snapshot.docs.get("work"), snapshot.resource_docs.get("work")
    return (own.version if own else 0, common.version if common else 0)


def _marked(harness: Harness, at: int, number: int, size: int, text: str = "") -> Changes:
    """The commit of a number: `size` records and a document in either place, all of which carry the number."""
    body = json.dumps(number)
    records = [record(f"{number}-{index}", text) for index in range(size)]
    return Changes(at, harness.epoch(), tuple(records), (Put("work", body),), (Put("work", body),))


def _torn(snapshot: Snapshot, size: int, drops: bool = False) -> str | None:
    """What is wrong with a snapshot of a thread that has only seen commits 1, 2, 3 of `_marked`, in this order."""
    own, common = _versions(snapshot)
    numbers = range(1, own + 1)
    if drops:
        numbers = numbers[-1:]
    expected = [f"{number}-{index}" for number in numbers for index in range(size)]
    if [stored.id for stored in snapshot.records] != expected:
        return f"{len(snapshot.records)} messages where the thread's document says that {len(expected)} were committed"
    if own != common:
        return f"the thread's document at version {own}, its resource's at version {common}"
    if {doc.body for doc in (*snapshot.docs.values(), *snapshot.resource_docs.values())} - {json.dumps(own)}:
        return f"documents that disagree: {source(dict(snapshot.docs))} and {source(dict(snapshot.resource_docs))}"
    if (snapshot.tail == MISSING) != (own == 0) or (snapshot.created == 0) != (own == 0):
        return f"a thread of tail {snapshot.tail} and created = {snapshot.created}, whose document has version {own}"
    if snapshot.records and snapshot.tail.position != snapshot.records[-1].position:
        return f"the tail {snapshot.tail}, and a newest message at position {snapshot.records[-1].position}"
    return None


Writing = Callable[[Recorded, Thread], Awaitable[list[Receipt]]]


TURNS = 4
"""Turns of the event loop before a commit are fewer than this."""


async def _in_turn(handle: Recorded, scope: Scope, commits: Iterable[Changes]) -> list[Receipt]:
    """Commit one after the other, with some turns of the event loop for readers before each.

    How many turns, changes from commit to commit: else readers might look at the same moments of every commit.
    """
    receipts = []
    for changes in commits:
        for _ in range(changes.at % TURNS):
            await asyncio.sleep(0)
        receipts.append(await handle.commit(scope, changes))
    return receipts


async def _watched(harness: Harness, writing: Writing, size: int, drops: bool = False) -> None:
    """Let a writer work on a new thread while readers on two handles look at it all the time."""
    writer, *readers = [await harness.open() for _ in range(3)]
    thread = Thread(harness.fresh() + "user", "thread")
    resource = Resource(thread.resource_id)
    done = asyncio.Event()
    chance = random.Random(harness.seed)
    listed: set[tuple[Tail, int]] = set()

    async def read(handle: Recorded) -> None:
        ended = False
        while not ended:
            # Each looks once more when all is written: a store that never waits would not be looked at otherwise.
            ended = done.is_set()
            # Around any position there is the whole thread too, though a store may read it in two parts.
            position = chance.randrange(1, 2 * size * harness.profile.rounds)
            window = chance.choice((ALL, Window(position, ALL.before, ALL.before)))
            torn = _torn(await Counted.load(handle, thread, window), size, drops)
            harness.require("a commit appears whole or not at all", torn is None, "a whole number of commits", torn)
            for row in await Counted.threads(handle, resource, None, 10, "created", ("work",)):
                listed.add((row.tail, row.docs["work"].version if "work" in row.docs else 0))
            # Readers that stay in step with the writer would meet it at the same points for ever.
            for _ in range(chance.randrange(1, 4)):
                await asyncio.sleep(0)

    async def write() -> list[Receipt]:
        try:
            return await writing(writer, thread)
        finally:
            done.set()

    tasks = [asyncio.ensure_future(read(handle)) for handle in readers]
    try:
        receipts = await write()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    made = {(receipt.tail, receipt.versions[0]) for receipt in receipts}
    harness.require(
        "a list of threads shows a commit whole or not at all",
        listed <= made,
        f"of tails and the versions of a document that is listed with them, only {sorted(made)}",
        f"{sorted(listed - made)}",
    )
    await look_everywhere(harness, [writer, *readers], [thread])
    # It may be most of what the store holds, and whoever looks at all of that later would read it.
    await writer.delete(resource)


TORN = {
    what: make
    for what, make in {**COMMITS, **DELETIONS}.items()
    if what not in ("a conditional append", "a commit of nothing", "the deletion of what is not there")
}
"""Writes of several parts."""


async def _whole(attempt: Attempt) -> None:
    # A call that was sent again is law 6's.
    await attempt.see(f"{attempt.what} is done whole or not at all", {0, 1, 2})


class Atomicity(Law):
    """A commit is one unit: it appears whole or not at all, to readers, after an exception, after a kill."""

    number = 4
    title = "Atomicity"

    @least(commits=2, loads=2)
    def test_readers_see_a_commit_whole_or_not_at_all(self, harness: Harness) -> None:
        """Readers see each commit to a growing thread whole or not at all, in loads and in lists."""

        async def write(handle: Recorded, thread: Thread) -> list[Receipt]:
            numbers = range(1, harness.profile.rounds + 1)
            return await _in_turn(handle, thread, [_marked(harness, number, number, 3) for number in numbers])

        harness.run(_watched, harness, write, 3)

    @least(commits=2, loads=2)
    def test_readers_see_a_commit_of_another_process_whole_or_not_at_all(self, harness: Harness) -> None:
        """Readers see each commit of a writer in another process whole or not at all. Clause `processes`."""
        if not harness.offers(Clause.PROCESSES):
            return

        async def run() -> None:
            async with workers(harness.url, 1, harness.seen) as (worker,):

                async def write(_: Recorded, thread: Thread) -> list[Receipt]:
                    commits = [_marked(harness, n, n, 20) for n in range(1, 2 * harness.profile.process_rounds + 1)]
                    outcomes = await worker.outcomes_of(Run(tuple(Step("commit", thread, each) for each in commits)))
                    for outcome in outcomes:
                        if outcome.failure is not None:
                            error = outcome.failure.error()
                            raise harness.broken("a process that writes alone meets no error", "none", error)
                    return [outcome.receipt for outcome in outcomes if outcome.receipt is not None]

                await _watched(harness, write, 20)

        harness.run(run)

    @least(commits=2, loads=2, deletions=1)
    def test_readers_see_the_birth_of_a_thread_whole_or_not_at_all(self, harness: Harness) -> None:
        """Readers see the first commit to a thread, which creates it, whole or not at all."""

        async def births() -> None:
            for at in range(1, harness.profile.rounds + 1):

                async def write(handle: Recorded, thread: Thread, at: int = at) -> list[Receipt]:
                    return await _in_turn(handle, thread, [_marked(harness, at, 1, 2)])

                await _watched(harness, write, 2)

        harness.run(births)

    @least(commits=2, loads=2)
    def test_readers_see_messages_dropped_and_appended_at_once(self, harness: Harness) -> None:
        """Readers see a commit that drops messages and appends others whole or not at all: never the thread cut off,
        and never the old messages beside the new ones.
        """

        async def write(handle: Recorded, thread: Thread) -> list[Receipt]:
            commits = [_marked(harness, number, number, 2) for number in range(1, harness.profile.rounds + 1)]
            return await _in_turn(handle, thread, [replace(commit, drop_after=0) for commit in commits])

        harness.run(_watched, harness, write, 2, True)

    @least(commits=2, loads=2)
    def test_readers_see_the_largest_commit_whole_or_not_at_all(self, harness: Harness) -> None:
        """Readers see the largest commits that the store declares, of the most messages and of the most bytes, whole or
        not at all.
        """

        async def largest(size: int, text: str = "") -> None:
            async def write(handle: Recorded, thread: Thread) -> list[Receipt]:
                return await _in_turn(handle, thread, [_marked(harness, n, n, size, text) for n in (1, 2)])

            await _watched(harness, write, size)

        async def run() -> None:
            limits = (await harness.open()).limits
            await largest(limits.commit_messages)
            room = limits.commit_bytes - 1000
            size = -(-room // (limits.message_bytes - 1000))
            await largest(size, "x" * (room // size - 200))

        # Its readers read the largest commits again and again, which is more than other checks ask of a store.
        harness.run(run, seconds=3 * harness.profile.seconds)

    @least(commits=2, loads=2)
    def test_readers_see_the_documents_of_a_resource_change_together(self, harness: Harness) -> None:
        """A reader sees several documents of a resource that are put in one commit change together."""

        async def run() -> None:
            writer, reader = await harness.open(), await harness.open()
            resource = Resource(harness.fresh() + "user")
            slots = [f"slot{index}" for index in range(8)]
            done = asyncio.Event()

            async def write() -> None:
                try:
                    bodies = [json.dumps(number) for number in range(harness.profile.rounds)]
                    puts = [tuple(Put(slot, body) for slot in slots) for body in bodies]
                    await _in_turn(writer, resource, [Changes(at, puts=each) for at, each in enumerate(puts)])
                finally:
                    done.set()

            async def read() -> None:
                ended = False
                while not ended:
                    ended = done.is_set()
                    docs = (await Counted.load(reader, resource)).resource_docs
                    one = len(set(docs.values())) <= 1 and len(docs) in (0, len(slots))
                    harness.require("documents put in one commit appear together", one, "all, of one commit", docs)
                    await asyncio.sleep(0)

            await asyncio.gather(write(), read())

        harness.run(run)

    @least(loads=10)
    def test_a_refused_commit_writes_nothing(self, harness: Harness) -> None:
        """A commit that is refused leaves everything that can be seen as it was, `created` and `active` too, and its
        messages can be committed later. It is refused for each condition in turn: the tail, the tail's epoch,
        `if_epoch`, a message id that is there with another body, the version of the second document of the thread and
        of the resource; on a thread that is there and on one that is not, with and without `drop_after`.
        """

        async def run() -> None:
            handle, other = await harness.open(), await harness.open()
            for there in (False, True):
                for drop_after in (None, 1):
                    for name, (fault, kind) in _faults(there).items():
                        thread = Thread(harness.fresh() + "user", "thread")
                        resource = Resource(thread.resource_id)
                        await handle.commit(resource, Changes(1, puts=(Put("work", "1"), Put("other", "1"))))
                        if there:
                            old = tuple(record(f"old{index}") for index in range(3))
                            puts = (Put("work", "1"), Put("other", "1"))
                            await handle.commit(thread, Changes(2, harness.epoch(), old, puts))
                        before = await everything(handle, thread)
                        changes = replace(
                            Changes(
                                9_000_000,
                                harness.epoch(),
                                (record("old0"), record("new1"), record("new2")),
                                (Put("work", "2"), Put("more", "2")),
                                (Put("work", "2"), Put("more", "2")),
                                drop_after,
                            ),
                            **fault(before.thread.tail),
                        )
                        promise = f"a commit refused for {name} writes nothing"
                        await harness.refused(promise, kind, handle.commit(thread, changes))
                        harness.expect(promise, before, await everything(handle, thread))
                        harness.expect(promise, before, await everything(other, thread))
                        later = Changes(9_000_001, harness.epoch(), (record("new1"), record("new2")))
                        await other.commit(thread, later)
                        ids = [stored.id for stored in before.thread.records] + ["new1", "new2"]
                        seen = [stored.id for stored in (await handle.load(thread, ALL)).records]
                        harness.expect(f"{promise}, and its messages can be committed later", ids, seen)

        harness.run(run)

    def test_the_largest_commit_refused_writes_nothing(self, harness: Harness) -> None:
        """A commit of the most messages that is refused, for its last message, a document or its tail, leaves
        everything that can be seen as it was.
        """

        async def run() -> None:
            handle = await harness.open()
            thread = Thread(harness.fresh() + "user", "thread")
            old = tuple(record(f"old{index}") for index in range(3))
            await handle.commit(thread, Changes(1, harness.epoch(), old, (Put("work", "1"),), (Put("work", "1"),)))
            before = await everything(handle, thread)
            most = handle.limits.commit_messages
            many = tuple(record(f"new{index}") for index in range(most - 2))
            refusals: list[tuple[str, type[Conflict], Changes]] = [
                ("its last message", MessageConflict, Changes(2, "e", (old[0], *many, record("old1", "changed")))),
                ("its document", VersionMoved, Changes(2, "e", (old[0], *many), (Put("work", "2", 7),))),
                ("its resource's", VersionMoved, Changes(2, "e", (*many,), (), (Put("work", "2", 7),))),
                ("its tail", TailMoved, Changes(2, "e", (old[0], *many), if_tail=Tail("other", 3))),
            ]
            for name, kind, changes in refusals:
                promise = f"a commit of {len(changes.append)} messages that is refused for {name} writes nothing"
                await harness.refused(promise, kind, handle.commit(thread, changes))
                harness.expect(promise, before, await everything(handle, thread))

        harness.run(run)

    @least(loads=2)
    def test_a_cancelled_commit_is_done_or_not_done(self, harness: Harness) -> None:
        """A commit that is cancelled after 0, 1, 2 and more turns of the event loop is done or not done."""

        async def run() -> None:
            handle, other = await harness.open(), await harness.open()
            for turns in range(harness.profile.rounds):
                thread = Thread(harness.fresh() + "user", "thread")
                await handle.commit(thread, _marked(harness, 1, 1, 3))
                commit = asyncio.ensure_future(handle.commit(thread, _marked(harness, 2, 2, 3)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                commit.cancel()
                await asyncio.gather(commit, return_exceptions=True)
                torn = _torn(await other.load(thread, ALL), 3)
                promise = "a commit that was cancelled is done or not done"
                harness.require(promise, torn is None, "a whole number of commits", torn)

        harness.run(run)

    @least(kills=1)
    def test_a_killed_commit_is_done_or_not_done(self, harness: Harness) -> None:
        """A commit whose process is killed is done or not done. Processes that work through a script of commits and
        deletions are killed with SIGKILL at random moments. What they leave behind has to be what the reference model
        has after some number of whole steps. Clauses `processes` and `durability`.
        """
        if not all([harness.offers(Clause.PROCESSES), harness.offers(Clause.DURABILITY)]):
            return

        async def run() -> None:
            async for survivor in survivors(harness, mixed):
                harness.require(
                    "a commit whose process was killed is done or not done",
                    survivor.done is not None,
                    "what some number of the commits, each whole, leaves behind",
                    survivor.seen,
                )

        harness.run(run, seconds=5 * harness.profile.seconds)

    @least(commits=2, loads=5, lists=2, cuts=1, outages=True)
    def test_a_write_whose_connection_is_cut_is_whole_or_not_there(self, harness: Harness) -> None:
        """A commit or deletion whose connection is cut is done whole or not at all, as all views show to another
        handle. Commits of messages and documents, with a truncation and of many messages, and deletions, go through a
        proxy, which cuts each of their requests before it arrives, in its middle, after the
        server has answered, or in the middle of the answer. Where the plugin has no hook `proxied`, or that finds no
        way through a proxy, the report says NOT OFFERED; so do the other checks of cut connections, and of the meter.
        """
        with through_proxy(harness) as wire:
            if wire is not None:
                at_each_cut(wire, TORN, _whole)

    @least(kills=4)
    def test_a_call_is_whole_or_not_there_wherever_its_process_dies(self, harness: Harness) -> None:
        """A call whose process dies in the middle of it is done or not done, whatever the moment. Processes kill
        themselves in a first commit, a later one, a truncation, a commit of documents, a deletion and an erasure, at
        moments that are counted and searched for what is left in parts between two of them. Clauses `processes` and
        `durability`.
        """
        if not all([harness.offers(Clause.PROCESSES), harness.offers(Clause.DURABILITY)]):
            return

        async def run() -> None:
            async for survivor in deaths(harness):
                harness.require(
                    "a call in which its process died is done or not done",
                    survivor.done is not None,
                    "what was there before, or what the call leaves behind, whole",
                    survivor.seen,
                )

        harness.run(run, seconds=5 * harness.profile.seconds)


def _faults(there: bool) -> dict[str, tuple[Callable[[Tail], dict[str, Any]], type[Conflict]]]:
    """What makes a commit fail, as fields of its changes, and the error that says so."""
    new: tuple[Record, ...] = (record("new1"), record("new2"))
    work, wrong = Put("work", "2"), Put("other", "2", 9)
    faults: dict[str, tuple[Callable[[Tail], dict[str, Any]], type[Conflict]]] = {
        "its tail": (lambda tail: {"if_tail": Tail(tail.epoch, tail.position + 1), "append": new}, TailMoved),
        "its tail's epoch": (lambda tail: {"if_tail": Tail("other", tail.position), "append": new}, TailMoved),
        "its epoch": (lambda _: {"if_epoch": "other"}, TailMoved),
        "its second document": (lambda _: {"puts": (work, wrong)}, VersionMoved),
        "the second document of its resource": (lambda _: {"resource_puts": (work, wrong)}, VersionMoved),
    }
    if there:
        faults["its last message"] = (
            lambda _: {"append": (*new, record("old0", "changed"))},
            MessageConflict,
        )
        faults["the thread being there"] = (lambda _: {"if_epoch": ""}, TailMoved)
    return faults
