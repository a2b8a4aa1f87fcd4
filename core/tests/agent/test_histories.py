"""Clients that send the whole conversation to an agent: edits, answers made anew, tools that the client ran."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest
from agents import ALICE, calls, events_of, result, shown, stored

from threadkeep import Agent, Memory, Message
from threadkeep.agent import Approval, Committed, Finished, Forked, MemoryOptions, OnDiverged
from threadkeep.errors import Diverged, InvalidInput
from threadkeep.messages import TextPart, ToolResultPart
from threadkeep.models import ModelRequest, ScriptedModel, TextDelta, client_tool, tool
from threadkeep.port import Limits


def echo(request: ModelRequest) -> str:
    return f"{request.messages[-1].text}, after {len(request.messages) - 1}"


def fresh(messages: list[Message]) -> list[Message]:
    """The same messages as a client sends them that makes new ids each time."""
    return [Message(role=message.role, parts=message.parts) for message in messages]


async def talk(memory: Memory, agent: Agent, ids: Any, *texts: str) -> list[Message]:
    """A conversation, as its client has it."""
    seen: list[Message] = []
    for text in texts:
        seen.append(Message.user(text))
        reply = await agent.generate(messages=seen if ids == "stable" else fresh(seen), ids=ids, **ALICE)
        assert reply.message is not None
        seen.append(reply.message)
    return seen


BOTH = pytest.mark.parametrize("ids", ["stable", "fresh"])


@BOTH
async def test_an_edit_is_refused_unless_the_caller_says_otherwise_and_nothing_is_written(
    memory: Memory, ids: Any
) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory)
    seen = await talk(memory, agent, ids, "a", "b")
    before = await stored(memory)
    with pytest.raises(Diverged) as refusal:
        await agent.generate(messages=[*seen[:2], Message.user("c")], ids=ids, **ALICE)
    assert refusal.value.index == 2
    assert await stored(memory) == before


@BOTH
async def test_an_edit_that_truncates_drops_what_followed_in_the_same_commit(memory: Memory, ids: Any) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory, on_busy="reject")
    seen = await talk(memory, agent, ids, "a", "b", "c")
    trips = memory.store.meter.trips
    request = [*seen[:2], seen[2].model_copy(update={"parts": [TextPart(text="B")]})]
    reply = await agent.generate(messages=request, ids=ids, on_diverged="truncate", **ALICE)
    assert memory.store.meter.trips - trips == 3
    assert (reply.text, reply.thread_id) == ("B, after 2", "support")
    assert await stored(memory) == [
        "user: a", "assistant: a, after 0", "user: B", "assistant: B, after 2",
    ]  # fmt: skip
    again = await agent.generate(messages=request, ids=ids, on_diverged="truncate", **ALICE)
    assert (again.text, again.reason) == ("B, after 2", "repeated")


@BOTH
async def test_an_edit_that_forks_leaves_the_thread_as_it_was_and_a_repetition_finds_the_fork(
    memory: Memory, ids: Any
) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory)
    seen = await talk(memory, agent, ids, "a", "b", "c")
    before = await stored(memory)
    request = [*seen[:2], seen[2].model_copy(update={"parts": [TextPart(text="B")]})]
    events = await events_of(agent.stream(messages=request, ids=ids, on_diverged="fork", **ALICE))
    assert isinstance(events[0], Forked)
    fork = events[0].thread_id
    assert events[0].forked_from == "support"
    assert await stored(memory) == before
    told = ["user: a", "assistant: a, after 0", "user: B", "assistant: B, after 2"]
    assert await stored(memory, {"resource_id": "user_alice", "thread_id": fork}) == told
    info = await memory.thread("user_alice", fork).info()
    assert info.forked_from == {
        "thread_id": "support",
        "message_id": (await memory.thread(**ALICE).messages())[1].id,
    }
    again = await agent.generate(messages=request, ids=ids, on_diverged="fork", **ALICE)
    assert (again.text, again.reason, again.thread_id) == ("B, after 2", "repeated", fork)
    assert len([each async for each in memory.resource("user_alice").threads()]) == 2


@BOTH
async def test_an_edit_of_the_first_message_truncates_and_forks_too(memory: Memory, ids: Any) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory)
    await memory.thread(**ALICE).append(Message(role="system", parts=[TextPart(text="Be kind.")]))
    await talk(memory, agent, ids, "a", "b")
    reply = await agent.generate(messages=[Message.user("A")], ids=ids, on_diverged="fork", fork_id="f", **ALICE)
    assert (reply.text, reply.thread_id) == ("A, after 1", "f")
    await agent.generate(messages=[Message.user("A")], ids=ids, on_diverged="truncate", **ALICE)
    assert await stored(memory) == ["system: Be kind.", "user: A", "assistant: A, after 1"]


async def test_a_fork_that_is_another_conversation_already_is_not_changed(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory)
    await talk(memory, agent, "stable", "a")
    await agent.generate("x", resource_id="user_alice", thread_id="taken")
    with pytest.raises(Diverged):
        await agent.generate(messages=[Message.user("A")], on_diverged="fork", fork_id="taken", **ALICE)
    assert await stored(memory, {"resource_id": "user_alice", "thread_id": "taken"}) == [
        "user: x",
        "assistant: x, after 0",
    ]


@BOTH
async def test_another_answer_is_made_only_when_it_is_asked_for(memory: Memory, ids: Any) -> None:
    script = iter(["One.", "Two.", "Three."])
    agent = Agent(model=ScriptedModel(lambda request: next(script)), memory=memory)
    seen = [Message.user("Pick a number")]
    first = await agent.generate(messages=seen, ids=ids, **ALICE)
    repeated = await agent.generate(messages=seen, ids=ids, **ALICE)
    assert (first.text, repeated.text) == ("One.", "One.")
    with pytest.raises(Diverged, match="answered already"):
        await agent.generate(messages=seen, ids=ids, regenerate=True, **ALICE)
    forked = await agent.generate(messages=seen, ids=ids, regenerate=True, on_diverged="fork", **ALICE)
    assert (forked.text, forked.thread_id != "support") == ("Two.", True)
    assert (await agent.generate(messages=seen, ids=ids, regenerate=True, on_diverged="truncate", **ALICE)).text == (
        "Three."
    )
    assert await stored(memory) == ["user: Pick a number", "assistant: Three."]


async def test_another_answer_without_the_whole_history(memory: Memory) -> None:
    script = iter(["One.", "Two.", "Three."])
    agent = Agent(model=ScriptedModel(lambda request: next(script)), memory=memory)
    request = Message.user("Pick", id="m1")
    await agent.generate(request, **ALICE)
    reply = await agent.generate(request, regenerate=True, on_diverged="truncate", **ALICE)
    assert reply.text == "Two."
    assert await stored(memory) == ["user: Pick", "assistant: Two."]
    new = await agent.generate(Message.user("And", id="m2"), regenerate=True, **ALICE)
    assert (new.text, new.reason) == ("Three.", "stop")


async def test_a_message_that_is_moved_is_no_edit(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory)
    seen = await talk(memory, agent, "stable", "a", "b")
    before = await stored(memory)
    choices: list[OnDiverged] = ["truncate", "fork"]
    for choice in choices:
        with pytest.raises(Diverged):
            await agent.generate(messages=[*seen[2:], seen[0]], on_diverged=choice, **ALICE)
    assert await stored(memory) == before


@BOTH
@pytest.mark.parametrize("inside", [True, False], ids=["in the grown message", "in a message of its own"])
async def test_results_of_the_clients_tools_come_with_the_history(memory: Memory, ids: Any, inside: bool) -> None:
    agent = Agent(
        model=ScriptedModel([calls("1", name="locate"), "You are in Rome.", "Bye."]),
        memory=memory,
        tools=[client_tool("locate")],
    )
    seen = [Message.user("Where am I?")]
    stopped = await agent.generate(messages=seen, ids=ids, **ALICE)
    assert (stopped.reason, stopped.message is not None) == ("client_tools", True)
    assert stopped.message is not None
    if inside:
        part = ToolResultPart(tool_call_id="1", result="Rome")
        seen.append(stopped.message.model_copy(update={"parts": [*stopped.message.parts, part]}))
    else:
        seen += [stopped.message, result("1", "Rome")]
    for reason in ("stop", "repeated"):
        events = await events_of(agent.stream(messages=seen if ids == "stable" else fresh(seen), ids=ids, **ALICE))
        end = events[-1]
        assert isinstance(end, Finished)
        said = end.reply
        assert said is not None
        assert (end.reason, said.text) == (reason, "You are in Rome.")
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "You are in Rome."
    assert said is not None
    messages = await memory.thread(**ALICE).messages()
    assert len(messages) == (3 if inside else 4)
    assert {message.metadata.get("turn") for message in messages if message.role == "assistant"} == {messages[0].id}
    seen += [said, Message.user("Thanks")]
    reply = await agent.generate(messages=seen if ids == "stable" else fresh(seen), ids=ids, **ALICE)
    assert reply.text == "Bye."


async def test_an_approval_comes_with_the_history(memory: Memory) -> None:
    async def pay() -> str:
        return "paid"

    agent = Agent(
        model=ScriptedModel([calls("1", name="pay"), "Paid."]),
        memory=memory,
        tools=[tool(pay, needs_approval=True)],
    )
    seen = [Message.user("Pay")]
    stopped = await agent.generate(messages=seen, **ALICE)
    assert stopped.message is not None
    seen.append(stopped.message)
    reply = await agent.generate(messages=seen, approvals=[Approval("1", approve=True)], **ALICE)
    assert (reply.text, await stored(memory)) == (
        "Paid.",
        ["user: Pay", "assistant: ['1']", "tool: ['paid']", "assistant: Paid."],
    )


@BOTH
async def test_a_client_that_has_another_part_of_an_interrupted_answer_is_not_refused(memory: Memory, ids: Any) -> None:
    agent = Agent(model=ScriptedModel(lambda request: "one two three"), memory=memory)
    seen = [Message.user("Count")]
    async with aclosing(agent.stream(messages=seen, ids=ids, **ALICE)) as events:
        async for event in events:
            if event == TextDelta(" two"):
                break
    kept = (await memory.thread(**ALICE).messages())[-1]
    assert kept.text == "one two"
    for text in ("one", "", "one two three"):
        half = Message.assistant(text, id=kept.id)
        request = [*seen, half, Message.user("Go on", id=f"after {text}")]
        thread = memory.thread(**ALICE)
        receipt = await thread.append_history(request if ids == "stable" else fresh(request), ids=ids)
        assert receipt.new == 1
        await thread.drop_from(receipt.messages[-1].id)
    other = Message.assistant("eins", id=kept.id)
    with pytest.raises(Diverged):
        await agent.generate(messages=[*seen, other, Message.user("Go on")], ids=ids, **ALICE)


async def test_a_long_history_is_taken_over_in_several_commits_and_answered_once(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory, options=MemoryOptions(last=1000))
    count = 2 * Limits().commit_messages + 51
    roles = ["user", "assistant"]
    history = [Message(id=f"m{n}", role=roles[n % 2], parts=[TextPart(text=str(n))]) for n in range(count)]
    events = await events_of(agent.stream(messages=history, **ALICE))
    first = events[0]
    assert isinstance(first, Committed)
    assert (first.new, len(first.messages), first.tail.position) == (count, count, count)
    assert (await stored(memory))[-1] == f"assistant: {count - 1}, after {count - 1}"
    again = await agent.generate(messages=history, **ALICE)
    assert (again.reason, len(await stored(memory))) == ("repeated", count + 1)


async def test_input_and_messages_exclude_each_other() -> None:
    async with Memory("memory://exclude") as memory:
        agent = Agent(model=ScriptedModel(echo), memory=memory)
        with pytest.raises(InvalidInput, match="not both"):
            agent.stream("Hi", messages=[Message.user("Hi")], **ALICE)
        with pytest.raises(InvalidInput, match="input is empty"):
            agent.stream(messages=[], **ALICE)
        with pytest.raises(InvalidInput, match="on_diverged is"):
            agent.stream("Hi", on_diverged="merge", **ALICE)  # type: ignore[arg-type]  # what a careless caller does


async def test_two_agents_in_one_thread_and_in_two(memory: Memory) -> None:
    def answer(request: ModelRequest) -> str:
        return " / ".join(shown([*request.messages]))

    generalist = Agent(name="generalist", model=ScriptedModel(answer), memory=memory)
    specialist = Agent(name="specialist", model=ScriptedModel(answer), memory=memory)
    await generalist.generate("one", **ALICE)
    reply = await specialist.generate("two", **ALICE)
    assert reply.text == "user: one / assistant: user: one / user: two"
    apart = await specialist.generate("three", resource_id="user_alice", thread_id="billing")
    assert apart.text == "user: three"
    messages = await memory.thread(**ALICE).messages()
    assert [message.metadata.get("agent") for message in messages] == [None, "generalist", None, "specialist"]
