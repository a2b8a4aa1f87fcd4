"""Law 10: deletion.

Deleting a thread removes its messages, working memory, ids and indexes, and nothing else; erasing a resource removes
everything of that resource, and a raw scan of the backend finds no trace of its id or contents. Deleting is idempotent.
A thread created again under the same id starts empty, in a new epoch, at version and position 1, and a late writer that
still holds the old thread's tail cannot write into it. Truncating a thread (dropping the messages after one) is a
commit like any other; the ids dropped are free again.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Final

from threadkeep.errors import InvalidCursor, TailMoved
from threadkeep.handles import Memory
from threadkeep.messages import Message
from threadkeep.port import (
    MISSING,
    Changes,
    Doc,
    Put,
    Receipt,
    Resource,
    Scope,
    Snapshot,
    Tail,
    Thread,
    ThreadRow,
    Window,
)
from threadkeep_contract import large
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.inputs.confusable import PAIRS, Spot, just_before
from threadkeep_contract.inputs.operations import EVERYTHING, Program, programs
from threadkeep_contract.laws.deletion.traces import Traces
from threadkeep_contract.reference.beside import ORDERS
from threadkeep_contract.reference.machine import START, compare

NEIGHBOURS: Final = (
    *[
        ("ids begin alike", *pair)
        for pair in [
            ("foo", "foobar"),
            ("foobar", "foo"),
            ("foo", "fo"),
            ("a", "a:b"),
            ("a", "a/b"),
            ("a", "a\x00"),
            ("a", "a\x00b"),
            ("1", "10"),
            ("x", "x:messages"),
            ("a", "a\uffff"),
        ]
    ],
    *[
        ("ids are patterns", *pair)
        for pair in [
            ("a%", "abc"),
            ("a_c", "abc"),
            ("a*", "abc"),
            ("*", "abc"),
            ("%", "abc"),
            ("[a]", "a"),
            ("a.c", "abc"),
            (".*", "abc"),
        ]
    ],
    *[("ids are changed", *pair) for pair in [("Ann", "ann"), ("a", " a"), ("é", "e\u0301")]],
)
"""What a careless deletion takes for alike, and two ids: deleting the first must not touch the second."""


async def _everything(handle: Recorded, scope: Thread) -> tuple[Snapshot, list[ThreadRow]]:
    rows = await handle.threads(Resource(scope.resource_id), slots=("info", "working_memory"))
    return await handle.load(scope, ALL), [row for row in rows if row.thread_id == scope.thread_id]


async def _full(harness: Harness, handle: Recorded, scope: Thread) -> Receipt:
    """A thread with messages and documents, and a document of its resource."""
    return await handle.commit(
        scope,
        appending(
            harness,
            START,
            record("a", "of " + scope.thread_id),
            record("b"),
            puts=(Put("info", '"info"'), Put("working_memory", '"mine"')),
            resource_puts=(Put("working_memory", '"ours"'),),
        ),
    )


class Deletion(Traces):
    """What is deleted is gone, whole and alone."""

    number = 10
    title = "Deletion"

    @least(commits=2, deletions=2, lists=4)
    def test_a_deleted_thread_is_missing(self, harness: Harness) -> None:
        """A deleted thread looks like one that never was, through every handle, in windows by id and in lists of both
        orders. Its resource's documents stay, and a resource that has nothing left is not listed.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            scope, resource = Thread(room + "r", "t"), Resource(room + "r")
            await _full(harness, one, scope)
            await one.delete(scope)
            for handle in (one, two):
                found = await handle.load(scope, ALL)
                expected = Snapshot(resource_docs={"working_memory": Doc(1, '"ours"')})
                harness.expect("a deleted thread looks like one that never was", expected, _same_kinds(found))
                found = await handle.load(scope, Window("a", 9, 9))
                harness.expect("its ids are gone", [], list(found.records))
                harness.expect("it is not listed by creation", [], list(await handle.threads(resource)))
                harness.expect("it is not listed by activity", [], list(await handle.threads(resource, order="active")))
            bare = Thread(room + "s", "t")
            await one.commit(bare, appending(harness, START, record("a")))
            await one.delete(bare)
            listed = [resource_id for resource_id in await one.resources(room, 9) if resource_id.startswith(room)]
            harness.expect("only the resource with a document is listed", [resource.resource_id], listed)

        harness.run(check)

    @least(commits=8, loads=10, deletions=2, lists=8)
    def test_deleting_a_thread_leaves_all_others(self, harness: Harness) -> None:
        """Deleting a thread leaves its neighbours whole: threads whose ids begin alike, match as patterns, or differ in
        case or normal form, in the same resource, and the same id in others.
        """

        async def check(mine: str, other: str) -> None:
            (handle,) = await harness.reused(1)
            room = harness.fresh()
            scope = Thread(room + "r", mine)
            others = [Thread(room + "r", other), Thread(room + "s", mine), Thread(room + "r" + mine, other)]
            for thread in (scope, *others):
                await _full(harness, handle, thread)
            before = [await _everything(handle, thread) for thread in others]
            await handle.delete(scope)
            for thread, was in zip(others, before, strict=True):
                harness.expect(f"deleting {mine!r} leaves {thread}", was, await _everything(handle, thread))
            gone = await handle.load(scope, ALL)
            harness.expect("the deleted thread is gone", ("", 0), tuple(gone.tail))

        for _, mine, other in harness.some(NEIGHBOURS, 1 / 3, kind=itemgetter(0)):
            harness.history.clear()
            harness.run(check, mine, other)

    @least(commits=12, loads=20, deletions=2, lists=10)
    def test_erasing_a_resource_leaves_all_others(self, harness: Harness) -> None:
        """Erasing a resource removes its threads, its documents and its place in the list of resources, and leaves
        resources whole whose ids begin alike, match as patterns, or differ in case or normal form.
        """

        async def check(mine: str, other: str) -> None:
            (handle,) = await harness.reused(1)
            room = harness.fresh()
            threads = [Thread(room + mine, "t"), Thread(room + mine, "u"), Thread(room + mine, other)]
            others = [Thread(room + other, "t"), Thread(room + other, "u"), Thread(room + other, mine)]
            for thread in (*threads, *others):
                await _full(harness, handle, thread)
            before = [await _everything(handle, thread) for thread in others]
            await handle.delete(Resource(room + mine))
            for thread, was in zip(others, before, strict=True):
                harness.expect(f"erasing {mine!r} leaves {thread}", was, await _everything(handle, thread))
            for thread in threads:
                harness.expect("nothing of an erased resource", Snapshot(), _same_kinds(await handle.load(thread, ALL)))
                harness.expect("none of its ids", [], list((await handle.load(thread, Window("a", 9, 9))).records))
            harness.expect("no document", Snapshot(), _same_kinds(await handle.load(Resource(room + mine))))
            harness.expect("no thread in its list", [], list(await handle.threads(Resource(room + mine))))
            listed = [found for found in await handle.resources(room[:-1], 1000) if found == room + mine]
            harness.expect("it is not among the resources", [], listed)

        for _, mine, other in harness.some(NEIGHBOURS, 1 / 3, kind=itemgetter(0)):
            harness.history.clear()
            harness.run(check, mine, other)

    @least(commits=8, loads=10, deletions=4)
    def test_deleting_confusable_scopes(self, harness: Harness) -> None:
        """Of two scopes that a careless store takes for one, deleting or erasing one leaves the other. Half of the
        catalogue of law 1 is tried.
        """

        async def check(mine: Spot, other: Spot) -> None:
            (handle,) = await harness.reused(1)
            room = harness.fresh()
            scope, kept = mine.thread(room), other.thread(room)
            await _full(harness, handle, scope)
            await _full(harness, handle, kept)
            before = await _everything(handle, kept)
            gone: Scope = scope
            if scope.resource_id != kept.resource_id:
                gone = Resource(scope.resource_id)
            await handle.delete(gone)
            harness.expect("deleting one of a pair leaves the other", before, await _everything(handle, kept))
            harness.expect("and removes it", ("", 0), tuple((await handle.load(scope, ALL)).tail))

        for pair in harness.some(PAIRS, 2, kind=lambda pair: pair.kind):
            harness.history.clear()
            harness.run(check, pair.second, pair.first)

    @least(commits=20, loads=3, deletions=2, lists=1)
    def test_large_scopes_are_deleted_whole(self, harness: Harness) -> None:
        """Threads, and resources, that are larger than a batch of a backend are deleted whole, and so is what a
        truncation drops. Every id is free afterwards.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            length, many = harness.profile.length, harness.profile.bystanders
            step = min(100, handle.limits.commit_messages)
            for way in ("delete", "erase", "truncate"):
                scope = Thread(f"{room}{way}", "long")
                ids = [f"m{number}" for number in range(length)]
                for start in range(0, length, step):
                    await handle.commit(scope, appending(harness, START, *map(record, ids[start : start + step])))
                if way == "delete":
                    await handle.delete(scope)
                elif way == "erase":
                    for number in range(many):
                        await handle.commit(
                            Thread(scope.resource_id, f"t{number}"), appending(harness, START, record("a"))
                        )
                    await handle.delete(Resource(scope.resource_id))
                    harness.expect("no thread is left", [], list(await handle.threads(Resource(scope.resource_id))))
                else:
                    await handle.commit(scope, Changes(at=START, epoch=harness.epoch(), drop_after=0))
                harness.history.clear()
                harness.expect("no message is left", [], list((await handle.load(scope, ALL)).records))
                again = [record(message_id, "another body") for message_id in ids]
                first = length + 1 if way == "truncate" else 1
                for start in range(0, length, step):
                    receipt = await handle.commit(scope, appending(harness, START, *again[start : start + step]))
                    positions = [first + start + number for number in range(len(receipt.positions))]
                    harness.expect("every id is free", positions, list(receipt.positions))

        harness.run(check)

    def test_very_large_scopes_are_deleted_whole(self, harness: Harness) -> None:
        """A thread of thousands of messages is truncated, to some of its first messages and to none, filled again each
        time, and deleted whole, and then a resource of as many threads as no page holds. No view shows anything of
        them, each thread that is made again begins anew, and a resource beside them keeps what it has.
        """

        async def check() -> None:
            handles = [await harness.open(), await harness.open()]
            one, two = handles
            room = harness.fresh()
            resource, beside = Resource(room + "r"), Thread(room + "s", "long")
            await _full(harness, one, beside)
            long = Thread(resource.resource_id, "long")
            size = large.size(harness, harness.profile.records)
            for kept in (1 + large.chance(harness).randrange(size // 8), 0):
                made = await large.long_thread(harness, one, long, size)
                await two.commit(long, appending(harness, START, drop_after=kept))
                found = (await one.load(long, ALL)).records
                left = [each.id for each in made[:kept]]
                harness.expect("a truncation drops all that is above", left, [entry.id for entry in found])
            await large.long_thread(harness, one, long, size)
            await one.delete(long)
            harness.expect("nothing of a deleted thread is seen", Snapshot(), _same_kinds(await two.load(long, ALL)))
            for each in (made[0], made[len(made) // 2], made[-1]):
                receipt = await two.commit(long, appending(harness, START, each._replace(digest="0" * 64)))
            harness.expect("every id is free, and positions begin anew", [3], list(receipt.positions))
            await one.commit(resource, Changes(at=START, puts=(Put("working_memory", "1"),)))
            count = large.size(harness, harness.profile.scopes)
            threads = await large.many_threads(harness, handles, resource, count)
            await two.delete(resource)
            for order in ORDERS:
                harness.expect(f"no thread is left by {order}", [], list(await one.threads(resource, order=order)))
            listed = [name for name in await one.resources(just_before(room), 9) if name.startswith(room)]
            harness.expect("only the other resource is listed", [beside.resource_id], listed)
            harness.expect("no document is left", Snapshot(), _same_kinds(await one.load(resource)))
            for gone in (threads[0], threads[-1], *large.chance(harness).sample(threads, min(count, 30))):
                scope = Thread(resource.resource_id, gone.thread_id)
                harness.expect("no thread is left", Snapshot(), _same_kinds(await one.load(scope, ALL)))
            again = Thread(resource.resource_id, threads[-1].thread_id)
            receipt = await one.commit(again, appending(harness, START, record("m0", "x"), puts=(Put("info", "1"),)))
            harness.expect("made again, it begins anew", ([1], [1]), ([*receipt.positions], [*receipt.versions]))
            harness.expect("what is beside it stays", 2, len((await two.load(beside, ALL)).records))

        large.run(harness, check)

    @least(deletions=2)
    def test_deleting_is_idempotent(self, harness: Harness) -> None:
        """Deleting what is not there, again and again, is no error and creates nothing. So it is beside other threads
        of the resource, which stay.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            scopes: list[Scope] = [Thread(room + "r", "t"), Resource(room + "r")]
            for scope in scopes:
                await handle.delete(scope)
                await handle.delete(scope)
            await _full(harness, handle, Thread(room + "r", "t"))
            for scope in scopes:
                await handle.delete(scope)
                await handle.delete(scope)
            harness.expect("nothing is left", Snapshot(), _same_kinds(await handle.load(Thread(room + "r", "t"), ALL)))
            listed = [found for found in await handle.resources(room, 9) if found.startswith(room)]
            harness.expect("deleting created nothing", [], listed)
            beside, gone = Thread(room + "s", "beside"), Thread(room + "s", "t")
            await handle.commit(beside, appending(harness, START, record("m")))
            for is_there in (False, True):
                if is_there:
                    await _full(harness, handle, gone)
                await handle.delete(gone)
                await handle.delete(gone)
                there = [row.thread_id for row in await handle.threads(Resource(room + "s"), None, 9)]
                harness.expect("what is beside it stays, and nothing else is there", ["beside"], there)

        harness.run(check)

    @least(commits=2, loads=2, deletions=1)
    def test_a_thread_created_again_starts_empty(self, harness: Harness) -> None:
        """A thread that is created again, after a deletion and after an erasure, starts in a new epoch, with times of
        its own, at position 1 and at version 1, and with every old id free.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            for erase in (False, True):
                scope = Thread(f"{room}r{erase}", "t")
                old = await _full(harness, handle, scope)
                await handle.commit(scope, Changes(at=START, epoch=harness.epoch(), puts=(Put("info", "2"),)))
                await handle.delete(Resource(scope.resource_id) if erase else scope)
                changes = appending(
                    harness,
                    START + 77,
                    record("b", "another body"),
                    puts=(Put("info", "3", 0),),
                    resource_puts=(Put("working_memory", "4", 0 if erase else 1),),
                    if_epoch="",
                )
                new = await handle.commit(scope, changes)
                harness.expect("a new epoch, at position 1", (changes.epoch, 1), tuple(new.tail))
                harness.require("not the old epoch", new.tail.epoch != old.tail.epoch, "another", old.tail.epoch)
                harness.expect("at version 1", ([1], [1 if erase else 2]), ([*new.versions], [*new.resource_versions]))
                found = await handle.load(scope, ALL)
                harness.expect("nothing of before", [(1, START + 77, "b")], [tuple(e[:3]) for e in found.records])
                harness.expect("no document of before", {"info": Doc(1, "3")}, dict(found.docs))
                harness.expect("its own times", (START + 77, START + 77), (found.created, found.active))

        harness.run(check)

    @least(commits=2, loads=2, deletions=1)
    def test_a_late_writer_cannot_write_into_the_new_thread(self, harness: Harness) -> None:
        """A late writer, with the tail or the epoch of a deleted thread, gets `TailMoved` with the tail that is, also
        where the new thread has as many messages. A cursor of the old thread is `InvalidCursor` in the new one.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            old = await one.commit(scope, appending(harness, START, record("a"), record("b")))
            await two.delete(scope)
            late = [
                appending(harness, START, record("c"), if_tail=old.tail, seen=old.tail),
                appending(harness, START, record("c"), if_epoch=old.tail.epoch),
                Changes(at=START, epoch=harness.epoch(), puts=(Put("info", "1"),), if_tail=old.tail),
                Changes(at=START, epoch=harness.epoch(), drop_after=0, if_tail=old.tail),
            ]
            tail: Tail = MISSING
            for again in (False, True):
                if again:
                    # The new thread has as many messages, so that only the epoch tells it from the old one.
                    tail = (await two.commit(scope, appending(harness, START, record("x"), record("y")))).tail
                    harness.expect("the same position", old.tail.position, tail.position)
                before = await two.load(scope, ALL)
                for changes in late:
                    error = await harness.refused("a late writer is refused", TailMoved, one.commit(scope, changes))
                    harness.expect("with the tail now", tuple(tail), (error.epoch, error.position))
                harness.expect("nothing was written", before, await two.load(scope, ALL))
            memory = Memory(two)
            thread = memory.thread(scope.resource_id, "paged")
            await thread.append(*[Message.user("x") for _ in range(4)])
            page = await thread.messages_page(limit=2)
            await thread.delete()
            await thread.append(*[Message.user("y") for _ in range(4)])
            promise = "a cursor of the old thread is refused in the new one"
            await harness.refused(promise, InvalidCursor, thread.messages_page(limit=2, cursor=page.cursor))

        harness.run(check)

    @least(commits=4, loads=2)
    def test_truncating_is_a_commit_like_any_other(self, harness: Harness) -> None:
        """A truncation moves the tail, frees the ids, keeps what is below, counts as activity and obeys `if_tail`. It
        may stand beside an append in one commit, and drops nothing where there is nothing above.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            full = await one.commit(scope, appending(harness, START, *[record(name) for name in "abcd"]))
            stale = full.tail
            cut = await two.commit(
                scope, Changes(at=START + 1, epoch=harness.epoch(), drop_after=full.positions[1], if_tail=stale)
            )
            harness.expect("the tail moves down", (stale.epoch, full.positions[1]), tuple(cut.tail))
            found = await one.load(scope, ALL)
            harness.expect("what is below stays", ["a", "b"], [entry.id for entry in found.records])
            harness.expect("it touches the thread", START + 1, found.active)
            for name in "cd":
                harness.expect("a dropped id is gone", [], list((await one.load(scope, Window(name, 9, 9))).records))
            late = appending(harness, START, record("e"), if_tail=stale)
            await harness.refused("the old tail is not the tail", TailMoved, one.commit(scope, late))
            other = record("c", "with another body")
            again = await one.commit(scope, appending(harness, START + 2, other, record("d")))
            harness.require(
                "a dropped id is free, at a new position",
                min(again.positions) > max(full.positions),
                f"positions above {max(full.positions)}",
                list(again.positions),
            )
            found = await two.load(scope, ALL)
            expected = ["a", "b", "c", "d"]
            harness.expect("the thread after that", expected, [entry.id for entry in found.records])
            harness.expect("the new body", other.body, found.records[2].body)
            replaced = await two.commit(
                scope, appending(harness, START + 3, record("c"), drop_after=full.positions[1], if_tail=again.tail)
            )
            harness.expect("drop and append in one", replaced.tail.position, replaced.positions[0])
            found = await one.load(scope, ALL)
            harness.expect("as one commit", ["a", "b", "c"], [entry.id for entry in found.records])
            beyond = await one.commit(scope, Changes(at=START, epoch=harness.epoch(), drop_after=10**9))
            harness.expect("above the tail there is nothing to drop", replaced.tail, beyond.tail)

        harness.run(check)

    @least(commits=3, loads=5, deletions=1)
    def test_programs_with_deletions_answer_as_the_model(self, harness: Harness) -> None:
        """Random deletions, erasures and truncations between everything else are answered as by the reference model."""

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(EVERYTHING, harness.profile.steps), check)


def _same_kinds(snapshot: Snapshot) -> Snapshot:
    """The snapshot with a tuple of records and dicts of documents, to compare with one made by hand."""
    return Snapshot(
        snapshot.tail,
        snapshot.created,
        snapshot.active,
        tuple(snapshot.records),
        dict(snapshot.docs),
        dict(snapshot.resource_docs),
    )
