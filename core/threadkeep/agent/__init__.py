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
from threadkeep.agent.events import ToolAnswered as ToolAnswered
from threadkeep.agent.events import ToolCalled as ToolCalled
from threadkeep.agent.request import Approval as Approval
from threadkeep.agent.request import OnDiverged as OnDiverged

__all__ = [
    "Agent",
    "Approval",
    "ApprovalNeeded",
    "Committed",
    "Event",
    "Finished",
    "Forked",
    "OnBusy",
    "OnDiverged",
    "Reason",
    "ReasoningDelta",
    "Reply",
    "ResultsNeeded",
    "TextDelta",
    "ToolAnswered",
    "ToolCalled",
]
