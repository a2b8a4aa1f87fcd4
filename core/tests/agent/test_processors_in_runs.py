"""Processors in the loop: what they hide is neither stored nor shown, and what they break is not either."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from agents import ALICE

from threadkeep import Agent, Memory, Message
from threadkeep.agent import DropOldTools, Redact, RunContext
from threadkeep.errors import ProcessorFailed
from threadkeep.messages import ToolCallPart
from threadkeep.models import ModelRequest, ScriptedModel, TextDelta


def calls(id: str, arguments: dict[str, Any]) -> Message:
    return Message(role="assistant", parts=[ToolCallPart(tool_call_id=id, name="look", arguments=arguments)])


async def everything(memory: Memory) -> str:
    lines = [line async for line in memory.resource("user_alice").export()]
    return json.dumps(lines)


async def test_what_is_redacted_reaches_neither_store_nor_model_nor_tools(memory: Memory) -> None:
    looked: list[str] = []

    def look(what: str) -> str:
        looked.append(what)
        return f"secret of {what}"

    shown: list[ModelRequest] = []

    def answer(request: ModelRequest) -> Any:
        shown.append(request)
        return calls("1", {"what": "a secret"}) if len(shown) == 1 else "No secret told."

    agent = Agent(model=ScriptedModel(answer), memory=memory, tools=[look], processors=[Redact("secret")])
    reply = await agent.generate("What is the secret?", **ALICE)
    assert reply.text == "No [redacted] told."
    assert looked == ["a [redacted]"]
    assert "secret" not in await everything(memory)
    assert "secret" not in str([request.messages for request in shown])


async def test_what_is_hidden_only_from_the_model_is_stored_as_it_was(memory: Memory) -> None:
    agent = Agent(
        model=ScriptedModel(lambda request: request.messages[-1].text),
        memory=memory,
        processors=[Redact("secret", stored=False)],
    )
    assert (await agent.generate("My secret", **ALICE)).text == "My [redacted]"
    assert [message.text for message in await memory.thread(**ALICE).messages()] == ["My secret", "My [redacted]"]


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_repeated_requests_and_whole_histories_are_recognised_though_they_come_unredacted(
    memory: Memory, ids: Any
) -> None:
    agent = Agent(model=ScriptedModel(["One.", "Two."]), memory=memory, processors=[Redact("secret")])
    question = Message.user("My secret", id="m1")
    first = await agent.generate(question, **ALICE)
    assert (await agent.generate(question, **ALICE)).reason == "repeated"
    assert first.message is not None
    history = [question, first.message, Message.user("Another secret", id="m2")]
    reply = await agent.generate(messages=history, ids=ids, **ALICE)
    assert reply.text == "Two."
    assert len(await memory.thread(**ALICE).messages()) == 4
    assert "secret" not in await everything(memory)


async def test_they_run_in_order_and_know_whose_run_it_is(memory: Memory) -> None:
    seen: list[tuple[str, RunContext, int]] = []

    class Watch:
        def __init__(self, name: str) -> None:
            self.name = name

        def before_model(self, messages: Sequence[Message], context: RunContext) -> None:
            seen.append((f"{self.name} model", context, len(messages)))

        async def before_commit(self, messages: Sequence[Message], context: RunContext) -> None:
            seen.append((f"{self.name} commit", context, len(messages)))

    seen.clear()
    agent = Agent(
        name="support", model=ScriptedModel(["Hello."]), memory=memory, processors=[Watch("one"), Watch("two")]
    )
    await agent.generate("Hi", **ALICE)
    order = ["one commit", "two commit", "one model", "two model", "one commit", "two commit"]
    assert [name for name, _, _ in seen] == order
    assert {context for _, context, _ in seen} == {RunContext("support", "user_alice", "support")}
    assert {count for _, _, count in seen} == {1}


class Fails:
    """A processor that fails at the nth message whose text holds a word."""

    def __init__(self, hook: str, word: str) -> None:
        setattr(self, hook, self._fail)
        self._word = word

    def _fail(self, messages: Sequence[Message]) -> None:
        if any(self._word in message.text for message in messages):
            raise ValueError(f"found {self._word!r}")


@pytest.mark.parametrize(
    ("hook", "word", "kept"),
    [
        ("before_commit", "secret", []),
        ("before_model", "secret", ["My secret"]),
        ("before_commit", "bad", ["My secret"]),
    ],
)
async def test_where_one_fails_nothing_that_it_was_to_look_at_is_stored_or_shown(
    memory: Memory, hook: str, word: str, kept: list[str]
) -> None:
    model = ScriptedModel(["A bad answer."])
    agent = Agent(model=model, memory=memory, processors=[Fails(hook, word)])
    with pytest.raises(ProcessorFailed, match=f"{hook} of processor 'Fails' failed: ValueError: found '{word}'"):
        await agent.generate("My secret", **ALICE)
    assert [message.text for message in await memory.thread(**ALICE).messages()] == kept


async def test_what_was_said_before_a_model_failed_is_redacted_before_it_is_kept(memory: Memory) -> None:
    class Breaks:
        async def stream(self, request: ModelRequest) -> Any:
            yield TextDelta("My secret is")
            raise ConnectionResetError("gone")

    agent = Agent(model=Breaks(), memory=memory, processors=[Redact("secret")])
    with pytest.raises(Exception, match="gone"):
        await agent.generate("Tell me", **ALICE)
    assert [message.text for message in await memory.thread(**ALICE).messages()] == ["Tell me", "My [redacted] is"]


async def test_old_tool_noise_is_not_shown_and_stays_stored(memory: Memory) -> None:
    def look(what: str) -> str:
        return f"{what}: a long answer"

    shown: list[list[str]] = []

    def answer(request: ModelRequest) -> Any:
        shown.append([message.role for message in request.messages])
        asked = request.messages[-1]
        return calls(asked.id, {"what": asked.text}) if asked.role == "user" else "Seen."

    agent = Agent(model=ScriptedModel(answer), memory=memory, tools=[look], processors=[DropOldTools(1)])
    for text in ("one", "two", "three"):
        await agent.generate(text, **ALICE)
    assert shown[-1] == ["user", "assistant", "user", "assistant", "user", "assistant", "tool"]
    assert len(await memory.thread(**ALICE).messages()) == 12
