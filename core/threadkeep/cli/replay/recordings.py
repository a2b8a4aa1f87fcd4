"""Recorded conversations: read from a file, cut into turns, and checked before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from threadkeep.errors import ThreadkeepError
from threadkeep.formats import from_openai
from threadkeep.messages import Message, ToolCallPart

_REPLIES: Final = ("assistant", "tool", "function")


@dataclass(frozen=True, slots=True)
class Turn:
    """A request of the client and what was said in answer: `messages[start:reply]` and `messages[reply:end]`."""

    start: int
    reply: int
    end: int
    steps: int
    """How often the model spoke."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One conversation of the file; `messages` are OpenAI chat messages."""

    line: int
    resource_id: str
    thread_id: str
    messages: list[dict[str, Any]]
    turns: list[Turn]


class BadRecording(click.ClickException):
    """The file holds something that is no conversation, or one that no agent loop can have had."""


def read_recordings(path: Path) -> list[Recording]:
    """The conversations of a file of JSON lines {resource_id, thread_id, messages}; other keys are not looked at.

    Raises BadRecording naming the line, and the message where one is at fault.
    """
    recordings: list[Recording] = []
    lines: dict[tuple[str, str], int] = {}
    for number, value in _lines(path):
        try:
            recording = _recording(number, value)
            first = lines.setdefault((recording.resource_id, recording.thread_id), number)
            if first != number:
                raise BadRecording(
                    f"resource_id and thread_id are those of line {first}; give each conversation its own"
                )
        except BadRecording as error:
            raise BadRecording(f"{path}, line {number}: {error.message}") from error
        recordings.append(recording)
    if not recordings:
        raise BadRecording(f"{path} holds no conversation; write one JSON object a line")
    return recordings


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield number, json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRecording(f"{path} is not a file of JSON lines in UTF-8: {error}") from error
    except OSError as error:
        raise BadRecording(f"cannot read {path}: {error.strerror}") from error


def _recording(line: int, value: Any) -> Recording:
    match value:
        case {"resource_id": str(resource_id), "thread_id": str(thread_id), "messages": [_, *_] as messages}:
            pass
        case _:
            raise BadRecording(
                "a conversation is an object with resource_id, thread_id (strings) and messages (a list)"
            )
    parsed = []
    for index, chat in enumerate(messages):
        try:
            parsed.append(from_openai(chat))
        except ThreadkeepError as error:
            raise BadRecording(f"message {index}: {error}") from error
    turns = list(_turns(parsed))
    for turn in turns:
        _check_reply(parsed, messages, turn)
    return Recording(line, resource_id, thread_id, messages, turns)


def _turns(messages: list[Message]) -> Iterator[Turn]:
    """A request ends with a user's message, or where the reply begins."""
    if messages[0].role in _REPLIES:
        raise BadRecording(f"message 0 is of role {messages[0].role!r}; begin with what the user or the system says")
    start = 0
    while start < len(messages):
        reply = start + 1
        while reply < len(messages) and messages[reply - 1].role != "user" and messages[reply].role not in _REPLIES:
            reply += 1
        end = reply
        while end < len(messages) and messages[end].role in _REPLIES:
            end += 1
        steps = len([message for message in messages[reply:end] if message.role == "assistant"])
        yield Turn(start, reply, end, steps)
        start = end


def _check_reply(messages: list[Message], chats: list[dict[str, Any]], turn: Turn) -> None:
    """Refuse what the agent loop cannot say again: it answers every call, in order, and stops when none is left."""
    open_calls: list[ToolCallPart] = []
    for index in range(turn.reply, turn.end):
        message = messages[index]
        place = f"message {index}"
        if message.role == "function" or "function_call" in chats[index]:
            raise BadRecording(f"{place} uses the older function_call; write it as tool_calls and a tool message")
        if message.role == "assistant":
            if open_calls:
                raise BadRecording(f"{place} comes before the result of call {open_calls[0].tool_call_id!r}")
            if index > turn.reply and messages[index - 1].role == "assistant":
                raise BadRecording(f"{place} follows an answer without tool calls; nobody has spoken in between")
            open_calls = message.tool_calls
            for call in open_calls:
                _check_arguments(place, call)
            continue
        result = message.tool_results[0] if message.tool_results else None
        if result is None or not open_calls or result.tool_call_id != open_calls[0].tool_call_id:
            due = f"that of {open_calls[0].tool_call_id!r} is due" if open_calls else "no call is open"
            raise BadRecording(f"{place} is not the result that is due: {due}; put results in the order of their calls")
        if result.name not in (None, open_calls[0].name):
            raise BadRecording(f"{place} is a result of {result.name!r}, and {open_calls[0].name!r} was called")
        if not isinstance(result.result, str):
            raise BadRecording(f"{place}: the content of a tool message must be a string here")
        open_calls = open_calls[1:]
    if open_calls:
        raise BadRecording(f"message {turn.end - 1}: the result of call {open_calls[0].tool_call_id!r} is missing")


def _check_arguments(place: str, call: ToolCallPart) -> None:
    arguments: object = call.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, dict):
        raise BadRecording(f"{place}: the arguments of call {call.tool_call_id!r} are not the JSON text of an object")
