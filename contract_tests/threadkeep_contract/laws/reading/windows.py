"""The checks of law 8 on windows: what a load shows of one thread."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from operator import itemgetter
from typing import Any

from hypothesis import strategies as st

from threadkeep.errors import InvalidInput, MessageNotFound
from threadkeep.handles import Memory, ThreadHandle
from threadkeep.messages import Message
from threadkeep.port import Changes, Resource, Stored, Thread, Window
from threadkeep_contract.conversations import check_pairs, conversation
from threadkeep_contract.evidence import least
from threadkeep_contract.harness import ALL, Harness, Law, appending, ids_of, record
from threadkeep_contract.history import Recorded
from threadkeep_contract.identity import TWINS, drawn_ids
from threadkeep_contract.inputs.confusable import one_thread
from threadkeep_contract.inputs.operations import Program, programs
from threadkeep_contract.reference.beside import agree
from threadkeep_contract.reference.machine import START, compare
from threadkeep_contract.reference.model import Model


async def _fill(harness: Harness, handle: Recorded, scope: Thread, count: int) -> list[str]:
    """Append so many messages, m0, m1 and so on, in as few commits as the store takes; their ids."""
    ids = [f"m{number}" for number in range(count)]
    size = min(100, handle.limits.commit_messages)
    for start in range(0, count, size):
        await handle.commit(scope, appending(harness, START + start, *map(record, ids[start : start + size])))
    return ids


async def _forward(
    harness: Harness, reader: Recorded, writer: Recorded, scope: Thread, limit: int, there: list[str]
) -> list[Stored]:
    """All pages from the first message on. Between them ten messages are appended, and their ids added to `there`."""
    seen: list[Stored] = []
    last = len(there) + 10
    while True:
        start = seen[-1].position + 1 if seen else 1
        page = (await reader.load(scope, Window(start, after=limit))).records
        if not page:
            return seen
        seen += page
        if len(there) < last:
            there.append(f"late{len(there)}")
            await writer.commit(scope, appending(harness, START, record(there[-1])))


async def _backward(harness: Harness, reader: Recorded, writer: Recorded, scope: Thread, limit: int) -> list[Stored]:
    """All pages from the newest message back, with a message appended after each."""
    seen: list[Stored] = []
    while True:
        anchor = seen[0].position if seen else None
        page = (await reader.load(scope, Window(anchor, before=limit))).records
        if not page:
            return seen
        seen = [*page, *seen]
        await writer.commit(scope, appending(harness, START, record(f"later{len(seen)}")))


async def _through_a_handle(thread: ThreadHandle, newest_first: bool, late: Sequence[str]) -> list[str]:
    """The ids on all pages of a thread. After each of the first pages one of the late messages is appended."""
    found: list[str] = []
    pending = list(late)
    cursor = None
    while True:
        page = await thread.messages_page(limit=5, cursor=cursor, newest_first=newest_first)
        found += [message.id for message in page.items]
        cursor = page.cursor
        if cursor is None:
            return found
        if pending:
            await thread.append(Message.user("late", id=pending.pop(0)))


class Windows(Law):
    """Windows and pages of one thread's messages."""

    @least(commits=5, loads=20)
    def test_last_n_are_the_newest_oldest_first(self, harness: Harness) -> None:
        """The last n messages are the newest n, oldest first. Every n around the length of short and long threads, and
        around usual pages of backends, is tried.
        """

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
                    harness.expect(f"the newest {count} of {length}, oldest first", expected, ids_of(found.records))

        harness.run(check)

    @least(commits=10)
    def test_a_thread_reads_whole_whatever_its_size(self, harness: Harness) -> None:
        """A thread of more than 2 MiB, which is more than a backend's page, comes back whole in one load."""

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            size = 60_000
            made = [record(f"m{number}", f"{number % 10}" * size) for number in range(36)]
            for one in made:
                await handle.commit(scope, appending(harness, START, one))
            found = (await handle.load(scope, ALL)).records
            harness.expect("every message is there", [one.id for one in made], ids_of(found))
            whole = all(entry.body == one.body for entry, one in zip(found, made, strict=True))
            harness.require("every message is whole", whole, "equal bodies", "a body that differs")
            await handle.delete(Resource(scope.resource_id))

        harness.run(check)

    @least(commits=5, loads=5)
    def test_windows_answer_as_the_model(self, harness: Harness) -> None:
        """Random threads with gaps, and windows on both sides of ids, positions, gaps and ends, are answered as by the
        reference model.
        """

        async def check(program: Program) -> None:
            await compare(harness, program)

        harness.explore(programs(("append", "drop", "load"), harness.profile.steps, one_thread()), check)

    @least(commits=2, loads=20)
    def test_every_window_of_a_thread_with_gaps(self, harness: Harness) -> None:
        """Every window of a thread with a gap shows what it should: at each anchor, by position and by id, also in the
        gap, beyond the end and at ids that are not there, with each small count on both sides.
        """

        async def check() -> None:
            handle = await harness.open()
            scope = Thread(harness.fresh() + "r", "t")
            await handle.commit(scope, appending(harness, START, *[record(f"m{number}") for number in range(6)]))
            await handle.commit(scope, appending(harness, START, record("n0"), record("n1"), drop_after=4))
            records = list((await handle.load(scope, ALL)).records)
            positions = [entry.position for entry in records]
            harness.expect("a thread with a gap", ["m0", "m1", "m2", "m3", "n0", "n1"], ids_of(records))
            anchors = (None, *range(max(positions) + 3), "gone", "m4", *ids_of(records))
            windows = [*product((0, 1, 3, 10), (0, 1, 3, 10), anchors)]
            tried = harness.some(windows, 1 / 3, kind=lambda one: (one[0] > 0, one[1] > 0, type(one[2])))
            for before, after, anchor in tried:
                found = await handle.load(scope, Window(anchor, before, after))
                if isinstance(anchor, str):
                    at = ids_of(records).index(anchor) if anchor in ids_of(records) else None
                elif anchor is None:
                    at = len(records)
                else:
                    at = len([position for position in positions if position < anchor])
                expected = [] if at is None else records[max(0, at - before) : at + after]
                harness.expect(f"the window ({anchor!r}, {before}, {after})", expected, list(found.records))

        harness.run(check)

    def test_an_id_that_is_not_there_selects_nothing(self, harness: Harness) -> None:
        """A window at the id of a message that is not in the thread shows nothing, however near the id is to one that
        is: the beginning of one, one that goes on, or one that differs in a single place. Of each pair of ids that are
        easily taken for one, one is there, and each is asked for. Families of ids are drawn of which every second is
        there. Every answer is compared with the reference model's.
        """

        async def twins() -> None:
            handle = await harness.open()
            room = harness.fresh()
            pairs = [pair for _, *pair in harness.some(TWINS, kind=itemgetter(0))]
            for turn in (0, 1):
                scope, model = Thread(f"{room}r{turn}", "t"), Model()
                there = list(dict.fromkeys(pair[turn] for pair in pairs))
                size = handle.limits.commit_messages
                for start in range(0, len(there), size):
                    changes = appending(harness, START, *map(record, there[start : start + size]))
                    await agree(harness, handle, model, "commit", scope, changes)
                for message_id in dict.fromkeys(message_id for pair in pairs for message_id in pair):
                    await agree(harness, handle, model, "load", scope, Window(message_id, 2, 2))

        harness.run(twins)

        async def check(family: tuple[str, ...]) -> None:
            one, two = await harness.reused(2)
            scope, model = Thread(harness.fresh() + "r", "t"), Model()
            changes = appending(harness, START, record("1"), record("m/one"), *map(record, family[::2]))
            await agree(harness, one, model, "commit", scope, changes)
            near = [family[0][:-1] or "m", f"{family[0]}x", "m", "m/", "m/on", "m/one/", "2", "3", "%", "m%"]
            for message_id in (*family, *near):
                await agree(harness, two, model, "load", scope, Window(message_id, 2, 2))

        harness.explore(drawn_ids(harness, less=1, changes=12), check, share=0.5)

    @least(commits=20, loads=20)
    def test_pages_joined_are_the_full_list_while_others_append(self, harness: Harness) -> None:
        """Pages of messages joined are the full list while others append between them: nothing is missing and nothing
        comes twice. They are read forward and backward, at the port and through `messages_page`.
        """

        async def check() -> None:
            one, two = await harness.open(), await harness.open()
            room = harness.fresh()
            for limit in (1, 3, 7):
                scope = Thread(f"{room}r{limit}", "t")
                there = await _fill(harness, one, scope, 20)
                forward = await _forward(harness, one, two, scope, limit, there)
                harness.expect("pages forward are the full list", there, ids_of(forward))
                backward = await _backward(harness, one, two, scope, limit)
                harness.expect("pages backward are what was there", there, ids_of(backward))

        harness.run(check)

        async def through_handles() -> None:
            memory = Memory(await harness.open())
            there = [f"m{number}" for number in range(12)]
            for newest_first in (False, True):
                thread = memory.thread(harness.fresh() + "r", "t")
                await thread.append(*[Message.user("early", id=message_id) for message_id in there])
                found = await _through_a_handle(thread, newest_first, ["m12", "m13"])
                # Who reads backward does not come by what is appended meanwhile.
                expected = there[::-1] if newest_first else [*there, "m12", "m13"]
                harness.expect("pages joined", expected, found)

        harness.run(through_handles)

    @least(commits=2, loads=2)
    def test_counting_is_a_call_of_its_own(self, harness: Harness) -> None:
        """`count` tells how many messages a thread has: a missing one, one that is longer than a backend's page, and
        one that was truncated.
        """

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

    @least(loads=8)
    def test_windows_by_message_through_the_handles(self, harness: Harness) -> None:
        """`last`, `first`, `before`, `after` and `around` of the handles show what they should, by position and by id.
        An unknown message is `MessageNotFound`.
        """

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

    @least(loads=20)
    def test_pair_safe_windows_hold_no_result_without_its_call(self, harness: Harness) -> None:
        """No window that is `pair_safe` shows a tool's result without its call. Random conversations, in which ids of
        calls repeat, are read in every window from the end.
        """

        calls = st.lists(st.tuples(st.sampled_from("uacr"), st.integers(0, 2)), min_size=1, max_size=12)

        async def check(script: list[tuple[str, int]]) -> None:
            (handle,) = await harness.reused(1)
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
