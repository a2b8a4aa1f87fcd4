"""UI messages of the AI SDK: nothing of them is lost, and a turn is folded and taken apart alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from json_values import JSON, TEXTS

from threadkeep import Agent, Memory, Message
from threadkeep.agent import Approval
from threadkeep.errors import InvalidContent
from threadkeep.formats import approvals_from_ui, from_ui, messages_from_ui, messages_to_ui, to_ui
from threadkeep.messages import ReasoningPart, TextPart, ToolCallPart, ToolResultPart, dump, parse_message
from threadkeep.messages.windows import pending_calls
from threadkeep.models import ScriptedModel, tool

APPROVAL = {"id": "ap1", "approved": True, "reason": "fine"}

PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "Hello", "state": "done"},
    {"type": "text", "text": "", "providerMetadata": {"openai": {"itemId": "m1"}}},
    {"type": "reasoning", "text": "Hm", "state": "streaming", "providerMetadata": {"anthropic": {"signature": "s"}}},
    {"type": "step-start"},
    {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA==", "filename": "a.png"},
    {"type": "file", "mediaType": "application/pdf", "url": "https://example.com/a.pdf"},
    {"type": "source-url", "sourceId": "s1", "url": "https://example.com", "title": "Example"},
    {"type": "source-url", "sourceId": "s2", "url": "https://example.com", "providerMetadata": {"x": {}}},
    {"type": "source-document", "sourceId": "s3", "mediaType": "text/plain", "title": "Doc", "filename": "d.txt"},
    {"type": "data-weather", "id": "w1", "data": {"city": "Oslo", "t": [1, None]}},
    {"type": "data-x", "data": None},
    {"type": "something-new", "field": [1]},
    {"type": "tool-find", "toolCallId": "c1", "state": "input-streaming", "input": {"q": "par"}},
    {"type": "tool-find", "toolCallId": "c1", "state": "input-streaming"},
    {
        "type": "tool-find",
        "toolCallId": "c1",
        "state": "input-available",
        "input": {"q": "x"},
        "providerExecuted": True,
    },
    {"type": "tool-find", "toolCallId": "c1", "state": "input-available", "input": "no object"},
    {"type": "tool-find", "toolCallId": "c1", "state": "approval-requested", "input": {}, "approval": {"id": "ap1"}},
    {"type": "tool-find", "toolCallId": "c1", "state": "approval-responded", "input": {}, "approval": APPROVAL},
    {
        "type": "tool-find",
        "toolCallId": "c1",
        "state": "output-available",
        "input": {"q": "x"},
        "output": {"hits": []},
        "callProviderMetadata": {"openai": {"itemId": "fc"}},
        "approval": APPROVAL,
    },
    {
        "type": "tool-find",
        "toolCallId": "c1",
        "state": "output-available",
        "input": {},
        "output": "half",
        "preliminary": True,
    },
    {"type": "tool-a-b", "toolCallId": "c1", "state": "output-error", "input": {}, "errorText": "no"},
    {"type": "tool-find", "toolCallId": "c1", "state": "output-error", "errorText": "no", "rawInput": "{"},
    {
        "type": "tool-find",
        "toolCallId": "c1",
        "state": "output-denied",
        "input": {},
        "approval": {"id": "ap1", "approved": False, "reason": "too dear"},
    },
    {
        "type": "dynamic-tool",
        "toolName": "mcp find",
        "toolCallId": "c1",
        "state": "output-available",
        "input": None,
        "output": None,
        "title": "Find",
    },
]


def stored(message: Message) -> Message:
    """The message as it comes back from a store."""
    return parse_message(json.loads(json.dumps(dump(message))))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part['type']} {part.get('state', '')}")
def test_each_kind_of_part_comes_back_as_it_was(part: dict[str, Any]) -> None:
    for role in ("system", "user", "assistant"):
        ui = {"id": "m1", "role": role, "parts": [part]}
        assert to_ui(stored(from_ui(ui))) == ui


@given(
    parts=st.lists(
        st.sampled_from(PARTS) | st.builds(lambda t, d: {"type": f"data-{t}", "data": d}, TEXTS, JSON), max_size=6
    ),
    extra=st.dictionaries(TEXTS.filter(lambda key: key not in ("id", "role", "parts")), JSON, max_size=3),
)
def test_any_message_comes_back_as_it_was(parts: list[dict[str, Any]], extra: dict[str, Any]) -> None:
    calls = iter(range(100))
    own = [{**part, "toolCallId": f"c{next(calls)}"} if "toolCallId" in part else part for part in parts]
    ui = {**extra, "id": "m1", "role": "assistant", "parts": own}
    assert to_ui(stored(from_ui(ui))) == ui


def test_tools_become_calls_and_results() -> None:
    done, failed, denied = PARTS[18], PARTS[20], PARTS[22]
    message = from_ui({"id": "m", "role": "assistant", "parts": [done, failed, denied]})
    assert [(part.name, part.arguments) for part in message.tool_calls] == [
        ("find", {"q": "x"}),
        ("a-b", {}),
        ("find", {}),
    ]
    assert [(part.result, part.is_error) for part in message.tool_results] == [
        ({"hits": []}, False),
        ("no", True),
        ("the call was denied: too dear", True),
    ]


def test_only_a_call_that_may_run_is_one() -> None:
    """Half an input, or an output that still changes, is neither run nor taken for a result."""
    user = Message.user("Find")
    half = from_ui({"id": "m", "role": "assistant", "parts": [PARTS[12]]})
    assert pending_calls([user, half]) == []
    ready = from_ui({"id": "m", "role": "assistant", "parts": [PARTS[14]]})
    assert [call.name for call in pending_calls([user, ready])] == ["find"]
    changing = from_ui({"id": "m", "role": "assistant", "parts": [PARTS[19]]})
    assert changing.tool_results == []


def turn() -> list[Message]:
    """A turn as the agent loop stores it."""
    calls = [ToolCallPart(tool_call_id=f"c{n}", name="find", arguments=f'{{"n": {n}}}') for n in (1, 2)]
    return [
        Message.user("Find", id="u1"),
        Message(id="a1", role="assistant", parts=[ReasoningPart(text="Hm"), TextPart(text="I look."), *calls]),
        Message(id="t1", role="tool", parts=[ToolResultPart(tool_call_id="c1", name="find", result=1)]),
        Message(
            id="t2", role="tool", parts=[ToolResultPart(tool_call_id="c2", name="find", result="x", is_error=True)]
        ),
        Message(id="a2", role="assistant", parts=[TextPart(text="One.")]),
        Message.user("Thanks", id="u2"),
        Message.assistant("Any time.", id="a3"),
    ]


def test_a_turn_is_one_message_of_the_front_end_and_comes_back_as_its_steps() -> None:
    shown = messages_to_ui(turn())
    assert [(ui["id"], ui["role"]) for ui in shown] == [
        ("u1", "user"),
        ("a1", "assistant"),
        ("u2", "user"),
        ("a3", "assistant"),
    ]
    assert [part["type"] for part in shown[1]["parts"]] == [
        "step-start", "reasoning", "text", "tool-find", "tool-find", "step-start", "text",
    ]  # fmt: skip
    assert [part["state"] for part in shown[1]["parts"][3:5]] == ["output-available", "output-error"]
    again = messages_from_ui(json.loads(json.dumps(shown)))
    assert [(m.id, m.role, m.text) for m in again] == [(m.id, m.role, m.text) for m in turn()]
    assert again[1].tool_calls[0].arguments == {"n": 1}
    assert [m.tool_results[0].result for m in again[2:4]] == [1, "x"]


def test_ids_that_nobody_gave_along_are_the_same_each_time() -> None:
    shown = messages_to_ui(turn())
    for ui in shown:
        ui.pop("metadata", None)
    first, second = messages_from_ui(shown), messages_from_ui(shown)
    assert first == second
    assert [m.id for m in first] == ["u1", "a1", "a1/0/c1", "a1/0/c2", "a1/1", "u2", "a3"]


async def test_a_client_that_repeats_the_conversation_is_understood() -> None:
    """What a front end was shown, it sends back whole with one message more; only that is new."""
    async with Memory("memory://") as memory:
        thread = memory.thread("alice", "t")
        await thread.append(*turn())
        shown = messages_to_ui(await thread.messages())
        new = {"id": "u3", "role": "user", "parts": [{"type": "text", "text": "More"}]}
        for ids in ("stable", "fresh"):
            receipt = await thread.append_history(messages_from_ui([*shown, new]), ids=ids)
            assert receipt.new == (1 if ids == "stable" else 0)
        assert [m.id for m in await thread.messages()] == [*[m.id for m in turn()], "u3"]


def test_a_result_that_the_client_brought_is_a_message_of_its_own() -> None:
    asked = Message(id="a1", role="assistant", parts=[ToolCallPart(tool_call_id="c1", name="where", arguments={})])
    shown = messages_to_ui([Message.user("Where am I?", id="u1"), asked])
    shown[1]["parts"][1] |= {"state": "output-available", "output": "Oslo"}
    _, again, result = messages_from_ui(shown)
    assert again.id == "a1"
    assert again.tool_results == []
    assert (result.id, result.role, result.tool_results[0].result) == ("a1/0/c1", "tool", "Oslo")


def test_answers_to_approvals_are_read_from_the_last_message() -> None:
    yes = {**PARTS[17], "toolCallId": "c1"}
    no = {**PARTS[17], "toolCallId": "c2", "approval": {"id": "ap2", "approved": False, "reason": "too dear"}}
    waiting = {**PARTS[16], "toolCallId": "c3"}
    asked = {"id": "a1", "role": "assistant", "parts": [yes, no, waiting, *PARTS[:5]]}
    assert approvals_from_ui([asked]) == [Approval("c1", True, "fine"), Approval("c2", False, "too dear")]
    assert approvals_from_ui([asked, {"id": "u2", "role": "user", "parts": []}]) == []
    assert approvals_from_ui([]) == []


async def test_an_agent_goes_on_where_a_front_end_approved() -> None:
    """From the page's first look to the answer: what the agent stored, the front end shows, and it brings back."""

    def refund(euros: int) -> str:
        """Pay money back."""
        return f"{euros} euros are on their way"

    call = ToolCallPart(tool_call_id="c1", name="refund", arguments={"euros": 5})
    script: list[Any] = [Message(role="assistant", parts=[call]), "Done."]
    async with Memory("memory://") as memory:
        agent = Agent(model=ScriptedModel(script), memory=memory, tools=[tool(refund, needs_approval=True)])
        user = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Money back!"}]}
        alice: Any = {"resource_id": "alice", "thread_id": "t"}
        assert (await agent.generate(messages=messages_from_ui([user]), **alice)).reason == "approval"
        shown = messages_to_ui(await memory.thread(**alice).messages())
        shown[1]["parts"][1] |= {"state": "approval-responded", "approval": {"id": "x", "approved": True}}
        shown = json.loads(json.dumps(shown))
        reply = await agent.generate(messages=messages_from_ui(shown), approvals=approvals_from_ui(shown), **alice)
        assert reply.text == "Done."
        stored = await memory.thread(**alice).messages()
        assert [message.role for message in stored] == ["user", "assistant", "tool", "assistant"]
        assert stored[2].tool_results[0].result == "5 euros are on their way"
        (_, folded) = messages_to_ui(stored)
        assert [part["type"] for part in folded["parts"]] == ["step-start", "tool-refund", "step-start", "text"]


@pytest.mark.parametrize(
    ("ui", "told"),
    [
        ("Hi", "a UI message is a mapping"),
        ({"role": "user", "parts": []}, "needs id"),
        ({"id": "m", "role": 3, "parts": []}, "needs role"),
        ({"id": "m", "role": "user"}, "needs parts, a list"),
        ({"id": "m", "role": "user", "content": "Hi"}, "version 4 had content"),
        ({"id": "m", "role": "user", "parts": ["Hi"]}, "an object with a type"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(ui: Any, told: str) -> None:
    with pytest.raises(InvalidContent, match=told):
        from_ui(ui)
    with pytest.raises(InvalidContent, match=f"UI message 1: .*{told}"):
        messages_from_ui([{"id": "m", "role": "user", "parts": []}, ui])


def test_a_role_that_front_ends_do_not_have_is_refused_or_folded() -> None:
    result = Message(id="t1", role="tool", parts=[ToolResultPart(tool_call_id="c9", name="find", result=1)])
    with pytest.raises(InvalidContent, match="use messages_to_ui"):
        to_ui(result)
    (ui,) = messages_to_ui([result])
    assert ui["parts"][1] == {
        "type": "tool-find",
        "state": "output-available",
        "toolCallId": "c9",
        "input": {},
        "output": 1,
    }
