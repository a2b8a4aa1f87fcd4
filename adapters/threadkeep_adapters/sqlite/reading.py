"""Loads that are done where they are called, since what they need is in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from typing import Final

from threadkeep.port import Scope, Window
from threadkeep_adapters.sql.rows import Rows, Step
from threadkeep_adapters.sqlite.connections import Writer
from threadkeep_adapters.sqlite.statements import text

NEAR: Final = 200
WARM: Final = 16
"""A load of at most NEAR of the newest records, in one of the WARM threads that were used last, is done where it is
called, by the writer's connection and without a hop: what it needs is in that connection's cache, so that it takes less
time than making messages of the records does, which is done there anyway. The cache (2 MB unless SQLite was built
otherwise, https://sqlite.org/pragma.html#pragma_cache_size) has room for about so many threads."""

LOADS_IN_A_ROW: Final = 8
"""How many loads without a hop may follow one another before other tasks have their turn: about a millisecond's worth.
Giving way costs a round of the event loop, which asks the operating system for what has happened."""


def is_near(window: Window) -> bool:
    """Whether a window is one of at most NEAR of the newest records."""
    return window.anchor is None and window.before <= NEAR


class WarmReader:
    """Reads threads and resources that were used last, by the connection that writes."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._warm: OrderedDict[Scope, None] = OrderedDict()
        self._loads_in_a_row = 0

    def keep(self, scope: Scope) -> None:
        """Note that a thread or resource was used."""
        self._warm[scope] = None
        self._warm.move_to_end(scope)
        if len(self._warm) > WARM:
            self._warm.popitem(last=False)

    def fetch(self, scope: Scope, step: Step) -> Rows | None:
        """The rows of a statement, None where they are not at hand: it is not warm, or somebody writes just now.

        Raises StoreDamaged where the file is not in its place.
        """
        if scope not in self._warm or not self._writer.taken.acquire(blocking=False):
            return None
        statement, given = step
        try:
            if self._writer.connection is None:
                return None
            rows: Rows = self._writer.connection.execute(text(statement), given).fetchall()
            self._writer.file.check()
        except sqlite3.Error:
            # A reader's connection tells whether it is the file or only this connection.
            return None
        finally:
            self._writer.taken.release()
        return rows

    async def give_way(self) -> None:
        """Let other tasks have their turn, after every LOADS_IN_A_ROW loads. To be called after each."""
        self._loads_in_a_row += 1
        if self._loads_in_a_row >= LOADS_IN_A_ROW:
            self._loads_in_a_row = 0
            await asyncio.sleep(0)

    def has_given_way(self) -> None:
        """Note that other tasks had their turn."""
        self._loads_in_a_row = 0
