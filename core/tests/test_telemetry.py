"""Spans of an agent's run, by the conventions for generative AI; what was said is told only where it is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agents import ALICE
from model_server import KEY
from openai_server import serving
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from provider_models import model_named

from threadkeep import Agent, Memory, Message
from threadkeep.errors import ModelFailed
from threadkeep.messages import ToolCallPart
from threadkeep.models import ScriptedModel
from threadkeep.telemetry import CONTENT_VARIABLE

SECRET = "my card is 4711"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, ReadableSpan]]]:
    """The spans that have ended, by name; of several with one name, the last."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.delenv(CONTENT_VARIABLE, raising=False)

    def ended() -> dict[str, ReadableSpan]:
        return {span.name: span for span in exporter.get_finished_spans()}

    yield ended
    provider.shutdown()


@pytest.fixture
def url() -> str:
    """What is told is the same on every store: one is enough."""
    return "memory://"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def look(order: int) -> str:
    """Where an order is."""
    with trace.get_tracer("a tool of the application's").start_as_current_span("inside the tool"):
        return f"{SECRET} {order}"


CALL = ToolCallPart(tool_call_id="c1", name="look", arguments={"order": 17})
SCRIPT: list[Any] = [Message(role="assistant", parts=[CALL]), f"I know that {SECRET}"]


async def test_a_run_is_a_tree_of_spans_and_says_whose_it_is(
    memory: Memory, spans: Callable[[], dict[str, ReadableSpan]]
) -> None:
    agent = Agent(name="support", model=ScriptedModel(SCRIPT), memory=memory, tools=[look])
    with trace.get_tracer("the application").start_as_current_span("request"):
        async for _ in agent.stream(SECRET, **ALICE):
            # Between events the application's own span is the current one.
            assert getattr(trace.get_current_span(), "name", None) == "request"
    found = spans()
    assert set(found) == {"request", "invoke_agent support", "chat", "execute_tool look", "inside the tool"}

    def above(name: str) -> int | None:
        parent = found[name].parent
        return None if parent is None else parent.span_id

    def own(name: str) -> int:
        context = found[name].context
        assert context is not None
        number: int = context.span_id
        return number

    assert above("invoke_agent support") == own("request")
    assert above("chat") == own("invoke_agent support")
    assert above("execute_tool look") == own("invoke_agent support")
    assert above("inside the tool") == own("execute_tool look")
    run, tool = attributes(found["invoke_agent support"]), attributes(found["execute_tool look"])
    assert run["gen_ai.operation.name"] == "invoke_agent"
    assert run["gen_ai.agent.name"] == "support"
    assert run["gen_ai.conversation.id"] == "support"
    assert run["user.id"] == "user_alice"
    assert run["threadkeep.finish_reason"] == "stop"
    assert tool["gen_ai.tool.name"] == "look"
    assert tool["gen_ai.tool.call.id"] == "c1"
    assert tool["gen_ai.tool.type"] == "function"
    assert tool["gen_ai.tool.description"] == "Where an order is."
    assert found["chat"].kind is SpanKind.INTERNAL
    told = json.dumps([attributes(span) for span in found.values()], default=str)
    assert SECRET not in told


async def test_content_is_told_where_the_environment_asks_for_it(
    memory: Memory, spans: Callable[[], dict[str, ReadableSpan]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONTENT_VARIABLE, "true")

    agent = Agent(name="support", model=ScriptedModel(SCRIPT), memory=memory, tools=[look], instructions="Be brief.")
    await agent.generate(SECRET, **ALICE)
    found = spans()
    chat, tool = attributes(found["chat"]), attributes(found["execute_tool look"])
    assert json.loads(chat["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    user, asked, answered = json.loads(chat["gen_ai.input.messages"])
    assert user == {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
    assert asked["parts"] == [{"type": "tool_call", "id": "c1", "name": "look", "arguments": {"order": 17}}]
    assert answered["parts"] == [{"type": "tool_call_response", "id": "c1", "response": f"{SECRET} 17"}]
    (said,) = json.loads(chat["gen_ai.output.messages"])
    assert said["parts"] == [{"type": "text", "content": f"I know that {SECRET}"}]
    assert [each["name"] for each in json.loads(chat["gen_ai.tool.definitions"])] == ["look"]
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"order": 17}
    assert tool["gen_ai.tool.call.result"] == f"{SECRET} 17"


async def test_a_providers_call_tells_model_usage_and_time(
    memory: Memory, spans: Callable[[], dict[str, ReadableSpan]]
) -> None:
    with serving(lambda request: {"role": "assistant", "content": "Yes"}) as server:
        async with model_named("gpt-test", base_url=server.url, api_key=KEY) as model:
            await Agent(name="support", model=model, memory=memory).generate("Hi", **ALICE)
    chat = spans()["chat gpt-test"]
    told = attributes(chat)
    assert chat.kind is SpanKind.CLIENT
    assert told["gen_ai.provider.name"] == "openai-compatible"
    assert told["gen_ai.request.model"] == "gpt-test"
    assert told["gen_ai.request.stream"] is True
    assert told["gen_ai.response.model"] == "gpt-test-2026"
    assert told["gen_ai.response.id"] == "chatcmpl-1"
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert told["gen_ai.usage.input_tokens"] == 11
    assert told["gen_ai.usage.output_tokens"] == 7
    assert told["gen_ai.usage.cache_read.input_tokens"] == 4
    assert told["gen_ai.usage.reasoning.output_tokens"] == 3
    assert told["gen_ai.response.time_to_first_chunk"] > 0
    run = attributes(spans()["invoke_agent support"])
    assert (run["gen_ai.usage.input_tokens"], run["gen_ai.usage.output_tokens"]) == (11, 7)


async def test_what_fails_is_told_by_its_kind_and_not_by_its_words(
    memory: Memory, spans: Callable[[], dict[str, ReadableSpan]]
) -> None:
    def fails() -> str:
        """Fails."""
        raise RuntimeError(SECRET)

    call = ToolCallPart(tool_call_id="c1", name="fails", arguments={})
    script: list[Any] = [Message(role="assistant", parts=[call]), OSError(SECRET)]
    agent = Agent(name="support", model=ScriptedModel(script), memory=memory, tools=[fails])
    with pytest.raises(ModelFailed):
        await agent.generate("Hi", **ALICE)
    found = spans()
    kinds = {name: attributes(span).get("error.type") for name, span in found.items()}
    assert kinds == {"invoke_agent support": "ModelFailed", "chat": "OSError", "execute_tool fails": "tool_error"}
    for span in found.values():
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert span.events == ()


async def test_a_run_that_is_left_early_ends_its_spans(
    memory: Memory, spans: Callable[[], dict[str, ReadableSpan]]
) -> None:
    agent = Agent(name="support", model=ScriptedModel(["One two three"]), memory=memory)
    events = agent.stream("Hi", **ALICE)
    async for event in events:
        if getattr(event, "text", None):
            break
    await events.aclose()
    found = spans()
    assert set(found) == {"invoke_agent support", "chat"}
    assert all(span.status.status_code is StatusCode.UNSET for span in found.values())


def test_without_the_api_package_an_agent_runs_and_nothing_is_recorded() -> None:
    program = """
        import sys
        sys.modules["opentelemetry"] = None
        import asyncio
        from threadkeep import Agent, Memory
        from threadkeep.models import ScriptedModel
        async def main():
            async with Memory("memory://") as memory:
                agent = Agent(model=ScriptedModel(["Hello"]), memory=memory)
                print((await agent.generate("Hi", resource_id="a", thread_id="t")).text)
        asyncio.run(main())
    """
    command = [sys.executable, "-W", "error", "-c", "if True:" + program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "Hello"
