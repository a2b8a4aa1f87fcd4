"""The checks of law 8 on lists: the threads of a resource, and the resources."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

from threadkeep.errors import InvalidCursor
from threadkeep.handles import Memory, ResourceHandle
from threadkeep.messages import Message
from threadkeep.port import MAX_PAGE, MIN_TIME, After, Changes, Order, Put, Resource, Thread, ThreadRow
from threadkeep_contract.evidence import least
from threadkeep_contract.faults import clocks
from threadkeep_contract.harness import Clock, Harness, Law, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.identity import drawn_ids
from threadkeep_contract.inputs.operations import Program, programs
from threadkeep_contract.reference.beside import ORDERS, agree
from threadkeep_contract.reference.machine import START, compare
from threadkeep_contract.reference.model import Model
from threadkeep_contract.walks import place

Between: TypeAlias = Callable[[ThreadRow], Awaitable[object]]


async def _walk(
    handle: Recorded, resource: Resource, order: Order, limit: int, between: Sequence[Between] = ()
) -> list[ThreadRow]:
    """All pages of a list of threads.

    Before the second page and each later one, an entry of `between` is called with the last row and awaited.
    """
    rows: list[ThreadRow] = []
    after: After | None = None
    pending = list(between)
    while True:
        page = await handle.threads(resource, after, limit, order)
        rows += page
        if len(page) < limit:
            return rows
        last = page[-1]
        after = place(last, order)
        if pending:
            await pending.pop(0)(last)


async def _create(harness: Harness, handle: Recorded, resource: Resource, times: Mapping[str, int]) -> None:
    """Threads of one message each, created at the times given, in the order given."""
    for thread_id, at in times.items():
        await handle.commit(Thread(resource.resource_id, thread_id), appending(harness, at, record("m")))


class Lists(Law):
    """Lists of threads and of resources."""

    @least(commits=20, loads=0, lists=10)
    def test_threads_by_creation_come_once_whatever_happens(self, harness: Harness) -> None:
        """A list by creation shows every thread exactly once, whatever happens meanwhile. It is walked in pages of
        every size, with several threads of one instant, while threads are touched, created and deleted between the
        pages, the one that the next page begins after among them.
        """

        async def check(limit: int) -> None:
            one, two = await harness.reused(2)
            resource = Resource(harness.fresh() + "r")
            # Ids that sort against the order of creation, and three threads for each instant.
            times = {f"{'zma'[number % 3]}{20 - number:02}": START + number // 3 for number in range(12)}
            await _create(harness, one, resource, times)
            ids = sorted(times, key=lambda thread_id: (times[thread_id], thread_id))

            async def touch(last: ThreadRow) -> None:
                for thread_id in (ids[0], last.thread_id, ids[6], ids[-1]):
                    scope = Thread(resource.resource_id, thread_id)
                    await two.commit(scope, Changes(at=START + 10**9, epoch=harness.epoch()))

            async def create(last: ThreadRow) -> None:
                scope = Thread(resource.resource_id, "new")
                await two.commit(scope, Changes(at=START + 10**9, epoch=harness.epoch()))

            async def delete(last: ThreadRow) -> None:
                await two.delete(Thread(resource.resource_id, last.thread_id))

            rows = await _walk(one, resource, "created", limit, (touch, create, delete, create))
            found = [row.thread_id for row in rows if row.thread_id != "new"]
            # A walk in one page has ended before anything happens.
            harness.expect(f"every thread once, by creation, in pages of {limit}", ids, found)

        for limit in (1, 2, 3, 5, 100):
            harness.history.clear()
            harness.run(check, limit)

    @least(commits=20, loads=0, lists=10)
    def test_threads_by_activity_come_once_if_untouched(self, harness: Harness) -> None:
        """A list by last activity shows every thread that nobody touched meanwhile exactly once, newest first and ties
        by falling id, and none twice. It is walked in pages of every size while threads are touched between the pages,
        the one that the next page begins after among them.
        """

        async def check(limit: int) -> None:
            one, two = await harness.reused(2)
            resource = Resource(harness.fresh() + "r")
            times = {f"{'zma'[number % 3]}{number:02}": START + number // 4 for number in range(12)}
            await _create(harness, one, resource, times)
            ids = sorted(times, key=lambda thread_id: (times[thread_id], thread_id), reverse=True)
            rows = await _walk(one, resource, "active", limit)
            harness.expect("by activity, newest first", ids, [row.thread_id for row in rows])

            moved: set[str] = set()

            async def touch(last: ThreadRow) -> None:
                # The thread that the next page begins after is among them.
                for thread_id in (ids[0], last.thread_id, ids[7]):
                    moved.add(thread_id)
                    scope = Thread(resource.resource_id, thread_id)
                    await two.commit(scope, Changes(at=START + 10**9, epoch=harness.epoch()))
                # A clock that is behind moves nothing.
                scope = Thread(resource.resource_id, ids[9])
                await two.commit(scope, Changes(at=START - 10**9, epoch=harness.epoch()))

            rows = await _walk(one, resource, "active", limit, (touch, touch))
            found = [row.thread_id for row in rows]
            harness.expect("no thread comes twice", sorted(set(found)), sorted(found))
            harness.expect(
                "every untouched thread comes once, in order",
                [thread_id for thread_id in ids if thread_id not in moved],
                [thread_id for thread_id in found if thread_id not in moved],
            )

        for limit in (1, 2, 3, 5, 100):
            harness.history.clear()
            harness.run(check, limit)

    @least(commits=10, loads=0, lists=20)
    def test_ties_are_broken_by_id_from_anywhere(self, harness: Harness) -> None:
        """Threads of one instant stand in the order of their ids, code point by code point, in both orders. Ids are
        drawn that differ in one place, and times that are few. A page may begin after any place in the list, after one
        between two threads, before the first, behind the last and after the id of a thread that is not there, with any
        limit and any slots; each is answered as by the reference model.
        """
        ids = st.tuples(drawn_ids(harness, changes=8), st.lists(st.text(min_size=1, max_size=3), max_size=8))
        drawn = st.tuples(ids, st.sampled_from((1, 1, 2, 3, 1000)), st.sampled_from((START, -1, 0, MIN_TIME)))

        async def check(case: tuple[tuple[tuple[str, ...], list[str]], int, int]) -> None:
            (family, others), limit, base = case
            one, two = await harness.reused(2)
            resource, model = Resource(harness.fresh() + "r"), Model()
            # Letters of both cases, digits and marks, which languages and code points put in different orders.
            every = list(dict.fromkeys((*family, *others, "a", "B", "c", "Z", "_", "é", "10", "9")))
            for number, thread_id in enumerate(every):
                changes = appending(harness, base + number % 3, puts=(Put("info", f"{number}"), Put("other", "0")))
                await agree(harness, one, model, "commit", Thread(resource.resource_id, thread_id), changes)
            places = [After(base, "x"), After(base + 3, "x"), After(base + 1, "\x01"), After(0, "\U0010ffff")]
            for row in model.threads(resource, limit=1000)[::3]:
                near = row.thread_id[:-1] or "\U0010ffff"
                places += [After(row.created, row.thread_id), After(row.created + 1, row.thread_id)]
                places += [
                    After(row.created, near),
                    After(row.created, row.thread_id[: len(row.thread_id) // 2] + "\x01"),
                ]
            for order, asked in ((ORDERS[0], ("info",)), (ORDERS[1], ("other", "none"))):
                await agree(harness, two, model, "threads", resource, None, 1000, order, asked)
                for after in places:
                    await agree(harness, two, model, "threads", resource, after, limit, order, asked)

        harness.explore(drawn, check, share=0.6)

    @least(commits=3, loads=0, lists=3)
    def test_lists_show_the_slots_that_are_asked_for(self, harness: Harness) -> None:
        """A list shows of each thread the documents in the slots that are asked for and no others, whatever the slots
        are called and however many: families of some forty slots that are alike but for one place are drawn, with
        commas and other separators in them, and all, half, and ones that are not there are asked for. Every answer is
        compared with the reference model's.
        """

        async def check(family: tuple[str, ...]) -> None:
            one, two = await harness.reused(2)
            resource, model = Resource(harness.fresh() + "r"), Model()
            joined = (f"{family[0]},{family[-1]}"[:512], "a,b", "a", "b") if family else ("a,b", "a", "b")
            every = tuple(slot for slot in dict.fromkeys((*family, *joined)) if len(slot.encode()) <= harness.id_bytes)
            for number, thread_id in enumerate(("t", "u")):
                for start in range(0, len(every), 20):
                    puts = tuple(Put(slot, f"{number}") for slot in every[start : start + 20][number::2])
                    changes = appending(harness, START + number, puts=puts)
                    await agree(harness, one, model, "commit", Thread(resource.resource_id, thread_id), changes)
            for asked in (every, every[::2], every[1::2], every[-3:-2], ("info", every[0])):
                for order in ORDERS:
                    await agree(harness, two, model, "threads", resource, None, 9, order, asked)

        harness.explore(drawn_ids(harness), check, share=0.3)

    @least(commits=6, loads=0, lists=3)
    def test_any_commit_is_activity(self, harness: Harness) -> None:
        """Any commit makes a thread the one touched last: an append, a repeated append, a document of the thread or of
        its resource, a truncation, an empty commit.
        """
        touches: dict[str, dict[str, Any]] = {
            "an append": {"append": (record("new"),)},
            "a repeated append": {"append": (record("m0"),)},
            "a document": {"puts": (Put("info", "{}"),)},
            "a document of the resource": {"resource_puts": (Put("info", "{}"),)},
            "a truncation": {"drop_after": 1},
            "nothing": {},
        }

        async def check() -> None:
            store, clock = await harness.open(), Clock()
            resource = Resource(harness.fresh() + "r")
            for name in touches:
                records = [record(f"m{number}") for number in range(3)]
                await store.commit(Thread(resource.resource_id, name), appending(harness, clock(), *records))
            for name, touch in touches.items():
                at = clock()
                await store.commit(Thread(resource.resource_id, name), Changes(at, harness.epoch(), **touch))
                rows = await store.threads(resource, order="active")
                harness.expect(f"{name} is activity", (name, at), (rows[0].thread_id, rows[0].active))

        harness.run(check)

    @least(commits=10, loads=0, lists=4)
    def test_a_long_list_is_listed_whole(self, harness: Harness) -> None:
        """A list of more threads than a backend's page is whole, in one page of the port and in many, in both orders,
        with exactly the documents asked for.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            count = harness.profile.bystanders
            resource = Resource(room + "r")
            ids = [f"t{number:04}" for number in range(count)]
            for number, thread_id in enumerate(ids):
                scope = Thread(resource.resource_id, thread_id)
                await handle.commit(
                    scope, Changes(at=START + number, epoch=harness.epoch(), puts=(Put("info", f'{{"n":{number}}}'),))
                )
            for limit in (MAX_PAGE, 7):
                rows = await _walk(handle, resource, "created", limit)
                harness.expect(f"all threads by creation, {limit} a page", ids, [row.thread_id for row in rows])
                rows = await _walk(handle, resource, "active", limit)
                harness.expect(f"all threads by activity, {limit} a page", ids[::-1], [row.thread_id for row in rows])
            shown = await handle.threads(resource, limit=MAX_PAGE, slots=("info",))
            bodies = [row.docs["info"].body if "info" in row.docs else None for row in shown]
            harness.expect("the documents asked for", [f'{{"n":{number}}}' for number in range(count)], bodies)
            bare = await handle.threads(resource, limit=MAX_PAGE)
            harness.require("no document that was not asked for", not any(row.docs for row in bare), "none", bare[:3])

        harness.run(check)

    @least(commits=6, loads=0, lists=10)
    def test_resources_are_listed_by_code_point(self, harness: Harness) -> None:
        """The list of resources shows every resource with a thread or a document exactly once, by code point, and none
        that has neither. Its cursor is refused elsewhere.
        """

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            names = ["a", "B", "b", "é", "e\u0301", "\uffff", "\U00010000", "z", "10", "9", "a\x00", "a "]
            names = [name for name in names if harness.takes(name, ids=True)]
            for number, name in enumerate(names):
                if number % 2:
                    changes = Changes(at=START, puts=(Put("working_memory", "1"),))
                    await handle.commit(Resource(room + name), changes)
                else:
                    await handle.commit(Thread(room + name, "t"), appending(harness, START, record("m")))
            gone = Thread(room + "gone", "t")
            await handle.commit(gone, appending(harness, START, record("m")))
            await handle.delete(gone)
            for limit in (1, 2, 5, 100):
                found: list[str] = []
                while True:
                    page = await handle.resources(found[-1] if found else room, limit)
                    found += [resource_id for resource_id in page if resource_id.startswith(room)]
                    if len(page) < limit or not page[-1].startswith(room):
                        break
                expected = sorted(room + name for name in names)
                harness.expect(f"the resources by code point, {limit} a page", expected, found)
            admin = Memory(handle).admin
            first = await admin.resources_page(limit=1)
            if first.cursor is not None:
                memory = Memory(handle)
                refused = memory.resource(room + "a").threads_page(cursor=first.cursor)
                await harness.refused("its cursor is refused elsewhere", InvalidCursor, refused)

        harness.run(check)

    @least(commits=5, lists=10)
    def test_lists_answer_as_the_model(self, harness: Harness) -> None:
        """Random creations, touches, deletions and pages are answered as by the reference model."""

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(("append", "puts", "delete", "list"), harness.profile.steps), check, share=0.6)

    @least(commits=10, loads=0, lists=40)
    def test_filters_change_what_is_shown_not_the_walk(self, harness: Harness) -> None:
        """Filters by archived and by metadata change what is shown, and not the order, in any page size. Metadata is
        compared as JSON: 1, 1.0, "1" and true are four values, and the order of keys plays no part.
        """

        async def check() -> None:
            memory = Memory(await harness.open())
            resource = memory.resource(harness.fresh() + "r")
            values: list[Any] = [1, 1.0, "1", True, None, {"b": 1, "a": [1]}, [1], "", 0, False, "missing"]
            for number, value in enumerate(values * 2):
                metadata = {} if value == "missing" else {"k": value, "n": number}
                thread = await resource.create_thread(f"t{number:02}", metadata=metadata)
                if number % 3 == 0:
                    await thread.archive()

            async def shown(limit: int, order: Order, **filters: Any) -> list[str]:
                found: list[str] = []
                cursor = None
                while True:
                    page = await resource.threads_page(limit=limit, cursor=cursor, order=order, **filters)
                    harness.require("a page is not over its limit", len(page.items) <= limit, limit, len(page.items))
                    found += [info.thread_id for info in page.items]
                    cursor = page.cursor
                    if cursor is None:
                        return found

            orders: tuple[Literal["created", "active"], ...] = ("created", "active")
            for order in orders:
                walk = await shown(1000, order)
                harness.expect("without filters, every thread", len(values) * 2, len(walk))
                for limit in (1, 2, 1000):
                    for archived in (True, False):
                        expected = [one for one in walk if (int(one[1:]) % 3 == 0) is archived]
                        harness.expect("by archived", expected, await shown(limit, order, archived=archived))
                    for number, value in enumerate(values[:-1]):
                        expected = [one for one in walk if int(one[1:]) % len(values) == number]
                        harness.expect(
                            f"by metadata {value!r}", expected, await shown(limit, order, metadata={"k": value})
                        )
            harness.expect(
                "key order plays no part", 2, len(await shown(9, "created", metadata={"k": {"a": [1], "b": 1}}))
            )
            harness.expect("no such value", [], await shown(9, "created", metadata={"k": "no"}))

        harness.run(check)

    @least(commits=16, loads=0, lists=4)
    def test_lists_and_pages_while_tasks_write(self, harness: Harness) -> None:
        """Walks in both orders that race with writers on other handles show every thread that nobody touched exactly
        once.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            memory, other = Memory(one), Memory(two)
            resource = memory.resource(harness.fresh() + "r")
            still = [f"still{number}" for number in range(8)]
            for name in still:
                await resource.create_thread(name)
            busy = other.resource(resource.resource_id)

            async def write(number: int) -> None:
                for turn in range(6):
                    await busy.thread(f"busy{number}").append(Message.user(str(turn)))
                    await asyncio.sleep(0)

            async def walk(order: Order) -> list[str]:
                return [info.thread_id async for info in _paged(resource, order)]

            results = await asyncio.gather(walk("created"), walk("active"), *[write(number) for number in range(4)])
            for found in results[:2]:
                names = [name for name in found or [] if name.startswith("still")]
                harness.expect("every untouched thread once", still, sorted(names))

        for _ in range(max(2, harness.profile.rounds // 5)):
            harness.history.clear()
            harness.run(check)

    @least(commits=5, loads=0, lists=10)
    def test_lists_go_by_the_times_of_commits_when_the_clock_jumps(self, harness: Harness) -> None:
        """The clock of the store's process is set forward and back by days and years, with lists and commits between:
        both orders are by the times that commits name, and a list shows at once what was committed.
        """
        with clocks.of_process() as move:
            harness.run(clocks.agree, harness, move, clocks.lists)


async def _paged(resource: ResourceHandle, order: Order) -> Any:
    cursor = None
    while True:
        page = await resource.threads_page(limit=2, cursor=cursor, order=order)
        for info in page.items:
            yield info
        cursor = page.cursor
        if cursor is None:
            return
        await asyncio.sleep(0)
