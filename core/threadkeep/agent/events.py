"""What a run tells as it happens. The pieces of a model's answer are `threadkeep.models.model`'s."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from threadkeep.handles.views import WorkingMemory
from threadkeep.handles.working_memory import MemoryScope
from threadkeep.messages.model import Message, ToolCallPart, ToolResultPart
from threadkeep.models.model import ReasoningDelta as ReasoningDelta
from threadkeep.models.model import TextDelta as TextDelta
from threadkeep.port.store import Tail

Reason: TypeAlias = Literal["stop", "max_steps", "repeated", "approval", "client_tools", "overtaken"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another run is at work in the thread, or came earlier; this one waits for its turn. Nothing is stored yet."""

    agent: str
    """Whose run was the last that is known to be at work."""


@dataclass(frozen=True, slots=True)
class Forked:
    """The client's history was not the stored one continued, and the run goes on in a new thread."""

    thread_id: str
    """The new thread; the client's next requests belong there."""
    forked_from: str
    """The thread that was asked for, which stays as it is."""


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A tool is about to run."""

    call: ToolCallPart


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool has run, or was denied; what it raised is a result with `is_error`."""

    result: ToolResultPart


@dataclass(frozen=True, slots=True)
class ApprovalNeeded:
    """The run stops until somebody has approved or denied these calls, in a later request with `approvals`."""

    calls: tuple[ToolCallPart, ...]


@dataclass(frozen=True, slots=True)
class ResultsNeeded:
    """The run stops until the client has run these calls, and brings their results in a later request."""

    calls: tuple[ToolCallPart, ...]


@dataclass(frozen=True, slots=True)
class WorkingMemoryChanged:
    """The model has changed a working memory: whose it is, and the value that it has now."""

    of: MemoryScope
    memory: WorkingMemory


@dataclass(frozen=True, slots=True)
class TitleChanged:
    """The thread has got its title."""

    title: str


@dataclass(frozen=True, slots=True)
class TitleFailed:
    """No title could be made, for the reason given; the turn goes on without. It is logged too."""

    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """Messages are stored, with their positions. `new` counts those that were not there before."""

    messages: tuple[Message, ...]
    new: int
    tail: Tail


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over. `reply` is the last message of the assistant in this turn, None where it said nothing.

    `reason`: "stop" (the model called no more tools); "max_steps"; "approval" (calls wait for somebody's approval);
    "client_tools" (calls wait for the client's results); "repeated" (the answer was there already); "overtaken" (the
    request was stored before, its run ended among its tool calls, and the conversation has gone on since).
    """

    reason: Reason
    reply: Message | None
    tail: Tail


Event: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | Waiting
    | Forked
    | ToolCalled
    | ToolAnswered
    | ApprovalNeeded
    | ResultsNeeded
    | WorkingMemoryChanged
    | TitleChanged
    | TitleFailed
    | Committed
    | Finished
)
