"""Faults that law 8 must find in what ids, ties, cursors and anchors are taken for."""

from __future__ import annotations

from collections.abc import Sequence

from threadkeep.port import After, Order, Stored, Thread, ThreadRow, Window
from threadkeep_contract.saboteurs.base import DictStore, Row


class TiesByInsertion(DictStore):
    """Threads of one time are listed in the order in which they were made, and walked in that order."""

    fault = "ties-listed-by-insertion"
    caught_by = 8
    seen_in = "ORDER BY created_at, with rows as the heap has them"

    def ordered(self, rows: list[Row], order: Order) -> list[Row]:
        return sorted(rows, key=lambda row: self.place(row, order).at, reverse=order == "active")

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        if after is not None:
            places = [self.place(row, order) for row in rows]
            if after in places:
                return rows[places.index(after) + 1 :][:limit]
        return super().page(rows, after, limit, order)


class ActiveTiesRising(DictStore):
    """The list by activity falls by time, and among threads of one time rises by id; it is walked so, too."""

    fault = "active-ties-rising"
    caught_by = 8
    seen_in = "ORDER BY updated_at DESC, id"

    def ordered(self, rows: list[Row], order: Order) -> list[Row]:
        if order == "created":
            return super().ordered(rows, order)
        return sorted(rows, key=lambda row: (-row.active, row.thread_id))

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        if order == "created" or after is None:
            return super().page(rows, after, limit, order)
        edge = (-after.at, after.thread_id)
        return [row for row in rows if (-row.active, row.thread_id) > edge][:limit]


class TiesByCollation(DictStore):
    """Among threads of one time the order is that of a language: `a`, `B`, `c` where code points say `B`, `a`, `c`."""

    fault = "ties-broken-by-collation"
    caught_by = 8
    seen_in = "PostgreSQL databases with an ICU or en_US collation"

    def collated(self, place: After) -> tuple[int, str, str]:
        return (place.at, place.thread_id.casefold(), place.thread_id)

    def ordered(self, rows: list[Row], order: Order) -> list[Row]:
        return sorted(rows, key=lambda row: self.collated(self.place(row, order)), reverse=order == "active")

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        if after is not None:
            edge = self.collated(after)
            places = [(row, self.collated(self.place(row, order))) for row in rows]
            rows = [row for row, place in places if (place > edge if order == "created" else place < edge)]
        return rows[:limit]


class ResourcesByUtf16(DictStore):
    """Resources are listed by UTF-16 code units: an emoji comes before U+FF5E."""

    fault = "resources-listed-by-utf-16"
    caught_by = 8
    seen_in = "JavaScript and Java comparators, ICU-less collations of embedded databases"

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        names: list[str] = sorted(await super().resources(None, 1 << 30), key=_utf16)
        return [name for name in names if after is None or _utf16(name) > _utf16(after)][:limit]


class CursorMustBeListed(DictStore):
    """A page after a place at which no thread is, since it was deleted or touched, is empty."""

    fault = "cursor-must-be-listed"
    caught_by = 8
    seen_in = "cursors resolved to a row first: Mastra #24237"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        if after is not None and after not in [self.place(row, order) for row in rows]:
            return []
        return super().page(rows, after, limit, order)


class CursorAtZeroStartsOver(DictStore):
    """A cursor whose time is 0 counts as none: the walk starts over."""

    fault = "cursor-at-zero-starts-over"
    caught_by = 8
    seen_in = "truthiness where None is meant: Mastra PR #14237"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        return super().page(rows, after if after and after.at else None, limit, order)


class NumericIdIsPosition(DictStore):
    """An anchor that is the id of a record and looks like a number is taken for a position."""

    fault = "numeric-id-is-position"
    caught_by = 8
    seen_in = "`int(anchor)` before the lookup by id; Agno DynamoDB's `123`"

    def cut(self, log: list[Stored], anchor: int | str | None) -> int | None:
        if isinstance(anchor, str) and anchor.isascii() and anchor.isdigit():
            return super().cut(log, int(anchor))
        return super().cut(log, anchor)


class AnchorZeroIsTheEnd(DictStore):
    """An anchor at position 0 counts as none, and the window is that of the newest records."""

    fault = "anchor-zero-is-the-end"
    caught_by = 8
    seen_in = "truthiness where None is meant: Mastra PR #14237"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        return super().window(thread, log, window if window.anchor else window._replace(anchor=None))


class AnchorFoundByPrefix(DictStore):
    """An anchor that is not the id of a record finds the first one whose id begins with it."""

    fault = "anchor-found-by-prefix"
    caught_by = 8
    seen_in = "begins_with conditions on sort keys: DynamoDB single tables"

    def cut(self, log: list[Stored], anchor: int | str | None) -> int | None:
        cut = super().cut(log, anchor)
        if cut is not None or not isinstance(anchor, str):
            return cut
        return next((index for index, record in enumerate(log) if record.id.startswith(anchor)), None)


class SlotsWithCommaSplit(DictStore):
    """The slots of a list go to the backend joined with commas: a slot that has one in its name is two."""

    fault = "slots-joined-with-commas"
    caught_by = 8
    seen_in = "query strings and projections made by joining names"

    def listing(self, row: Row, slots: Sequence[str]) -> ThreadRow:
        return super().listing(row, [slot for slot in ",".join(slots).split(",") if slot])


def _utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")
