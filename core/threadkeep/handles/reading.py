"""Messages of a thread as they are read: windows, ranges of time, pages, the whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from threadkeep.errors import InvalidCursor, InvalidInput, ThreadNotFound
from threadkeep.handles.access import ThreadAccess
from threadkeep.handles.arguments import ALL, check_count, check_instant, check_place
from threadkeep.handles.cursors import make_cursor, read_cursor
from threadkeep.handles.views import Page, ThreadSnapshot, read_memory, snapshot_info
from threadkeep.messages.codec import decode
from threadkeep.messages.model import Message
from threadkeep.messages.windows import pair_safe
from threadkeep.port.checks import MAX_PAGE, check_page
from threadkeep.port.store import Window

HISTORY_PAGE: Final = 200
"""Messages that `history` loads at a time."""

AROUND: Final = 10
"""Messages on each side of a place, where the caller does not say how many."""


async def load_snapshot(thread: ThreadAccess, last: int, *, only_pairs: bool) -> ThreadSnapshot:
    """The newest messages and all documents. `only_pairs` cuts the window as `pair_safe` does."""
    snapshot = await thread.load(Window(before=check_count("last", last)))
    messages = decode(snapshot.records)
    # Nothing here comes from outside, so the view is made without checking each value a second time.
    return ThreadSnapshot.model_construct(
        tail=snapshot.tail,
        info=snapshot_info(thread.scope.resource_id, thread.scope.thread_id, snapshot),
        messages=pair_safe(messages) if only_pairs else messages,
        working_memory=read_memory(snapshot.docs),
        resource_memory=read_memory(snapshot.resource_docs),
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which messages are wanted: the arguments of `ThreadHandle.messages`. Raises InvalidInput where they disagree."""

    last: int | None = None
    first: int | None = None
    before: int | str | None = None
    after: int | str | None = None
    around: int | str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        places = [place for place in (self.before, self.after, self.around) if place is not None]
        if len(places) > 1 or (places and self.is_range):
            raise InvalidInput("select messages by one of before, after and around, or by since and until")
        if self.around is None and self.first is not None and self.last is not None:
            raise InvalidInput("first and last exclude each other, but for around")
        if self.before is not None and self.first is not None:
            raise InvalidInput("messages before a place are counted by last, not by first")
        if self.after is not None and self.last is not None:
            raise InvalidInput("messages after a place are counted by first, not by last")
        for name, instant in (("since", self.since), ("until", self.until)):
            if instant is not None:
                check_instant(name, instant)

    @property
    def is_range(self) -> bool:
        """Whether messages are selected by time."""
        return self.since is not None or self.until is not None

    def takes(self, message: Message) -> bool:
        """Whether a message lies in the range of time."""
        moment = message.created_at or message.stored_at
        if moment is None:
            return False
        is_late_enough = self.since is None or moment >= self.since
        return is_late_enough and (self.until is None or moment < self.until)


async def select_messages(thread: ThreadAccess, wanted: Selection) -> list[Message]:
    """The messages that are wanted, in order. Raises as `ThreadHandle.messages`."""
    for place in (wanted.before, wanted.after, wanted.around):
        if place is not None:
            check_place(place, thread.limits)
    if wanted.around is not None:
        return await _around(thread, wanted.around, wanted)
    if wanted.is_range:
        return await _between(thread, wanted)
    if wanted.after is not None or wanted.first is not None:
        return await _after(thread, 0 if wanted.after is None else wanted.after, wanted.first)
    return await _before(thread, wanted.before, wanted.last)


async def _around(thread: ThreadAccess, place: int | str, wanted: Selection) -> list[Message]:
    below = check_count("last", AROUND if wanted.last is None else wanted.last)
    above = check_count("first", AROUND if wanted.first is None else wanted.first)
    window = Window(place, before=below, after=above + 1)
    return decode((await thread.load_around(place, window)).records)


async def _between(thread: ThreadAccess, wanted: Selection) -> list[Message]:
    found = [message async for message in all_messages(thread) if wanted.takes(message)]
    if wanted.first is not None:
        return found[: check_count("first", wanted.first)]
    if wanted.last is not None:
        return found[max(0, len(found) - check_count("last", wanted.last)) :]
    return found


async def _after(thread: ThreadAccess, place: int | str, first: int | None) -> list[Message]:
    count = ALL if first is None else check_count("first", first)
    if isinstance(place, str):
        return decode((await thread.load_around(place, Window(place, after=count + 1))).records[1:])
    return decode((await thread.load(Window(place + 1, after=count))).records)


async def _before(thread: ThreadAccess, place: int | str | None, last: int | None) -> list[Message]:
    count = ALL if last is None else check_count("last", last)
    if isinstance(place, str):
        return decode((await thread.load_around(place, Window(place, before=count, after=1))).records[:-1])
    return decode((await thread.load(Window(place, before=count))).records)


async def all_messages(thread: ThreadAccess) -> AsyncIterator[Message]:
    """All messages from the oldest on, a page at a time. Raises as `ThreadHandle.history`."""
    cursor = None
    while True:
        try:
            page = await messages_page(thread, limit=HISTORY_PAGE, cursor=cursor, newest_first=False)
        except InvalidCursor:
            raise ThreadNotFound(thread.scope.thread_id) from None
        for message in page.items:
            yield message
        cursor = page.cursor
        if cursor is None:
            return


async def messages_page(thread: ThreadAccess, *, limit: int, cursor: str | None, newest_first: bool) -> Page[Message]:
    """One page of messages. Raises as `ThreadHandle.messages_page`."""
    query = ("list of messages", thread.scope.resource_id, thread.scope.thread_id, newest_first)
    epoch, position = ("", None) if cursor is None else read_cursor(cursor, query, (str, int))
    check_page(limit)
    if newest_first:
        window = Window(position, before=limit + 1)
    else:
        window = Window(1 if position is None else position + 1, after=limit + 1)
    snapshot = await thread.load(window)
    if cursor is not None and snapshot.tail.epoch != epoch:
        raise InvalidCursor("the thread of this cursor has been deleted; begin without a cursor")
    records = snapshot.records[::-1] if newest_first else snapshot.records
    shown = records[:limit]
    more = len(records) > limit
    following = make_cursor(query, (snapshot.tail.epoch, shown[-1].position)) if more else None
    return Page(items=decode(shown), cursor=following)


async def count_messages(thread: ThreadAccess) -> int:
    """How many messages the thread has, counted a page at a time."""
    counted, position = 0, 0
    while True:
        records = (await thread.load(Window(position + 1, after=MAX_PAGE))).records
        counted += len(records)
        if len(records) < MAX_PAGE:
            return counted
        position = records[-1].position
