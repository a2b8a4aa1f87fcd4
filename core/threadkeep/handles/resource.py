"""The handle of one resource: its threads, its working memory, and what is done to all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Final

from threadkeep.errors import InvalidInput, ReadOnly, ThreadExists
from threadkeep.handles.access import Access
from threadkeep.handles.arguments import as_metadata
from threadkeep.handles.cursors import make_cursor, read_cursor
from threadkeep.handles.thread import ThreadHandle
from threadkeep.handles.views import INFO, Page, ThreadInfo, read_memory, snapshot_info, thread_info
from threadkeep.handles.working_memory import WorkingMemoryHandle
from threadkeep.messages.codec import dump
from threadkeep.port.canonical import canonical_json, sorted_json
from threadkeep.port.checks import MAX_PAGE, check_page
from threadkeep.port.ids import check_id, new_id
from threadkeep.port.store import After, Order, Resource, Thread, Window

FILTERED_ROWS: Final = 200
"""Threads that are looked at in one round trip where a filter leaves some out."""


class ResourceHandle:
    """One resource: it reaches this resource's threads and working memory, and nothing else."""

    def __init__(self, access: Access, resource_id: str, *, read_only: bool = False) -> None:
        self.resource_id = check_id("resource_id", resource_id, access.store.limits)
        self.read_only = read_only
        self._access = access
        self._scope = Resource(resource_id)

    @property
    def working_memory(self) -> WorkingMemoryHandle:
        """The working memory that all threads of this resource share."""
        return WorkingMemoryHandle(self._access, self._scope, read_only=self.read_only)

    def thread(self, thread_id: str, *, read_only: bool = False) -> ThreadHandle:
        """The handle of a thread of this resource. It need not exist yet: the first append creates it.

        Raises InvalidId, LimitExceeded.
        """
        return ThreadHandle(self._access, self.resource_id, thread_id, read_only=self.read_only or read_only)

    async def create_thread(
        self,
        thread_id: str | None = None,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> ThreadHandle:
        """Create a thread, with a generated id where none is given.

        Raises ThreadExists, InvalidId, InvalidContent, LimitExceeded, ReadOnly.
        """
        thread = self.thread(new_id() if thread_id is None else thread_id)
        await thread.create(title=title, metadata=metadata)
        return thread

    async def get_or_create_thread(
        self, thread_id: str, *, title: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> ThreadHandle:
        """The thread, created if it is not there. Title and metadata are those of a new thread only.

        Raises as `create_thread`, but for ThreadExists.
        """
        thread = self.thread(thread_id)
        with suppress(ThreadExists):
            await thread.create(title=title, metadata=metadata)
        return thread

    async def threads(
        self,
        *,
        order: Order = "created",
        archived: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[ThreadInfo]:
        """All threads of this resource (what others call `get_threads_by_resource_id`), filtered as `threads_page`."""
        cursor = None
        while True:
            page = await self.threads_page(order=order, archived=archived, metadata=metadata, cursor=cursor)
            for info in page.items:
                yield info
            cursor = page.cursor
            if cursor is None:
                return

    async def threads_page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "created",
        archived: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Page[ThreadInfo]:
        """A page of threads, at most `limit` (1 to 1,000).

        `order` is "created" (oldest first) or "active" (the last touched first); ties are broken by thread id.
        `archived` shows only archived threads (True) or only others (False). `metadata` shows only threads that have
        all of these values under these keys, compared as JSON text: 1, 1.0, "1" and true are four values.
        Filters change what is shown, not the walk. Raises InvalidCursor, InvalidInput.
        """
        if archived is not None and not isinstance(archived, bool):
            raise InvalidInput(f"archived is True, False or None (for both), not {archived!r}")
        wanted = _comparable({} if metadata is None else metadata)
        check_page(limit)
        query = ("list of threads", self.resource_id, order, archived, wanted)
        after = None if cursor is None else After(*read_cursor(cursor, query, (int, str)))
        # One more than asked for tells whether the list goes on; few fit a filter, and each look is a round trip.
        asked = min(limit + 1 if archived is None and not wanted else max(limit + 1, FILTERED_ROWS), MAX_PAGE)
        shown: list[ThreadInfo] = []
        last = after
        while True:
            rows = await self._access.store.threads(self._scope, after, asked, order, (INFO,))
            for row in rows:
                after = After(row.created if order == "created" else row.active, row.thread_id)
                info = thread_info(self.resource_id, row)
                if not _fits(info, archived, wanted):
                    continue
                if len(shown) == limit and last is not None:
                    return Page(items=shown, cursor=make_cursor(query, last))
                shown.append(info)
                last = after
            if len(rows) < asked:
                return Page(items=shown)

    async def erase(self) -> None:
        """Remove everything of this resource: threads, messages, working memory. Safe to repeat. Raises ReadOnly."""
        if self.read_only:
            raise ReadOnly("erase")
        await self._access.store.delete(self._scope)

    async def export(self) -> AsyncIterator[dict[str, Any]]:
        """Everything of this resource as JSON objects, one for each line of a file.

        First one of `kind` "resource" (resource_id, working_memory), then for each thread, in the order of creation,
        one of `kind` "thread" (the fields of ThreadInfo, working_memory) and one of `kind` "message" for each message
        (thread_id, message). A working memory is {"version", "value"}. A thread that is deleted before its turn is left
        out; one that is deleted while its messages are read raises ThreadNotFound.
        """
        snapshot = await self._access.store.load(self._scope, Window())
        yield {
            "kind": "resource",
            "resource_id": self.resource_id,
            "working_memory": read_memory(snapshot.resource_docs).model_dump(),
        }
        async for info in self.threads():
            thread_id = info.thread_id
            snapshot = await self._access.store.load(Thread(self.resource_id, thread_id), Window())
            now = snapshot_info(self.resource_id, thread_id, snapshot)
            if now is None:
                continue
            yield {
                "kind": "thread",
                **now.model_dump(mode="json"),
                "working_memory": read_memory(snapshot.docs).model_dump(),
            }
            async for message in self.thread(thread_id, read_only=True).history():
                yield {"kind": "message", "thread_id": thread_id, "message": dump(message)}


def _comparable(metadata: object) -> dict[str, str]:
    """The values of a filter as text in which the order of keys plays no part."""
    wanted = as_metadata(metadata)
    canonical_json(wanted, "metadata")
    return {key: sorted_json(value) for key, value in wanted.items()}


def _fits(info: ThreadInfo, archived: bool | None, wanted: Mapping[str, str]) -> bool:
    if archived is not None and info.archived is not archived:
        return False
    return all(key in info.metadata and sorted_json(info.metadata[key]) == text for key, text in wanted.items())
