"""What an agent is made of, as its runs read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from threadkeep.agent.busy import OnBusy
from threadkeep.agent.options import MemoryOptions
from threadkeep.agent.processors import Processors
from threadkeep.agent.titles import TitleMaker
from threadkeep.errors import InvalidInput
from threadkeep.models.model import Model
from threadkeep.models.tools import Tool
from threadkeep.port.checks import is_number


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What an agent is made of; see `Agent` for each. Raises InvalidInput for numbers that are out of range."""

    name: str
    model: Model
    instructions: str | None
    tools: Mapping[str, Tool]
    """The agent's own tools by name, without that of its working memory."""
    max_steps: int
    options: MemoryOptions
    processors: Processors
    title: TitleMaker | None
    tool_timeout: float | None
    on_busy: OnBusy
    lease_seconds: float

    def __post_init__(self) -> None:
        if self.tool_timeout is not None and not (is_number(self.tool_timeout) and self.tool_timeout > 0):
            raise InvalidInput(f"tool_timeout is a number of seconds above 0, or None, not {self.tool_timeout!r}")
        if self.on_busy not in get_args(OnBusy):
            raise InvalidInput(f"on_busy is 'queue', 'reject' or 'interleave', not {self.on_busy!r}")
        if not is_number(self.lease_seconds) or self.lease_seconds <= 0:
            raise InvalidInput(f"lease_seconds is a number of seconds above 0, not {self.lease_seconds!r}")
