"""A server on the loopback that speaks Anthropic's Messages protocol, streamed and whole; see `model_server`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from email.message import Message as Headers
from typing import Any

from model_server import Answer, ModelServer, Status, pieces, serving_with

USAGE = {
    "input_tokens": 11,
    "output_tokens": 7,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 4,
}


def serving(answer: Callable[[dict[str, Any]], Answer]) -> AbstractContextManager[ModelServer]:
    """A running server that gives these answers: blocks of content under that key."""
    return serving_with(AnthropicWire(), answer)


def block_events(index: int, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of one block of content."""
    empty: dict[str, Any] = dict(block)
    deltas: list[dict[str, Any]] = []
    match block["type"]:
        case "text":
            empty |= {"text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        case "thinking":
            empty |= {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use":
            empty |= {"input": {}}
            text = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces(text))]
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


class AnthropicWire:
    """Anthropic's protocol."""

    root = ""

    def key(self, headers: Headers[str, str]) -> str:
        """See `Wire.key`."""
        # Clients before 2.0 sent the one, later ones send the other.
        return headers.get("X-Api-Key") or headers.get("Authorization", "").removeprefix("Bearer ")

    def error(self, status: Status) -> dict[str, Any]:
        """See `Wire.error`."""
        return {"type": "error", "error": {"type": status.error_code or "api_error", "message": status.message}}

    def events(self, path: str, request: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
        """See `Wire.events`."""
        whole = self.whole(request, answer)
        begun = {**whole, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
        events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
        blocks: Sequence[Mapping[str, Any]] = answer["content"]
        for index, block in enumerate(blocks):
            events.extend(block_events(index, block))
        reason = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        events.append({"type": "message_delta", "delta": reason, "usage": {"output_tokens": USAGE["output_tokens"]}})
        events.append({"type": "message_stop"})
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]

    def whole(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
        """See `Wire.whole`."""
        calls = any(block["type"] == "tool_use" for block in answer["content"])
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": f"{request['model']}-2026",
            "content": answer["content"],
            "stop_reason": "tool_use" if calls else "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }
