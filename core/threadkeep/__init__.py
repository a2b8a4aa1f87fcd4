"""Conversation memory for agents that keeps threads apart, on the database that you already run.

Everything here is loaded when it is first used: `import threadkeep` itself loads no driver and no model library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadkeep.agent import Agent as Agent
    from threadkeep.errors import ThreadkeepError as ThreadkeepError
    from threadkeep.handles import Memory as Memory
    from threadkeep.handles import ResourceHandle as ResourceHandle
    from threadkeep.handles import ThreadHandle as ThreadHandle
    from threadkeep.messages import Message as Message
    from threadkeep.port import open_store as open_store

_HOMES = {
    "Agent": "threadkeep.agent",
    "Memory": "threadkeep.handles",
    "Message": "threadkeep.messages",
    "ResourceHandle": "threadkeep.handles",
    "ThreadHandle": "threadkeep.handles",
    "ThreadkeepError": "threadkeep.errors",
    "open_store": "threadkeep.port",
}

__all__ = [
    "Agent",
    "Memory",
    "Message",
    "ResourceHandle",
    "ThreadHandle",
    "ThreadkeepError",
    "open_store",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'threadkeep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
