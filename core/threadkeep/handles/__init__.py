"""What users hold: a Memory, its resources and threads, and what they answer with."""

from __future__ import annotations

from threadkeep.handles.admin import Admin
from threadkeep.handles.memory import Memory
from threadkeep.handles.resource import ResourceHandle
from threadkeep.handles.thread import ThreadHandle
from threadkeep.handles.views import Page, ThreadInfo, ThreadSnapshot
from threadkeep.handles.working_memory import MemoryScope, WorkingMemoryHandle

__all__ = [
    "Admin",
    "Memory",
    "MemoryScope",
    "Page",
    "ResourceHandle",
    "ThreadHandle",
    "ThreadInfo",
    "ThreadSnapshot",
    "WorkingMemoryHandle",
]
