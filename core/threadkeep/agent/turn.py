"""A request and what has been said in answer to it, as the thread has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from threadkeep.agent.events import Committed, Event, ReasoningDelta, TextDelta, ToolAnswered, ToolCalled
from threadkeep.handles.views import WorkingMemory
from threadkeep.messages.model import INTERRUPTED, Message, ReasoningPart, ToolCallPart, ToolResultPart
from threadkeep.messages.windows import pending_calls
from threadkeep.port.store import Tail

TURN: Final = "turn"
"""The key, in a message's metadata, of the id of the message that it answers."""
AGENT: Final = "agent"
"""The key of the name of the agent that wrote it."""

TURN_MESSAGES: Final = 1000
"""Stored messages after a repeated request that are looked at for its answer."""

_SPEAKERS: Final = ("user", "system", "developer")


@dataclass(slots=True)
class Turn:
    """A request and what has been said in answer to it."""

    anchor: Message
    """The last message of the request."""
    context: list[Message]
    """What was loaded of the thread up to the anchor, the anchor included, in order."""
    said: list[Message]
    """The messages of this turn after the anchor, in order."""
    tail: Tail
    overtaken: bool
    """Whether messages of other turns follow."""
    working_memory: WorkingMemory = field(default_factory=WorkingMemory)
    """The thread's, as it was loaded."""
    resource_memory: WorkingMemory = field(default_factory=WorkingMemory)
    """The resource's, as it was loaded."""
    title: str | None = None
    """The thread's, as it was loaded."""

    @property
    def partial(self) -> Message | None:
        """What is there of an answer whose run was cancelled or failed, where nothing of this turn follows it."""
        return self.said[-1] if self.said and INTERRUPTED in self.said[-1].metadata else None

    @property
    def steps(self) -> int:
        """How often the model has answered in full."""
        answers = [message for message in self.said if message.role == "assistant"]
        return len([message for message in answers if INTERRUPTED not in message.metadata])

    @property
    def pending(self) -> list[ToolCallPart]:
        """The calls of this turn that have no result yet, in order."""
        return pending_calls(self.said)

    @property
    def answered(self) -> bool:
        """Whether the last word is the assistant's, in full, and not about a tool."""
        last = self.said[-1] if self.said else None
        return last is not None and last.role == "assistant" and self.partial is None and not _ends_in_tool(last)

    @property
    def reply(self) -> Message | None:
        """The assistant's last message."""
        return next((message for message in reversed(self.said) if message.role == "assistant"), None)


def _ends_in_tool(message: Message) -> bool:
    """Whether what a message says last is a tool's call or result, so that the model has to go on."""
    spoken = [part for part in message.parts if not isinstance(part, ReasoningPart)]
    return any(part.tool_call_id not in _answered_ids(message) for part in message.tool_calls) or (
        bool(spoken) and isinstance(spoken[-1], ToolCallPart | ToolResultPart)
    )


def _answered_ids(message: Message) -> set[str]:
    return {part.tool_call_id for part in message.tool_results}


def find_turn(messages: Sequence[Message], anchor: str, tail: Tail) -> Turn:
    """The turn of a message, from the messages around it. They go up to the tail, unless the turn is overtaken.

    What a run writes carries a mark. Without one, in imported conversations and from clients, what the assistant and
    its tools say belongs to the turn until somebody else speaks.
    """
    place = next(index for index, message in enumerate(messages) if message.id == anchor)
    said: list[Message] = []
    overtaken = (messages[-1].position or 0) < tail.position
    others_spoke = False
    for message in messages[place + 1 :]:
        mark = message.metadata.get(TURN)
        speaks = message.role in _SPEAKERS
        if mark == anchor or (mark is None and not others_spoke and not speaks):
            said.append(message)
            continue
        overtaken = True
        if speaks:
            others_spoke = True
    return Turn(messages[place], list(messages[: place + 1]), said, tail, overtaken)


def retold(said: Sequence[Message], tail: Tail) -> Iterator[Event]:
    """The events of messages that are stored already."""
    for message in said:
        if message.role == "assistant":
            for part in message.parts:
                if isinstance(part, ReasoningPart) and part.text:
                    yield ReasoningDelta(part.text)
            if message.text:
                yield TextDelta(message.text)
        for call in message.tool_calls:
            yield ToolCalled(call)
        for result in message.tool_results:
            yield ToolAnswered(result)
    yield Committed(tuple(said), 0, tail)
