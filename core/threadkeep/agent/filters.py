"""Processors that come with threadkeep: one that hides what a pattern finds, one that leaves out old tool calls."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from threadkeep.errors import InvalidInput
from threadkeep.messages.model import Message, Part, ReasoningPart, ToolCallPart, ToolResultPart
from threadkeep.port.checks import MAX_COUNT, is_int

_KEPT: Final = frozenset({"type", "tool_call_id", "signature"})
"""Fields of parts that say what belongs together, or that a provider checks."""


class Redact:
    """Replaces what regular expressions find, in the texts and numbers of a message's parts, metadata and other fields.

    Before the commit, so that it is never stored; with `stored=False` only before the model, so that it is stored and
    never shown. Keys of JSON objects are looked at as values are; ids and roles are not. A match that is spread over
    two parts is not found. Reasoning that changes loses its signature, which is no longer that of its text.
    Raises InvalidInput for a pattern that is none.
    """

    def __init__(self, *patterns: str | re.Pattern[str], replacement: str = "[redacted]", stored: bool = True) -> None:
        if not patterns:
            raise InvalidInput("give at least one regular expression to redact")
        try:
            self._patterns = [re.compile(pattern) for pattern in patterns]
        except (re.error, TypeError) as error:
            raise InvalidInput(f"a pattern to redact is a regular expression: {error}") from error
        self._replacement = replacement
        self._stored = stored

    def before_model(self, messages: Sequence[Message]) -> list[Message]:
        """Every message, redacted: what was stored before this processor was there is hidden too."""
        return [self._redacted(message) for message in messages]

    def before_commit(self, messages: Sequence[Message]) -> list[Message] | None:
        """Every message, redacted, or None where it is to be stored as it is."""
        return [self._redacted(message) for message in messages] if self._stored else None

    def _redacted(self, message: Message) -> Message:
        changed: dict[str, Any] = {"parts": [self._part(part) for part in message.parts]}
        changed.update({name: self._value(getattr(message, name)) for name in ("name", "metadata", "provider")})
        changed.update(self._value(message.__pydantic_extra__ or {}))
        return message.model_copy(update=changed)

    def _part(self, part: Part) -> Part:
        fields = {**dict(part), **(part.__pydantic_extra__ or {})}
        changed = {name: value if name in _KEPT else self._value(value) for name, value in fields.items()}
        if isinstance(part, ToolCallPart):
            changed.update(name=part.name, arguments=self._arguments(part.arguments))
        elif isinstance(part, ToolResultPart):
            changed["name"] = part.name
        elif isinstance(part, ReasoningPart) and changed["text"] != part.text:
            changed["signature"] = None
        return part.model_copy(update=changed)

    def _arguments(self, arguments: str | dict[str, Any]) -> Any:
        if isinstance(arguments, dict):
            return self._value(arguments)
        try:
            value = json.loads(arguments)
        except ValueError:
            return self._value(arguments)
        redacted = self._value(value)
        return arguments if redacted == value else json.dumps(redacted, ensure_ascii=False)

    def _value(self, value: Any) -> Any:
        match value:
            case str():
                for pattern in self._patterns:
                    value = pattern.sub(self._replacement, value)
                return value
            case int() | float() if not isinstance(value, bool):
                text = self._value(str(value))
                return value if text == str(value) else text
            case dict():
                return {self._value(key): self._value(item) for key, item in value.items()}
            case list():
                return [self._value(item) for item in value]
        return value


class DropOldTools:
    """Shows the model no tool calls and results from before the last `turns` turns. What was said stays.

    A turn begins with a message of the user. The prompt's beginning changes with each turn that grows old, and with it
    what a provider has in its cache; it pays where tools answer at length. Raises InvalidInput for `turns` below 1.
    """

    def __init__(self, turns: int = 3) -> None:
        if not is_int(turns, 1, MAX_COUNT):
            raise InvalidInput(f"turns is a count from 1 up, not {turns!r}")
        self._turns = turns

    def before_model(self, messages: Sequence[Message]) -> list[Message]:
        """The messages without old calls and results, and without messages that held nothing else."""
        begins = [index for index, message in enumerate(messages) if message.role == "user"]
        recent = begins[-self._turns] if len(begins) >= self._turns else 0
        old = _without_tools(messages[:recent], _called_before(messages, recent))
        return [*old, *messages[recent:]]


def _without_tools(messages: Sequence[Message], kept: frozenset[tuple[int, str]]) -> list[Message]:
    left = []
    for index, message in enumerate(messages):
        parts = [
            part
            for part in message.parts
            if not isinstance(part, ToolCallPart | ToolResultPart)
            or (isinstance(part, ToolCallPart) and (index, part.tool_call_id) in kept)
        ]
        if len(parts) == len(message.parts):
            left.append(message)
        elif any(not isinstance(part, ReasoningPart) for part in parts):
            left.append(message.model_copy(update={"parts": parts}))
    return left


def _called_before(messages: Sequence[Message], place: int) -> frozenset[tuple[int, str]]:
    """The calls before a place, by message and id, whose results come at it or later. The nearest call counts."""
    caller: dict[str, int] = {}
    found = set()
    for index, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                caller[part.tool_call_id] = index
            elif isinstance(part, ToolResultPart) and part.tool_call_id in caller:
                called = caller[part.tool_call_id]
                if called < place <= index:
                    found.add((called, part.tool_call_id))
    return frozenset(found)
