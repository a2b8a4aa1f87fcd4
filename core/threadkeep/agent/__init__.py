"""The agent loop: load, call the model, run tools, commit after each step."""

from __future__ import annotations

from threadkeep.agent.agent import Agent as Agent
from threadkeep.agent.agent import Reply as Reply
from threadkeep.agent.busy import OnBusy as OnBusy
from threadkeep.agent.events import ApprovalNeeded as ApprovalNeeded
from threadkeep.agent.events import Committed as Committed
from threadkeep.agent.events import Event as Event
from threadkeep.agent.events import Finished as Finished
from threadkeep.agent.events import Forked as Forked
from threadkeep.agent.events import Reason as Reason
from threadkeep.agent.events import ReasoningDelta as ReasoningDelta
from threadkeep.agent.events import ResultsNeeded as ResultsNeeded
from threadkeep.agent.events import TextDelta as TextDelta
from threadkeep.agent.events import TitleChanged as TitleChanged
from threadkeep.agent.events import TitleFailed as TitleFailed
from threadkeep.agent.events import ToolAnswered as ToolAnswered
from threadkeep.agent.events import ToolCalled as ToolCalled
from threadkeep.agent.events import Waiting as Waiting
from threadkeep.agent.events import WorkingMemoryChanged as WorkingMemoryChanged
from threadkeep.agent.filters import DropOldTools as DropOldTools
from threadkeep.agent.filters import Redact as Redact
from threadkeep.agent.hooks import RunContext as RunContext
from threadkeep.agent.options import MemoryOptions as MemoryOptions
from threadkeep.agent.processors import register_processor as register_processor
from threadkeep.agent.request import OnDiverged as OnDiverged
from threadkeep.messages.approval import Approval as Approval

__all__ = [
    "Agent",
    "Approval",
    "ApprovalNeeded",
    "Committed",
    "DropOldTools",
    "Event",
    "Finished",
    "Forked",
    "MemoryOptions",
    "OnBusy",
    "OnDiverged",
    "Reason",
    "ReasoningDelta",
    "Redact",
    "Reply",
    "ResultsNeeded",
    "RunContext",
    "TextDelta",
    "TitleChanged",
    "TitleFailed",
    "ToolAnswered",
    "ToolCalled",
    "Waiting",
    "WorkingMemoryChanged",
    "register_processor",
]
