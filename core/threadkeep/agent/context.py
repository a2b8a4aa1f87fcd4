"""What the model is shown: a request made of what was loaded of the thread and what the turn has said."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.agent.turn import Turn
from threadkeep.messages import INTERRUPTED
from threadkeep.model import ModelRequest
from threadkeep.tools import Tool
from threadkeep.windows import pair_safe, settle


def model_request(turn: Turn, instructions: str | None, tools: Sequence[Tool]) -> ModelRequest:
    """The next call of the model in a turn. Calls that no result answers are shown with one of error.

    What is there of an answer that did not come to an end is not shown in its own turn, which will replace it.
    """
    said = [message for message in turn.said if INTERRUPTED not in message.metadata]
    return ModelRequest(instructions, [*settle(pair_safe(turn.context)), *said], tuple(tools))
