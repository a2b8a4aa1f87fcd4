"""The handle of one thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from threadkeep.errors import InvalidInput, ThreadNotFound
from threadkeep.handles.access import Access, ThreadAccess
from threadkeep.handles.arguments import as_metadata
from threadkeep.handles.edits import create_thread, edit_info
from threadkeep.handles.forks import fork_thread
from threadkeep.handles.reading import (
    Selection,
    all_messages,
    count_messages,
    load_snapshot,
    messages_page,
    select_messages,
)
from threadkeep.handles.views import Page, ThreadInfo, ThreadSnapshot, snapshot_info
from threadkeep.handles.working_memory import MemoryScope, WorkingMemoryHandle
from threadkeep.handles.writes import KEEP, HistoryReceipt, append_history, commit_messages
from threadkeep.messages.model import Message
from threadkeep.messages.reconcile import Ids
from threadkeep.messages.windows import pair_safe as cut_pair_safe
from threadkeep.port.ids import check_id, new_id
from threadkeep.port.store import MISSING, Receipt, Resource, Tail, Thread, Window


class ThreadHandle:
    """One thread of one resource. Taken from a resource handle; the thread need not exist yet.

    Every method may raise StoreError and its kinds. On a read-only handle, writing raises ReadOnly, and reading a
    thread that is not there raises ThreadNotFound; on another, that thread is empty, and the first write creates it.
    """

    def __init__(self, access: Access, resource_id: str, thread_id: str, *, read_only: bool = False) -> None:
        self.resource_id = resource_id
        self.thread_id = check_id("thread_id", thread_id, access.store.limits)
        self.read_only = read_only
        self._access = access
        self._scope = Thread(resource_id, thread_id)
        self._thread = ThreadAccess(access, self._scope, read_only=read_only)

    @property
    def working_memory(self) -> WorkingMemoryHandle:
        """The working memory of this thread."""
        return WorkingMemoryHandle(self._access, self._scope, read_only=self.read_only)

    def working_memory_during(self, epoch: str, of: MemoryScope = "thread") -> WorkingMemoryHandle:
        """The working memory of this thread or of its resource, while the thread is in this epoch (`ThreadInfo.epoch`).

        For work that belongs to one conversation: once the thread has been deleted, be it with its resource, every
        call raises ThreadNotFound, and nothing is brought back.
        """
        if of not in ("thread", "resource"):
            raise InvalidInput(f"a working memory is that of the 'thread' or of the 'resource', not {of!r}")
        scope = self._scope if of == "thread" else Resource(self.resource_id)
        return WorkingMemoryHandle(self._access, scope, read_only=self.read_only, during=(self._scope, epoch))

    async def create(self, *, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> ThreadInfo:
        """Create the thread. Raises ThreadExists, InvalidContent, LimitExceeded, ReadOnly."""
        return await create_thread(self._thread, title, metadata)

    async def exists(self) -> bool:
        """Whether the thread is there."""
        return (await self._access.store.load(self._scope, Window())).tail != MISSING

    async def info(self) -> ThreadInfo:
        """Title, metadata, times and tail. Raises ThreadNotFound."""
        snapshot = await self._access.store.load(self._scope, Window())
        info = snapshot_info(self.resource_id, self.thread_id, snapshot)
        if info is None:
            raise ThreadNotFound(self.thread_id)
        return info

    async def tail(self) -> Tail:
        """Where the thread ends, for `if_tail`; ("", 0) for a thread that is not there."""
        return (await self._thread.load(Window())).tail

    async def rename(self, title: str | None, *, if_untitled: bool = False, if_epoch: str | None = None) -> ThreadInfo:
        """Set or remove the title. Raises ThreadNotFound, InvalidContent, LimitExceeded, ReadOnly.

        With `if_untitled`, a title that is there stays, also one that comes while this call is under way. With
        `if_epoch`, a thread that has been deleted and created again since is not found.
        """

        def change(body: dict[str, Any]) -> dict[str, Any]:
            return body if if_untitled and body.get("title") is not None else {**body, "title": title}

        return await edit_info(self._thread, "rename", change, if_epoch)

    async def set_metadata(self, values: Mapping[str, Any]) -> ThreadInfo:
        """Set these keys of the metadata; others stay. Raises as `rename`."""
        added = as_metadata(values)
        return await edit_info(
            self._thread, "set_metadata", lambda body: {**body, "metadata": {**body.get("metadata", {}), **added}}
        )

    async def remove_metadata(self, *keys: str) -> ThreadInfo:
        """Remove these keys of the metadata; a key that is not there is no error. Raises as `rename`."""
        return await edit_info(
            self._thread,
            "remove_metadata",
            lambda body: {
                **body,
                "metadata": {key: value for key, value in body.get("metadata", {}).items() if key not in keys},
            },
        )

    async def archive(self) -> ThreadInfo:
        """Mark the thread as archived, which changes what lists show and nothing else. Raises as `rename`."""
        return await edit_info(self._thread, "archive", lambda body: {**body, "archived": True})

    async def unarchive(self) -> ThreadInfo:
        """Take the mark off. Raises as `rename`."""
        return await edit_info(self._thread, "unarchive", lambda body: {**body, "archived": False})

    async def delete(self) -> None:
        """Remove the thread with its messages and working memory. Safe to repeat. Raises ReadOnly."""
        self._thread.check_writable("delete")
        await self._access.store.delete(self._scope)
        self._thread.seen = None

    async def append(self, *messages: Message | str, if_tail: Tail | None = None) -> Receipt:
        """Append messages, in order and together; a string is a user's message. See `commit`."""
        return await self.commit(messages, if_tail=if_tail)

    async def commit(
        self,
        messages: Iterable[Message | str] = (),
        *,
        if_tail: Tail | None = None,
        drop_from: str | None = None,
        working_memory: Any = KEEP,
        resource_memory: Any = KEEP,
    ) -> Receipt:
        """One commit, all of it or nothing: drop messages, append others, put working memory.

        A message whose id is there already, equal, is not written again; the receipt gives its position. `drop_from`
        is the id of a message: it and all after it go first. `working_memory` and `resource_memory` are JSON values;
        None clears. Without any change the thread is created or touched.

        Raises MessageConflict, TailMoved (if `if_tail` is not the tail any more), MessageNotFound (for `drop_from`),
        InvalidId, InvalidContent, LimitExceeded, ReadOnly. Nothing is written then. Raises OutcomeUnknown where the
        store cannot know; the same call may then be repeated, and with `drop_from` raises MessageNotFound if it
        happened.
        """
        return await commit_messages(
            self._thread,
            messages,
            if_tail=if_tail,
            drop_from=drop_from,
            working_memory=working_memory,
            resource_memory=resource_memory,
        )

    async def drop_from(self, message_id: str, *, if_tail: Tail | None = None) -> Receipt:
        """Drop a message and all after it. Their ids are free again, their positions are never given again.

        Raises MessageNotFound, TailMoved, ReadOnly.
        """
        return await self.commit(drop_from=message_id, if_tail=if_tail)

    async def append_history(self, messages: Sequence[Message], *, ids: Ids) -> HistoryReceipt:
        """Take a client's whole history, and append what is new in it, once.

        `ids` is "stable" where a message keeps its id from one request to the next, and "fresh" where clients make
        new ids each time; see `threadkeep.messages.Ids`. The assistant's last message may have grown, and is replaced.
        More messages than one commit takes come in several; what a failure leaves out, the next request brings.
        Raises Diverged where the history is not the stored one continued, and as `commit`.
        """
        return await append_history(self._thread, messages, ids)

    async def load(self, *, last: int = 20, pair_safe: bool = False) -> ThreadSnapshot:
        """The newest `last` messages, the thread and both working memories, at one instant and in one round trip.

        With `pair_safe`, results at the start whose calls lie before the window are left out.
        """
        return await load_snapshot(self._thread, last, only_pairs=pair_safe)

    async def messages(
        self,
        *,
        last: int | None = None,
        first: int | None = None,
        before: int | str | None = None,
        after: int | str | None = None,
        around: int | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        pair_safe: bool = False,
    ) -> list[Message]:
        """Messages in order, all of them unless told otherwise.

        `last`, `first`: only the newest, or the oldest, so many of those that the other arguments select.
        `before`, `after`, `around`: a position or a message id. `before` (counted by `last`) and `after` (by `first`)
        leave the message itself out; `around` takes it in, with up to `last` messages before it and `first` after it
        (10 each unless given).
        `since`, `until`: instants, of `created_at`, or of `stored_at` where a message has none; `since` is taken in,
        `until` left out. A range of time reads the whole thread, since order does not come from clocks.
        `pair_safe`: leave out results at the start whose calls are not among the messages.

        Raises MessageNotFound, InvalidInput.
        """
        wanted = Selection(last, first, before, after, around, since, until)
        found = await select_messages(self._thread, wanted)
        return cut_pair_safe(found) if pair_safe else found

    async def history(self) -> AsyncIterator[Message]:
        """All messages from the oldest on, a page at a time; those appended meanwhile are there too.

        Raises ThreadNotFound where the thread is deleted on the way.
        """
        async for message in all_messages(self._thread):
            yield message

    async def count(self) -> int:
        """How many messages the thread has. It reads the whole thread, a page at a time, and is no part of lists."""
        return await count_messages(self._thread)

    async def messages_page(
        self, *, limit: int = 50, cursor: str | None = None, newest_first: bool = False
    ) -> Page[Message]:
        """A page of at most `limit` (1 to 1,000) messages, oldest first or newest first.

        Pages joined are the full list, also while others append. Raises InvalidCursor (also where the thread has been
        deleted since, even if it was created again), InvalidInput.
        """
        return await messages_page(self._thread, limit=limit, cursor=cursor, newest_first=newest_first)

    async def fork(
        self,
        thread_id: str | None = None,
        *,
        up_to: str | None = None,
        before: str | None = None,
        title: str | None = None,
    ) -> ThreadHandle:
        """A new thread of the same resource with this one's messages, metadata and working memory.

        `up_to` is the id of the last message to take along, `before` that of the first to leave behind; all are taken
        where neither is given. Messages keep their ids. More messages than one commit takes come in several, and
        until the last the new thread's info says `incomplete`.
        Raises ThreadExists, ThreadNotFound, MessageNotFound, InvalidInput, ReadOnly.
        """
        fork = ThreadHandle(self._access, self.resource_id, new_id() if thread_id is None else thread_id)
        await fork_thread(self._thread, fork._thread, up_to=up_to, before=before, title=title)
        return fork
