"""Faults that law 3, order, must find."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import replace
from typing import ClassVar, Final

from threadkeep.port import Changes, Receipt, Record, Scope, Stored, Thread, Window
from threadkeep_contract.saboteurs.base import DictStore, Row
from threadkeep_contract.saboteurs.file import FileStore

SMALLINT: Final = 2**15 - 1
"""The largest number in two bytes."""


class OrderedByTime(DictStore):
    """Records are read in the order of their timestamps: when the clock goes back, history reorders."""

    fault = "ordered-by-timestamp"
    caught_by = 3
    seen_in = "ADK DatabaseSessionService, OpenAI SQLAlchemySession, Mastra (#2649, #4898, #10683)"

    def log(self, thread: Thread) -> list[Stored]:
        log = super().log(thread)
        log.sort(key=lambda record: record.at)
        return log


class TiesShuffled(DictStore):
    """Records of the same timestamp, as those of one append are, come in the order of their ids."""

    fault = "ties-shuffled"
    caught_by = 3
    seen_in = "ADK DatabaseSessionService, Mastra"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        records = super().window(thread, log, window)
        runs: list[list[Stored]] = []
        for record in records:
            if runs and runs[-1][0].at == record.at:
                runs[-1].append(record)
            else:
                runs.append([record])
        return [record for run in runs for record in sorted(run, key=lambda record: record.id)]


class PositionFromClock(DictStore):
    """The position is the time of the commit, counted up within it."""

    fault = "position-from-clock"
    caught_by = 3
    seen_in = "LangGraph checkpoint ids, sort keys made of timestamps"

    def next_position(self, thread: Thread, row: Row, at: int) -> int:
        return at + len([record for record in self.log(thread) if record.at == at])


class PositionFromWriterMemory(DictStore):
    """Each store object counts positions in its own memory: the second worker gives them a second time."""

    fault = "position-from-writer-memory"
    caught_by = 3
    seen_in = "Strands file and S3 sessions"

    def __init__(self, url: str, path: str) -> None:
        super().__init__(url, path)
        self.counted: dict[tuple[Thread, str], int] = {}

    def next_position(self, thread: Thread, row: Row, at: int) -> int:
        position = self.counted.get((thread, row.epoch), row.newest) + 1
        self.counted[thread, row.epoch] = position
        return position


class PositionReusedAfterTruncation(DictStore):
    """The position is the largest one that is there plus one: what was dropped is given again."""

    fault = "position-reused-after-truncation"
    caught_by = 3
    seen_in = "every scheme that takes the maximum plus one"

    def next_position(self, thread: Thread, row: Row, at: int) -> int:
        log = self.log(thread)
        return log[-1].position + 1 if log else 1


class PositionsRenumbered(DictStore):
    """Positions are row numbers made up on reading: after a truncation they are not those of the receipts."""

    fault = "positions-renumbered"
    caught_by = 3
    seen_in = "list indexes and `ROW_NUMBER()` taken for positions"

    def window(self, thread: Thread, log: list[Stored], window: Window) -> list[Stored]:
        number = {record.id: index for index, record in enumerate(log, 1)}
        return [record._replace(position=number[record.id]) for record in super().window(thread, log, window)]


class DropReversesRest(DictStore):
    """A truncation writes the records that stay in reverse order."""

    fault = "drop-reverses-the-rest"
    caught_by = 3
    seen_in = "LlamaIndex Redis (PR #22963)"

    def drop(self, thread: Thread, position: int) -> None:
        super().drop(thread, position)
        self.log(thread).reverse()


class BatchReversed(DictStore):
    """The records of one append are pushed one by one onto the wrong end: they come out in reverse."""

    fault = "batch-reversed"
    caught_by = 3
    seen_in = "Redis lists filled with LPUSH"

    def write_log(self, thread: Thread, row: Row, changes: Changes) -> list[int]:
        if changes.drop_after is not None:
            self.drop(thread, changes.drop_after)
        return [self.add(thread, row, record, changes.at) for record in reversed(changes.append)][::-1]


class PositionTakenBeforeWriting(DictStore):
    """Positions come from a sequence, one by one, before the write: batches interleave, and a slow writer's records
    appear below what readers have seen."""

    fault = "position-taken-before-writing"
    caught_by = 3
    seen_in = "SQL sequences and AUTO_INCREMENT under concurrent transactions"

    async def commit(self, scope: Scope, changes: Changes) -> Receipt:
        await self.request()
        taken: list[int] = []
        for record in changes.append:
            with self.lock:
                if isinstance(scope, Thread) and self.known(scope, record) is None:
                    taken.append(self.take(scope))
            await asyncio.sleep(0)
        with self.lock:
            self.check(scope, changes)
            self.taken = taken
            receipt = self.write(scope, changes)
            if isinstance(scope, Thread):
                self.log(scope).sort()
                receipt = replace(receipt, tail=self.tail(scope))
        await asyncio.sleep(0)
        return receipt

    def take(self, thread: Thread) -> int:
        key = ("sequence", *self.ids(thread))
        number: int = self.values.get(key, 0) + 1
        self.values[key] = number
        return number

    def next_position(self, thread: Thread, row: Row, at: int) -> int:
        return self.taken.pop(0) if self.taken else self.take(thread)

    def remove_thread(self, thread: Thread) -> None:
        super().remove_thread(thread)
        self.values.pop(("sequence", *self.ids(thread)), None)


class PositionsInSixteenBits(FileStore):
    """Positions are kept in two bytes: behind the 32,767th record they are negative."""

    fault = "positions-in-16-bits"
    caught_by = 3
    seen_in = "SMALLINT columns and struct formats picked for a short list"

    def add(self, connection: sqlite3.Connection, thread: Thread, record: Record, at: int) -> int:
        position = super().add(connection, thread, record, at)
        if position <= SMALLINT:
            return position
        kept = (position + SMALLINT + 1) % (2 * (SMALLINT + 1)) - SMALLINT - 1
        connection.execute(
            "UPDATE records SET position = ? WHERE resource_id = ? AND thread_id = ? AND position = ?",
            (kept, thread.resource_id, thread.thread_id, position),
        )
        return kept


class CountersForgottenOnRestart(FileStore):
    """The largest position that was ever given is kept in memory; after a restart it is that of the newest record,
    and a position that a truncation dropped is given again."""

    fault = "counters-forgotten-on-restart"
    caught_by = 3
    seen_in = "counters read from the data at start: InnoDB's AUTO_INCREMENT before MySQL 8"
    running: ClassVar[dict[str, int]] = {}

    async def open(self) -> None:
        opened = self._connection is not None
        await super().open()
        if opened:
            return
        if not self.running.get(self.path):
            with self.transaction("IMMEDIATE") as connection:
                connection.execute(
                    "UPDATE threads SET newest = (SELECT coalesce(max(position), 0) FROM records AS r"
                    " WHERE r.resource_id = threads.resource_id AND r.thread_id = threads.thread_id)"
                )
        self.running[self.path] = self.running.get(self.path, 0) + 1

    async def close(self) -> None:
        if self._connection is not None:
            self.running[self.path] -= 1
        await super().close()


class OrderedByTimeOfWriting(DictStore):
    """Records are read in the order in which the store's own clock says that they were written: where it is set back,
    history reorders."""

    fault = "ordered-by-time-of-writing"
    caught_by = 3
    seen_in = "`created_at DEFAULT now()` as the sort key"

    def store(self, thread: Thread, stored: Stored) -> None:
        super().store(thread, stored)
        self.written(thread)[stored.position] = time.time()

    def written(self, thread: Thread) -> dict[int, float]:
        """By position, when records were written."""
        written: dict[int, float] = self.values.setdefault(("written", *self.ids(thread)), {})
        return written

    def log(self, thread: Thread) -> list[Stored]:
        log = super().log(thread)
        log.sort(key=lambda stored: (self.written(thread).get(stored.position, 0.0), stored.position))
        return log
