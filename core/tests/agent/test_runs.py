"""The agent loop: what is kept when, what a repeated request does, and clear outcomes when something fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import fields
from typing import Any

import pytest
from agents import ALICE

from threadkeep import Agent, Memory, Message
from threadkeep.agent import Committed, Event, Finished, MemoryOptions, ToolAnswered, ToolCalled
from threadkeep.agent.settings import AgentSettings
from threadkeep.errors import Diverged, InvalidId, InvalidInput, MessageConflict, ModelFailed, ThreadNotFound
from threadkeep.messages import ToolCallPart, ToolResultPart
from threadkeep.models import ModelRequest, ReasoningDelta, ScriptedModel, TextDelta


@pytest.fixture
def url() -> str:
    """The loop is the same on every store: one is enough."""
    return "memory://agent"


def calls(*ids: str, name: str = "look", arguments: str = "{}") -> Message:
    parts = [ToolCallPart(tool_call_id=each, name=name, arguments=arguments) for each in ids]
    return Message(role="assistant", parts=[*parts])


async def look() -> str:
    return "seen"


async def stored(memory: Memory) -> list[str]:
    messages = await memory.thread(**ALICE).messages()
    return [f"{message.role}: {message.text or [part.type for part in message.parts]}" for message in messages]


async def test_events_tell_the_turn_in_order_and_each_step_is_committed(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel([calls("1", "2"), "Two seen."]), memory=memory, tools=[look])
    events: list[Event] = []
    async for event in agent.stream("Look twice", **ALICE):
        events.append(event)
        if isinstance(event, Committed):
            assert len(await stored(memory)) == event.tail.position
    assert [type(event) for event in events] == [
        Committed, Committed, ToolCalled, ToolCalled, ToolAnswered, ToolAnswered, Committed,
        TextDelta, TextDelta, Committed, Finished,
    ]  # fmt: skip
    assert await stored(memory) == [
        "user: Look twice",
        "assistant: ['tool_call', 'tool_call']",
        "tool: ['tool_result']",
        "tool: ['tool_result']",
        "assistant: Two seen.",
    ]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"


async def test_two_users_with_one_thread_id_and_one_agent_stay_apart(memory: Memory) -> None:
    def echo(request: ModelRequest) -> str:
        return " / ".join(message.text for message in request.messages if message.role == "user")

    agent = Agent(model=ScriptedModel(echo), memory=memory)
    for user in ("user_alice", "user_bob"):
        await agent.generate(f"I am {user}", resource_id=user, thread_id="support")
    reply = await agent.generate("Who am I?", **ALICE)
    assert reply.text == "I am user_alice / Who am I?"


async def test_the_users_message_is_kept_when_the_model_fails_and_the_repeated_request_goes_on(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel([calls("1"), RuntimeError("overloaded"), "Done."]), memory=memory, tools=[look])
    request = Message.user("Look", id="m1")
    with pytest.raises(ModelFailed, match="overloaded") as failure:
        await agent.generate(request, **ALICE)
    assert isinstance(failure.value.__cause__, RuntimeError)
    assert failure.value.retryable
    assert len(await stored(memory)) == 3
    assert (await agent.generate(Message.user("Look", id="m1"), **ALICE)).text == "Done."
    again = await agent.generate(Message.user("Look", id="m1"), **ALICE)
    assert (again.text, again.reason) == ("Done.", "repeated")
    assert len(await stored(memory)) == 4


async def test_what_was_said_of_an_answer_that_failed_is_kept_until_the_repeated_request_has_the_whole(
    memory: Memory,
) -> None:
    class Breaks:
        async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | ReasoningDelta | Message]:
            yield ReasoningDelta("Hm.")
            yield TextDelta("I thi")
            raise ConnectionResetError("gone")

    class SaysNothing:
        async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | Message]:
            yield TextDelta("I think")

    thread = memory.thread(**ALICE)
    for model, text in ((Breaks(), "I thi"), (SaysNothing(), "I think")):
        with pytest.raises(ModelFailed):
            await Agent(model=model, memory=memory).generate(Message.user("Hi", id="m1"), **ALICE)
        _, kept = await thread.messages()
        assert (kept.role, kept.text, kept.metadata["interrupted"]) == ("assistant", text, "failed")
    seen: list[Message] = []

    def answer(request: ModelRequest) -> str:
        seen.extend(request.messages)
        return "I think so."

    reply = await Agent(model=ScriptedModel(answer), memory=memory).generate(Message.user("Hi", id="m1"), **ALICE)
    assert (reply.text, reply.reason) == ("I think so.", "stop")
    assert [message.text for message in seen] == ["Hi"]
    assert await stored(memory) == ["user: Hi", "assistant: I think so."]


async def test_an_interrupted_run_runs_pending_tools_and_not_the_model_again(memory: Memory) -> None:
    runs: list[str] = []

    async def slow() -> str:
        runs.append("slow")
        if len(runs) == 1:
            raise asyncio.CancelledError
        return "seen"

    agent = Agent(model=ScriptedModel([calls("1", name="slow"), "Done."]), memory=memory, tools=[slow])
    request = Message.user("Go", id="m1")
    with pytest.raises(asyncio.CancelledError):
        await agent.generate(request, **ALICE)
    assert len(await stored(memory)) == 2
    reply = await agent.generate(request, **ALICE)
    assert (reply.text, reply.reason, runs) == ("Done.", "stop", ["slow", "slow"])
    assert len(await stored(memory)) == 4


async def test_max_steps_counts_the_steps_of_an_earlier_try_and_zero_only_stores(memory: Memory) -> None:
    model = ScriptedModel(calls(str(n)) for n in range(100))
    agent = Agent(model=model, memory=memory, tools=[look], max_steps=3)
    first = await agent.generate(Message.user("Go", id="m1"), **ALICE)
    assert (first.reason, len(await stored(memory))) == ("max_steps", 7)
    assert (await agent.generate(Message.user("Go", id="m1"), **ALICE)).reason == "max_steps"
    assert len(await stored(memory)) == 7
    assert (await agent.generate(Message.user("Go", id="m1"), max_steps=4, **ALICE)).reason == "max_steps"
    assert len(await stored(memory)) == 9
    silent = await agent.generate("Bye", max_steps=0, **ALICE)
    assert (silent.reason, silent.message, silent.text) == ("max_steps", None, "")


async def test_two_runs_of_one_request_at_once_keep_one_answer(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(lambda request: "Hello."), memory=memory)
    replies = await asyncio.gather(*(agent.generate(Message.user("Hi", id="m1"), **ALICE) for _ in range(8)))
    assert {reply.text for reply in replies} == {"Hello."}
    assert await stored(memory) == ["user: Hi", "assistant: Hello."]


async def test_two_requests_at_once_both_keep_their_answers(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(lambda request: f"To {request.messages[-1].text}"), memory=memory)
    await asyncio.gather(*(agent.generate(f"q{n}", **ALICE) for n in range(6)))
    said = await stored(memory)
    assert sorted(said) == sorted([*(f"user: q{n}" for n in range(6)), *(f"assistant: To q{n}" for n in range(6))])


async def test_the_answer_of_an_older_request_is_found_again(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(["First.", "Second."]), memory=memory)
    for n in (1, 2):
        await agent.generate(Message.user("yes", id=f"m{n}"), **ALICE)
    old = await agent.generate(Message.user("yes", id="m1"), **ALICE)
    assert (old.text, old.reason) == ("First.", "repeated")
    assert await stored(memory) == ["user: yes", "assistant: First.", "user: yes", "assistant: Second."]


@pytest.mark.parametrize("history", ["stable", "fresh"])
async def test_clients_that_send_everything_each_time_double_nothing(memory: Memory, history: Any) -> None:
    agent = Agent(model=ScriptedModel(["One.", "Two.", "Three."]), memory=memory)
    seen: list[Message] = []
    for _ in range(3):
        seen.append(Message.user("yes"))
        sent = (
            seen
            if history == "stable"
            else [message.model_copy(update={"id": f"{message.id}{len(seen)}"}) for message in seen]
        )
        for repeat in range(2):
            reply = await agent.generate(messages=sent, ids=history, **ALICE)
            assert reply.reason == ("repeated" if repeat else "stop")
        assert reply.message is not None
        seen.append(reply.message)
    assert await stored(memory) == [
        "user: yes", "assistant: One.", "user: yes", "assistant: Two.", "user: yes", "assistant: Three.",
    ]  # fmt: skip
    edited = [seen[0], seen[1].model_copy(update={"parts": Message.user("Eins.").parts}), *seen[2:]]
    with pytest.raises(Diverged) as refusal:
        await agent.generate(messages=edited, ids=history, **ALICE)
    assert refusal.value.index == 1
    assert len(await stored(memory)) == 6


async def test_the_model_never_sees_a_result_without_its_call(memory: Memory) -> None:
    windows: list[Sequence[Message]] = []

    def answer(request: ModelRequest) -> str:
        windows.append(request.messages)
        return "ok"

    thread = memory.thread(**ALICE)
    result = Message(role="tool", parts=[ToolResultPart(tool_call_id="1", result="seen")])
    await thread.append("Look", calls("1"), result, Message.assistant("Seen."))
    for last in range(1, 6):
        await Agent(model=ScriptedModel(answer), memory=memory, options=MemoryOptions(last=last)).generate(
            "And?", **ALICE
        )
    for window in windows:
        assert window[0].role != "tool"


async def test_a_call_whose_run_died_does_not_block_the_thread(memory: Memory) -> None:
    await memory.thread(**ALICE).append("Look", calls("1"))

    def answer(request: ModelRequest) -> str:
        return ", ".join(f"{message.role} {len(message.tool_results)}" for message in request.messages)

    reply = await Agent(model=ScriptedModel(answer), memory=memory).generate("Hello?", **ALICE)
    assert reply.text == "user 0, assistant 0, tool 1, user 0"
    assert len(await stored(memory)) == 4


@pytest.mark.parametrize("wrong", [None, "", 7, b"x", True])
async def test_wrong_ids_are_refused_before_anything_is_written(memory: Memory, wrong: Any) -> None:
    agent = Agent(model=ScriptedModel(["Hi"]), memory=memory)
    with pytest.raises(InvalidId, match="resource_id must"):
        agent.stream("Hi", resource_id=wrong, thread_id="t")
    with pytest.raises(InvalidId, match="thread_id must"):
        agent.stream("Hi", resource_id="r", thread_id=wrong)
    assert [each async for each in memory.admin.resources()] == []


def test_what_an_agent_is_made_of_can_be_read_and_not_changed() -> None:
    agent = Agent(model=ScriptedModel([]), memory=Memory("memory://x"), name="support", max_steps=3, lease_seconds=2)
    for each in fields(AgentSettings):
        given = getattr(agent, each.name)
        with pytest.raises(AttributeError):
            setattr(agent, each.name, given)
    assert (agent.name, agent.max_steps, agent.lease_seconds) == ("support", 3, 2)


async def test_wrong_arguments_are_refused_by_name(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(["Hi", "Ho"]), memory=memory)
    with pytest.raises(InvalidInput, match="input is empty"):
        agent.stream([], **ALICE)
    with pytest.raises(InvalidInput, match="ids are 'stable'"):
        agent.stream(messages=[Message.user("Hi")], ids="full", **ALICE)  # type: ignore[arg-type]  # what a careless caller does
    with pytest.raises(InvalidInput, match="max_steps is a count from 0 up, not -1"):
        agent.stream("Hi", max_steps=-1, **ALICE)
    with pytest.raises(InvalidInput, match="a model is a name such as"):
        Agent(model=17, memory=memory)  # type: ignore[arg-type]  # what a careless caller does
    with pytest.raises(InvalidInput, match="same name"):
        Agent(model=agent.model, memory=memory, tools=[look, look])
    await agent.generate(Message.user("Hi", id="m1"), **ALICE)
    with pytest.raises(MessageConflict):
        await agent.generate(Message.user("Hello", id="m1"), **ALICE)
    assert await stored(memory) == ["user: Hi", "assistant: Hi"]


async def test_unknown_threads_on_a_read_only_handle_are_not_there(memory: Memory) -> None:
    await Agent(model=ScriptedModel(["Hi"]), memory=memory).generate("Hi", **ALICE)
    watcher = memory.resource("user_alice", read_only=True)
    assert len(await watcher.thread("support").messages()) == 2
    with pytest.raises(ThreadNotFound):
        await watcher.thread("other").messages()
    with pytest.raises(ThreadNotFound):
        await memory.resource("user_bob", read_only=True).thread("support").load()


async def test_messages_say_which_agent_wrote_them(memory: Memory) -> None:
    for name in ("generalist", "specialist"):
        await Agent(name=name, model=ScriptedModel(["Hello."]), memory=memory).generate("Hi", **ALICE)
    messages = await memory.thread(**ALICE).messages()
    assert [message.metadata.get("agent") for message in messages] == [None, "generalist", None, "specialist"]
