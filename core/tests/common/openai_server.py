"""A server on the loopback that speaks OpenAI's protocol, Chat Completions and Responses, streamed and whole.

What it says is the test's to decide: a function from the request's JSON to an answer. Nothing else is left out: the
real client library talks to it over real HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from email.message import Message as Headers
from typing import Any

from model_server import Answer, ModelServer, Status, pieces, serving_with

from threadkeep.formats import messages_from_openai, to_openai
from threadkeep.messages import Message
from threadkeep.models import ModelRequest

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def serving(answer: Callable[[dict[str, Any]], Answer]) -> AbstractContextManager[ModelServer]:
    """A running server that gives these answers: chat messages of the assistant; for Responses, `output` items."""
    return serving_with(OpenAIWire(), answer)


def replay(chats: Sequence[Mapping[str, Any]], request: Mapping[str, Any]) -> Answer:
    """What was recorded: a request whose messages are the first of the recording is answered with the next one.

    A request that is not the recording's beginning, to the letter, is refused, naming the message that differs.
    """
    given = [plain(chat) for chat in request["messages"]]
    told = [(index, plain(chat)) for index, chat in enumerate(chats)]
    # An assistant that said nothing at all is not sent to a provider.
    told = [(index, chat) for index, chat in told if chat != {"role": "assistant"}]
    for place, chat in enumerate(given):
        if place >= len(told) or chat != told[place][1]:
            return Status(400, f"message {place} is {chat}, recorded is {told[place : place + 1]}")
    index = told[len(given) - 1][0] + 1
    return dict(chats[index]) if index < len(chats) else Status(400, "the recording ends here")


def speaking(script: Callable[[ModelRequest], str | Message]) -> Callable[[dict[str, Any]], Answer]:
    """What a script says that is written for a ScriptedModel: it sees the request as it came over the wire."""

    def answer(request: dict[str, Any]) -> Answer:
        chats = list(request["messages"])
        instructions = chats.pop(0)["content"] if chats and chats[0]["role"] == "system" else None
        said = script(ModelRequest(instructions, messages_from_openai(chats), ()))
        return to_openai(Message.assistant(said) if isinstance(said, str) else said)

    return answer


def plain(chat: Mapping[str, Any]) -> dict[str, Any]:
    """What of a chat message reaches a provider: no names of tools in results, nothing that is null.

    An assistant's empty content is as good as none, and arguments are compared as the JSON that they mean. Ids of
    calls are left out, since one that repeats in a conversation is sent as another.
    """
    kept = {key: value for key, value in chat.items() if value is not None and key not in ("name", "tool_call_id")}
    if kept["role"] == "assistant" and not kept.get("content"):
        kept.pop("content", None)
    if "tool_calls" in kept:
        called = [call["function"] for call in kept["tool_calls"]]
        kept["tool_calls"] = [(each["name"], json.loads(each["arguments"] or "{}")) for each in called]
    return kept


def chat_events(message: Mapping[str, Any], model: str, usage: bool) -> list[dict[str, Any]]:
    """The chunks of a streamed chat completion."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return _head(model, "chat.completion.chunk") | {
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]
        }

    events = [chunk({"role": "assistant", "content": ""})]
    for piece in pieces(message.get("reasoning_content") or ""):
        events.append(chunk({"reasoning_content": piece}))
    for piece in pieces(message.get("content") or ""):
        events.append(chunk({"content": piece}))
    calls = message.get("tool_calls") or []
    for index, call in enumerate(calls):
        named = {"index": index, "id": call["id"], "type": "function"}
        events.append(
            chunk({"tool_calls": [{**named, "function": {"name": call["function"]["name"], "arguments": ""}}]})
        )
        for piece in pieces(call["function"]["arguments"]):
            events.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    events.append(chunk({}, "tool_calls" if calls else "stop"))
    if usage:
        events.append(_head(model, "chat.completion.chunk") | {"choices": [], "usage": USAGE})
    return events


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": f"{model}-2026"}


def response_events(output: Sequence[Mapping[str, Any]], model: str) -> list[dict[str, Any]]:
    """The events of a streamed response: reasoning, messages and function calls, item by item."""
    base = {"id": "resp_1", "object": "response", "created_at": 1_700_000_000, "model": f"{model}-2026"}
    base |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": base | {"status": "in_progress", "output": []}}
    ]
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item["id"]}
        started = {**item, "status": "in_progress"} | ({"content": []} if item["type"] == "message" else {})
        started |= {"summary": []} if item["type"] == "reasoning" else {}
        started |= {"arguments": ""} if item["type"] == "function_call" else {}
        events.append({"type": "response.output_item.added", "output_index": index, "item": started})
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            events.append({"type": "response.content_part.added", **place, "content_index": 0, "part": part})
            for piece in pieces(item["content"][0]["text"]):
                events.append(
                    {"type": "response.output_text.delta", **place, "content_index": 0, "delta": piece, "logprobs": []}
                )
        elif item["type"] == "reasoning":
            for number, summary in enumerate(item["summary"]):
                spot = {**place, "summary_index": number}
                empty = {"type": "summary_text", "text": ""}
                events.append({"type": "response.reasoning_summary_part.added", **spot, "part": empty})
                for piece in pieces(summary["text"]):
                    events.append({"type": "response.reasoning_summary_text.delta", **spot, "delta": piece})
        else:
            for piece in pieces(item["arguments"]):
                events.append({"type": "response.function_call_arguments.delta", **place, "delta": piece})
        events.append(
            {"type": "response.output_item.done", "output_index": index, "item": {**item, "status": "completed"}}
        )
    usage = {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 3},
    }
    whole = base | {"status": "completed", "output": list(output), "usage": usage}
    events.append({"type": "response.completed", "response": whole})
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


class OpenAIWire:
    """OpenAI's protocol."""

    root = "/v1"

    def key(self, headers: Headers[str, str]) -> str:
        """See `Wire.key`."""
        return headers.get("Authorization", "").removeprefix("Bearer ")

    def error(self, status: Status) -> dict[str, Any]:
        """See `Wire.error`."""
        return {"error": {"message": status.message, "type": "error", "param": None, "code": status.error_code}}

    def events(self, path: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
        """See `Wire.events`."""
        if path.endswith("/responses"):
            events = response_events(answer["output"], request["model"])
            return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
        usage = bool((request.get("stream_options") or {}).get("include_usage"))
        lines = [f"data: {json.dumps(event)}\n\n" for event in chat_events(answer, request["model"], usage)]
        return [*lines, "data: [DONE]\n\n"]

    def whole(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
        """See `Wire.whole`."""
        choice = {"index": 0, "message": answer, "finish_reason": "stop"}
        return _head(request["model"], "chat.completion") | {"choices": [choice], "usage": USAGE}
