"""Models that an agent calls, and the tools that they may use."""

from __future__ import annotations

from threadkeep.models.choose import ModelLike, as_model
from threadkeep.models.model import (
    FunctionModel,
    Model,
    ModelError,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    TextOrMessage,
)
from threadkeep.models.providers import ProviderModel
from threadkeep.models.scripted import ScriptedModel
from threadkeep.models.tools import Tool, ToolContext, client_tool, tool

__all__ = [
    "FunctionModel",
    "Model",
    "ModelError",
    "ModelLike",
    "ModelRequest",
    "ProviderModel",
    "ReasoningDelta",
    "ScriptedModel",
    "TextDelta",
    "TextOrMessage",
    "Tool",
    "ToolContext",
    "as_model",
    "client_tool",
    "tool",
]
