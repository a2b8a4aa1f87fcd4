"""Whole conversations as clients hold them: OpenAI's chat messages and the AI SDK's UI messages, given to an agent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import ALICE, calls, stored

from threadkeep import Agent, Memory, Message
from threadkeep.errors import Diverged, InvalidContent, InvalidInput
from threadkeep.formats import approvals_from_ui, messages_to_ui
from threadkeep.models import ModelRequest, ScriptedModel, client_tool, tool


def echo(request: ModelRequest) -> str:
    return f"{request.messages[-1].text}, after {len(request.messages) - 1}"


def chat(role: str, content: str | None, number: int | None, **fields: Any) -> dict[str, Any]:
    """A chat message of OpenAI's, with an id where the client keeps ids."""
    return {"role": role, "content": content, **fields, **({} if number is None else {"id": f"m{number}"})}


def ui(number: int, text: str) -> dict[str, Any]:
    return {"id": f"u{number}", "role": "user", "parts": [{"type": "text", "text": text}]}


async def front_end(memory: Memory) -> list[dict[str, Any]]:
    """The thread as a front end has it, after the wire."""
    shown: list[dict[str, Any]] = json.loads(json.dumps(messages_to_ui(await memory.thread(**ALICE).messages())))
    return shown


@pytest.mark.parametrize("ids", ["stable", "fresh"])
async def test_chat_messages_of_openai_are_recognised_with_their_ids_or_without(memory: Memory, ids: Any) -> None:
    def number(n: int) -> int | None:
        return n if ids == "stable" else None

    agent = Agent(model=ScriptedModel(echo), memory=memory)
    seen = [chat("user", "yes", number(1))]
    for reason in ("stop", "repeated"):
        reply = await agent.generate(messages=seen, ids=ids, **ALICE)
        assert (reply.text, reply.reason) == ("yes, after 0", reason)
    assert reply.message is not None
    answer = chat("assistant", reply.text, None) | ({"id": reply.message.id} if ids == "stable" else {})
    seen += [answer, chat("user", "yes", number(2))]
    assert (await agent.generate(messages=seen, ids=ids, **ALICE)).text == "yes, after 2"
    before = await stored(memory)
    assert before == ["user: yes", "assistant: yes, after 0", "user: yes", "assistant: yes, after 2"]
    edited = [*seen[:2], chat("user", "no", number(2))]
    with pytest.raises(Diverged):
        await agent.generate(messages=edited, ids=ids, **ALICE)
    assert await stored(memory) == before
    reply = await agent.generate(messages=edited, ids=ids, on_diverged="fork", fork_id="fork", **ALICE)
    assert (reply.text, reply.thread_id) == ("no, after 2", "fork")
    assert await stored(memory) == before


async def test_a_result_of_the_clients_tool_comes_among_chat_messages_of_openai(memory: Memory) -> None:
    script = ScriptedModel([calls("1", name="locate"), "You are in Rome."])
    agent = Agent(model=script, memory=memory, tools=[client_tool("locate")])
    seen = [chat("user", "Where am I?", None)]
    assert (await agent.generate(messages=seen, ids="fresh", **ALICE)).reason == "client_tools"
    call = {"id": "1", "type": "function", "function": {"name": "locate", "arguments": "{}"}}
    seen.append(chat("assistant", None, None, tool_calls=[call]))
    seen.append(chat("tool", "Rome", None, tool_call_id="1"))
    for reason in ("stop", "repeated"):
        reply = await agent.generate(messages=seen, ids="fresh", **ALICE)
        assert (reply.text, reply.reason) == ("You are in Rome.", reason)
    assert len(await stored(memory)) == 4


async def test_ui_messages_are_recognised_and_their_approvals_count_where_the_application_says_so(
    memory: Memory,
) -> None:
    """A client can say anything; whether its word is enough for a call that needs approval is not its to decide."""

    def refund(euros: int) -> str:
        """Pay money back."""
        return f"{euros} euros are on their way"

    script = ScriptedModel([calls("c1", name="refund", arguments={"euros": 5}), "Done.", "Welcome."])
    agent = Agent(model=script, memory=memory, tools=[tool(refund, needs_approval=True)])
    assert (await agent.generate(messages=[ui(1, "Money back!")], **ALICE)).reason == "approval"
    shown = await front_end(memory)
    shown[1]["parts"][1] |= {"state": "approval-responded", "approval": {"id": "x", "approved": True}}
    assert (await agent.generate(messages=shown, **ALICE)).reason == "approval"
    assert len(await stored(memory)) == 2
    reply = await agent.generate(messages=shown, approvals=approvals_from_ui(shown), **ALICE)
    assert reply.text == "Done."
    shown = [*await front_end(memory), ui(2, "Thanks!")]
    for reason in ("stop", "repeated"):
        reply = await agent.generate(messages=shown if reason == "stop" else tuple(shown), **ALICE)
        assert (reply.text, reply.reason) == ("Welcome.", reason)
    assert await stored(memory) == [
        "user: Money back!",
        "assistant: ['c1']",
        "tool: ['5 euros are on their way']",
        "assistant: Done.",
        "user: Thanks!",
        "assistant: Welcome.",
    ]


async def test_ui_messages_with_new_ids_are_recognised_by_their_place(memory: Memory) -> None:
    agent = Agent(model=ScriptedModel(echo), memory=memory)
    await agent.generate(messages=[ui(1, "yes")], ids="fresh", **ALICE)
    seen = [ui(2, "yes"), {**ui(3, "yes, after 0"), "role": "assistant"}, ui(4, "yes")]
    assert (await agent.generate(messages=seen, ids="fresh", **ALICE)).text == "yes, after 2"
    assert len(await stored(memory)) == 4


@pytest.mark.parametrize(
    ("messages", "ids", "kind", "told"),
    [
        ([chat("user", "Hi", None)], "stable", InvalidInput, "message 0 has none.*ids='fresh'"),
        ([chat("user", "Hi", 1), chat("assistant", "Hi", None)], "stable", InvalidInput, "message 1 has none"),
        ([ui(1, "Hi"), Message.user("Hi")], "stable", InvalidContent, "message 1 is a Message, message 0 a UI message"),
        (
            [ui(1, "Hi"), chat("user", "Hi", 2)],
            "stable",
            InvalidContent,
            "message 1 is a chat message of OpenAI's, mes",
        ),
        ([chat("user", "Hi", 1), 17], "stable", InvalidContent, "message 1 is a int"),
        ([chat("user", "Hi", 1) | {"role": None}], "fresh", InvalidContent, "chat message 0: .* needs a role"),
        ([{"role": "user", "parts": []}], "stable", InvalidContent, "UI message 0: .* needs id"),
        ([{}], "fresh", InvalidContent, "chat message 0: .* needs a role"),
        (chat("user", "Hi", 1), "stable", InvalidContent, "give a list of messages, not one dict"),
        (Message.user("Hi"), "stable", InvalidContent, "give a list of messages, not one Message"),
        ("Hi", "stable", InvalidContent, "give a list of messages, not one str"),
        (17, "stable", InvalidContent, "give a list of messages, not one int"),
        ([], "stable", InvalidInput, "input is empty"),
    ],
)
async def test_what_is_no_conversation_is_refused_by_name(
    memory: Memory, messages: Any, ids: Any, kind: Any, told: str
) -> None:
    with pytest.raises(kind, match=told):
        await Agent(model=ScriptedModel(echo), memory=memory).generate(messages=messages, ids=ids, **ALICE)
    assert await stored(memory) == []
