"""Models of Anthropic, by name: over real HTTP and its client library, what is said comes and goes back whole."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import pytest
from agents import ALICE
from anthropic_server import serving
from model_server import KEY, Cut, ModelServer, Status, saying
from provider_models import add, model_named

from threadkeep import Agent, Memory
from threadkeep.agent import ReasoningDelta, TextDelta
from threadkeep.errors import Action, ModelFailed
from threadkeep.messages import ReasoningPart
from threadkeep.models import ProviderModel

Models: TypeAlias = Callable[[ModelServer], AbstractAsyncContextManager[ProviderModel]]

THINKING: Any = {"max_tokens": 4096, "anthropic_thinking": {"type": "enabled", "budget_tokens": 1024}}


def say(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


@pytest.fixture
def url() -> str:
    """A model is asked in the same way whatever the store: one is enough."""
    return "memory://"


@pytest.fixture
def model_of(monkeypatch: pytest.MonkeyPatch) -> Models:
    """Gives the model of a server, which is closed afterwards."""

    def at(server: ModelServer) -> AbstractAsyncContextManager[ProviderModel]:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        return model_named("anthropic:claude-test", settings=THINKING)

    return at


async def test_thinking_with_signatures_and_several_calls_go_back_to_the_letter(
    memory: Memory, model_of: Models
) -> None:
    first = [
        {"type": "thinking", "thinking": "Two numbers are to be added.", "signature": "EqQB+/c2ln=="},
        {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"},
        {"type": "text", "text": "Let me add."},
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}},
        {"type": "tool_use", "id": "toolu_2", "name": "add", "input": {"a": "x"}},
    ]
    second = [
        {"type": "thinking", "thinking": "One of them is known.", "signature": "c2Vjb25k"},
        {"type": "text", "text": "The first is 3."},
    ]

    with serving(saying({"content": first}, {"content": second}, say("Yes."))) as server:
        async with model_of(server) as model:
            events = [event async for event in Agent(model=model, memory=memory, tools=[add]).stream("Add", **ALICE)]
            thought = [event.text for event in events if isinstance(event, ReasoningDelta)]
            assert len(thought) > 4
            assert "".join(thought) == "Two numbers are to be added.One of them is known."
            assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Let me add.The first is 3."
            step = (await memory.thread(**ALICE).messages())[1]
            reasoning, redacted = (part for part in step.parts if isinstance(part, ReasoningPart))
            assert (reasoning.signature, redacted.text, redacted.signature) == ("EqQB+/c2ln==", "", "ZW5jcnlwdGVk")
            assert step.metadata["model"] == "claude-test-2026"
            assert step.metadata["finish_reason"] == "tool_call"
            # What was read from and written to the provider's cache counts as input.
            assert step.metadata["usage"] == {
                "input_tokens": 17,
                "output_tokens": 7,
                "cache_read_tokens": 4,
                "cache_write_tokens": 2,
            }
            # A later turn, by an agent that has nothing but what was stored.
            reply = await Agent(model=model, memory=memory, tools=[add]).generate("Sure?", **ALICE)
            assert reply.text == "Yes."
    _, after, later = (request["messages"] for request in server.requests)
    assert [chat["role"] for chat in later] == ["user", "assistant", "user", "assistant", "user"]
    assert after == later[:3]
    assert later[1]["content"] == first
    assert later[3]["content"] == second
    results = later[2]["content"]
    assert [(each["type"], each["tool_use_id"], each["is_error"]) for each in results] == [
        ("tool_result", "toolu_1", False), ("tool_result", "toolu_2", True),
    ]  # fmt: skip
    assert results[0]["content"] == [{"type": "text", "text": "3"}]
    assert "Field required" in results[1]["content"][0]["text"]


@pytest.mark.parametrize(
    ("answer", "action", "told"),
    [
        (Status(401, f"invalid x-api-key: {KEY}", error_code="authentication_error"), Action.OPERATE, "HTTP 401: inva"),
        (Status(429, "Slow down", {"retry-after": "0.01"}, "rate_limit_error"), Action.REPEAT, "HTTP 429: Slow down"),
        (Status(529, "Overloaded", error_code="overloaded_error"), Action.REPEAT, "HTTP 529: Overloaded"),
        (
            Status(400, "prompt is too long: 200001 tokens > 200000 maximum", error_code="invalid_request_error"),
            Action.FIX,
            "show the model fewer messages",
        ),
        (Cut(say("Half of this is all"), 4), Action.REPEAT, "repeat the request"),
        (Cut(say("Half of this is all"), 4, clean=True), Action.REPEAT, "repeat the request"),
    ],
    ids=["401", "429", "529", "context", "cut", "cut clean"],
)
async def test_what_it_refuses_or_breaks_off_says_what_to_do_and_no_key(
    memory: Memory, model_of: Models, answer: Any, action: Action, told: str
) -> None:
    with serving(lambda request: answer) as server:
        async with model_of(server) as model:
            with pytest.raises(ModelFailed) as caught:
                await Agent(model=model, memory=memory).generate("Hi", **ALICE)
            assert told in str(caught.value)
            assert caught.value.action is action
            assert KEY not in "".join(traceback.format_exception(caught.value))
            question, *half = await memory.thread(**ALICE).messages()
            assert question.text == "Hi"
            assert all(message.metadata["interrupted"] == "failed" for message in half)
