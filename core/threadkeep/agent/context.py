"""What the model is shown: a request made of what was loaded of the thread and what the turn has said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from threadkeep.model import ModelRequest
from threadkeep.tools import Tool
from threadkeep.windows import settle

if TYPE_CHECKING:
    from threadkeep.agent.turn import Turn


def model_request(turn: Turn, instructions: str | None, tools: Sequence[Tool]) -> ModelRequest:
    """The next call of the model in a turn. Calls that no result answers are shown with one of error."""
    return ModelRequest(instructions, [*settle(turn.context), *turn.said], tuple(tools))
