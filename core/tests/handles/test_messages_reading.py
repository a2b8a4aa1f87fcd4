"""Reading messages (law 8), against a plain list of what was appended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threadkeep import Memory, Message, ThreadHandle
from threadkeep.errors import InvalidId, InvalidInput, MessageNotFound, ThreadNotFound
from threadkeep.handles.reading import HISTORY_PAGE
from threadkeep.messages import ToolCallPart, ToolResultPart, pair_safe
from threadkeep.port import Tail

Use = Callable[[Callable[[Memory], Awaitable[None]]], None]

START = datetime(2031, 1, 1, tzinfo=UTC)


def names(messages: Sequence[Message]) -> list[str]:
    return [message.id for message in messages]


def message(name: str, kind: int) -> Message:
    """A message of one of several kinds: plain, one that calls a tool, one that answers the call before it."""
    created = None if kind % 4 == 3 else START + timedelta(hours=hash_of(name) % 12)
    match kind % 3:
        case 0:
            return Message.user(f"text of {name}", id=name, created_at=created)
        case 1:
            call = ToolCallPart(tool_call_id=f"call {kind // 3}", name="look", arguments={"n": kind})
            return Message(id=name, role="assistant", parts=[call], created_at=created)
    result = ToolResultPart(tool_call_id=f"call {kind // 3}", result=[kind])
    return Message(id=name, role="tool", parts=[result], created_at=created)


def hash_of(name: str) -> int:
    return sum(name.encode())


async def exhaust(walk: AsyncIterator[Message]) -> None:
    async for _ in walk:
        pass


async def filled(memory: Memory, kinds: Sequence[int], dropped: int) -> tuple[ThreadHandle, list[Message]]:
    """A thread that has lost some messages at its end and gone on, and the list of what it holds."""
    thread = memory.thread("ann", uuid.uuid4().hex)
    given = [message(f"m{index}", kind) for index, kind in enumerate(kinds)]
    for item in given[:3]:
        await thread.append(item)
    await thread.append(*given[3:])
    cut = len(given) - dropped
    if 0 <= cut < len(given):
        await thread.drop_from(given[cut].id)
        given = given[:cut]
        late = [message(f"late{index}", kind) for index, kind in enumerate(kinds[:2])]
        await thread.append(*late)
        given += late
    positions = [item.position for item in await thread.messages()]
    return thread, [
        item.model_copy(update={"position": position}) for item, position in zip(given, positions, strict=True)
    ]


counts = st.none() | st.integers(0, 9)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kinds=st.lists(st.integers(0, 8), max_size=14), dropped=st.integers(0, 4))
@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_every_selection_is_the_one_of_a_plain_list(
    scheme: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kinds: list[int], dropped: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    url = "memory://oracle" if scheme == "memory" else f"sqlite:///{folder / 'oracle.db'}"

    async def main() -> None:
        async with Memory(url) as memory:
            thread, everything = await filled(memory, kinds, dropped)
            safe = data.draw(st.booleans(), "pair_safe")
            last, first = data.draw(counts, "last"), data.draw(counts, "first")
            by_id = bool(everything) and data.draw(st.booleans(), "by id")
            place: Any = data.draw(
                st.sampled_from(everything).map(lambda item: item.id) if by_id else st.integers(0, 20), "place"
            )
            at = next(item.position for item in everything if item.id == place) if by_id else place
            assert at is not None
            below = [item for item in everything if item.position is not None and item.position < at]
            above = [item for item in everything if item.position is not None and item.position > at]
            itself = [item for item in everything if item.position == at]

            def newest(items: list[Message], count: int | None) -> list[Message]:
                return items if count is None else items[max(0, len(items) - count) :]

            def cut(items: list[Message]) -> list[Message]:
                return pair_safe(items) if safe else items

            for arguments, expected in (
                ({"last": last}, newest(everything, last)),
                ({"first": first}, everything[:first]),
                ({"before": place, "last": last}, newest(below, last)),
                ({"after": place, "first": first}, above[:first]),
            ):
                assert await thread.messages(**arguments, pair_safe=safe) == cut(expected), arguments
            around = await thread.messages(around=place, last=last, first=first, pair_safe=safe)
            wide_last, wide_first = 10 if last is None else last, 10 if first is None else first
            if itself:
                assert around == cut([*newest(below, wide_last), *itself, *above[:wide_first]])
            else:
                assert around == cut([*newest(below, wide_last), *above[: wide_first + 1]])
            snapshot = await thread.load(last=wide_last, pair_safe=safe)
            assert snapshot.messages == cut(newest(everything, wide_last))
            assert [item async for item in thread.history()] == everything

    asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kinds=st.lists(st.integers(0, 8), max_size=14))
def test_a_range_of_time_is_that_of_a_plain_list(data: st.DataObject, kinds: list[int]) -> None:
    async def main() -> None:
        now = START + timedelta(hours=3)

        def clock() -> datetime:
            return now

        async with Memory("memory://times", clock=clock) as memory:
            thread, everything = await filled(memory, kinds, 0)
            moment = st.none() | st.integers(0, 12).map(lambda hours: START + timedelta(hours=hours))
            since, until = data.draw(moment, "since"), data.draw(moment, "until")
            count, which = data.draw(counts, "count"), data.draw(st.sampled_from(["first", "last"]), "which")
            expected = [
                item
                for item in everything
                if (since is None or (item.created_at or now) >= since)
                and (until is None or (item.created_at or now) < until)
            ]
            if count is not None:
                expected = expected[:count] if which == "first" else expected[max(0, len(expected) - count) :]
            arguments: dict[str, Any] = {which: count, "since": since, "until": until}
            assert await thread.messages(**arguments) == expected

    asyncio.run(main())


def test_a_range_of_time_names_instants_whatever_their_zone(use: Use) -> None:
    from zoneinfo import ZoneInfo

    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append(*(Message.user("x", id=str(n), created_at=START + timedelta(hours=n)) for n in range(5)))
        zone = ZoneInfo("Asia/Kathmandu")
        found = await thread.messages(
            since=(START + timedelta(hours=1)).astimezone(zone), until=(START + timedelta(hours=3)).astimezone(zone)
        )
        assert names(found) == ["1", "2"]

    use(check)


def test_a_place_that_is_not_there(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append(*(Message.user("x", id=name) for name in "abc"))
        await memory.thread("bob", "t").append(Message.user("x", id="bob's"))
        for name in ("nowhere", "bob's"):
            for arguments in ({"before": name}, {"after": name}, {"around": name}):
                with pytest.raises(MessageNotFound, match="there is no message"):
                    await thread.messages(**arguments)  # type: ignore[arg-type]  # mypy sees one value type of all keys
        assert names(await thread.messages(before=99)) == ["a", "b", "c"]
        assert names(await thread.messages(after=99)) == []
        assert names(await thread.messages(around=99)) == ["a", "b", "c"]
        assert names(await thread.messages(before=0)) == []

    use(check)


@pytest.mark.parametrize(
    "arguments",
    [
        {"last": -1},
        {"first": -1},
        {"last": "5"},
        {"last": 2.0},
        {"last": True},
        {"first": 10**30},
        {"last": 1, "first": 1},
        {"before": 2, "first": 1},
        {"after": 2, "last": 1},
        {"before": 1, "after": 2},
        {"around": 1, "before": 2},
        {"around": "a", "since": START},
        {"before": "a", "until": START},
        {"before": -1},
        {"after": 10**30},
        {"after": 1.5},
        {"around": True},
        {"before": b"a"},
        {"before": ""},
        {"after": "\ud800"},
        {"since": datetime(2031, 1, 1)},
        {"until": "2031-01-01"},
        {"since": 5},
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(use: Use, arguments: Any) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append(*(Message.user("x", id=name) for name in "abc"))
        with pytest.raises(InvalidInput):
            await thread.messages(**arguments)
        if set(arguments) == {"last"}:
            with pytest.raises(InvalidInput, match="last is a count from 0 up, not"):
                await thread.load(**arguments)
        if set(arguments) <= {"before", "after", "around"} and "" in arguments.values():
            with pytest.raises(InvalidId, match="message id must not be empty"):
                await thread.messages(**arguments)

    use(check)


def test_pair_safe_never_separates_a_result_from_its_call(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        call = Message(
            id="call",
            role="assistant",
            parts=[ToolCallPart(tool_call_id=f"c{n}", name="look", arguments="{}") for n in (1, 2)],
        )
        results = [
            Message(id=f"r{n}", role="tool", parts=[ToolResultPart(tool_call_id=f"c{n}", result=n)]) for n in (1, 2)
        ]
        await thread.append(Message.user("hi", id="hi"), call, *results, Message.assistant("done", id="done"))
        assert names(await thread.messages(last=3)) == ["r1", "r2", "done"]
        assert names(await thread.messages(last=3, pair_safe=True)) == ["done"]
        assert names(await thread.messages(last=4, pair_safe=True)) == ["call", "r1", "r2", "done"]
        assert names(await thread.messages(after="call", pair_safe=True)) == ["done"]
        assert names((await thread.load(last=2, pair_safe=True)).messages) == ["done"]

    use(check)


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_joined_are_the_full_list_also_while_others_append(use: Use, limit: int, newest_first: bool) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append(*(Message.user("x", id=str(n)) for n in range(10)))
        there = [str(n) for n in range(10)]
        read: list[str] = []
        cursor, appended = None, 0
        while True:
            page = await thread.messages_page(limit=limit, cursor=cursor, newest_first=newest_first)
            assert len(page.items) <= limit
            read += names(page.items)
            cursor = page.cursor
            if cursor is None:
                break
            if appended < 5:
                await memory.thread("ann", "t").append(Message.user("x", id=f"new {appended}"))
                appended += 1
        assert len(set(read)) == len(read)
        if newest_first:
            assert read == there[::-1]
        else:
            assert read == [*there, *(f"new {n}" for n in range(appended))]

    use(check)


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_last_page_has_no_cursor(use: Use, newest_first: bool) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        assert await thread.messages_page(newest_first=newest_first) == await memory.thread("ann", "u").messages_page()
        await thread.append(*"abcd")
        page = await thread.messages_page(limit=2, newest_first=newest_first)
        assert page.cursor is not None
        page = await thread.messages_page(limit=2, cursor=page.cursor, newest_first=newest_first)
        assert (len(page.items), page.cursor) == (2, None)
        assert (await thread.messages_page(limit=4, newest_first=newest_first)).cursor is None
        assert (await thread.messages_page(limit=1000, newest_first=newest_first)).cursor is None

    use(check)


def test_a_page_after_a_truncation_goes_on_with_what_is_there(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        await thread.append(*(Message.user("x", id=name) for name in "abcdef"))
        page = await thread.messages_page(limit=4)
        await thread.drop_from("c")
        await thread.append(Message.user("x", id="g"))
        page = await thread.messages_page(limit=4, cursor=page.cursor)
        assert (names(page.items), page.cursor) == (["g"], None)

    use(check)


def test_history_reads_more_than_one_page_and_what_is_appended_meanwhile(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        count = HISTORY_PAGE + 7
        for start in range(0, count, 50):
            await thread.append(*(Message.user("x", id=str(n)) for n in range(start, min(start + 50, count))))
        assert names([item async for item in thread.history()]) == [str(n) for n in range(count)]
        read = []
        async for item in thread.history():
            read.append(item.id)
            if item.id == "3":
                await thread.append(Message.user("x", id="meanwhile"))
        assert read == [*(str(n) for n in range(count)), "meanwhile"]
        walk = thread.history()
        await anext(walk)
        await thread.delete()
        with pytest.raises(ThreadNotFound):
            await exhaust(walk)
        assert [item async for item in thread.history()] == []

    use(check)


def test_messages_come_back_as_they_went_in(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        given = [message(str(n), n) for n in range(9)]
        given.append(
            Message.model_validate(
                {
                    "id": "odd",
                    "role": "narrator",
                    "parts": [{"type": "hologram", "$set": {"a.b": [10**30, 0.1, None, "\0\U0001f600"]}}],
                    "metadata": {"__proto__": {}},
                    "unknown": True,
                }
            )
        )
        await thread.append(*given)
        read = await thread.messages()
        assert read == given
        assert [item.model_dump(exclude={"position", "stored_at"}) for item in read] == [
            item.model_dump(exclude={"position", "stored_at"}) for item in given
        ]
        assert [item.position for item in read] == list(range(1, 11))
        assert all(item.stored_at is not None for item in read)

    use(check)


def test_reading_costs_the_same_however_long_the_thread_is(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        rows: dict[int, list[int]] = {}
        for length in (40, 400):
            while (await thread.tail()).position < length:
                await thread.append(*(Message.user("x") for _ in range(40)))
            rows[length] = []
            for read in (
                thread.load(last=20),
                thread.messages(last=20),
                thread.messages(before=30, last=20),
                thread.messages(after=10, first=20),
                thread.messages(around=20, last=10, first=10),
                thread.messages_page(limit=20),
            ):
                before = (memory.store.meter.rows, memory.store.meter.trips)
                await read
                assert memory.store.meter.trips - before[1] == memory.store.costs.load
                rows[length].append(memory.store.meter.rows - before[0])
        assert rows[40] == rows[400]

    use(check)


def test_a_missing_thread_reads_as_an_empty_one_and_is_not_created(use: Use) -> None:
    async def check(memory: Memory) -> None:
        thread = memory.thread("ann", "t")
        assert await thread.messages() == []
        assert (await thread.messages_page()).items == []
        assert [item async for item in thread.history()] == []
        assert await thread.tail() == Tail("", 0)
        assert (await thread.load()).info is None
        with pytest.raises(MessageNotFound):
            await thread.messages(before="m")
        assert [info async for info in memory.resource("ann").threads()] == []
        assert [found async for found in memory.admin.resources()] == []

    use(check)
