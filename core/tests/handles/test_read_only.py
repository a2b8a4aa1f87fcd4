"""Read-only handles refuse every write in the handle itself, and create nothing by reading."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from threadkeep import Memory, Message, ThreadHandle
from threadkeep.errors import ReadOnly, ThreadNotFound
from threadkeep.handles import ResourceHandle, WorkingMemoryHandle

Call = Callable[[Any], Any]

WRITES: dict[type, dict[str, Call]] = {
    ThreadHandle: {
        "create": lambda thread: thread.create(),
        "rename": lambda thread: thread.rename("title"),
        "set_metadata": lambda thread: thread.set_metadata({"a": 1}),
        "remove_metadata": lambda thread: thread.remove_metadata("a"),
        "archive": lambda thread: thread.archive(),
        "unarchive": lambda thread: thread.unarchive(),
        "delete": lambda thread: thread.delete(),
        "append": lambda thread: thread.append("hello"),
        "commit": lambda thread: thread.commit(),
        "drop_from": lambda thread: thread.drop_from("m"),
        "append_history": lambda thread: thread.append_history([Message.user("hello")], ids="stable"),
        "fork": lambda thread: thread.fork(),
    },
    ResourceHandle: {
        "create_thread": lambda resource: resource.create_thread(),
        "get_or_create_thread": lambda resource: resource.get_or_create_thread("t"),
        "erase": lambda resource: resource.erase(),
    },
    WorkingMemoryHandle: {
        "put": lambda memory: memory.put(1),
        "clear": lambda memory: memory.clear(),
        "patch": lambda memory: memory.patch({"a": 1}),
        "update": lambda memory: memory.update(lambda found: {"a": found.version}),
    },
}
"""How each verb that writes is called."""

READS: dict[type, dict[str, Call]] = {
    ThreadHandle: {
        "exists": lambda thread: thread.exists(),
        "info": lambda thread: thread.info(),
        "tail": lambda thread: thread.tail(),
        "load": lambda thread: thread.load(),
        "messages": lambda thread: thread.messages(),
        "count": lambda thread: thread.count(),
        "history": lambda thread: thread.history(),
        "messages_page": lambda thread: thread.messages_page(),
    },
    ResourceHandle: {
        "threads": lambda resource: resource.threads(),
        "threads_page": lambda resource: resource.threads_page(),
        "export": lambda resource: resource.export(),
    },
    WorkingMemoryHandle: {"get": lambda memory: memory.get()},
}
"""How each verb that only reads is called."""


async def finish(result: Any) -> list[Any]:
    """What a call gives: the one value of a coroutine, or all of an async iterator."""
    if isinstance(result, AsyncIterator):
        return [item async for item in result]
    return [await result]


def verbs(kind: type) -> set[str]:
    return {
        name
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    }


def handles(memory: Memory, *, read_only: bool) -> list[Any]:
    ann = memory.resource("ann", read_only=read_only)
    thread = ann.thread("t")
    return [ann, thread, thread.working_memory, ann.working_memory]


@pytest.mark.parametrize("kind", [ThreadHandle, ResourceHandle, WorkingMemoryHandle])
def test_of_every_verb_it_is_decided_whether_it_writes(kind: type) -> None:
    assert verbs(kind) == WRITES[kind].keys() | READS[kind].keys()
    assert not WRITES[kind].keys() & READS[kind].keys()


async def test_every_write_is_refused_by_name_and_changes_nothing(memory: Memory) -> None:
    await memory.thread("ann", "t").commit([Message.user("hello", id="m")], working_memory={"a": 1})
    await memory.thread("ann", "t").set_metadata({"a": 1})
    before = [line async for line in memory.resource("ann").export()]
    for handle in handles(memory, read_only=True):
        for verb, call in WRITES[type(handle)].items():
            with pytest.raises(ReadOnly, match=r"read-only and refuses .*; take a handle without read_only") as caught:
                await call(handle)
            assert caught.value.verb in (verb, "commit", "create"), verb
    assert [line async for line in memory.resource("ann").export()] == before


async def test_a_write_is_refused_without_asking_the_store(memory: Memory) -> None:
    await memory.thread("ann", "t").append(Message.user("hello", id="m"))
    before = memory.store.meter.trips
    for handle in handles(memory, read_only=True):
        for call in WRITES[type(handle)].values():
            with pytest.raises(ReadOnly):
                await call(handle)
    assert memory.store.meter.trips == before


async def test_every_read_gives_what_a_writing_handle_reads(memory: Memory) -> None:
    await memory.thread("ann", "t").commit(["a", "b"], working_memory={"a": 1}, resource_memory=2)
    writing, reading = handles(memory, read_only=False), handles(memory, read_only=True)
    for mine, theirs in zip(writing, reading, strict=True):
        for call in READS[type(mine)].values():
            assert await finish(call(mine)) == await finish(call(theirs))


async def test_reading_a_thread_that_is_not_there_raises_and_creates_nothing(memory: Memory) -> None:
    for read_only in (True, False):
        ann, thread, thread_memory, ann_memory = handles(memory, read_only=read_only)
        for verb, call in READS[ThreadHandle].items():
            if verb == "exists":
                assert await thread.exists() is False
            elif read_only or verb == "info":
                with pytest.raises(ThreadNotFound, match="there is no thread 't'"):
                    await finish(call(thread))
            else:
                await finish(call(thread))
        if read_only:
            with pytest.raises(ThreadNotFound):
                await thread_memory.get()
        else:
            await thread_memory.get()
        assert (await ann_memory.get()).version == 0
        assert await finish(ann.threads()) == []
    assert [found async for found in memory.admin.resources()] == []


@pytest.mark.parametrize("where", ["resource", "thread", "memory.thread", "admin"])
async def test_read_only_is_asked_for_at_any_handle_and_handed_down(memory: Memory, where: str) -> None:
    await memory.thread("ann", "t").append("hello")
    thread = {
        "resource": lambda: memory.resource("ann", read_only=True).thread("t"),
        "thread": lambda: memory.resource("ann").thread("t", read_only=True),
        "memory.thread": lambda: memory.thread("ann", "t", read_only=True),
        "admin": lambda: memory.admin.resource("ann", read_only=True).thread("t", read_only=False),
    }[where]()
    assert thread.read_only
    with pytest.raises(ReadOnly):
        await thread.append("never")
    with pytest.raises(ReadOnly):
        await thread.working_memory.put(1)
    assert len(await thread.messages()) == 1
    assert not memory.thread("ann", "t").read_only
