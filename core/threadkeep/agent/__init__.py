"""The agent loop: load, call the model, run tools, commit after each step."""

from __future__ import annotations

from threadkeep.agent.agent import Agent as Agent
from threadkeep.agent.agent import Reply as Reply
from threadkeep.agent.events import Committed as Committed
from threadkeep.agent.events import Event as Event
from threadkeep.agent.events import Finished as Finished
from threadkeep.agent.events import Reason as Reason
from threadkeep.agent.events import ReasoningDelta as ReasoningDelta
from threadkeep.agent.events import TextDelta as TextDelta
from threadkeep.agent.events import ToolAnswered as ToolAnswered
from threadkeep.agent.events import ToolCalled as ToolCalled
from threadkeep.agent.run import History as History

__all__ = [
    "Agent",
    "Committed",
    "Event",
    "Finished",
    "History",
    "Reason",
    "ReasoningDelta",
    "Reply",
    "TextDelta",
    "ToolAnswered",
    "ToolCalled",
]
