"""Runs that are cancelled or fail: what was said is kept, marked, and the repeated request goes on from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from agents import ALICE, Gate, calls, events_of, stored, until

from threadkeep import Agent, Memory, Message
from threadkeep.agent.lease import RUN
from threadkeep.errors import LimitExceeded, ModelFailed
from threadkeep.models import ModelRequest, ScriptedModel, TextDelta
from threadkeep.port import Changes, Receipt, Thread, Window


async def last_run(memory: Memory) -> dict[str, Any]:
    body = (await memory.store.load(Thread(**ALICE), Window())).docs[RUN].body
    found: dict[str, Any] = json.loads(body or "{}")
    return found


async def test_a_cancelled_run_keeps_what_was_said_and_lets_go_of_the_thread(memory: Memory) -> None:
    model = Gate()
    agent = Agent(name="support", model=model, memory=memory, on_busy="reject")
    run = asyncio.create_task(agent.generate(Message.user("one", id="m1"), **ALICE))
    await until(lambda: model.asked)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    _, kept = await memory.thread(**ALICE).messages()
    assert (kept.text, kept.metadata) == ("O", {"agent": "support", "turn": "m1", "interrupted": "cancelled"})
    told = await last_run(memory)
    assert (told["status"], told["turn"], told["agent"]) == ("cancelled", "m1", "support")
    model.open.set()
    events = await events_of(agent.stream(Message.user("one", id="m1"), **ALICE))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "ONE"
    assert await stored(memory) == ["user: one", "assistant: ONE"]


async def test_a_stream_that_is_closed_half_way_keeps_what_was_said(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(lambda request: "one two three"), memory=memory)
    stream = agent.stream("Hi", **ALICE)
    async with aclosing(stream) as events:
        async for event in events:
            if event == TextDelta(" two"):
                break
    assert await stored(memory) == ["user: Hi", "assistant: one two"]
    # The conversation may go on; the model sees what the user has seen.
    seen: list[str] = []

    def answer(request: ModelRequest) -> str:
        seen.extend(message.text for message in request.messages)
        return "Four."

    await Agent(model=ScriptedModel(answer), memory=memory).generate("And?", on_busy="reject", **ALICE)
    assert seen == ["Hi", "one two", "And?"]
    assert await stored(memory) == ["user: Hi", "assistant: one two", "user: And?", "assistant: Four."]


async def test_a_run_that_fails_before_anything_is_said_is_marked_with_its_error(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel([RuntimeError("overloaded"), "Hello."]), memory=memory, on_busy="reject")
    with pytest.raises(ModelFailed):
        await agent.generate(Message.user("Hi", id="m1"), **ALICE)
    told = await last_run(memory)
    assert (told["status"], told["error"]) == ("failed", "ModelFailed")
    assert (await agent.generate(Message.user("Hi", id="m1"), **ALICE)).text == "Hello."
    assert (await last_run(memory))["status"] == "stop"


async def test_each_further_try_replaces_what_the_one_before_had_said(memory: Memory) -> None:
    class Breaks:
        def __init__(self, *said: str) -> None:
            self.said = said

        async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | Message]:
            for text in self.said:
                yield TextDelta(text)
            raise ConnectionResetError("gone")

    for said, kept in ((("a", "b"), "ab"), ((), "ab"), (("c",), "c")):
        with pytest.raises(ModelFailed):
            await Agent(model=Breaks(*said), memory=memory).generate(Message.user("Hi", id="m1"), **ALICE)
        assert await stored(memory) == ["user: Hi", f"assistant: {kept}"]


async def test_what_others_have_appended_since_is_not_dropped_with_half_an_answer(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(lambda request: "one two"), memory=memory, on_busy="interleave")
    async with aclosing(agent.stream(Message.user("Hi", id="m1"), **ALICE)) as events:
        async for event in events:
            if event == TextDelta("one"):
                break
    await memory.thread(**ALICE).append(Message(role="note", metadata={"turn": "other"}))
    assert (await agent.generate(Message.user("Hi", id="m1"), **ALICE)).text == "one two"
    assert await stored(memory) == ["user: Hi", "assistant: one", "note: []", "assistant: one two"]


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("happened", [True, False])
async def test_a_run_that_is_cancelled_in_the_middle_of_a_commit_lets_go_and_loses_nothing(
    memory: Memory, nth: int, happened: bool
) -> None:
    store = memory.store.store
    commit, count, reached = store.commit, 0, asyncio.Event()

    async def hangs(scope: Any, changes: Changes) -> Receipt:
        nonlocal count
        count += 1
        if count != nth:
            return await commit(scope, changes)
        if happened:
            await commit(scope, changes)
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    store.commit = hangs  # type: ignore[method-assign]  # the fault under test

    async def look() -> str:
        return "seen"

    model = ScriptedModel([calls("1"), "Seen."])
    agent = Agent(model=model, memory=memory, tools=[look], on_busy="reject")
    run = asyncio.create_task(agent.generate(Message.user("Look", id="m1"), **ALICE))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert (await agent.generate(Message.user("Look", id="m1"), **ALICE)).text == "Seen."
    assert await stored(memory) == ["user: Look", "assistant: ['1']", "tool: ['seen']", "assistant: Seen."]


async def test_a_run_that_is_cancelled_twice_still_lets_go(memory: Memory) -> None:
    model = Gate()
    agent = Agent(model=model, memory=memory, on_busy="reject")
    store = memory.store.store
    commit, ending, go_on = store.commit, asyncio.Event(), asyncio.Event()
    run = asyncio.create_task(agent.generate(Message.user("one", id="m1"), **ALICE))
    await until(lambda: model.asked)

    async def slow(scope: Any, changes: Changes) -> Receipt:
        ending.set()
        await go_on.wait()
        return await commit(scope, changes)

    store.commit = slow  # type: ignore[method-assign]  # the fault under test
    run.cancel()
    await ending.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    go_on.set()

    async def kept() -> bool:
        return len(await stored(memory)) == 2

    await until(kept)
    assert (await last_run(memory))["status"] == "cancelled"


async def test_an_answer_that_cannot_be_stored_fails_the_run_and_lets_go(memory: Memory) -> None:
    huge = "x" * (memory.store.limits.message_bytes + 1)
    agent = Agent(model=ScriptedModel([huge, "Short."]), memory=memory, on_busy="reject")
    with pytest.raises(LimitExceeded):
        await agent.generate(Message.user("Hi", id="m1"), **ALICE)
    assert (await last_run(memory))["status"] == "failed"
    assert (await agent.generate(Message.user("Hi", id="m1"), **ALICE)).text == "Short."
