"""Messages and what is done with them: their parts, records, approvals, histories that clients send, and windows.

Nothing here knows a store's handle or an agent.
"""

from __future__ import annotations

from threadkeep.messages.approval import Approval
from threadkeep.messages.codec import batches, decode, dump, encode
from threadkeep.messages.model import (
    INTERRUPTED,
    DataPart,
    FilePart,
    Message,
    Part,
    PartBase,
    ReasoningPart,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnknownPart,
    parse_message,
)
from threadkeep.messages.reconcile import Ids
from threadkeep.messages.windows import estimate_tokens, pair_safe, token_window

__all__ = [
    "INTERRUPTED",
    "Approval",
    "DataPart",
    "FilePart",
    "Ids",
    "Message",
    "Part",
    "PartBase",
    "ReasoningPart",
    "SourcePart",
    "TextPart",
    "ToolCallPart",
    "ToolResultPart",
    "UnknownPart",
    "batches",
    "decode",
    "dump",
    "encode",
    "estimate_tokens",
    "pair_safe",
    "parse_message",
    "token_window",
]
