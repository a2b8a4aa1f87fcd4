"""The model that `threadkeep chat` talks with where none is named: a script, typed at a reader's pace."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from threadkeep.messages import Message, ToolCallPart
from threadkeep.models import ModelRequest, ReasoningDelta, TextDelta
from threadkeep.port import new_id

_PAUSE: Final = 0.02
"""Seconds between two words."""

_COUNT: Final = re.compile(r"\bcount to (\d{1,3})\b", re.IGNORECASE)


class TypedScript:
    """Answers from what it is shown alone: how much that is, what was said first, a count, and the time by a tool."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta | ReasoningDelta | Message]:
        """See `Model.stream`."""
        message = _answer(request)
        for word in re.findall(r"\S+\s*", message.text):
            yield TextDelta(word)
            await asyncio.sleep(_PAUSE)
        yield message


def _answer(request: ModelRequest) -> Message:
    said = [message for message in request.messages if message.role == "user"]
    last = request.messages[-1] if request.messages else Message.user("")
    if last.tool_results:
        return Message.assistant(f"It is {last.tool_results[-1].result}.")
    asked = last.text
    if "time" in asked.lower() and any(tool.name == "current_time" for tool in request.tools):
        call = ToolCallPart(tool_call_id=f"call_{new_id()}", name="current_time", arguments={})
        return Message(role="assistant", parts=[call])
    if counted := _COUNT.search(asked):
        return Message.assistant(" ".join(str(number) for number in range(1, int(counted.group(1)) + 1)))
    known = len(request.messages)
    shown = "1 message" if known == 1 else f"{known} messages"
    first = f" You began with: {said[0].text!r}." if len(said) > 1 else ""
    return Message.assistant(
        f"I follow a script, and see {shown} of this thread.{first} Ask me for the time, or to count to 100."
    )
