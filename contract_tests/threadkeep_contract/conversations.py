"""Conversations with tool calls, made from short scripts, and what a pair-safe window of one must be."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.messages import Message, parse_message
from threadkeep_contract.harness import Harness


def conversation(script: Sequence[tuple[str, int]]) -> list[Message]:
    """Messages of a script: u(ser), a(ssistant with text and a call), c(all), r(esult), with the number of the call."""
    messages = []
    for number, (kind, call) in enumerate(script):
        text = {"type": "text", "text": str(number)}
        calling = {"type": "tool_call", "tool_call_id": f"call{call}", "name": "f", "arguments": "{}"}
        result = {"type": "tool_result", "tool_call_id": f"call{call}", "result": number}
        role, parts = {
            "u": ("user", [text]),
            "a": ("assistant", [text, calling]),
            "c": ("assistant", [calling]),
            "r": ("tool", [result]),
        }[kind]
        messages.append(parse_message({"id": f"m{number}", "role": role, "parts": parts}))
    return messages


def check_pairs(harness: Harness, everything: list[Message], window: list[Message], shown: list[Message]) -> None:
    """No result is shown without a call before it, nothing that is not in the window, and the order stays."""
    called: set[str] = set()
    for message in shown:
        called |= {part.tool_call_id for part in message.tool_calls}
        for part in message.tool_results:
            harness.require(
                "a result is shown with its call",
                part.tool_call_id in called,
                f"a call {part.tool_call_id} before the result in {message.id}",
                [each.id for each in shown],
            )
    ids = [message.id for message in window]
    harness.expect(
        "a window is shown in order", [one for one in ids if one in {m.id for m in shown}], [m.id for m in shown]
    )
    kept = {message.id for message in shown}
    plain = [message.id for message in window if not message.tool_calls and not message.tool_results]
    harness.require("what has no result is shown", kept >= set(plain), plain, sorted(kept))
