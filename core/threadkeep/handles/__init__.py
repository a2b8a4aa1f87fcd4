"""What users hold: a Memory, its resources and threads, and what they answer with."""

from __future__ import annotations

from threadkeep.handles.access import Access
from threadkeep.handles.admin import Admin
from threadkeep.handles.memory import Memory
from threadkeep.handles.resource import ResourceHandle
from threadkeep.handles.thread import ThreadHandle
from threadkeep.handles.views import (
    INFO,
    WORKING_MEMORY,
    Page,
    ThreadInfo,
    ThreadSnapshot,
    WorkingMemory,
    read_info,
    write_info,
)
from threadkeep.handles.working_memory import MemoryScope, WorkingMemoryHandle
from threadkeep.handles.writes import KEEP, HistoryReceipt

__all__ = [
    "INFO",
    "KEEP",
    "WORKING_MEMORY",
    "Access",
    "Admin",
    "HistoryReceipt",
    "Memory",
    "MemoryScope",
    "Page",
    "ResourceHandle",
    "ThreadHandle",
    "ThreadInfo",
    "ThreadSnapshot",
    "WorkingMemory",
    "WorkingMemoryHandle",
    "read_info",
    "write_info",
]
