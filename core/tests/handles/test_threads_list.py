"""Lists of threads (law 8): pages joined are the list whatever happens meanwhile; filters change only what is shown."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from threadkeep import Memory
from threadkeep.errors import InvalidContent, InvalidInput
from threadkeep.handles import ResourceHandle, ThreadInfo

Between = Callable[[], Awaitable[None]]


async def walk(
    resource: ResourceHandle, *, limit: int = 3, between: Between | None = None, **arguments: Any
) -> list[ThreadInfo]:
    """The pages of a list joined; `between` runs after each page."""
    items: list[ThreadInfo] = []
    cursor: str | None = None
    while True:
        page = await resource.threads_page(limit=limit, cursor=cursor, **arguments)
        assert len(page.items) <= limit
        items += page.items
        if page.cursor is None:
            return items
        cursor = page.cursor
        if between is not None:
            await between()


def ids(infos: list[ThreadInfo]) -> list[str]:
    return [info.thread_id for info in infos]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 1000])
async def test_pages_joined_are_the_whole_list_in_its_order(memory: Memory, limit: int) -> None:
    ann = memory.resource("ann")
    created = [(await ann.create_thread(str(n))).thread_id for n in range(10)]
    await memory.thread("bob", "5").append("not ann's")
    for thread_id in ("4", "0", "7"):
        await ann.thread(thread_id).append("touch")
    assert ids(await walk(ann, limit=limit)) == created
    assert ids(await walk(ann, limit=limit, order="active")) == [
        "7", "0", "4", *(n for n in reversed(created) if n not in "704")
    ]  # fmt: skip
    assert ids([info async for info in ann.threads()]) == created


async def test_a_list_without_threads_is_empty(memory: Memory) -> None:
    await memory.thread("bob", "t").append("hello")
    await memory.resource("ann").working_memory.put("no thread")
    page = await memory.resource("ann").threads_page()
    assert (page.items, page.cursor) == ([], None)


async def test_the_cursor_is_none_at_the_end(memory: Memory) -> None:
    ann = memory.resource("ann")
    for n in range(4):
        await ann.create_thread(str(n), metadata={"even": n % 2 == 0})
    assert (await ann.threads_page(limit=4)).cursor is None
    assert (await ann.threads_page(limit=3)).cursor is not None
    assert (await ann.threads_page(limit=2, metadata={"even": True})).cursor is None
    assert (await ann.threads_page(limit=1, metadata={"even": True})).cursor is not None


@pytest.mark.parametrize("order", ["created", "active"])
async def test_ties_are_broken_by_id(url: str, order: Any) -> None:
    moment = datetime(2031, 1, 1, tzinfo=UTC)
    async with Memory(url, clock=lambda: moment) as memory:
        ann = memory.resource("ann")
        names = ["b", "a", "B", "é", "\U0001f600", "\uffff", "10", "9", " a"]
        for name in names:
            await ann.create_thread(name)
        assert ids(await walk(ann, limit=2, order=order)) == sorted(names, reverse=order == "active")


async def test_by_creation_every_thread_is_found_once_whatever_happens_meanwhile(memory: Memory) -> None:
    ann = memory.resource("ann")
    there = [(await ann.create_thread(f"{n:02}")).thread_id for n in range(20)]
    doomed, new, chance = ["03", "11", "19"], iter(range(1000)), random.Random(8)

    async def meanwhile() -> None:
        await ann.create_thread(f"new {next(new)}")
        await ann.thread(chance.choice([name for name in there if name not in doomed])).append("touch")
        if doomed:
            await ann.thread(doomed[-1]).delete()
            doomed.pop()

    alive = [name for name in there if name not in doomed]
    found = ids(await walk(ann, limit=2, between=meanwhile))
    assert len(set(found)) == len(found)
    assert [name for name in found if name in alive] == alive


async def test_by_activity_what_nobody_touched_is_found_once_and_nothing_twice(memory: Memory) -> None:
    ann = memory.resource("ann")
    there = [(await ann.create_thread(f"{n:02}")).thread_id for n in range(20)]
    touched: set[str] = set()
    chance = random.Random(8)

    async def meanwhile() -> None:
        name = chance.choice(there[::3])
        touched.add(name)
        await ann.thread(name).append("touch")

    found = ids(await walk(ann, limit=3, order="active", between=meanwhile))
    assert len(set(found)) == len(found)
    still = [name for name in reversed(there) if name not in touched]
    assert [name for name in found if name not in touched] == still


async def test_an_activity_order_survives_a_clock_that_goes_back(url: str) -> None:
    now = datetime(2031, 1, 1, tzinfo=UTC)
    async with Memory(url, clock=lambda: now) as memory:
        ann = memory.resource("ann")
        for n in range(6):
            await ann.thread(str(n)).append("hello")
            now -= timedelta(hours=1)
        before = ids(await walk(ann, order="active"))

        async def meanwhile() -> None:
            nonlocal now
            now -= timedelta(hours=1)
            for n in range(6):
                await ann.thread(str(n)).append("again")

        assert ids(await walk(ann, limit=1, order="active", between=meanwhile)) == before


async def test_archived_threads_are_shown_alone_or_left_out_or_shown_with_the_others(memory: Memory) -> None:
    ann = memory.resource("ann")
    for n in range(7):
        await ann.create_thread(str(n))
        if n % 3 == 0:
            await ann.thread(str(n)).archive()
    await ann.thread("0").unarchive()
    assert ids(await walk(ann, limit=2, archived=True)) == ["3", "6"]
    assert ids(await walk(ann, limit=2, archived=False)) == ["0", "1", "2", "4", "5"]
    assert ids(await walk(ann, limit=2)) == [str(n) for n in range(7)]


VALUES: list[Any] = [1, 1.0, "1", True, None, 0, False, "", [], {}, [1], {"a": 1, "b": None}, 10**30, -0.0, 0.0, "é"]


async def test_metadata_is_compared_with_its_type(memory: Memory) -> None:
    ann = memory.resource("ann")
    for n, value in enumerate(VALUES):
        await ann.create_thread(str(n), metadata={"key": value, "other": n})
    await ann.create_thread("without")
    for n, value in enumerate(VALUES):
        assert ids(await walk(ann, metadata={"key": value})) == [str(n)], value
        assert ids(await walk(ann, metadata={"key": value, "other": n})) == [str(n)]
        assert ids(await walk(ann, metadata={"key": value, "other": n + 1})) == []
    assert ids(await walk(ann, metadata={"key": {"b": None, "a": 1}})) == [str(VALUES.index({"a": 1, "b": None}))]
    assert len(await walk(ann, metadata={})) == len(VALUES) + 1
    assert ids(await walk(ann, metadata={"absent": None})) == []
    assert ids(await walk(ann, metadata={"key.a": 1})) == []
    assert ids(await walk(ann, metadata={"key": {"$ne": 1}})) == []


async def test_a_filter_changes_what_is_shown_and_not_the_walk(memory: Memory) -> None:
    ann = memory.resource("ann")
    for n in range(30):
        await ann.create_thread(f"{n:02}", metadata={"rare": n in (2, 17, 29)})
    found: dict[str, Mapping[str, Any]] = {}
    for order in ("created", "active"):
        infos = await walk(ann, limit=1, order=order, metadata={"rare": True})
        assert len(infos) == 3
        found |= {info.thread_id: info.metadata for info in infos}
    assert sorted(found) == ["02", "17", "29"]
    trips = memory.store.meter.trips
    await ann.threads_page(limit=1, metadata={"rare": "nowhere"})
    assert memory.store.meter.trips - trips <= 2


@pytest.mark.parametrize("wrong", [{"a": float("nan")}, {"a": {1}}, {1: "a"}, ["a"], "a", 0])
async def test_a_metadata_filter_that_is_not_json_is_refused(memory: Memory, wrong: Any) -> None:
    with pytest.raises(InvalidContent, match="metadata"):
        await memory.resource("ann").threads_page(metadata=wrong)


@pytest.mark.parametrize("wrong", [1, 0, "yes", []])
async def test_an_archived_filter_that_is_no_answer_is_refused(memory: Memory, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="archived is True, False or None"):
        await memory.resource("ann").threads_page(archived=wrong)


@pytest.mark.parametrize("wrong", ["updated", "", None, 1, ["created"]])
async def test_an_order_that_is_none_is_refused(memory: Memory, wrong: Any) -> None:
    with pytest.raises(InvalidInput, match="'created' or 'active'"):
        await memory.resource("ann").threads_page(order=wrong)
    with pytest.raises(InvalidInput, match="'created' or 'active'"):
        async for _ in memory.resource("ann").threads(order=wrong):
            pass


@pytest.mark.parametrize("wrong", [0, -1, 1001, "5", 2.0, True, None, 10**30])
async def test_a_limit_outside_its_bounds_is_refused(memory: Memory, wrong: Any) -> None:
    thread = memory.thread("ann", "t")
    with pytest.raises(InvalidInput, match="a page has 1 to 1000 entries, not"):
        await memory.resource("ann").threads_page(limit=wrong)
    with pytest.raises(InvalidInput, match="a page has 1 to 1000 entries, not"):
        await thread.messages_page(limit=wrong)
