"""What handles answer with: threads, working memory, snapshots and pages, as pydantic models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from threadkeep.errors import InvalidContent
from threadkeep.messages.model import Message
from threadkeep.port.canonical import canonical_json
from threadkeep.port.limits import Limits, check_size
from threadkeep.port.store import Doc, Snapshot, Tail, ThreadRow
from threadkeep.port.times import from_micros

INFO: Final = "info"
"""The slot of a thread's title, metadata and archived flag."""
WORKING_MEMORY: Final = "working_memory"
"""The slot of the working memory of a thread, and of a resource."""

T = TypeVar("T")


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ThreadInfo(_View):
    """A thread without its messages. Times are UTC; `updated_at` is that of the last commit of any kind."""

    resource_id: str
    thread_id: str
    title: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    archived: bool = False
    forked_from: dict[str, Any] | None = None
    """`thread_id` and `message_id` of what this thread is a fork of."""
    incomplete: bool = False
    """True for a fork of more messages than one commit takes, and for a copy from another store, until all of them are
    there."""
    created_at: datetime
    updated_at: datetime
    epoch: str
    """A token that a thread gets when it is created: the same id created again has another one."""
    position: int
    """The position of the newest message, 0 where there is none."""


class WorkingMemory(_View):
    """A working memory: any JSON value, None where nothing was put. Version 0: never written."""

    version: int = 0
    value: Any = None


class ThreadSnapshot(_View):
    """A thread at one instant: what a turn needs. `info` is None for a thread that is not there."""

    tail: Tail
    info: ThreadInfo | None
    messages: list[Message]
    working_memory: WorkingMemory
    resource_memory: WorkingMemory


class Page(_View, Generic[T]):
    """Part of a list; `cursor`, given to the same call, brings the next part, and is None at the end."""

    items: list[T]
    cursor: str | None = None


class Info(NamedTuple):
    """The document in the slot `info`, read."""

    version: int
    body: dict[str, Any]


def read_info(docs: Mapping[str, Doc]) -> Info:
    """A thread's info document; an empty one at version 0 where none was put."""
    doc = docs.get(INFO)
    if doc is None:
        return Info(0, {})
    return Info(doc.version, {} if doc.body is None else json.loads(doc.body))


_SILENT: Final[Mapping[str, Any]] = {"title": None, "metadata": {}, "archived": False, "incomplete": False}
"""Fields of the info document, with the values that are left out because they say nothing."""


def write_info(limits: Limits, body: Mapping[str, Any]) -> str:
    """The text of a thread's info document. Raises InvalidContent and LimitExceeded for its title and metadata."""
    title, metadata = body.get("title"), body.get("metadata") or {}
    if title is not None:
        if not isinstance(title, str):
            raise InvalidContent(f"a title must be a string or None, not {type(title).__name__}")
        canonical_json(title, "title")
        check_size("title_bytes", title, limits, "the title")
    check_size("metadata_bytes", canonical_json(metadata, "metadata"), limits, "the metadata")
    kept = {name: value for name, value in body.items() if name not in _SILENT or value != _SILENT[name]}
    return canonical_json(kept, "info")


def read_memory(docs: Mapping[str, Doc]) -> WorkingMemory:
    """The working memory among a scope's documents."""
    doc = docs.get(WORKING_MEMORY)
    if doc is None:
        return WorkingMemory()
    return WorkingMemory(version=doc.version, value=None if doc.body is None else json.loads(doc.body))


def thread_info(resource_id: str, row: ThreadRow) -> ThreadInfo:
    """A thread's row as users see it. Fields of the document that a newer library wrote are left out."""
    known = {name: value for name, value in read_info(row.docs).body.items() if name in ThreadInfo.model_fields}
    return ThreadInfo(
        **{
            **known,
            "resource_id": resource_id,
            "thread_id": row.thread_id,
            "created_at": from_micros(row.created),
            "updated_at": from_micros(row.active),
            "epoch": row.tail.epoch,
            "position": row.tail.position,
        }
    )


def snapshot_info(resource_id: str, thread_id: str, snapshot: Snapshot) -> ThreadInfo | None:
    """The thread of a snapshot, None where it is not there."""
    if not snapshot.tail.epoch:
        return None
    row = ThreadRow(thread_id, snapshot.tail, snapshot.created, snapshot.active, snapshot.docs)
    return thread_info(resource_id, row)
