"""A Memory: what it opens, when, and what holds after it is closed (law 12); ids (law 1); clocks (law 3)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from threadkeep import Memory, Message, ThreadHandle
from threadkeep.errors import (
    InvalidCursor,
    InvalidId,
    InvalidInput,
    InvalidURL,
    LimitExceeded,
    StoreClosed,
    ThreadkeepError,
    ThreadNotFound,
)
from threadkeep.handles import Admin, ResourceHandle, WorkingMemoryHandle
from threadkeep.port import URL_VARIABLE, Guard
from threadkeep_adapters.memory.store import InProcessStore

NO_STRINGS: list[object] = [None, 7, 0, True, b"ann", 1.5, ["ann"]]


@pytest.mark.parametrize("given", NO_STRINGS)
def test_an_id_that_is_no_string_is_refused_by_name(given: Any) -> None:
    memory = Memory("memory://ids")
    with pytest.raises(InvalidId, match=r"resource_id must be a non-empty string, not .*; there is no default"):
        memory.resource(given)
    with pytest.raises(InvalidId, match=r"thread_id must be a non-empty string, not .*; there is no default"):
        memory.resource("ann").thread(given)


def test_an_empty_id_is_refused_and_falls_back_to_nothing() -> None:
    memory = Memory("memory://ids")
    with pytest.raises(InvalidId, match="resource_id must not be empty; there is no default"):
        memory.resource("")
    with pytest.raises(InvalidId, match="thread_id must not be empty; there is no default"):
        memory.thread("ann", "")


def test_a_missing_id_is_an_error_of_the_call() -> None:
    memory: Any = Memory("memory://ids")
    with pytest.raises(TypeError, match="resource_id"):
        memory.resource()
    with pytest.raises(TypeError, match="thread_id"):
        memory.resource("ann").thread()


def test_a_lone_surrogate_in_an_id_is_refused_with_its_place() -> None:
    memory = Memory("memory://ids")
    with pytest.raises(InvalidId, match=r"resource_id holds a lone surrogate at index 3, .* remove it"):
        memory.resource("ann\ud800")
    with pytest.raises(InvalidId, match=r"thread_id holds a lone surrogate at index 0, .* remove it"):
        memory.thread("ann", "\udfff")


async def test_an_id_counts_in_utf8_bytes_and_is_taken_up_to_the_limit(memory: Memory) -> None:
    allowed = memory.store.limits.id_bytes
    longest = "é" * (allowed // 2)
    thread = memory.thread(longest, longest)
    await thread.append(Message.user("at the limit", id=longest))
    assert [message.id for message in await thread.messages()] == [longest]
    for take in (memory.resource, memory.resource("ann").thread):
        with pytest.raises(LimitExceeded) as caught:
            take(longest + "x")
        assert (caught.value.limit, caught.value.allowed, caught.value.given) == ("id_bytes", allowed, allowed + 1)
        assert "_id (UTF-8 bytes)" in str(caught.value)
    with pytest.raises(LimitExceeded, match="message id"):
        await thread.append(Message.user("over", id=longest + "x"))


@pytest.mark.parametrize(
    ("one", "other"),
    [("ann", "Ann"), ("ann", " ann "), ("x", "x:messages"), ("é", "e\u0301"), ("a%", "a_"), ("1", "1.0"), ("a\0", "a")],
)
async def test_ids_that_look_alike_are_two_resources_and_two_threads(memory: Memory, one: str, other: str) -> None:
    for resource_id in (one, other):
        for thread_id in (one, other):
            await memory.thread(resource_id, thread_id).append(f"{resource_id}/{thread_id}")
    for resource_id in (one, other):
        infos = [info async for info in memory.resource(resource_id).threads()]
        assert sorted(info.thread_id for info in infos) == sorted([one, other])
        for thread_id in (one, other):
            texts = [message.text for message in await memory.thread(resource_id, thread_id).messages()]
            assert texts == [f"{resource_id}/{thread_id}"]
    assert [found async for found in memory.admin.resources()] == sorted([one, other])


async def test_a_foreign_thread_looks_like_a_missing_one(memory: Memory) -> None:
    await memory.thread("ann", "t").append(Message.user("mine", id="m"))
    seen = []
    for resource_id, thread_id in (("bob", "t"), ("bob", "nowhere")):
        thread = memory.thread(resource_id, thread_id)
        assert not await thread.exists()
        assert await thread.messages() == []
        with pytest.raises(ThreadNotFound) as caught:
            await thread.info()
        seen.append(str(caught.value).replace(repr(thread_id), "THREAD"))
    assert seen[0] == seen[1]
    assert "ann" not in seen[0]


def test_a_memory_takes_a_url_a_store_or_a_guard() -> None:
    store = InProcessStore("given")
    guard = Guard(store)
    assert Memory(guard).store is guard
    assert Memory(store).store.store is store
    assert isinstance(Memory("memory://given").store.store, InProcessStore)


@pytest.mark.parametrize("given", [7, 0, False, b"memory://", "", Path("threads.db")])
def test_what_names_no_store_is_refused_and_opens_no_other(
    given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(URL_VARIABLE, "memory://elsewhere")
    with pytest.raises(InvalidURL):
        Memory(given)


def test_the_default_store_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_VARIABLE, "memory://from-the-environment")
    store = Memory().store.store
    assert isinstance(store, InProcessStore)
    assert store.name == "from-the-environment"


@pytest.mark.parametrize("value", [None, ""])
async def test_without_the_variable_the_default_store_is_a_file_here(
    value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(URL_VARIABLE, value)

    async with Memory() as memory:
        await memory.thread("ann", "t").append("hello")
    assert (tmp_path / "threadkeep.db").is_file()


async def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    file = tmp_path / "later.db"

    memory = Memory(f"sqlite:///{file}")
    thread = memory.thread("ann", "t")
    assert not file.exists()
    await thread.append("hello")
    assert file.exists()
    await memory.close()


async def test_opening_and_closing_are_safe_to_repeat(url: str) -> None:
    memory = Memory(url)
    assert await memory.open() is memory
    await memory.open()
    await asyncio.gather(*(memory.open() for _ in range(5)))
    await memory.thread("ann", "t").append("hello")
    await memory.close()
    await memory.close()
    never_opened = Memory(url)
    await never_opened.close()
    await never_opened.close()


async def test_first_uses_may_race(url: str) -> None:
    memory, other = Memory(url), Memory(url)
    await asyncio.gather(*(each.thread("ann", "t").append("hi") for each in (memory, other) for _ in range(5)))
    assert len(await memory.thread("ann", "t").messages()) == 10
    await memory.close()
    assert len(await other.thread("ann", "t").messages()) == 10
    await other.close()


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ThreadHandle.append": ("hello",),
    "ThreadHandle.append_history": ([],),
    "ThreadHandle.drop_from": ("m",),
    "ThreadHandle.rename": ("title",),
    "ThreadHandle.set_metadata": ({"a": 1},),
    "ResourceHandle.get_or_create_thread": ("t",),
    "WorkingMemoryHandle.put": ({},),
    "WorkingMemoryHandle.patch": ({},),
    "WorkingMemoryHandle.update": (lambda found: {"a": found.version},),
}
KEYWORDS: dict[str, dict[str, Any]] = {"ThreadHandle.append_history": {"ids": "stable"}}


def _verbs(kind: type) -> list[str]:
    return [
        name
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    ]


async def _call(handle: Any, verb: str) -> None:
    name = f"{type(handle).__name__}.{verb}"
    result = getattr(handle, verb)(*ARGUMENTS.get(name, ()), **KEYWORDS.get(name, {}))
    if isinstance(result, AsyncIterator):
        async for _ in result:
            return
    else:
        await result


async def test_after_close_every_method_is_refused_as_closed(url: str) -> None:
    memory = Memory(url)
    resource = memory.resource("ann")
    thread = resource.thread("t")
    await thread.append("hello")
    await memory.close()
    handles: list[Any] = [resource, thread, thread.working_memory, resource.working_memory, memory.admin]
    assert {type(handle) for handle in handles} == {ResourceHandle, ThreadHandle, WorkingMemoryHandle, Admin}
    for handle in handles:
        for verb in _verbs(type(handle)):
            with pytest.raises(StoreClosed, match="the store is closed; open a new one"):
                await _call(handle, verb)
    with pytest.raises(StoreClosed):
        await memory.open()
    with pytest.raises(StoreClosed):
        async with memory:
            pass


async def test_closing_while_calls_run_leaves_only_errors_of_this_library(url: str) -> None:
    memory = Memory(url)
    thread = memory.thread("ann", "t")
    calls = [asyncio.create_task(thread.append(Message.user("hi"))) for _ in range(20)]
    await asyncio.sleep(0)
    await memory.close()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert not isinstance(outcome, BaseException) or isinstance(outcome, ThreadkeepError), outcome
    with pytest.raises(StoreClosed):
        await thread.messages()


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def test_times_come_from_the_clock_that_was_given(url: str) -> None:
    clock = Clock(datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC))
    async with Memory(url, clock=clock) as memory:
        thread = memory.thread("ann", "t")
        await thread.append("first")
        created = clock.now
        clock.now += timedelta(microseconds=1)
        await thread.append("second")
        info = await thread.info()
        assert (info.created_at, info.updated_at) == (created, clock.now)
        assert [message.stored_at for message in await thread.messages()] == [created, clock.now]


async def test_a_clock_of_another_zone_gives_the_same_instant(url: str) -> None:
    from zoneinfo import ZoneInfo

    moment = datetime(2031, 5, 6, 7, 8, 9, tzinfo=ZoneInfo("Asia/Kathmandu"))
    async with Memory(url, clock=lambda: moment) as memory:
        info = await memory.resource("ann").create_thread("t")
        assert (await info.info()).created_at == moment


async def test_a_clock_that_goes_back_changes_no_order_of_messages_and_no_activity(url: str) -> None:
    clock = Clock(datetime(2031, 1, 1, tzinfo=UTC))
    async with Memory(url, clock=clock) as memory:
        ann = memory.resource("ann")
        newest = clock.now
        for number in range(5):
            await ann.thread("t").append(str(number))
            clock.now -= timedelta(days=1)
        assert [message.text for message in await ann.thread("t").messages()] == list("01234")
        assert [message.text for message in await ann.thread("t").messages(last=2)] == ["3", "4"]
        info = await ann.thread("t").info()
        assert (info.created_at, info.updated_at) == (newest, newest)
        await ann.thread("u").append("touched when the clock was behind")
        assert [info.thread_id async for info in ann.threads(order="active")] == ["t", "u"]
        await ann.thread("t").append("5")
        assert (await ann.thread("t").info()).updated_at == newest


@pytest.mark.parametrize("wrong", [datetime(2031, 1, 1), 5, None])
async def test_a_clock_that_names_no_instant_is_refused(wrong: Any) -> None:
    async with Memory("memory://clocks", clock=lambda: wrong) as memory:
        with pytest.raises(InvalidInput, match="clock"):
            await memory.thread("ann", "t").append("hello")


async def test_erasing_a_resource_removes_all_of_it_and_nothing_else(memory: Memory) -> None:
    for resource_id in ("u1", "u10", "u"):
        await memory.thread(resource_id, "t").append("hello")
        await memory.resource(resource_id).working_memory.put({"of": resource_id})
    await memory.resource("u1").erase()
    await memory.resource("u1").erase()
    assert [found async for found in memory.admin.resources()] == ["u", "u10"]
    assert (await memory.resource("u1").working_memory.get()).version == 0
    assert not await memory.thread("u1", "t").exists()
    for resource_id in ("u10", "u"):
        assert await memory.thread(resource_id, "t").exists()
        assert (await memory.resource(resource_id).working_memory.get()).value == {"of": resource_id}


async def test_admin_lists_every_resource_by_code_point_in_pages(memory: Memory) -> None:
    ids = ["b", "a", "é", "Z", "\U0001f600", "\uffff", "a b", "10", "9"]
    for resource_id in ids:
        await memory.thread(resource_id, "t").append("hello")
    await memory.resource("memory only").working_memory.put(1)
    everyone = sorted([*ids, "memory only"])
    assert [found async for found in memory.admin.resources()] == everyone
    paged: list[str] = []
    page = await memory.admin.resources_page(limit=3)
    while True:
        paged += page.items
        if page.cursor is None:
            break
        page = await memory.admin.resources_page(limit=3, cursor=page.cursor)
    assert paged == everyone
    threads = [(info.resource_id, info.thread_id) async for info in memory.admin.threads()]
    assert threads == [(resource_id, "t") for resource_id in sorted(ids)]


async def test_a_page_of_resources_refuses_a_cursor_or_limit_of_something_else(memory: Memory) -> None:
    for number in range(3):
        await memory.resource("ann").create_thread(str(number))
    foreign = (await memory.resource("ann").threads_page(limit=1)).cursor
    for cursor in (foreign, "garbage", ""):
        with pytest.raises(InvalidCursor):
            await memory.admin.resources_page(cursor=cursor)
    wrong: Any
    for wrong in (0, -1, 1001, "5", 2.0, True, None):
        with pytest.raises(InvalidInput, match="1 to 1000"):
            await memory.admin.resources_page(limit=wrong)
