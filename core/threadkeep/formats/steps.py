"""The steps of a message: what was said and called, and the results of these calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from threadkeep.messages.model import Part, ToolCallPart, ToolResultPart

Step: TypeAlias = tuple[list[Part], list[ToolResultPart]]


def split_steps(parts: Sequence[Part], taken: Callable[[Part], bool]) -> list[Step]:
    """The steps of a message's parts, at least one. What formats write as several messages, we may hold in one.

    A result belongs to the newest step that made its call, or to the last step where none did; what is said after a
    result begins a new step. Parts that are neither a result nor `taken` are left out.
    """
    steps: list[Step] = [([], [])]
    for part in parts:
        if isinstance(part, ToolResultPart):
            _home(steps, part).append(part)
        elif taken(part):
            if steps[-1][1]:
                steps.append(([], []))
            steps[-1][0].append(part)
    return steps


def _home(steps: list[Step], result: ToolResultPart) -> list[ToolResultPart]:
    for said, results in reversed(steps):
        if any(isinstance(part, ToolCallPart) and part.tool_call_id == result.tool_call_id for part in said):
            return results
    return steps[-1][1]
