"""What a run tells as it happens. The pieces of a model's answer are `threadkeep.model`'s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from threadkeep.messages import Message, ToolCallPart, ToolResultPart
from threadkeep.model import ReasoningDelta as ReasoningDelta
from threadkeep.model import TextDelta as TextDelta
from threadkeep.store import Tail

Reason: TypeAlias = Literal["stop", "max_steps", "repeated"]


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool is about to run."""

    call: ToolCallPart


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool has run; what it raised is a result with `is_error`."""

    result: ToolResultPart


@dataclass(frozen=True, slots=True)
class Committed:
    """Messages are stored, with their positions. `new` counts those that were not there before."""

    messages: tuple[Message, ...]
    new: int
    tail: Tail


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over. `reply` is the last message of the assistant in this turn, None where it said nothing.

    `reason`: "stop" (the model called no more tools), "max_steps", or "repeated" (the answer was there already).
    """

    reason: Reason
    reply: Message | None
    tail: Tail


Event: TypeAlias = TextDelta | ReasoningDelta | ToolCalled | ToolAnswered | Committed | Finished
