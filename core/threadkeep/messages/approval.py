"""The answer to a tool call that waits for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from threadkeep.errors import InvalidContent
from threadkeep.port.canonical import canonical_json


@dataclass(frozen=True, slots=True)
class Approval:
    """The answer to a tool call that waits for one.

    `approve` False: the tool does not run, and the model is told so, with the `reason`. `arguments`, an object, are
    what an approved tool is called with instead of the model's own. Raises InvalidContent.
    """

    tool_call_id: str
    approve: bool
    reason: str | None = None
    arguments: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.tool_call_id, str):
            raise InvalidContent(f"an approval names a tool_call_id, not {self.tool_call_id!r}")
        if not isinstance(self.approve, bool):
            raise InvalidContent(f"approve is True or False, not {self.approve!r}")
        if self.reason is not None and not isinstance(self.reason, str):
            raise InvalidContent(f"the reason of an approval is text, not {self.reason!r}")
        if self.arguments is not None and not isinstance(self.arguments, Mapping):
            raise InvalidContent(f"the arguments of an approval are a JSON object, not {self.arguments!r}")
        canonical_json(self.plain(), "approval")

    def plain(self) -> dict[str, Any]:
        """The answer as JSON values, without the id."""
        return {
            "approve": self.approve,
            **({} if self.reason is None else {"reason": self.reason}),
            **({} if self.arguments is None else {"arguments": dict(self.arguments)}),
        }
