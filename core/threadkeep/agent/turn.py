"""A request and what has been said in answer to it, as the thread has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from threadkeep.agent.events import Committed, Event, TextDelta, ToolAnswered, ToolCalled
from threadkeep.messages import Message
from threadkeep.store import Tail
from threadkeep.thread import ThreadHandle
from threadkeep.windows import pair_safe

TURN_MESSAGES: Final = 1000
"""Stored messages after a repeated request that are looked at for its answer."""


@dataclass(slots=True)
class Turn:
    """A request and what has been said in answer to it."""

    anchor: Message
    context: list[Message]
    """What the model gets to see up to the anchor, the anchor included."""
    said: list[Message]
    """The messages of this turn after the anchor."""
    tail: Tail
    overtaken: bool
    """Whether messages of other turns follow."""
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps = sum(message.role == "assistant" for message in self.said)

    @property
    def answered(self) -> bool:
        """Whether the last word is the assistant's, and calls no tool."""
        return bool(self.said) and self.said[-1].role == "assistant" and not self.said[-1].tool_calls

    @property
    def reply(self) -> Message | None:
        """The assistant's last message."""
        return next((message for message in reversed(self.said) if message.role == "assistant"), None)


async def recall(thread: ThreadHandle, anchor: str, last: int) -> Turn:
    """The turn of a stored message, with up to `last` messages before it."""
    tail = await thread.tail()
    around = await thread.messages(around=anchor, last=last, first=TURN_MESSAGES)
    place = next(index for index, message in enumerate(around) if message.id == anchor)
    later = around[place + 1 :]
    said = [message for message in later if message.metadata.get("turn") == anchor]
    if not said:
        # Imported conversations carry no mark: there a turn lasts until somebody else speaks.
        end = next((index for index, message in enumerate(later) if message.role in ("user", "system")), len(later))
        said = [message for message in later[:end] if "turn" not in message.metadata]
    context = pair_safe(around[: place + 1])
    return Turn(around[place], context, said, tail, overtaken=len(said) < len(later))


def retold(said: Sequence[Message], tail: Tail) -> Iterator[Event]:
    """The events of messages that are stored already."""
    for message in said:
        if message.text and message.role == "assistant":
            yield TextDelta(message.text)
        for call in message.tool_calls:
            yield ToolCalled(call)
        for result in message.tool_results:
            yield ToolAnswered(result)
    yield Committed(tuple(said), 0, tail)
