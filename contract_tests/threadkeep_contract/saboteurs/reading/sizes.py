"""Faults that law 8 must find by size: what is read is cut where some page, scan or response of a backend ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from threadkeep.port import MIB, After, Order, Stored, Thread, ThreadRow, Window
from threadkeep_contract.saboteurs.base import DictStore, Row

SCAN: Final = 1000
"""Threads that a query of the imagined backend looks at."""

NAMES: Final = 500
"""Resources that a scan of the imagined backend gives."""

NEWEST: Final = 500
"""Records among which an anchor is looked for."""

PAGE_BYTES: Final = MIB
"""The largest response of the imagined backend, as DynamoDB's."""

MOST_RECORDS: Final = 1000
"""The largest LIMIT that the imagined backend takes."""

PART: Final = 100
"""Threads that are fetched at once for a larger page."""

MOST_SLOTS: Final = 10
"""Documents of a thread that a list fetches."""


class ThreadsBeyondThousand(DictStore):
    """A list looks at the first thousand threads of a resource by creation: those created later are in no list."""

    fault = "threads-beyond-1000-not-listed"
    caught_by = 8
    seen_in = "queries whose filter comes after a LIMIT: Elasticsearch's 10,000 hits, list calls of object stores"

    def ordered(self, rows: list[Row], order: Order) -> list[Row]:
        return super().ordered(super().ordered(rows, "created")[:SCAN], order)


class ResourcesBeyondFiveHundred(DictStore):
    """The list of resources is made of the first 500: a walk ends there."""

    fault = "resources-beyond-500-not-listed"
    caught_by = 8
    seen_in = "SCAN with a COUNT, called once"

    async def resources(self, after: str | None, limit: int) -> Sequence[str]:
        names: list[str] = list(await super().resources(None, NAMES))
        return [name for name in names if after is None or name > after][:limit]


class AnchorAmongNewest(DictStore):
    """An anchor that is an id is looked for among the newest 500 records: an older one is not found."""

    fault = "anchor-among-newest-500"
    caught_by = 8
    seen_in = "`around` implemented over the last page of messages"

    def cut(self, log: list[Stored], anchor: int | str | None) -> int | None:
        cut = super().cut(log, anchor)
        return None if cut is not None and isinstance(anchor, str) and cut < len(log) - NEWEST else cut


class WindowOverMebibyteCut(DictStore):
    """A window is cut where the bodies before its end come to more than 1 MiB: the oldest records are missing."""

    fault = "window-over-1-mib-cut"
    caught_by = 8
    seen_in = "DynamoDB: a Query gives 1 MB and a LastEvaluatedKey that nobody follows"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        records = super().window(thread, log, window)
        size, kept = 0, 0
        for record in reversed(records):
            size += len(record.body.encode())
            if kept and size > PAGE_BYTES:
                break
            kept += 1
        return records[len(records) - kept :]


class WindowOfAtMostThousand(DictStore):
    """The number of records before an anchor, or after it, counts as a thousand where it is larger."""

    fault = "window-of-at-most-1000"
    caught_by = 8
    seen_in = "APIs that clamp `limit` in silence: OpenAI lists, Mongo drivers' batch sizes"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        most = Window(window.anchor, min(window.before, MOST_RECORDS), min(window.after, MOST_RECORDS))
        return super().window(thread, log, most)


class DocumentsOfTenSlots(DictStore):
    """A list gives the documents of the first ten slots that were asked for."""

    fault = "list-gives-ten-slots"
    caught_by = 8
    seen_in = "a statement made for so many parameters"

    def listing(self, row: Row, slots: Sequence[str]) -> ThreadRow:
        return super().listing(row, slots[:MOST_SLOTS])


class LargePagesSkipRow(DictStore):
    """A page of more than a hundred threads is fetched a hundred at a time, and a row between two parts is lost."""

    fault = "large-pages-lose-a-row"
    caught_by = 8
    seen_in = "inner paging whose look-ahead row is dropped"

    def page(self, rows: list[Row], after: After | None, limit: int, order: Order) -> list[Row]:
        page = super().page(rows, after, limit, order)
        return [row for number, row in enumerate(page, 1) if number % (PART + 1)]
