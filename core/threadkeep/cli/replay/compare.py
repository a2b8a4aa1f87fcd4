"""What a store holds beside what a file says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from threadkeep.cli.replay.recordings import Recording
from threadkeep.errors import InvalidContent
from threadkeep.formats import to_openai
from threadkeep.handles import Memory
from threadkeep.messages import Message, parse_message
from threadkeep.port import sorted_json

_SHOWN = 120
"""Characters of a value that differs."""


def difference(message: Message, chat: dict[str, Any] | None) -> str | None:
    """How a stored message differs from the recorded chat message (None: there is none); None where it does not.

    The agent names the tool in each of its results, so a tool message that was recorded without a name is compared
    without one.
    """
    if chat is None:
        return f"the store has a message of role {message.role!r} more"
    try:
        stored = to_openai(message)
    except InvalidContent as error:
        return f"what is stored is not one chat message: {error}"
    if chat.get("role") == "tool" and "name" not in chat:
        stored.pop("name", None)
    for key in {**chat, **stored}:
        if (key in stored) != (key in chat):
            return f"{key!r} is in the {'store' if key in stored else 'file'} only"
        if sorted_json(stored[key]) != sorted_json(chat[key]):
            return f"{key!r} is {_shown(stored[key])} in the store and {_shown(chat[key])} in the file"
    return None


def _shown(value: Any) -> str:
    text = sorted_json(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


async def differences(memory: Memory, recordings: Sequence[Recording]) -> tuple[list[str], int]:
    """Export every resource of the recordings and compare: the differences, one for a conversation at most, in the
    order of the file, and the number of these resources' threads that the file does not have."""
    stored: dict[tuple[str, str], list[Message]] = {}
    for resource_id in dict.fromkeys(recording.resource_id for recording in recordings):
        async for line in memory.resource(resource_id, read_only=True).export():
            if line["kind"] == "thread":
                stored[resource_id, line["thread_id"]] = []
            elif line["kind"] == "message":
                stored[resource_id, line["thread_id"]].append(parse_message(line["message"]))
    found = []
    for recording in recordings:
        messages = stored.pop((recording.resource_id, recording.thread_id), [])
        if fault := _first_fault(messages, recording.messages):
            found.append(f"line {recording.line}, thread {recording.thread_id!r}, {fault}")
    return found, len(stored)


def _first_fault(messages: Sequence[Message], chats: Sequence[dict[str, Any]]) -> str | None:
    for index, message in enumerate(messages):
        if fault := difference(message, chats[index] if index < len(chats) else None):
            return f"message {index}: {fault}"
    if len(messages) < len(chats):
        return f"message {len(messages)}: it is missing, the store has {len(messages)} of {len(chats)} messages"
    return None
