"""What others call messages, to messages and back: OpenAI's chat messages, the AI SDK's UI messages, pydantic-ai's.

The two functions about pydantic-ai need the extra `models`, and load that library when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from threadkeep.formats.ai_sdk import approvals_from_ui, from_ui, messages_from_ui, messages_to_ui, to_ui
from threadkeep.formats.openai import (
    LEGACY_CALL_ID,
    from_openai,
    messages_from_openai,
    messages_to_openai,
    to_openai,
)

if TYPE_CHECKING:
    from threadkeep.formats.pydantic_ai import from_pydantic_ai, to_pydantic_ai

__all__ = [
    "LEGACY_CALL_ID",
    "approvals_from_ui",
    "from_openai",
    "from_pydantic_ai",
    "from_ui",
    "messages_from_openai",
    "messages_from_ui",
    "messages_to_openai",
    "messages_to_ui",
    "to_openai",
    "to_pydantic_ai",
    "to_ui",
]


def __getattr__(name: str) -> object:
    if name in ("from_pydantic_ai", "to_pydantic_ai"):
        from threadkeep.formats import pydantic_ai

        return getattr(pydantic_ai, name)
    raise AttributeError(f"module 'threadkeep.formats' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
