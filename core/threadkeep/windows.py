"""Windows of a thread that a model can be called with: no tool result without its call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from threadkeep.messages import Message, ToolCallPart, ToolResultPart

NO_RESULT: Final = "The call was interrupted, and no result of it is known."
"""What a model is told in place of a result that is missing."""


def pair_safe(messages: Sequence[Message]) -> list[Message]:
    """A window without the messages that hold a tool result whose call lies before the window.

    A result answers the nearest call of its id before it, in an earlier message or earlier in its own: ids repeat in
    real conversations, so a later call of the same id is not the one that was answered. Where a message is left out,
    so is every other whose call or result it holds, that neither stands alone. Everything else stays, in order;
    calls without a result are pending and stay, and a second result of one call stays too.

    For windows that go to a model. Pages of a whole thread lose messages by it: join the pages first.
    """
    caller: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    dropped: set[int] = set()
    for index, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                caller[part.tool_call_id] = index
            elif isinstance(part, ToolResultPart):
                if part.tool_call_id in caller:
                    pairs.append((caller[part.tool_call_id], index))
                else:
                    dropped.add(index)
    size = -1
    while size != len(dropped):
        size = len(dropped)
        for pair in pairs:
            if not dropped.isdisjoint(pair):
                dropped.update(pair)
    return [message for index, message in enumerate(messages) if index not in dropped]


def pending_calls(messages: Sequence[Message]) -> list[ToolCallPart]:
    """The tool calls of the last turn that no result answers yet, in order.

    The last turn is what follows the newest message of role user, or everything where there is none. A result answers
    one call: the first unanswered one of its id in the newest message that has one. An id called again after it was
    answered is pending again.
    """
    start = max((index for index, message in enumerate(messages) if message.role == "user"), default=-1) + 1
    return [call for _, call in _unanswered(messages[start:])]


def together(messages: Sequence[Message]) -> list[Message]:
    """The messages, with each that holds nothing but results directly after the one that called.

    Where runs interleave, other messages may stand between the two, and providers refuse that. Results of several
    messages' calls in one stay where they are.
    """
    caller: dict[str, int] = {}
    moved: dict[int, list[Message]] = {}
    places: list[int] = []
    for index, message in enumerate(messages):
        caller.update({call.tool_call_id: index for call in message.tool_calls})
        callers = {caller.get(result.tool_call_id) for result in message.tool_results}
        place = callers.pop() if len(callers) == 1 else None
        if place is None or len(message.tool_results) < len(message.parts):
            places.append(index)
        else:
            moved.setdefault(place, []).append(message)
    return [message for index in places for message in (messages[index], *moved.get(index, ()))]


def settle(messages: Sequence[Message]) -> list[Message]:
    """The messages, with a result of error for each call that has none, after the results of its message.

    A run that ended between a call and its result leaves such a call behind when the user goes on, and providers
    refuse a call without a result, or with one that does not follow it (see `together`). For what goes to a model:
    the results made up here are not stored.
    """
    messages = together(messages)
    waiting: dict[int, list[ToolCallPart]] = {}
    for index, call in _unanswered(messages):
        while index + 1 < len(messages) and messages[index + 1].role == "tool":
            index += 1
        waiting.setdefault(index, []).append(call)
    settled: list[Message] = []
    for index, message in enumerate(messages):
        settled.append(message)
        for call in waiting.get(index, ()):
            part = ToolResultPart(tool_call_id=call.tool_call_id, name=call.name, result=NO_RESULT, is_error=True)
            settled.append(Message(role="tool", parts=[part]))
    return settled


def _unanswered(messages: Sequence[Message]) -> list[tuple[int, ToolCallPart]]:
    """The calls that no result answers, with the index of their message."""
    waiting: list[tuple[int, ToolCallPart]] = []
    for index, message in enumerate(messages):
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                waiting.append((index, part))
            elif isinstance(part, ToolResultPart):
                same = [entry for entry in waiting if entry[1].tool_call_id == part.tool_call_id]
                if same:
                    newest = max(place for place, _ in same)
                    answered = next(entry for entry in same if entry[0] == newest)
                    waiting = [entry for entry in waiting if entry is not answered]
    return waiting
