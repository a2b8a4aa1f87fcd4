"""The handle of one thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from threadkeep.errors import (
    InvalidCursor,
    InvalidInput,
    LimitExceeded,
    MessageNotFound,
    ReadOnly,
    TailMoved,
    ThreadExists,
    ThreadNotFound,
    VersionMoved,
)
from threadkeep.handles.arguments import as_metadata, as_tail, check_count, check_instant, check_place
from threadkeep.handles.cursors import make_cursor, read_cursor
from threadkeep.handles.views import (
    INFO,
    WORKING_MEMORY,
    Info,
    Page,
    ThreadInfo,
    ThreadSnapshot,
    read_info,
    read_memory,
    snapshot_info,
    thread_info,
    write_info,
)
from threadkeep.handles.working_memory import MemoryScope, WorkingMemoryHandle
from threadkeep.messages.codec import batches, decode, encode
from threadkeep.messages.model import Message, as_messages
from threadkeep.messages.reconcile import Ids, reconcile, unused_ids
from threadkeep.messages.windows import pair_safe as cut_pair_safe
from threadkeep.port.canonical import canonical_json
from threadkeep.port.checks import MAX_COUNT, MAX_PAGE, check_page
from threadkeep.port.ids import check_id, new_id
from threadkeep.port.store import (
    MISSING,
    Changes,
    Doc,
    Put,
    Receipt,
    Resource,
    Snapshot,
    Tail,
    Thread,
    ThreadRow,
    Window,
)

if TYPE_CHECKING:
    from threadkeep.handles.memory import Memory

ALL: Final = MAX_COUNT - 1
"""More records than a thread has, and room in a window for the anchor's own."""

HISTORY_PAGE: Final = 200
"""Messages that `history` loads at a time."""


class _Keep:
    """The type of KEEP: a document that a commit leaves as it is."""


KEEP: Final = _Keep()


@dataclass(frozen=True, slots=True)
class HistoryReceipt:
    """What `append_history` found and did.

    `messages` are the client's, one to one and as they are stored: with the ids and positions that they have there.
    `new` counts those that were appended. `beyond` counts stored messages after the history's end: the client
    repeated an older request.
    """

    tail: Tail
    messages: tuple[Message, ...]
    new: int
    beyond: int


class ThreadHandle:
    """One thread of one resource. Taken from a resource handle; the thread need not exist yet.

    Every method may raise StoreError and its kinds. On a read-only handle, writing raises ReadOnly, and reading a
    thread that is not there raises ThreadNotFound; on another, that thread is empty, and the first write creates it.
    """

    def __init__(self, memory: Memory, resource_id: str, thread_id: str, *, read_only: bool = False) -> None:
        self._memory = memory
        self._limits = memory.store.limits
        self.resource_id = resource_id
        self.thread_id = check_id("thread_id", thread_id, self._limits)
        self.read_only = read_only
        self._scope = Thread(resource_id, thread_id)
        self._seen: Tail | None = None

    @property
    def working_memory(self) -> WorkingMemoryHandle:
        """The working memory of this thread."""
        return WorkingMemoryHandle(self._memory, self._scope, read_only=self.read_only)

    def working_memory_during(self, epoch: str, of: MemoryScope = "thread") -> WorkingMemoryHandle:
        """The working memory of this thread or of its resource, while the thread is in this epoch (`ThreadInfo.epoch`).

        For work that belongs to one conversation: once the thread has been deleted, be it with its resource, every
        call raises ThreadNotFound, and nothing is brought back.
        """
        if of not in ("thread", "resource"):
            raise InvalidInput(f"a working memory is that of the 'thread' or of the 'resource', not {of!r}")
        scope = self._scope if of == "thread" else Resource(self.resource_id)
        return WorkingMemoryHandle(self._memory, scope, read_only=self.read_only, during=(self._scope, epoch))

    async def create(self, *, title: str | None = None, metadata: Mapping[str, Any] | None = None) -> ThreadInfo:
        """Create the thread. Raises ThreadExists, InvalidContent, LimitExceeded, ReadOnly."""
        body = write_info(self._limits, {"title": title, "metadata": as_metadata({} if metadata is None else metadata)})
        puts = () if body == "{}" else (Put(INFO, body),)
        changes = Changes(at=self._memory.now(), epoch=new_id(), puts=puts, if_epoch="")
        try:
            receipt = await self._commit("create", changes)
        except TailMoved:
            raise ThreadExists(self.thread_id) from None
        return self._info_after(Snapshot(created=changes.at), changes, receipt)

    async def exists(self) -> bool:
        """Whether the thread is there."""
        return (await self._memory.store.load(self._scope, Window())).tail != MISSING

    async def info(self) -> ThreadInfo:
        """Title, metadata, times and tail. Raises ThreadNotFound."""
        info = snapshot_info(self.resource_id, self.thread_id, await self._memory.store.load(self._scope, Window()))
        if info is None:
            raise ThreadNotFound(self.thread_id)
        return info

    async def tail(self) -> Tail:
        """Where the thread ends, for `if_tail`; ("", 0) for a thread that is not there."""
        return (await self._load(Window())).tail

    async def rename(self, title: str | None, *, if_untitled: bool = False, if_epoch: str | None = None) -> ThreadInfo:
        """Set or remove the title. Raises ThreadNotFound, InvalidContent, LimitExceeded, ReadOnly.

        With `if_untitled`, a title that is there stays, also one that comes while this call is under way. With
        `if_epoch`, a thread that has been deleted and created again since is not found.
        """

        def change(body: dict[str, Any]) -> dict[str, Any]:
            return body if if_untitled and body.get("title") is not None else {**body, "title": title}

        return await self._edit("rename", change, if_epoch)

    async def set_metadata(self, values: Mapping[str, Any]) -> ThreadInfo:
        """Set these keys of the metadata; others stay. Raises as `rename`."""
        added = as_metadata(values)
        return await self._edit(
            "set_metadata", lambda body: {**body, "metadata": {**body.get("metadata", {}), **added}}
        )

    async def remove_metadata(self, *keys: str) -> ThreadInfo:
        """Remove these keys of the metadata; a key that is not there is no error. Raises as `rename`."""
        return await self._edit(
            "remove_metadata",
            lambda body: {
                **body,
                "metadata": {key: value for key, value in body.get("metadata", {}).items() if key not in keys},
            },
        )

    async def archive(self) -> ThreadInfo:
        """Mark the thread as archived, which changes what lists show and nothing else. Raises as `rename`."""
        return await self._edit("archive", lambda body: {**body, "archived": True})

    async def unarchive(self) -> ThreadInfo:
        """Take the mark off. Raises as `rename`."""
        return await self._edit("unarchive", lambda body: {**body, "archived": False})

    async def delete(self) -> None:
        """Remove the thread with its messages and working memory. Safe to repeat. Raises ReadOnly."""
        if self.read_only:
            raise ReadOnly("delete")
        await self._memory.store.delete(self._scope)
        self._seen = None

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
        if self.read_only:
            raise ReadOnly("commit")
        records = tuple([encode(message, self._limits) for message in as_messages(messages)])
        changes = Changes(
            at=self._memory.now(),
            epoch=new_id(),
            append=records,
            puts=self._memory_put(working_memory),
            resource_puts=self._memory_put(resource_memory),
            if_tail=as_tail(if_tail),
            seen=self._seen,
        )
        if drop_from is None:
            return await self._commit("commit", changes)
        check_id("message id", drop_from, self._limits)
        while True:
            snapshot = await self._anchored(drop_from, Window(drop_from, after=1))
            if if_tail is not None and snapshot.tail != if_tail:
                raise TailMoved(*snapshot.tail)
            # Only while nothing else has changed is the message still where it was found.
            drop = replace(changes, drop_after=snapshot.records[0].position - 1, if_tail=snapshot.tail)
            try:
                return await self._commit("commit", drop)
            except TailMoved:
                if if_tail is not None:
                    raise

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
        if self.read_only:
            raise ReadOnly("append_history")
        messages = as_messages(messages)
        appended, most = 0, ALL
        while True:
            snapshot = await self._load(Window(before=ALL))
            stored = decode(snapshot.records)
            found = reconcile(stored, messages, ids)
            if found.grown is None and not found.new:
                return HistoryReceipt(snapshot.tail, found.known, appended, len(found.beyond))
            grown = () if found.grown is None else (found.grown,)
            new = (*grown, *(found.new if ids == "stable" else unused_ids(found.new, stored)))
            try:
                receipt = await self.commit(
                    new[:most], if_tail=snapshot.tail, drop_from=None if found.grown is None else found.grown.id
                )
            except (TailMoved, MessageNotFound):
                continue
            except LimitExceeded as error:
                if error.limit not in ("commit_messages", "commit_bytes") or len(new[:most]) == 1:
                    raise
                most = len(new[:most]) // 2
                continue
            appended += len(new[:most]) - len(grown)
            if len(new) > most:
                continue
            placed = [
                message.model_copy(update={"position": position})
                for message, position in zip(new, receipt.positions, strict=True)
            ]
            known = found.known[: len(found.known) - len(grown)]
            return HistoryReceipt(receipt.tail, (*known, *placed), appended, 0)

    async def load(self, *, last: int = 20, pair_safe: bool = False) -> ThreadSnapshot:
        """The newest `last` messages, the thread and both working memories, at one instant and in one round trip.

        With `pair_safe`, results at the start whose calls lie before the window are left out.
        """
        snapshot = await self._load(Window(before=check_count("last", last)))
        messages = decode(snapshot.records)
        # Nothing here comes from outside, so the view is made without checking each value a second time.
        return ThreadSnapshot.model_construct(
            tail=snapshot.tail,
            info=snapshot_info(self.resource_id, self.thread_id, snapshot),
            messages=cut_pair_safe(messages) if pair_safe else messages,
            working_memory=read_memory(snapshot.docs),
            resource_memory=read_memory(snapshot.resource_docs),
        )

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
        places = [place for place in (before, after, around) if place is not None]
        if len(places) > 1 or (places and (since is not None or until is not None)):
            raise InvalidInput("select messages by one of before, after and around, or by since and until")
        for place in places:
            check_place(place, self._limits)
        if around is not None:
            below, above = 10 if last is None else last, 10 if first is None else first
            window = Window(around, check_count("last", below), check_count("first", above) + 1)
            found = decode((await self._anchored(around, window)).records)
        elif first is not None and last is not None:
            raise InvalidInput("first and last exclude each other, but for around")
        elif since is not None or until is not None:
            for name, instant in (("since", since), ("until", until)):
                if instant is not None:
                    check_instant(name, instant)
            found = [message async for message in self.history() if _within(message, since, until)]
            found = found[: check_count("first", first)] if first is not None else found
            found = found[max(0, len(found) - check_count("last", last)) :] if last is not None else found
        elif before is not None and first is not None:
            raise InvalidInput("messages before a place are counted by last, not by first")
        elif after is not None and last is not None:
            raise InvalidInput("messages after a place are counted by first, not by last")
        elif after is not None or first is not None:
            found = await self._from(0 if after is None else after, first)
        else:
            found = await self._up_to(before, last)
        return cut_pair_safe(found) if pair_safe else found

    async def _from(self, after: int | str, first: int | None) -> list[Message]:
        count = ALL if first is None else check_count("first", first)
        if isinstance(after, str):
            return decode((await self._anchored(after, Window(after, after=count + 1))).records[1:])
        return decode((await self._load(Window(after + 1, after=count))).records)

    async def _up_to(self, before: int | str | None, last: int | None) -> list[Message]:
        count = ALL if last is None else check_count("last", last)
        if isinstance(before, str):
            return decode((await self._anchored(before, Window(before, before=count, after=1))).records[:-1])
        return decode((await self._load(Window(before, before=count))).records)

    async def history(self) -> AsyncIterator[Message]:
        """All messages from the oldest on, a page at a time; those appended meanwhile are there too.

        Raises ThreadNotFound where the thread is deleted on the way.
        """
        cursor = None
        while True:
            try:
                page = await self.messages_page(limit=HISTORY_PAGE, cursor=cursor)
            except InvalidCursor:
                raise ThreadNotFound(self.thread_id) from None
            for message in page.items:
                yield message
            cursor = page.cursor
            if cursor is None:
                return

    async def count(self) -> int:
        """How many messages the thread has. It reads the whole thread, a page at a time, and is no part of lists."""
        counted, position = 0, 0
        while True:
            records = (await self._load(Window(position + 1, after=MAX_PAGE))).records
            counted += len(records)
            if len(records) < MAX_PAGE:
                return counted
            position = records[-1].position

    async def messages_page(
        self, *, limit: int = 50, cursor: str | None = None, newest_first: bool = False
    ) -> Page[Message]:
        """A page of at most `limit` (1 to 1,000) messages, oldest first or newest first.

        Pages joined are the full list, also while others append. Raises InvalidCursor (also where the thread has been
        deleted since, even if it was created again), InvalidInput.
        """
        query = ("list of messages", self.resource_id, self.thread_id, newest_first)
        epoch, position = ("", None) if cursor is None else read_cursor(cursor, query, (str, int))
        check_page(limit)
        below, above = Window(position, before=limit + 1), Window((position or 0) + 1, after=limit + 1)
        snapshot = await self._load(below if newest_first else above)
        if cursor is not None and snapshot.tail.epoch != epoch:
            raise InvalidCursor("the thread of this cursor has been deleted; begin without a cursor")
        records = snapshot.records[::-1] if newest_first else snapshot.records
        more = len(records) > limit
        items = decode(records[:limit])
        place = (snapshot.tail.epoch, records[limit - 1].position) if more else None
        return Page(items=items, cursor=make_cursor(query, place) if place else None)

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
        if self.read_only:
            raise ReadOnly("fork")
        if up_to is not None and before is not None:
            raise InvalidInput("a fork ends up_to a message or before one, not both")
        anchor = before if up_to is None else up_to
        if anchor is not None:
            check_id("message id", anchor, self._limits)
        fork = ThreadHandle(self._memory, self.resource_id, new_id() if thread_id is None else thread_id)
        window = Window(before=ALL) if anchor is None else Window(anchor, before=ALL, after=1)
        snapshot = await self._load(window)
        if snapshot.tail == MISSING:
            raise ThreadNotFound(self.thread_id)
        if anchor is not None and not snapshot.records:
            raise MessageNotFound(anchor)
        records = snapshot.records[:-1] if before is not None else snapshot.records
        body = read_info(snapshot.docs).body
        origin = {"thread_id": self.thread_id, "message_id": records[-1].id if records else None}
        body = {
            **body,
            "title": body.get("title") if title is None else title,
            "archived": False,
            "forked_from": origin,
        }
        memory = snapshot.docs.get(WORKING_MEMORY)
        puts = () if memory is None or memory.body is None else (Put(WORKING_MEMORY, memory.body),)
        parts = batches(records, self._limits.commit_messages, self._limits.commit_bytes // 2)
        tail = MISSING
        for index, batch in enumerate(parts):
            done = index == len(parts) - 1
            changes = Changes(
                at=self._memory.now(),
                epoch=new_id(),
                append=batch,
                puts=(Put(INFO, write_info(self._limits, {**body, "incomplete": not done})), *(puts if done else ())),
                if_tail=tail,
                if_epoch=tail.epoch,
            )
            try:
                tail = (await fork._commit("fork", changes)).tail
            except TailMoved:
                if index == 0:
                    raise ThreadExists(fork.thread_id) from None
                raise
        return fork

    async def _load(self, window: Window) -> Snapshot:
        snapshot = await self._memory.store.load(self._scope, window)
        self._seen = snapshot.tail
        if self.read_only and snapshot.tail == MISSING:
            raise ThreadNotFound(self.thread_id)
        return snapshot

    async def _anchored(self, anchor: int | str, window: Window) -> Snapshot:
        """A snapshot around an anchor, which has to be there if it is a message id."""
        snapshot = await self._load(window)
        if isinstance(anchor, str) and not any(record.id == anchor for record in snapshot.records):
            raise MessageNotFound(anchor)
        return snapshot

    async def _commit(self, verb: str, changes: Changes) -> Receipt:
        if self.read_only:
            raise ReadOnly(verb)
        receipt = await self._memory.store.commit(self._scope, changes)
        self._seen = receipt.tail
        return receipt

    async def _edit(
        self, verb: str, change: Callable[[dict[str, Any]], dict[str, Any]], if_epoch: str | None = None
    ) -> ThreadInfo:
        """Read the info document, change it and put it, again while others get in between. The same is not put."""
        if self.read_only:
            raise ReadOnly(verb)
        while True:
            snapshot = await self._load(Window())
            found = snapshot_info(self.resource_id, self.thread_id, snapshot)
            if found is None or if_epoch not in (None, found.epoch):
                raise ThreadNotFound(self.thread_id)
            info: Info = read_info(snapshot.docs)
            changed = change(info.body)
            if changed is info.body:
                return found
            put = Put(INFO, write_info(self._limits, changed), info.version)
            changes = Changes(
                at=self._memory.now(), epoch=new_id(), puts=(put,), if_epoch=snapshot.tail.epoch, seen=snapshot.tail
            )
            try:
                receipt = await self._commit(verb, changes)
            except (VersionMoved, TailMoved):
                continue
            return self._info_after(snapshot, changes, receipt)

    def _info_after(self, snapshot: Snapshot, changes: Changes, receipt: Receipt) -> ThreadInfo:
        """The thread as a commit to the info document left it, without asking again."""
        docs = {put.slot: Doc(version, put.body) for put, version in zip(changes.puts, receipt.versions, strict=True)}
        row = ThreadRow(self.thread_id, receipt.tail, snapshot.created, max(snapshot.active, changes.at), docs)
        return thread_info(self.resource_id, row)

    def _memory_put(self, value: Any) -> tuple[Put, ...]:
        if value is KEEP:
            return ()
        return (Put(WORKING_MEMORY, None if value is None else canonical_json(value, "working memory")),)


def _within(message: Message, since: datetime | None, until: datetime | None) -> bool:
    moment = message.created_at or message.stored_at
    return moment is not None and (since is None or moment >= since) and (until is None or moment < until)
