"""Faults that law 8 must find in windows and in pages of lists, with little in the store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from threadkeep.port import After, Changes, Order, Resource, Stored, Thread, ThreadRow, Window
from threadkeep_contract.saboteurs.base import DictStore, Row

BACKEND_PAGE: Final = 50
"""Records, or threads, in a page of the imagined backend."""

CAP: Final = 100
"""Records that the capped store keeps of a thread."""


class LastReturnsOldest(DictStore):
    """The last n records are the oldest n."""

    fault = "last-returns-oldest"
    caught_by = 8
    seen_in = "Mastra #4634, #9991"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        return log[: window.before] if window.anchor is None else super().window(thread, log, window)


class NewestFirst(DictStore):
    """The last n records come newest first, as the index was read."""

    fault = "newest-first"
    caught_by = 8
    seen_in = "ORDER BY position DESC LIMIT n without the second sort"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        records = super().window(thread, log, window)
        return records[::-1] if window.anchor is None else records


class WindowRepeatsItsAnchor(DictStore):
    """The records before an anchor include it: joined pages show it twice."""

    fault = "window-repeats-its-anchor"
    caught_by = 8
    seen_in = "cursors compared with `<=` where `<` is meant"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        if window.anchor is not None and window.before and not window.after:
            cut = self.cut(log, window.anchor)
            return [] if cut is None else log[max(0, cut + 1 - window.before) : cut + 1]
        return super().window(thread, log, window)


class WindowSkipsItsAnchor(DictStore):
    """The records from an anchor on begin after it."""

    fault = "window-skips-its-anchor"
    caught_by = 8
    seen_in = "cursors compared with `>` where `>=` is meant"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        cut = self.cut(log, window.anchor)
        return [] if cut is None else log[max(0, cut - window.before) : cut] + log[cut + 1 :][: window.after]


class UnknownAnchorIsTheEnd(DictStore):
    """A window around an id that is not in the thread shows the newest records instead of none."""

    fault = "unknown-anchor-is-the-end"
    caught_by = 8
    seen_in = "Mastra #24237: a cursor that is not found starts over"

    def cut(self, log: list[Stored], anchor: int | str | None) -> int | None:
        cut = super().cut(log, anchor)
        return len(log) if cut is None else cut


class PositionTakenForOffset(DictStore):
    """An anchor's position is used as an index into the log: after a truncation they differ."""

    fault = "position-taken-for-offset"
    caught_by = 8
    seen_in = "LIMIT and OFFSET fed with positions"

    def cut(self, log: list[Stored], anchor: int | str | None) -> int | None:
        return min(max(anchor - 1, 0), len(log)) if isinstance(anchor, int) else super().cut(log, anchor)


class FirstBackendPageOnly(DictStore):
    """Only the first page of the backend's own paging is read: a window is never longer than that."""

    fault = "first-backend-page-only"
    caught_by = 8
    seen_in = "Mastra DynamoDB #19550"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        return super().window(thread, log, window)[-BACKEND_PAGE:]


class HistoryCapped(DictStore):
    """A thread silently loses its oldest records when it grows over a size."""

    fault = "history-capped"
    caught_by = 8
    seen_in = "langchain-redis (10,000 messages), OpenAI EncryptedSession (600 s)"

    def store(self, thread: Thread, stored: Stored) -> None:
        super().store(thread, stored)
        del self.log(thread)[:-CAP]


class ListPagedByOffset(DictStore):
    """A page of threads begins at the number of rows seen before: what was touched or deleted meanwhile shifts it."""

    fault = "list-paged-by-offset"
    caught_by = 8
    seen_in = "Mastra #24237"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        seen: dict[After | None, int] = self.values.setdefault(("offsets",), {None: 0})
        first = seen.get(after, 0)
        page = rows[first : first + limit]
        for number, row in enumerate(page, first + 1):
            seen[self.place(row, order)] = number
        return page


class TiedThreadsSkipped(DictStore):
    """Pages of threads are cut by time alone: of threads with one time, those on the next page are lost."""

    fault = "tied-threads-skipped"
    caught_by = 8
    seen_in = "Mastra #24237, keyset paging on a timestamp"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        if after is not None:
            times = [(row, self.place(row, order).at) for row in rows]
            rows = [row for row, at in times if (at > after.at if order == "created" else at < after.at)]
        return rows[:limit]


class PageRepeatsCursor(DictStore):
    """A page of threads begins with the last thread of the page before, unless a page has one row."""

    fault = "page-repeats-its-cursor"
    caught_by = 8
    seen_in = "cursors compared with `>=` where `>` is meant"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        last = [row for row in rows if limit > 1 and self.place(row, order) == after]
        return (last + super().page(rows, after, limit, order))[:limit]


class CursorFollowsThread(DictStore):
    """A page begins after where the cursor's thread is now: when it was touched, the walk starts over."""

    fault = "cursor-follows-its-thread"
    caught_by = 8
    seen_in = "cursors that hold an id and look its sort key up again"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        if after is not None:
            now = {row.thread_id: self.place(row, order) for row in rows}
            after = now.get(after.thread_id, after)
        return super().page(rows, after, limit, order)


class ShortPageBeforeEnd(DictStore):
    """A page of threads is never longer than the backend's own, so that the walk ends early."""

    fault = "short-page-before-the-end"
    caught_by = 8
    seen_in = "Mastra DynamoDB #19550"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        return super().page(rows, after, min(limit, BACKEND_PAGE), order)


class EmptyThreadsNotListed(DictStore):
    """The list is joined with the records: threads that have none are not in it."""

    fault = "empty-threads-not-listed"
    caught_by = 8
    seen_in = "stores without a thread table, which list the distinct thread ids of messages"

    def listed(self, resource: Resource, order: Order) -> list[Row]:
        threads = super().listed(resource, order)
        return [row for row in threads if self.tail(Thread(row.resource_id, row.thread_id)).position]


class ActivityGoesBack(DictStore):
    """A commit by a slow clock sets a thread's last activity back."""

    fault = "activity-goes-back"
    caught_by = 8
    seen_in = "`updated_at` set to the client's now"

    def touch(self, thread: Thread, changes: Changes) -> Row:
        row = super().touch(thread, changes)
        row.active = changes.at
        return row


class DocumentsAreNoActivity(DictStore):
    """Putting a document is no activity: the list by last activity does not move."""

    fault = "documents-are-no-activity"
    caught_by = 8
    seen_in = "`updated_at` set by inserts of messages only"

    def touch(self, thread: Thread, changes: Changes) -> Row:
        row = self.row(thread)
        return row if row is not None and not changes.append else super().touch(thread, changes)


class DocumentsMissingInLists(DictStore):
    """Lists of threads come without the documents that were asked for."""

    fault = "documents-missing-in-lists"
    caught_by = 8
    seen_in = "list queries that select fewer columns than single reads"

    def listing(self, row: Row, slots: Sequence[str]) -> ThreadRow:
        return super().listing(row, slots)._replace(docs={})


class PageKeptUntil(DictStore):
    """A page of threads is kept for a moment, by the clock: where that is set back, for as long as it was set back."""

    fault = "page-kept-until-a-time"
    caught_by = 8
    seen_in = "caches whose entries hold a time of day until which they are good"

    async def threads(
        self, resource: Resource, after: After | None, limit: int, order: Order, slots: Sequence[str]
    ) -> Sequence[ThreadRow]:
        pages: dict[object, tuple[float, Sequence[ThreadRow]]] = self.values.setdefault(("pages",), {})
        asked = (resource, after, limit, order, tuple(slots))
        until, page = pages.get(asked, (0.0, ()))
        if time.time() >= until:
            page = await super().threads(resource, after, limit, order, slots)
            pages[asked] = (time.time(), page)
        return page
