"""Limits, and the one place that checks ids, sizes and JSON."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from threadkeep.errors import LimitExceeded

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """What a store takes. The defaults are the least that any store may declare (law 11). Sizes are bytes of UTF-8."""

    id_bytes: int = 512
    """A resource, thread or message id."""
    message_bytes: int = 1 * MIB
    """One message, as the JSON text that is stored."""
    commit_messages: int = 100
    """Messages in one commit."""
    commit_bytes: int = 2 * MIB
    """All messages and documents of one commit together, as stored."""
    working_memory_bytes: int = 256 * KIB
    """The working memory of a thread or resource, as JSON text."""
    metadata_bytes: int = 64 * KIB
    """A thread's metadata, as JSON text."""
    title_bytes: int = 4 * KIB
    """A thread's title."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            least = limit.default
            if getattr(self, limit.name) < least:
                raise ValueError(f"{limit.name} must be at least {least}, the least that a store may declare")


def check_size(limit: str, text: str, limits: Limits, what: str, name: str = "") -> int:
    """The size of a text in bytes of UTF-8, or LimitExceeded for the limit. `what` and `name` tell whose text it is."""
    allowed: Any = getattr(limits, limit)
    size = len(text) if text.isascii() else len(text.encode())
    if size > allowed:
        named = f"{what} {name[:40]!r}" if name else what
        raise LimitExceeded(limit, allowed, size, f"{named} (bytes of JSON)")
    return size
