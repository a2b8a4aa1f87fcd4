"""An export holds everything of one resource, as JSON that reads back equal, and nothing of another."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from threadkeep import Memory, Message
from threadkeep.errors import ThreadNotFound
from threadkeep.handles.reading import HISTORY_PAGE
from threadkeep.messages import parse_message

Use = Callable[[Callable[[Memory], Awaitable[None]]], None]
Before = Callable[[Memory, str, int, Callable[[], Awaitable[object]]], None]


async def lines(memory: Memory, resource_id: str = "ann", *, read_only: bool = False) -> list[dict[str, Any]]:
    return await rest(memory.resource(resource_id, read_only=read_only).export())


async def rest(walk: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line async for line in walk]


def test_an_export_is_everything_of_the_resource_in_order(use: Use) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann")
        await ann.working_memory.put({"plan": "gold"})
        given: dict[str, list[Message]] = {}
        for n in range(3):
            thread = await ann.create_thread(f"t{n}", title=f"Title {n}", metadata={"n": 10**30 + n})
            given[thread.thread_id] = [Message.user(f"\0 é \U0001f600 {m}", id=str(m)) for m in range(n)]
            await thread.commit(given[thread.thread_id], working_memory=[n])
        await ann.thread("t1").archive()
        await memory.thread("bob", "t1").append("not ann's")
        exported = await lines(memory)
        assert exported == [json.loads(json.dumps(line)) for line in exported]
        kinds = ["resource", "thread", "thread", "message", "thread", "message", "message"]
        assert [line["kind"] for line in exported] == kinds
        assert exported[0] == {
            "kind": "resource",
            "resource_id": "ann",
            "working_memory": {"version": 1, "value": {"plan": "gold"}},
        }
        infos = [info async for info in ann.threads()]
        threads = [line for line in exported if line["kind"] == "thread"]
        for n, (line, info) in enumerate(zip(threads, infos, strict=True)):
            assert line.pop("working_memory") == {"version": 1, "value": [n]}
            assert line == {"kind": "thread", **info.model_dump(mode="json")}
        for thread_id, messages in given.items():
            found = [
                line["message"] for line in exported if line["kind"] == "message" and line["thread_id"] == thread_id
            ]
            assert [parse_message(message) for message in found] == messages
            assert [message["position"] for message in found] == list(range(1, len(messages) + 1))
            assert all("stored_at" in message for message in found)
        assert await lines(memory, read_only=True) == await lines(memory)

    use(check)


def test_the_export_of_a_resource_that_is_not_there_is_one_empty_line(use: Use) -> None:
    async def check(memory: Memory) -> None:
        await memory.thread("bob", "t").append("not ann's")
        assert await lines(memory) == [
            {"kind": "resource", "resource_id": "ann", "working_memory": {"version": 0, "value": None}}
        ]

    use(check)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_thread_that_is_deleted_meanwhile_is_left_out_or_missed_but_never_cut_in_silence(
    use: Use, read_only: bool
) -> None:
    async def check(memory: Memory) -> None:
        ann = memory.resource("ann", read_only=read_only)
        for thread_id in ("a", "b", "c"):
            await memory.thread("ann", thread_id).append("hello")
        walk = ann.export()
        assert [(await anext(walk)).get("thread_id") for _ in range(2)] == [None, "a"]
        await memory.thread("ann", "b").delete()
        assert [line["thread_id"] async for line in walk] == ["a", "c", "c"]
        long = memory.thread("ann", "long")
        for _ in range(HISTORY_PAGE // 50 + 1):
            await long.append(*(f"message {n}" for n in range(50)))
        walk = ann.export()
        async for line in walk:
            if line["kind"] == "message" and line["thread_id"] == "long":
                break
        await long.delete()
        with pytest.raises(ThreadNotFound):
            await rest(walk)

    use(check)


def test_a_thread_that_is_deleted_between_its_line_and_its_messages_is_missed(use: Use, before: Before) -> None:
    async def check(memory: Memory) -> None:
        await memory.thread("ann", "t").append("hello")
        before(memory, "load", 3, memory.thread("ann", "t").delete)
        walk = memory.resource("ann").export()
        assert [(await anext(walk))["kind"] for _ in range(2)] == ["resource", "thread"]
        with pytest.raises(ThreadNotFound):
            await rest(walk)

    use(check)
