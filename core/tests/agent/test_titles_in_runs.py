"""Titles in the loop: beside the first turn, once, and whatever becomes of them, the turn is as it would be without."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from agents import ALICE

from threadkeep import Agent, Memory, Message
from threadkeep.agent import Finished, Redact, TitleChanged, TitleFailed, titles
from threadkeep.models import ModelRequest, ScriptedModel


def told(events: Sequence[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, TitleChanged | TitleFailed)]


def hello(request: ModelRequest) -> str:
    return "Hello."


async def test_the_first_turn_names_the_thread_and_later_ones_do_not(memory: Memory) -> None:
    names = ScriptedModel(["Late order"])
    agent = Agent(model=ScriptedModel(hello), memory=memory, title=names)
    events = [event async for event in agent.stream("My order is late", **ALICE)]
    assert told(events) == [TitleChanged("Late order")]
    assert isinstance(events[-1], Finished)
    assert told([event async for event in agent.stream("Any news?", **ALICE)]) == []
    assert (await memory.thread(**ALICE).info()).title == "Late order"
    assert [message.text for message in await memory.thread(**ALICE).messages()] == [
        "My order is late", "Hello.", "Any news?", "Hello.",
    ]  # fmt: skip


async def test_a_thread_that_has_a_name_or_has_been_talked_in_is_not_named(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(hello), memory=memory, title=ScriptedModel([]))
    named = await memory.resource("user_alice").create_thread(title="Mine")
    old = await memory.resource("user_alice").create_thread()
    await old.append("Hi", Message.assistant("Hello."))
    for thread in (named, old):
        events = [event async for event in agent.stream("Hi", resource_id="user_alice", thread_id=thread.thread_id)]
        assert told(events) == []
    assert (await named.info()).title == "Mine"
    assert (await old.info()).title is None


async def test_a_first_turn_that_failed_is_named_when_it_is_taken_up_again(memory: Memory) -> None:
    model = ScriptedModel([RuntimeError("overloaded"), "Hello."])
    agent = Agent(model=model, memory=memory, title=lambda messages: messages[0].text)
    with pytest.raises(Exception, match="overloaded"):
        await agent.generate(Message.user("Hi", id="m1"), **ALICE)
    await agent.generate(Message.user("Hi", id="m1"), **ALICE)
    assert (await memory.thread(**ALICE).info()).title == "Hi"


async def test_a_rename_during_the_turn_wins_over_the_title(memory: Memory) -> None:
    async def slow(messages: Sequence[Message]) -> str:
        await memory.thread(**ALICE).rename("Mine")
        return "Theirs"

    agent = Agent(model=ScriptedModel(hello), memory=memory, title=slow)
    assert told([event async for event in agent.stream("Hi", **ALICE)]) == []
    assert (await memory.thread(**ALICE).info()).title == "Mine"


async def test_of_a_title_and_a_rename_at_once_the_rename_stays(memory: Memory) -> None:
    """Whichever comes first: the person's name is what is there in the end."""
    for n in range(20):
        thread = await memory.resource("user_alice").create_thread(f"t{n}")
        agent = Agent(model=ScriptedModel(hello), memory=memory, title=lambda messages: "Theirs")
        await asyncio.gather(
            agent.generate("Hi", resource_id="user_alice", thread_id=f"t{n}"),
            thread.rename("Mine"),
        )
        assert (await thread.info()).title == "Mine"


async def test_a_title_that_fails_is_told_and_the_turn_is_whole(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(model=ScriptedModel(hello), memory=memory, title=ScriptedModel([RuntimeError("no quota")]))
    events = [event async for event in agent.stream("Hi", **ALICE)]
    assert told(events) == [TitleFailed("RuntimeError: no quota")]
    assert isinstance(events[-1], Finished)
    assert len(await memory.thread(**ALICE).messages()) == 2
    assert "has got no title: no quota" in caplog.text


async def test_a_title_that_takes_long_does_not_hold_the_turn_and_comes_all_the_same(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(titles, "TITLE_WAIT_SECONDS", 0.01)

    answered = asyncio.Event()

    async def slow(messages: Sequence[Message]) -> str:
        await answered.wait()
        return "At last"

    agent = Agent(model=ScriptedModel(hello), memory=memory, title=slow)
    reply = await agent.generate("Hi", **ALICE)
    assert reply.text == "Hello."
    assert (await memory.thread(**ALICE).info()).title is None
    answered.set()
    (task,) = titles._making
    assert await task == TitleChanged("At last")
    assert (await memory.thread(**ALICE).info()).title == "At last"


async def test_the_title_is_made_of_what_processors_leave(memory: Memory) -> None:
    seen: list[str] = []

    def name(messages: Sequence[Message]) -> str:
        seen.extend(message.text for message in messages)
        return "Named"

    hide = Redact("secret", stored=False)
    agent = Agent(model=ScriptedModel(hello), memory=memory, title=name, processors=[hide])
    await agent.generate("My secret", **ALICE)
    assert set(seen) == {"My [redacted]"}


async def test_a_request_that_is_only_stored_asks_no_model_for_a_title(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel([]), memory=memory, title=ScriptedModel([]))
    assert told([event async for event in agent.stream("Hi", max_steps=0, **ALICE)]) == []
