"""Law 8, reading.

`last=n` returns the newest n, oldest first, at a cost that does not depend on the length of the thread (law 13 counts
it). Pages of messages joined are the full list: nothing twice, nothing missing, also while others append. Threads are
listed by creation (every thread exactly once, whatever happens meanwhile) or by last activity (every thread that nobody
touched during the walk exactly once, none twice). Filters change what is shown, not the walk. A window never separates
a tool call from its result when `pair_safe` is asked for. List order is total and stated; ties are broken by id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import product
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st

from threadkeep.errors import InvalidCursor, InvalidInput, MessageNotFound
from threadkeep.handles import Memory, ResourceHandle
from threadkeep.messages import Message
from threadkeep.port import MAX_PAGE, After, Changes, Order, Put, Resource, Stored, Thread, ThreadRow, Window
from threadkeep_contract.confusable import one_thread
from threadkeep_contract.conversations import check_pairs, conversation
from threadkeep_contract.harness import Clock, Harness, Law, appending, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.machine import START, compare
from threadkeep_contract.operations import Program, programs

ALL = Window(before=10**6)

Between: TypeAlias = Callable[[ThreadRow], Awaitable[object]]


async def _fill(harness: Harness, handle: Recorded, scope: Thread, count: int) -> list[str]:
    """Append so many messages, m0, m1 and so on, in as few commits as the store takes; their ids."""
    ids = [f"m{number}" for number in range(count)]
    size = min(100, handle.limits.commit_messages)
    for start in range(0, count, size):
        await handle.commit(scope, appending(harness, START + start, *map(record, ids[start : start + size])))
    return ids


def _ids(records: Sequence[Stored]) -> list[str]:
    return [entry.id for entry in records]


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
        after = After(last.created if order == "created" else last.active, last.thread_id)
        if pending:
            await pending.pop(0)(last)


class Reading(Law):
    """Windows, pages and lists show what is there, once and in order."""

    number = 8
    title = "Reading"

    def test_last_n_are_the_newest_oldest_first(self, harness: Harness) -> None:
        """For every n around the length of a short thread, and around the pages of backends in a long one."""

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            for length in (0, 1, 2, 7, harness.profile.length):
                scope = Thread(f"{room}r{length}", "t")
                await handle.commit(scope, Changes(at=START, epoch=harness.epoch()))
                ids = await _fill(harness, handle, scope, length)
                counts = {0, 1, 2, 3, 6, 7, 8, 20, 99, 100, 101, length - 1, length, length + 1, 2**31 - 1}
                for count in sorted(count for count in counts if count >= 0):
                    found = await handle.load(scope, Window(before=count))
                    expected = ids[max(0, length - count) :]
                    harness.expect(f"the newest {count} of {length}, oldest first", expected, _ids(found.records))

        harness.run(check)

    def test_a_thread_reads_whole_whatever_its_size(self, harness: Harness) -> None:
        """Many messages, and messages that together are larger than a backend's page (2 MiB here), in one load."""

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            size = 60_000
            made = [record(f"m{number}", f"{number % 10}" * size) for number in range(36)]
            for one in made:
                await handle.commit(scope, appending(harness, START, one))
            found = (await handle.load(scope, ALL)).records
            harness.expect("every message is there", _ids_of(made), _ids(found))
            whole = all(entry.body == one.body for entry, one in zip(found, made, strict=True))
            harness.require("every message is whole", whole, "equal bodies", "a body that differs")
            await handle.delete(Resource(scope.resource_id))

        harness.run(check)

    def test_windows_answer_as_the_model(self, harness: Harness) -> None:
        """Random threads with gaps, and windows on both sides of ids, positions, gaps and ends."""

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(("append", "drop", "load"), harness.profile.steps, one_thread()), check)

    def test_every_window_of_a_thread_with_gaps(self, harness: Harness) -> None:
        """Each anchor, by position and by id, with each small count on both sides."""

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            await handle.commit(scope, appending(harness, START, *[record(f"m{number}") for number in range(6)]))
            await handle.commit(scope, appending(harness, START, record("n0"), record("n1"), drop_after=4))
            records = list((await handle.load(scope, ALL)).records)
            positions = [entry.position for entry in records]
            harness.expect("a thread with a gap", ["m0", "m1", "m2", "m3", "n0", "n1"], _ids(records))
            anchors = (None, *range(max(positions) + 3), "gone", "m4", *_ids(records))
            for before, after, anchor in harness.some([*product((0, 1, 3, 10), (0, 1, 3, 10), anchors)], 1 / 3):
                found = await handle.load(scope, Window(anchor, before, after))
                if isinstance(anchor, str):
                    at = _ids(records).index(anchor) if anchor in _ids(records) else None
                elif anchor is None:
                    at = len(records)
                else:
                    at = sum(position < anchor for position in positions)
                expected = [] if at is None else records[max(0, at - before) : at + after]
                harness.expect(f"the window ({anchor!r}, {before}, {after})", expected, list(found.records))

        harness.run(check)

    def test_pages_joined_are_the_full_list_while_others_append(self, harness: Harness) -> None:
        """Forward and backward by position, at the port and through `messages_page`, with appends between pages."""

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            for limit in (1, 3, 7):
                scope = Thread(f"{room}r{limit}", "t")
                ids = await _fill(harness, one, scope, 20)
                forward: list[Stored] = []
                while True:
                    start = forward[-1].position + 1 if forward else 1
                    page = (await one.load(scope, Window(start, after=limit))).records
                    forward += page
                    if not page:
                        break
                    if len(ids) < 30:
                        ids.append(f"late{len(ids)}")
                        await two.commit(scope, appending(harness, START, record(ids[-1])))
                harness.expect("pages forward are the full list", ids, _ids(forward))
                backward: list[Stored] = []
                newest = list(ids)
                while True:
                    anchor = backward[0].position if backward else None
                    page = (await one.load(scope, Window(anchor, before=limit))).records
                    backward[:0] = page
                    if not page:
                        break
                    await two.commit(scope, appending(harness, START, record(f"later{len(backward)}")))
                harness.expect("pages backward are what was there", newest, _ids(backward))

        harness.run(check)

        async def through_handles() -> None:
            memory = Memory(await harness.open())
            for newest_first in (False, True):
                thread = memory.thread(harness.fresh() + "r", "t")
                await thread.append(*[Message.user(str(number), id=f"m{number}") for number in range(12)])
                expected = [f"m{number}" for number in range(12)]
                found: list[str] = []
                cursor = None
                while True:
                    page = await thread.messages_page(limit=5, cursor=cursor, newest_first=newest_first)
                    found += [message.id for message in page.items]
                    cursor = page.cursor
                    if cursor is None:
                        break
                    if len(expected) < 14:
                        expected.append(f"m{len(expected)}")
                        await thread.append(Message.user("late", id=expected[-1]))
                harness.expect("pages joined", expected[11::-1] if newest_first else expected, found)

        harness.run(through_handles)

    def test_threads_by_creation_come_once_whatever_happens(self, harness: Harness) -> None:
        """Pages of every size, with ties, while threads are touched, created and deleted between them."""

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            for limit in (1, 2, 3, 5, 100):
                resource = Resource(f"{room}r{limit}")
                expected = []
                # Ids that sort against the order of creation, and three threads for each instant.
                for number in range(12):
                    thread_id = f"{'zma'[number % 3]}{20 - number:02}"
                    expected.append((START + number // 3, thread_id))
                    await one.commit(
                        Thread(resource.resource_id, thread_id), appending(harness, START + number // 3, record("m"))
                    )
                expected.sort()
                ids = [thread_id for _, thread_id in expected]

                async def touch(last: ThreadRow, resource: Resource = resource, ids: list[str] = ids) -> None:
                    for thread_id in (ids[0], last.thread_id, ids[6], ids[-1]):
                        scope = Thread(resource.resource_id, thread_id)
                        await two.commit(scope, Changes(at=START + 10**9, epoch=harness.epoch()))

                async def create(last: ThreadRow, resource: Resource = resource) -> None:
                    scope = Thread(resource.resource_id, "new")
                    await two.commit(scope, Changes(at=START + 10**9, epoch=harness.epoch()))

                async def delete(last: ThreadRow, resource: Resource = resource) -> None:
                    await two.delete(Thread(resource.resource_id, last.thread_id))

                rows = await _walk(one, resource, "created", limit, (touch, create, delete, create))
                found = [row.thread_id for row in rows if row.thread_id != "new"]
                # A walk in one page has ended before anything happens.
                harness.expect(f"every thread once, by creation, in pages of {limit}", ids, found)

        harness.run(check)

    def test_threads_by_activity_come_once_if_untouched(self, harness: Harness) -> None:
        """Newest first with ties by falling id; touched ones may move, but none comes twice."""

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            for limit in (1, 2, 3, 5, 100):
                resource = Resource(f"{room}r{limit}")
                expected = []
                for number in range(12):
                    thread_id = f"{'zma'[number % 3]}{number:02}"
                    expected.append((START + number // 4, thread_id))
                    await one.commit(
                        Thread(resource.resource_id, thread_id), appending(harness, START + number // 4, record("m"))
                    )
                expected.sort(reverse=True)
                ids = [thread_id for _, thread_id in expected]
                rows = await _walk(one, resource, "active", limit)
                harness.expect("by activity, newest first", ids, [row.thread_id for row in rows])

                moved: set[str] = set()

                async def touch(
                    last: ThreadRow, resource: Resource = resource, ids: list[str] = ids, moved: set[str] = moved
                ) -> None:
                    # The thread that the next page begins after is touched too; a clock that is behind moves nothing.
                    for thread_id, at in (
                        (ids[0], 10**9),
                        (last.thread_id, 10**9),
                        (ids[7], 10**9),
                        (ids[9], -(10**9)),
                    ):
                        moved |= {thread_id} if at > 0 else set()
                        scope = Thread(resource.resource_id, thread_id)
                        await two.commit(scope, Changes(at=START + at, epoch=harness.epoch()))

                rows = await _walk(one, resource, "active", limit, (touch, touch))
                found = [row.thread_id for row in rows]
                harness.expect("no thread comes twice", sorted(set(found)), sorted(found))
                harness.expect(
                    "every untouched thread comes once, in order",
                    [thread_id for thread_id in ids if thread_id not in moved],
                    [thread_id for thread_id in found if thread_id not in moved],
                )

        harness.run(check)

    def test_any_commit_is_activity(self, harness: Harness) -> None:
        """An append, a document, a truncation and an empty commit each make a thread the one touched last."""
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

    def test_a_long_list_is_listed_whole(self, harness: Harness) -> None:
        """More threads and resources than a backend's page, in one page of the port and in many."""

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

    def test_resources_are_listed_by_code_point(self, harness: Harness) -> None:
        """Every resource with a thread or a document once; none that has neither."""

        async def check() -> None:
            handle = await harness.open()
            room = harness.fresh()
            names = ["a", "B", "b", "é", "e\u0301", "\uffff", "\U00010000", "z", "10", "9", "a\x00", "a "]
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

    def test_lists_answer_as_the_model(self, harness: Harness) -> None:
        """Random creations, touches, deletions and pages."""

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(("append", "puts", "delete", "list"), harness.profile.steps), check, share=0.6)

    def test_filters_change_what_is_shown_not_the_walk(self, harness: Harness) -> None:
        """By archived and by metadata, compared as JSON: 1, 1.0, "1" and true are four values; in any page size."""

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

    def test_counting_is_a_call_of_its_own(self, harness: Harness) -> None:
        """`count` tells how many messages there are, also after a truncation, and in a thread of several pages."""

        async def check() -> None:
            thread = Memory(await harness.open()).thread(harness.fresh() + "r", "t")
            harness.expect("a missing thread has none", 0, await thread.count())
            for batch in range(11):
                await thread.append(*[Message.user(str(number), id=f"m{batch}/{number}") for number in range(100)])
            harness.expect("more than a page", 1100, await thread.count())
            await thread.drop_from("m9/50")
            await thread.append("after the gap")
            harness.expect("after a truncation", 951, await thread.count())

        harness.run(check)

    def test_windows_by_message_through_the_handles(self, harness: Harness) -> None:
        """`last`, `first`, `before`, `after`, `around`, by position and by id; an unknown id is MessageNotFound."""

        async def check() -> None:
            thread = Memory(await harness.open()).thread(harness.fresh() + "r", "t")
            receipt = await thread.append(*[Message.user(str(number), id=f"m{number}") for number in range(10)])

            async def ids(**window: Any) -> list[str]:
                return [message.id for message in await thread.messages(**window)]

            every = [f"m{number}" for number in range(10)]
            harness.expect("all", every, await ids())
            harness.expect("last", every[7:], await ids(last=3))
            harness.expect("first", every[:3], await ids(first=3))
            harness.expect("none", [], await ids(last=0))
            for place in (receipt.positions[4], "m4"):
                harness.expect("before", every[2:4], await ids(before=place, last=2))
                harness.expect("all before", every[:4], await ids(before=place))
                harness.expect("after", every[5:7], await ids(after=place, first=2))
                harness.expect("all after", every[5:], await ids(after=place))
                harness.expect("around", every[3:6], await ids(around=place, last=1, first=1))
            for unknown in (thread.messages(before="no"), thread.messages(after="no"), thread.messages(around="no")):
                await harness.refused("an unknown message", MessageNotFound, unknown)
            await harness.refused("a negative count", InvalidInput, thread.messages(last=-1))

        harness.run(check)

    def test_pair_safe_windows_hold_no_result_without_its_call(self, harness: Harness) -> None:
        """Random conversations with calls whose ids repeat, and every window of them."""

        calls = st.lists(st.tuples(st.sampled_from("uacr"), st.integers(0, 2)), min_size=1, max_size=12)

        async def check(script: list[tuple[str, int]]) -> None:
            handle = harness.handles[0] if harness.handles else await harness.open()
            thread = Memory(handle).thread(harness.fresh() + "r", "t")
            await thread.append(*conversation(script))
            everything = await thread.messages()
            for last in range(len(everything) + 1):
                snapshot = await thread.load(last=last, pair_safe=True)
                check_pairs(harness, everything, everything[len(everything) - last :], snapshot.messages)
                check_pairs(
                    harness,
                    everything,
                    everything[len(everything) - last :],
                    await thread.messages(last=last, pair_safe=True),
                )

        harness.explore(calls, check, share=0.6)

    def test_lists_and_pages_while_tasks_write(self, harness: Harness) -> None:
        """Walks that race with writers on other handles: untouched threads once, messages once."""

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


def _ids_of(records: Sequence[Any]) -> list[str]:
    return [made.id for made in records]
