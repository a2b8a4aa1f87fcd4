"""OpenTelemetry spans of agent runs, model calls and tool calls, by the conventions for generative AI.

Only the API package is used, and where it is not installed nothing is recorded: an application that installs the SDK
and an exporter sees the spans. The names are those of OpenTelemetry's semantic conventions for generative AI
(github.com/open-telemetry/semantic-conventions-genai, spans invoke_agent, chat and execute_tool). Stores are not
traced here, since their drivers have instrumentations of their own.

What was said is recorded only where the environment asks for it: OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
is "true", "span_only" or "span_and_event".
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from threadkeep.messages.model import FilePart, Message, Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from threadkeep.models.model import ModelError, ModelRequest
from threadkeep.models.providers import provider_of
from threadkeep.models.tools import Tool

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

T = TypeVar("T")

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_USAGE: Final = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}
"""Counts in a message's `metadata["usage"]` -> their attributes."""


class ToolSpan:
    """The span of a tool's call; the tool runs inside it, so that spans of its own are below."""

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def answered(self, result: ToolResultPart) -> None:
        """Tell the result."""
        if self._span is None or not self._span.is_recording():
            return
        if result.is_error:
            _fail(self._span, "tool_error")
        if content_wanted():
            self._span.set_attribute("gen_ai.tool.call.result", _text(result.result))


class ChatSpan:
    """The span of a call of the model."""

    def __init__(self, span: Span | None, context: Context | None, totals: dict[str, int]) -> None:
        self._span = span
        self._context = context
        self._totals = totals
        self._started = time.perf_counter()
        self._first = True

    async def each(self, items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """The items as they come, each waited for inside the span, so that spans of an HTTP client are below it."""
        if self._span is None or not self._span.get_span_context().is_valid:
            async for item in items:
                yield item
            return
        from opentelemetry.context import attach, detach

        while True:
            # Not held across a yield: between the items the caller's own span is the current one.
            token = attach(self._context) if self._context is not None else None
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            finally:
                if token is not None:
                    detach(token)
            if self._first:
                self._first = False
                self._span.set_attribute("gen_ai.response.time_to_first_chunk", time.perf_counter() - self._started)
            yield item

    def answered(self, message: Message) -> None:
        """Tell the whole message."""
        usage = message.metadata.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        for name, count in counts.items():
            if name in _USAGE and isinstance(count, int):
                self._totals[name] = self._totals.get(name, 0) + count
                if self._span is not None:
                    self._span.set_attribute(_USAGE[name], count)
        if self._span is None or not self._span.is_recording():
            return
        kept = (message.provider or {}).get("pydantic_ai")
        kept = kept if isinstance(kept, dict) else {}
        reason = message.metadata.get("finish_reason")
        for name, value in {
            "gen_ai.response.model": message.metadata.get("model"),
            "gen_ai.response.id": kept.get("provider_response_id"),
            "gen_ai.response.finish_reasons": [reason] if isinstance(reason, str) else None,
        }.items():
            if value is not None:
                self._span.set_attribute(name, value)
        if content_wanted():
            self._span.set_attribute("gen_ai.output.messages", _json([_message(message)]))


class RunSpan:
    """The span of a run, from which those of its model and tool calls are made."""

    def __init__(
        self,
        span: Span | None = None,
        context: Context | None = None,
        shared: dict[str, Any] | None = None,
        *,
        remote: bool = False,
    ) -> None:
        self._span = span
        self._context = context
        self._shared = shared or {}
        self._remote = remote
        self._totals: dict[str, int] = {}

    @contextmanager
    def chat(self, request: ModelRequest) -> Iterator[ChatSpan]:
        """Around one call of the model."""
        tracer = _tracer()
        if tracer is None or self._span is None:
            yield ChatSpan(None, None, self._totals)
            return
        from opentelemetry.trace import SpanKind, set_span_in_context

        name = self._shared.get("gen_ai.request.model")
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.stream": True, **self._shared}
        span = tracer.start_span(
            f"chat {name}" if name else "chat",
            context=self._context,
            kind=SpanKind.CLIENT if self._remote else SpanKind.INTERNAL,
            attributes=attributes,
        )
        if span.is_recording() and content_wanted():
            if request.instructions:
                instructions = [{"type": "text", "content": request.instructions}]
                span.set_attribute("gen_ai.system_instructions", _json(instructions))
            span.set_attribute("gen_ai.input.messages", _json([_message(message) for message in request.messages]))
            if request.tools:
                span.set_attribute("gen_ai.tool.definitions", _json([_definition(tool) for tool in request.tools]))
        with _ending(span):
            yield ChatSpan(span, set_span_in_context(span, self._context), self._totals)

    @contextmanager
    def tool(self, call: ToolCallPart, tool: Tool | None = None) -> Iterator[ToolSpan]:
        """Around one run of a tool; nothing may be yielded inside."""
        tracer = _tracer()
        if tracer is None or self._span is None:
            yield ToolSpan(None)
            return
        from opentelemetry.trace import use_span

        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.call.id": call.tool_call_id,
            "gen_ai.tool.type": "function",
        }
        for key in ("gen_ai.agent.name", "gen_ai.conversation.id"):
            if key in self._shared:
                attributes[key] = self._shared[key]
        if tool is not None and tool.description:
            attributes["gen_ai.tool.description"] = tool.description
        if content_wanted():
            attributes["gen_ai.tool.call.arguments"] = _text(call.arguments)
        span = tracer.start_span(f"execute_tool {call.name}", context=self._context, attributes=attributes)
        with (
            _ending(span),
            use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False),
        ):
            yield ToolSpan(span)

    def forked(self, thread_id: str) -> None:
        """Tell that the run goes on in another thread."""
        self._shared["gen_ai.conversation.id"] = thread_id
        if self._span is not None:
            self._span.set_attribute("gen_ai.conversation.id", thread_id)

    def finished(self, reason: str) -> None:
        """Tell why the run ended, and what all its model calls took."""
        if self._span is None or not self._span.is_recording():
            return
        self._span.set_attribute("threadkeep.finish_reason", reason)
        for name, count in self._totals.items():
            self._span.set_attribute(_USAGE[name], count)


@contextmanager
def agent_run(agent: str, model: object, *, resource_id: str, thread_id: str) -> Iterator[RunSpan]:
    """Around one run of the agent of this name. Things may be yielded inside: the span is not made the current one."""
    tracer = _tracer()
    if tracer is None:
        yield RunSpan()
        return
    from opentelemetry.trace import set_span_in_context

    provider = getattr(model, "provider", None)
    shared = {
        "gen_ai.provider.name": _provider_name(provider),
        "gen_ai.agent.name": agent,
        "gen_ai.conversation.id": thread_id,
        # Thread ids are unique in their resource only.
        "user.id": resource_id,
    }
    if isinstance(name := getattr(model, "name", None), str):
        shared["gen_ai.request.model"] = name
    attributes = {"gen_ai.operation.name": "invoke_agent", **shared}
    span = tracer.start_span(f"invoke_agent {agent}", attributes=attributes)
    with _ending(span):
        yield RunSpan(span, set_span_in_context(span), shared, remote=provider is not None)


def _provider_name(provider: object) -> str:
    if not provider:
        # A model that runs in this process is nobody else's.
        return "threadkeep"
    name = str(provider)
    return provider_of(name).span_name or name


def content_wanted() -> bool:
    """Whether the environment asks for what was said to be recorded."""
    return os.environ.get(CONTENT_VARIABLE, "").lower() in ("true", "span_only", "span_and_event")


def _tracer() -> Tracer | None:
    trace = _api()
    return None if trace is None else trace.get_tracer("threadkeep")


@cache
def _api() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace


@contextmanager
def _ending(span: Span) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Not its text, which may repeat what was said.
        known = error.__cause__ if isinstance(error, ModelError) and error.__cause__ is not None else error
        _fail(span, type(known).__qualname__)
        raise
    finally:
        span.end()


def _fail(span: Span, kind: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "parts": list(_parts(message.parts))}
    if message.name is not None:
        told["name"] = message.name
    if isinstance(reason := message.metadata.get("finish_reason"), str):
        told["finish_reason"] = reason
    return told


def _parts(parts: Sequence[Part]) -> Iterable[dict[str, Any]]:
    for part in parts:
        match part:
            case TextPart():
                yield {"type": "text", "content": part.text}
            case ReasoningPart():
                yield {"type": "reasoning", "content": part.text}
            case ToolCallPart():
                yield {"type": "tool_call", "id": part.tool_call_id, "name": part.name, "arguments": part.arguments}
            case ToolResultPart():
                yield {"type": "tool_call_response", "id": part.tool_call_id, "response": part.result}
            case FilePart():
                kind = {"type": "uri", "uri": part.url} if part.url else {"type": "blob", "content": part.data}
                yield {**kind, "mime_type": part.media_type, "modality": (part.media_type or "").partition("/")[0]}
            case _:
                yield {"type": part.type}


def _definition(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else _json(value)
